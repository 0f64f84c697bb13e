"""The options of a GraphQL API: how to reach it and what to ask; imports no driver and opens nothing itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import pyarrow as pa

from dsl.contracts.connectors import BatchReader, CheckResult, ConnectorKind, ReadRequest, Stream
from dsl.contracts.errors import HeadraceError
from dsl.contracts.spec import OptionError, option
from dsl.contracts.state import Json, State
from resources.http_options import HttpConnection
from resources.http_source import PagedSource, PageType, Pagination, check_path

_WRITES: Final = re.compile(r"(^|[\s}])(mutation|subscription)\b")
_COMMENT: Final = re.compile(r'#[^\n]*|"""(?s:.*?)"""|"(\\.|[^"\\\n])*"')


class PartialData(StrEnum):
    """What happens to an answer that holds data and errors."""

    REFUSE = "refuse"
    ACCEPT = "accept"


@dataclass(frozen=True, kw_only=True)
class GraphqlConnection(HttpConnection):
    """A GraphQL API over HTTP."""

    url: str = option(doc="The address of the API.", example="https://api.example.com/graphql")

    def __post_init__(self) -> None:
        self.check_options("url")

    @property
    def address(self) -> str:
        return self.url

    def check(self) -> CheckResult:
        from resources.graphql.pages import check_server

        try:
            return CheckResult(healthy=True, details=check_server(self))
        except HeadraceError as error:
            return CheckResult(healthy=False, details=str(error))

    def discover(self) -> Sequence[Stream]:
        from resources.graphql.pages import list_fields

        return [Stream(each) for each in list_fields(self)]


@dataclass(frozen=True, kw_only=True)
class GraphqlSource(PagedSource):
    """Records of one query, page by page. Variables carry the cursor: values never become a part of the query's text.

    With `relay` the query asks for a Relay connection (`edges { node { … } } pageInfo { hasNextPage endCursor }`) at that path
    and takes its cursor in a variable `after`; `records` and `pagination` say the same for an API with customs of its own.

    `errors` in an answer are an error of the run even where data came beside them, unless `partial_data: accept` says that
    missing parts may be NULL. As with every source over HTTP an answer counts only when it is whole, and pages that lead in
    a circle or do not say whether there is more are errors.
    """

    connection: GraphqlConnection
    query: str = option(
        doc="One query.",
        example="query($after: String) { users(first: 100, after: $after) "
        "{ edges { node { id name } } pageInfo { hasNextPage endCursor } } }",
    )
    variables: dict[str, Json] = option(default={}, doc="Its variables.", example={"team": "data"})
    operation: str | None = option(
        default=None, doc="The operation's name, where the query has several.", advanced=True
    )
    relay: str | None = option(default=None, doc="Where the answer holds a Relay connection.", example="$.data.users")
    records: str | None = option(
        default=None, doc="Where the records are, as a JSON path (RFC 9535).", example="$.data.users.items"
    )
    pagination: Pagination = option(
        default=Pagination(), doc="How they are cut into pages: page, offset or cursor; `param` is the variable."
    )
    partial_data: PartialData = option(default=PartialData.REFUSE, doc="Whether data counts that comes with errors.")

    def __post_init__(self) -> None:
        self.check_paging()
        if _WRITES.search(_COMMENT.sub(" ", self.query)):
            raise OptionError("query", "a source only reads", "write a query")
        if (self.relay is None) == (self.records is None):
            raise OptionError("records", "either `relay` or `records` says where the records are", "give one of them")
        for name in ("relay", "records"):
            check_path(name, getattr(self, name))
        if self.pagination.type in {PageType.LINK_HEADER, PageType.NEXT_URL}:
            raise OptionError("pagination", f"GraphQL has no pages of type {self.pagination.type}", "take cursor")
        if self.relay is not None and self.pagination.type is not PageType.NONE:
            raise OptionError("pagination", "`relay` says it", "remove pagination")

    @property
    def incremental(self) -> bool:
        """Whether a run reads only what is new."""
        return self.incremental_column is not None

    @property
    def paging(self) -> Pagination:
        """How pages are cut, a Relay connection's included."""
        if self.relay is None:
            return self.pagination
        info = f"{self.relay}.pageInfo"
        cursor = Pagination(type=PageType.CURSOR, param="after", cursor_path=f"{info}.endCursor")
        return replace(cursor, has_more_path=f"{info}.hasNextPage")

    @property
    def records_path(self) -> str:
        """Where the records are."""
        return self.records or f"{self.relay}.edges[*].node"

    @property
    def physical_name(self) -> tuple[str, ...]:
        named = re.sub(r"[^A-Za-z0-9_]+", "_", self.relay or self.records or "").strip("_")
        return self.connection.key_of("graphql", named.removeprefix("data_"))

    @property
    def place(self) -> str:
        return f"graphql {'/'.join(self.physical_name[1:])}"

    def discover_schema(self) -> pa.Schema:
        from resources.graphql.pages import discover

        return discover(self)

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        from resources.graphql.pages import open_reader

        return open_reader(self, request, state)


CONNECTOR = ConnectorKind(
    kind="graphql",
    title="GraphQL",
    connection=GraphqlConnection,
    source=GraphqlSource,
    extra="graphql",
    example="""\
type: graphql
config:
  url: https://api.example.com/graphql
  auth:
    type: bearer
    token: ${API_TOKEN}
  query: |
    query($after: String, $since: String) {
      users(first: 100, after: $after, updatedSince: $since) {
        edges { node { id name updatedAt } }
        pageInfo { hasNextPage endCursor }
      }
    }
  relay: $.data.users
  incremental_column: updatedAt
  incremental_param: since
  primary_key: [id]
""",
)
