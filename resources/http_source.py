"""How pages and what is new are written in a document, for every source over HTTP; asks nothing and imports no driver."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import ClassVar, Final

import pyarrow as pa

from dsl.contracts.capabilities import SourceCapabilities, SyncMode
from dsl.contracts.connectors import Source
from dsl.contracts.spec import OptionError, option
from resources.http_options import HttpConnection
from resources.sql import NullCursor


class PageType(StrEnum):
    """How the next page is asked for."""

    NONE = "none"
    PAGE = "page"
    OFFSET = "offset"
    CURSOR = "cursor"
    LINK_HEADER = "link_header"
    NEXT_URL = "next_url"


COUNTED: Final = frozenset({PageType.PAGE, PageType.OFFSET})


@dataclass(frozen=True, kw_only=True)
class Pagination:
    """How records are cut into pages. What an API says of its end is held against what came: less is an error, never an end."""

    type: PageType = option(default=PageType.NONE, doc="How the next page is asked for.")
    param: str | None = option(default=None, doc="page, offset, cursor: the parameter (or variable) that takes it.")
    start: int | None = option(
        default=None, doc="page, offset: the first number; 1 for pages, 0 for offsets if absent."
    )
    size_param: str | None = option(default=None, doc="The parameter (or variable) that takes the size of a page.")
    size: int | None = option(default=None, doc="Records in a page.", example=100)
    cursor_path: str | None = option(
        default=None, doc="cursor: where the answer holds the next one.", example="$.meta.next_cursor"
    )
    cursor_header: str | None = option(default=None, doc="cursor: the header that holds the next one instead.")
    next_path: str | None = option(
        default=None, doc="next_url: where the answer holds the next address.", example="$.next"
    )
    has_more_path: str | None = option(
        default=None, doc="Where the answer says (true or false) whether there is more.", example="$.has_more"
    )
    total_path: str | None = option(
        default=None, doc="Where the answer says how many records there are in all.", example="$.meta.total"
    )
    max_pages: int = option(default=1_000_000, doc="More pages are an error.", advanced=True)
    allow_repeats: bool = option(
        default=False,
        doc="Whether two pages in turn may hold the very same records; else that means that the API does not know `param`.",
        advanced=True,
    )

    def __post_init__(self) -> None:
        kind = self.type
        if (self.param is None) == (kind in {*COUNTED, PageType.CURSOR}):
            raise OptionError(
                "pagination", f"`param` and type {kind} do not fit together", "name the parameter, or remove it"
            )
        if (kind is PageType.CURSOR) != ((self.cursor_path is None) != (self.cursor_header is None)):
            raise OptionError(
                "pagination", "a cursor is in the answer or in a header", "give cursor_path or cursor_header"
            )
        if (kind is PageType.NEXT_URL) != (self.next_path is not None):
            raise OptionError("pagination", "`next_path` belongs to type next_url", "add it, or remove it")
        if self.start is not None and kind not in COUNTED:
            raise OptionError("pagination", f"`start` has no meaning with type {kind}", "remove start")
        if (self.size_param is None) != (self.size is None) and kind is not PageType.OFFSET:
            raise OptionError("pagination", "`size` and `size_param` belong together", "give both")
        if (self.size is not None and self.size < 1) or self.max_pages < 1:
            raise OptionError("pagination", "a number is too small", "write 1 or more")
        for name in ("cursor_path", "next_path", "has_more_path", "total_path"):
            check_path("pagination", getattr(self, name))

    @property
    def first(self) -> int | None:
        """The first page's number, or None where pages have none."""
        if self.type not in COUNTED:
            return None
        return self.start if self.start is not None else int(self.type is PageType.PAGE)


def check_path(name: str, text: str | None) -> None:
    """Refuses what cannot be a JSON path.

    Raises:
        OptionError: Names the option.
    """
    if text is not None and not text.startswith("$"):
        raise OptionError(name, f"'{text}' is no JSON path", f"begin with $: $.{text}")


@dataclass(frozen=True)
class Since:
    """How an API is read incrementally.

    Attributes:
        column: The field that grows.
        key: The fields that identify a record; () for the whole record.
        initial: The first value to ask for, or None.
        lag: How far to step back.
        nulls: What happens to records without a value.
    """

    column: str
    key: tuple[str, ...] = ()
    initial: str | None = None
    lag: timedelta = timedelta()
    nulls: NullCursor = NullCursor.REFUSE


@dataclass(frozen=True, kw_only=True)
class PagedSource(Source):
    """What every source over HTTP has in common. Sub-classes say what they ask, and read."""

    capabilities: ClassVar[SourceCapabilities] = SourceCapabilities(
        sync_modes=frozenset({SyncMode.FULL_REFRESH, SyncMode.INCREMENTAL}), projects=True
    )

    connection: HttpConnection
    incremental_column: str | None = option(
        default=None,
        doc="Read only records whose value here (a number, a time or a text) is new since the last run.",
        example="updated_at",
    )
    incremental_param: str | None = option(
        default=None,
        doc="The parameter (or variable) that asks for records from a value on, that value included.",
        example="updated_since",
    )
    initial_value: str | None = option(
        default=None, doc="The first value to ask for; all if absent.", example="2024-01-01"
    )
    lag: timedelta | None = option(
        default=None,
        doc="Ask again for what is this much older than the last value: records that appear late are found, known ones dropped.",
        example="10m",
    )
    primary_key: tuple[str, ...] = option(
        default=(), doc="The fields that identify a record; the whole record if absent.", example=["id"]
    )
    null_cursor: NullCursor = option(
        default=NullCursor.REFUSE, doc="Refuse, or read once, records without a value in the incremental column."
    )
    infer_pages: int = option(
        default=1, doc="Pages that suggest the columns where no `schema` is declared.", advanced=True
    )
    declared: pa.Schema | None = dataclasses.field(default=None, repr=False)

    def check_paging(self) -> None:
        """Refuses options that do not fit together.

        Raises:
            OptionError: Names the option at fault.
        """
        if (self.incremental_column is None) != (self.incremental_param is None):
            missing = "incremental_param" if self.incremental_param is None else "incremental_column"
            raise OptionError("incremental_column", f"`{missing}` is missing", "give both, or neither")
        if self.incremental_column is None:
            for name in ("initial_value", "lag"):
                if getattr(self, name) is not None:
                    raise OptionError(name, "it has no meaning without incremental_column", f"remove {name}")
        if self.infer_pages < 1:
            raise OptionError("infer_pages", "it is less than 1", "leave it out")

    def declaring(self, schema: pa.Schema) -> Source:
        return dataclasses.replace(self, declared=schema)

    @property
    def since(self) -> Since | None:
        """How it is read incrementally, or None."""
        if self.incremental_column is None:
            return None
        lag = self.lag or timedelta()
        return Since(self.incremental_column, self.primary_key, self.initial_value, lag, self.null_cursor)

    @property
    @abstractmethod
    def place(self) -> str:
        """How errors name it."""
