"""Asks a GraphQL API for pages of one query and judges whether they are whole; knows no rows and keeps no state."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final

import pyarrow as pa

from dsl.contracts.connectors import BatchReader, ReadRequest
from dsl.contracts.errors import ErrorType, FatalError, HeadraceError, RetryableError
from dsl.contracts.state import Json, State
from resources.graphql.resource import GraphqlConnection, GraphqlSource, PartialData
from resources.http_answers import Answer, Request
from resources.http_client import HttpClient
from resources.http_json import Path, document_of
from resources.http_paging import Follower, Page
from resources.http_reader import PagedReader, declared_or_inferred
from resources.http_source import COUNTED, Pagination

LOG = logging.getLogger(__name__)
_LONGEST: Final = 300
_THROTTLED: Final = frozenset({"THROTTLED", "RATE_LIMITED", "RATELIMITED", "MAX_COST_EXCEEDED", "TOO_MANY_REQUESTS"})
_AUTH: Final = frozenset({"UNAUTHENTICATED", "FORBIDDEN", "ACCESS_DENIED"})
_ASKED_WRONGLY: Final = frozenset({"GRAPHQL_PARSE_FAILED", "GRAPHQL_VALIDATION_FAILED", "BAD_USER_INPUT"})
_FIELDS: Final = "{ __schema { queryType { fields { name } } } }"


class GraphqlPages:
    """The pages of a query.

    Args:
        source: What to ask, and how.
        client: The server; closed with this.
    """

    def __init__(self, source: GraphqlSource, client: HttpClient) -> None:
        self._source, self._client = source, client
        self.paging: Pagination = source.paging
        self.where = source.place
        self._records = Path(source.records_path, self.where)
        self._follower = Follower(self.paging, self.where)

    def fetch(self, position: Json, since: str | None, carried: Mapping[str, Any], etag: str | None = None) -> Page:
        del carried, etag  # a query has no parents and no ETag
        request = asking(self._source.connection, self._body(position, since))
        return self._client.ask(request, lambda answer: self._page(position, answer))

    def close(self) -> None:
        self._client.close()

    def _body(self, position: Json, since: str | None) -> dict[str, Any]:
        source, paging = self._source, self.paging
        variables: dict[str, Any] = dict(source.variables)
        if paging.size_param is not None:
            variables[paging.size_param] = paging.size
        at = paging.first if position is None and paging.type in COUNTED else position
        if paging.param is not None and at is not None:
            variables[paging.param] = at
        if since is not None and source.incremental_param is not None:
            variables[source.incremental_param] = since
        named = {} if source.operation is None else {"operationName": source.operation}
        return {"query": source.query, "variables": variables, **named}

    def _page(self, position: Json, answer: Answer) -> Page:
        name = self.where if position is None else f"{self.where}: a later page"
        document = document_of(answer.body, name)
        fault = fault_of(document, name)
        if fault is not None:
            partial = isinstance(document, dict) and document.get("data") is not None
            if not (partial and self._source.partial_data is PartialData.ACCEPT):
                raise fault
            LOG.warning("%s: data is taken although errors came with it: %s", name, fault.message)
        records = self._records.records(document, name)
        following, told, total = self._follower.follow(position, document, answer.headers, "", len(records))
        return Page(records, following, told, total, name)


def asking(connection: GraphqlConnection, body: Mapping[str, Any]) -> Request:
    """Returns the request that asks a query."""
    headers = {
        "content-type": "application/json",
        "accept": "application/graphql-response+json, application/json;q=0.9",
    }
    return Request("POST", connection.url, (), headers, json.dumps(body, default=str).encode())


def fault_of(document: Any, where: str) -> HeadraceError | None:
    """Returns what the errors of an answer mean for the engine, or None where it has none.

    An error of the request (the query does not fit the schema) has no `path`; one of a field has, and may pass.
    """
    if not isinstance(document, dict):
        return RetryableError("the answer is none of GraphQL", where=where)
    errors = document.get("errors")
    if not errors:
        return None if "data" in document else RetryableError("the answer holds no data", where=where)
    found = [each if isinstance(each, dict) else {} for each in (errors if isinstance(errors, list) else [errors])]
    said = " ".join(str(found[0].get("message", "an error without a message")).split())[:_LONGEST]
    told = f"the API reports {len(found)} errors: {said}" if len(found) > 1 else f"the API reports an error: {said}"
    codes = {_code(each) for each in found}
    if codes & _THROTTLED:
        return RetryableError(told, where=where, error_type=ErrorType.THROTTLED)
    if codes & _AUTH:
        return FatalError(told, where=where, hint="check `auth`", error_type=ErrorType.AUTH)
    if codes & _ASKED_WRONGLY or not any("path" in each for each in found):
        return FatalError(told, where=where, hint="check `query` and `variables`")
    return RetryableError(told, where=where, hint="partial_data: accept takes what came with it")


def _code(error: Mapping[str, Any]) -> str:
    extensions = error.get("extensions")
    code = extensions.get("code") if isinstance(extensions, dict) else None
    return str(code or error.get("type") or "").upper()


def open_reader(source: GraphqlSource, request: ReadRequest, state: State | None) -> BatchReader:
    """Opens a reader; raises as `Source.read` says."""
    client = HttpClient(source.connection, source.place)
    try:
        return PagedReader(source, GraphqlPages(source, client), request, state)
    except BaseException:
        client.close()
        raise


def discover(source: GraphqlSource) -> pa.Schema:
    """Returns the schema that reading will yield; raises as `Source.discover_schema` says."""
    if source.declared is not None:
        return source.declared
    with closing(HttpClient(source.connection, source.place)) as client:
        return declared_or_inferred(source, GraphqlPages(source, client), None)


def check_server(connection: GraphqlConnection) -> str:
    """Asks the smallest of queries, and says what came.

    Raises:
        HeadraceError: It cannot be reached, refuses the credentials, or is no GraphQL.
    """
    _answered(connection, "{ __typename }")
    return f"{connection.key_of('graphql')[1]} answers queries"


def list_fields(connection: GraphqlConnection) -> list[str]:
    """Returns the fields of the query type; raises as `check_server` does."""
    document = _answered(connection, _FIELDS)
    path = Path("$.data.__schema.queryType.fields[*].name", connection.key_of("graphql")[1])
    return sorted(str(each) for each in path.records(document, path.where))


def _answered(connection: GraphqlConnection, query: str) -> Any:
    where = f"graphql {connection.key_of('graphql')[1]}"

    def judged(answer: Answer) -> Any:
        document = document_of(answer.body, where)
        fault = fault_of(document, where)
        if fault is not None:
            raise fault
        return document

    with closing(HttpClient(connection, where)) as client:
        return client.ask(asking(connection, {"query": query}), judged)
