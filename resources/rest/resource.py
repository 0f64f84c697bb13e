"""The options of an HTTP API: how to reach it, what to read there and what to send; imports no driver and opens nothing itself."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Final

import pyarrow as pa

from dsl.contracts.capabilities import DestinationCapabilities, Guarantee, Proof, WriteMode
from dsl.contracts.connectors import (
    BatchReader,
    BatchWriter,
    CheckResult,
    ConnectorKind,
    Destination,
    ReadRequest,
    Token,
)
from dsl.contracts.errors import HeadraceError
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError, option
from dsl.contracts.state import Json, State
from resources.http_options import HttpConnection, check_header
from resources.http_source import PagedSource, PageType, Pagination, check_path

PLACEHOLDER: Final = re.compile(r"\{([^{}/]*)\}")


class ReadMethod(StrEnum):
    """How records are asked for."""

    GET = "GET"
    POST = "POST"


class WriteMethod(StrEnum):
    """How rows are sent."""

    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"


class Place(StrEnum):
    """Where parameters stand that change from page to page."""

    QUERY = "query"
    BODY = "body"


class Body(StrEnum):
    """How rows are written into a request."""

    OBJECT = "object"
    ARRAY = "array"
    JSONL = "jsonl"
    TEMPLATE = "template"


@dataclass(frozen=True, kw_only=True)
class RestConnection(HttpConnection):
    """An HTTP API that speaks JSON."""

    base_url: str = option(doc="Where all paths begin.", example="https://api.example.com/v1")
    check_path: str = option(default="", doc="The path that `check` asks for.", example="/status", advanced=True)

    def __post_init__(self) -> None:
        self.check_options("base_url")
        check_url_path("check_path", self.check_path)

    @property
    def address(self) -> str:
        return self.base_url

    def check(self) -> CheckResult:
        from resources.rest.pages import check_server

        try:
            return CheckResult(healthy=True, details=check_server(self))
        except HeadraceError as error:
            return CheckResult(healthy=False, details=str(error))


@dataclass(frozen=True, kw_only=True)
class ParentResource:
    """The records whose children are read: one request, or one row of pages, for each of them."""

    path: str = option(doc="The path of the parents.", example="/users")
    records: str = option(default="$", doc="Where they are in an answer, as a JSON path (RFC 9535).", example="$.data")
    fields: dict[str, str] = option(
        doc="What is taken of a parent, by JSON path: it becomes a column of the children and may stand as `{name}` in path, "
        "params and body.",
        example={"user_id": "$.id"},
    )
    params: dict[str, Json] = option(default={}, doc="Parameters of the parents' requests.")
    pagination: Pagination = option(default=Pagination(), doc="How the parents are cut into pages.")


@dataclass(frozen=True, kw_only=True)
class RestSource(PagedSource):
    """Records of one resource of an API, page by page, or of a resource below each record of another (`parent`).

    An answer counts only when it is whole: a body that is cut off, a page of something else with status 200, an answer
    without the records or without what says whether there is more, an empty page with others behind it, fewer records than the
    API says there are, or pages that lead in a circle are asked for again and then an error, never the end.

    A run that died goes on with the page it had come to. Read by a number of page or an offset, records that come or go meanwhile
    move the others from page to page, as for everyone who reads such an API; a cursor is safe from that.

    Read incrementally (`incremental_column`), a run asks for records from the greatest value of the last run on and
    drops those it has delivered. With `etag: true` a resource without pages is read again only when it has changed.

    Without a declared `schema` the first page suggests the columns; a later record with a field that it did not have is
    rejected with the reason, not cut to fit.
    """

    connection: RestConnection
    path: str = option(doc="The path below `base_url`.", example="/orders")
    method: ReadMethod = option(default=ReadMethod.GET, doc="How it is asked for; it must be safe to ask twice.")
    params: dict[str, Json] = option(default={}, doc="Parameters of every request.", example={"status": "paid"})
    headers: dict[str, Secret] = option(default={}, doc="Further headers.", advanced=True)
    body: Json = option(
        default=None, doc="What is sent as JSON with every request.", example={"filter": {"open": True}}
    )
    records: str = option(default="$", doc="Where the records are, as a JSON path (RFC 9535).", example="$.data")
    pagination: Pagination = option(
        default=Pagination(),
        doc="How they are cut into pages.",
        example={"type": "cursor", "param": "cursor", "cursor_path": "$.next"},
    )
    page_in: Place = option(default=Place.QUERY, doc="Where the parameters of pages and of `incremental_param` stand.")
    error_path: str | None = option(
        default=None, doc="Where an answer with a status of success says that it failed.", example="$.error"
    )
    parent: ParentResource | None = option(default=None, doc="The resource whose records these are below.")
    etag: bool = option(default=False, doc="Read a resource without pages only when its ETag has changed.")

    def __post_init__(self) -> None:
        self.check_paging()
        check_url_path("path", self.path)
        for name in ("records", "error_path"):
            check_path(name, getattr(self, name))
        for header in self.headers:
            check_header("headers", header)
        if self.page_in is Place.BODY and not (self.method is ReadMethod.POST and isinstance(self.body or {}, dict)):
            raise OptionError("page_in", "only a POST with an object has parameters in its body", "add method: POST")
        paged = self.pagination.type is not PageType.NONE or self.parent is not None
        if self.etag and (paged or self.incremental_column is not None):
            raise OptionError("etag", "it tells of one answer, not of pages", "remove etag, or pagination")
        known = {} if self.parent is None else self.parent.fields
        for each in PLACEHOLDER.findall(self.path):
            if each not in known:
                raise OptionError("path", f"'{{{each}}}' is no field of a parent", "name it in parent.fields")
        if self.parent is not None:
            check_url_path("parent", self.parent.path)
            for text in (self.parent.records, *self.parent.fields.values()):
                check_path("parent", text)

    @property
    def incremental(self) -> bool:
        """Whether a run reads only what is new, or nothing."""
        return self.etag or self.incremental_column is not None

    @property
    def physical_name(self) -> tuple[str, ...]:
        return self.connection.key_of("rest", self.path)

    @property
    def place(self) -> str:
        return f"rest {'/'.join(self.physical_name[1:])}"

    def discover_schema(self) -> pa.Schema:
        from resources.rest.pages import discover

        return discover(self)

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        from resources.rest.pages import open_reader

        return open_reader(self, request, state)


@dataclass(frozen=True, kw_only=True)
class RestDestination(Destination):
    """Rows sent to an endpoint, one or several in a request.

    What the API promises decides what is promised here. `upsert` puts each row under its own address (`{id}` in the path): sent
    twice, it is the same. With `idempotency_header` every request has a key that a repetition has as well, for APIs that
    honour it. Both are effectively once; all else is at least once: the one request whose answer a crash swallowed is sent again.

    Before a request is sent it is noted in a journal on this machine's disk, and so is its answer. After a crash the rows that were
    answered are not sent again, and the request that was under way is sent again byte for byte. The journal is also where the
    stream's place is kept: it belongs on a disk that lasts as long as the workflow (`journal`). It holds the rows of
    the one request under way, readable by its owner only.

    A row is rejected when the API refuses its request with a status such as 400 or 422, or names it in the answer
    (`errors_path`). A request of several rows that is refused as a whole is cut in half until the rows at fault are alone, unless
    `split` says otherwise. 408, 425, 429 and 5xx are tried again, then the run is; 401, 403, 404 and redirects end it.
    """

    capabilities: ClassVar[DestinationCapabilities] = DestinationCapabilities(
        write_modes=frozenset({WriteMode.APPEND, WriteMode.UPSERT}),
        guarantee=Guarantee.AT_LEAST_ONCE,
        keyed_guarantee=Guarantee.EFFECTIVELY_ONCE,
        proof=Proof.EMULATOR,
        nested=True,
    )

    connection: RestConnection
    path: str = option(
        doc="The path below `base_url`; `{column}` stands for a row's value, `{input}` for the input's name.",
        example="/contacts/{id}",
    )
    method: WriteMethod = option(default=WriteMethod.POST, doc="How rows are sent.")
    headers: dict[str, Secret] = option(default={}, doc="Further headers.", advanced=True)
    body: Body | None = option(
        default=None, doc="How rows are written: object is one row a request; array if `batch_rows` is more than 1."
    )
    template: Json = option(
        default=None,
        doc="body: template. JSON in which `{column}` is a row's value, of its own type where it is alone in a text; "
        "`{rows}` is the array of all rows.",
        example={"contact": {"mail": "{email}"}},
    )
    batch_rows: int = option(default=1, doc="Rows in a request, at most.", example=100)
    primary_key: tuple[str, ...] = option(default=(), doc="upsert: the columns that the path names.", example=["id"])
    idempotency_header: str | None = option(
        default=None, doc="The header that takes a request's key, where the API honours one.", example="Idempotency-Key"
    )
    errors_path: str | None = option(
        default=None, doc="Where an answer lists the rows that it refused, as a JSON path.", example="$.errors[*]"
    )
    error_row: str = option(default="$.index", doc="Where such an entry has the row's number in its request, from 0.")
    error_reason: str = option(default="$.message", doc="Where such an entry has the reason.")
    reject_status: tuple[int, ...] = option(
        default=(400, 409, 413, 422), doc="Statuses that mean that rows are at fault, not the request."
    )
    split: bool = option(
        default=True, doc="Whether a request that is refused as a whole may be cut in half.", advanced=True
    )
    journal: str | None = option(
        default=None, doc="The folder of the journal; below HEADRACE_HOME if absent.", advanced=True
    )

    def __post_init__(self) -> None:
        check_url_path("path", self.path)
        for header in (*self.headers, *((self.idempotency_header,) if self.idempotency_header is not None else ())):
            check_header("headers" if header in self.headers else "idempotency_header", header)
        for name in ("errors_path", "error_row", "error_reason"):
            check_path(name, getattr(self, name))
        if self.batch_rows < 1:
            raise OptionError("batch_rows", "a request has at least one row", "leave it out")
        if self.batch_rows > 1 and self.form is Body.OBJECT:
            raise OptionError("body", "an object holds one row", "write array or jsonl, or batch_rows: 1")
        if (self.form is Body.TEMPLATE) != (self.template is not None):
            raise OptionError("template", "it belongs to body: template", "give both, or neither")
        self._check_mode()
        if self.idempotency_header is not None:
            # What this very destination promises; the class says what holds without the option.
            promised = dataclasses.replace(self.capabilities, guarantee=Guarantee.EFFECTIVELY_ONCE)
            object.__setattr__(self, "capabilities", promised)

    def _check_mode(self) -> None:
        if self.write_mode is not WriteMode.UPSERT:
            if self.primary_key:
                raise OptionError(
                    "primary_key", f"a key has no meaning in {self.write_mode} mode", "add write_mode: upsert"
                )
            return
        if not self.primary_key:
            raise OptionError("primary_key", "upsert needs the columns that the path names", "add primary_key: [id]")
        if self.method is WriteMethod.POST:
            raise OptionError("method", "sent twice, a POST may be two things", "write method: PUT (or PATCH)")
        missing = [each for each in self.primary_key if f"{{{each}}}" not in self.path]
        if missing or self.batch_rows > 1:
            named = f"'{{{missing[0]}}}' is not in it" if missing else "each row has an address of its own"
            raise OptionError("path", named, "write path: /things/{id} and leave out batch_rows")

    @property
    def form(self) -> Body:
        """How rows are written into a request."""
        return self.body or (Body.ARRAY if self.batch_rows > 1 else Body.OBJECT)

    @property
    def physical_name(self) -> tuple[str, ...]:
        return self.connection.key_of("rest", self.path)

    def open_writer(self, schema: pa.Schema, token: Token) -> BatchWriter:
        from resources.rest.writer import open_writer

        return open_writer(self, schema, token)

    def for_input(self, name: str) -> Destination:
        return dataclasses.replace(self, path=self.path.replace("{input}", name))


def check_url_path(name: str, path: str) -> None:
    """Refuses a path that holds more than one.

    Raises:
        OptionError: Names the option.
    """
    forbidden: Iterable[str] = ("://", "?", "#", "\\", "\r", "\n")
    if any(each in path for each in forbidden) or path.startswith("//") or ".." in path.split("/"):
        raise OptionError(name, f"'{path}' is no path below base_url", "write /things; parameters go into params")


CONNECTOR = ConnectorKind(
    kind="rest",
    title="REST",
    connection=RestConnection,
    source=RestSource,
    destination=RestDestination,
    extra="rest",
    example="""\
type: rest
config:
  base_url: https://api.example.com/v1
  auth:
    type: oauth2
    token_url: https://login.example.com/token
    client_id: headrace
    client_secret: ${CLIENT_SECRET}
  path: /users/{user_id}/orders
  parent:
    path: /users
    records: $.data
    fields:
      user_id: $.id
  records: $.data
  pagination:
    type: cursor
    param: cursor
    cursor_path: $.meta.next_cursor
  incremental_column: updated_at
  incremental_param: updated_since
  primary_key: [id]
  rate:
    requests: 10
    per: 1s
""",
)
