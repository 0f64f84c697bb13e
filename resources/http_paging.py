"""How an API cuts its records into pages: where the next one is, and what says that it was the last; asks nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import urljoin

from dsl.contracts.errors import FatalError, RetryableError
from dsl.contracts.state import Json
from resources.http_json import MISSING, Path
from resources.http_source import COUNTED, PageType, Pagination

_LINK: Final = re.compile(r'<([^>]*)>((?:\s*;\s*[^\s=;,"]+\s*=\s*(?:"[^"]*"|[^\s;,"]*))*)\s*(?:,|$)')
_RELATION: Final = re.compile(r'rel\s*=\s*"?([^";,]*)"?', re.IGNORECASE)


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        records: What it holds.
        next: The position of the next; None where the API says that this is the last, or has pages of no kind.
        told: Whether the API says so itself, rather than by an empty page.
        total: How many records there are in all, where the API says it.
        name: How errors and reasons name it.
        etag: What names its content.
        unchanged: Whether it is what it was when it had the `etag` that was shown.
    """

    records: list[Any] = field(repr=False)
    next: Json
    told: bool = True
    total: int | None = None
    name: str = ""
    etag: str | None = None
    unchanged: bool = False


class Pages(Protocol):
    """An open way to the pages of one resource."""

    where: str
    paging: Pagination

    def fetch(self, position: Json, since: str | None, carried: Mapping[str, Any], etag: str | None = None) -> Page:
        """Asks for one page, until it is whole.

        Args:
            position: Which; None for the first.
            since: Asks for what is new.
            carried: Values of the parent record that stand in the request.
            etag: What the resource was when it was read last.
        """

    def close(self) -> None:
        """Closes the connections; safe to call twice."""


class Follower:
    """Finds the next page.

    Args:
        paging: How pages are cut.
        where: Names the place in errors.
    """

    def __init__(self, paging: Pagination, where: str) -> None:
        self._paging, self._where = paging, where
        self._paths = {
            name: Path(text, where)
            for name in ("cursor_path", "next_path", "has_more_path", "total_path")
            if (text := getattr(paging, name)) is not None
        }

    def follow(
        self, position: Json, document: Any, headers: Mapping[str, str], url: str, count: int
    ) -> tuple[Json, bool, int | None]:
        """Returns the next position, whether the API says what it says about the end itself, and its total.

        Raises:
            RetryableError: What says whether there is more is missing, or contradicts itself: the page is not whole.
        """
        more, total = self._has_more(document), self._total(document)
        following = self._next(position, document, headers, url, count)
        if self._paging.type is PageType.NONE:
            return None, True, total
        if more is False:
            return None, True, total
        if more and following is None:
            raise RetryableError("the answer says that there is more, but not where", where=self._where)
        counted = self._paging.type in COUNTED
        return following, not counted or bool(more), total

    def counted(self, position: Json, count: int) -> int:
        """Returns the number of the next page, or the next offset, behind a page of so many records."""
        at = position if isinstance(position, int) else self._paging.first or 0
        return at + 1 if self._paging.type is PageType.PAGE else at + count

    def _next(self, position: Json, document: Any, headers: Mapping[str, str], url: str, count: int) -> Json:
        kind = self._paging.type
        if kind in COUNTED:
            return self.counted(position, count)
        if kind is PageType.CURSOR:
            return self._cursor(document, headers)
        if kind is PageType.LINK_HEADER:
            return next_link(headers.get("link", ""), url, self._where)
        found = self._paths["next_path"].one(document) if kind is PageType.NEXT_URL else None
        if found is MISSING or found is None or found == "":
            return None
        if not isinstance(found, str):
            raise RetryableError("the next address is not a text", where=self._where)
        return urljoin(url, found)

    def _cursor(self, document: Any, headers: Mapping[str, str]) -> Json:
        header = self._paging.cursor_header
        found = headers.get(header.lower()) if header else self._paths["cursor_path"].one(document)
        if found is MISSING or found is None or found == "" or found is False:
            return None
        if isinstance(found, dict | list):
            raise RetryableError("the cursor is no text and no number", where=self._where)
        return found if isinstance(found, str | int) else str(found)

    def _has_more(self, document: Any) -> bool | None:
        path = self._paths.get("has_more_path")
        if path is None:
            return None
        found = path.one(document)
        if not isinstance(found, bool):
            raise RetryableError(f"the answer does not say at '{path.text}' whether there is more", where=self._where)
        return found

    def _total(self, document: Any) -> int | None:
        path = self._paths.get("total_path")
        if path is None:
            return None
        found = path.one(document)
        if isinstance(found, str) and re.fullmatch("[0-9]{1,18}", found):
            return int(found)
        if not isinstance(found, int) or isinstance(found, bool):
            raise RetryableError(f"the answer does not say at '{path.text}' how many there are", where=self._where)
        return found


def next_link(header: str, url: str, where: str) -> str | None:
    """Returns the address with `rel="next"` of a `Link` header (RFC 8288), or None.

    Raises:
        RetryableError: The header speaks of a next page but cannot be read.
    """
    for target, parameters in _LINK.findall(header):
        relation = _RELATION.search(parameters)
        if relation is not None and "next" in relation[1].lower().split():
            return str(urljoin(url, target))
    if re.search(r'rel\s*=\s*"?[^",;]*\bnext\b', header, re.IGNORECASE):
        raise RetryableError("the Link header speaks of a next page but cannot be read", where=where)
    return None


def loops(where: str, position: Json) -> FatalError:
    """Returns the error for pages that lead back to one that was read."""
    shown = f"{str(position)[:60]!r}" if isinstance(position, int) else "an earlier one"
    return FatalError(
        f"the pages lead in a circle: after this page comes {shown} again", where=where, hint="check `pagination`"
    )
