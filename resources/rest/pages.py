"""Asks an API for pages of one resource and judges whether they are whole; knows no rows and keeps no state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pyarrow as pa

from dsl.contracts.connectors import BatchReader, ReadRequest
from dsl.contracts.errors import FatalError, RetryableError
from dsl.contracts.state import Json, State
from resources.http_answers import Answer, Request, refusal
from resources.http_client import HttpClient
from resources.http_json import MISSING, Path, document_of, filled, plain_text
from resources.http_paging import Follower, Page
from resources.http_reader import PagedReader, Parents, declared_or_inferred
from resources.http_source import COUNTED, Pagination
from resources.rest.resource import ParentResource, Place, ReadMethod, RestConnection, RestSource
from resources.stores.secrets import reveal

if TYPE_CHECKING:
    from resources.http_source import PagedSource


class RestPages:
    """The pages of a resource.

    Args:
        source: What to ask, and how.
        client: The server; closed with this.
        parent: Where the resource is that of the parents, it.
    """

    def __init__(self, source: RestSource, client: HttpClient, parent: ParentResource | None = None) -> None:
        self._source, self._client, self._own = source, client, parent is None
        asked: RestSource | ParentResource = source if parent is None else parent
        self.paging: Pagination = asked.pagination
        self.where = f"{source.connection.key_of('rest')[1]}{'' if asked.path.startswith('/') else '/'}{asked.path}"
        self._path, self._params = asked.path, asked.params
        self._records = Path(asked.records, self.where)
        self._error = Path(source.error_path, self.where) if source.error_path is not None else None
        self._follower = Follower(asked.pagination, self.where)
        self._headers = {name: reveal(each) for name, each in source.headers.items()}

    def fetch(self, position: Json, since: str | None, carried: Mapping[str, Any], etag: str | None = None) -> Page:
        request = self._request(position, since, carried, etag)
        return self._client.ask(request, lambda answer: self._page(position, request, answer))

    def close(self) -> None:
        self._client.close()

    def _request(self, position: Json, since: str | None, carried: Mapping[str, Any], etag: str | None) -> Request:
        source, paging = self._source, self.paging
        method = source.method if self._own else ReadMethod.GET
        headers = dict(self._headers)
        if etag is not None:
            headers["if-none-match"] = etag
        moving = self._moving(position, since if self._own else None)
        params = {name: filled(each, carried, self.where) for name, each in self._params.items()}
        body = filled(source.body, carried, self.where) if self._own else None
        if self._own and source.page_in is Place.BODY:
            body = {**(body or {}), **moving}
        else:
            params |= moving
        url = self._url(carried)
        pairs = tuple(pair for name, each in params.items() for pair in _pairs(name, each, self.where))
        if isinstance(position, str) and paging.param is None:
            url, pairs = self._checked(position), ()
        if body is None:
            return Request(method.value, url, pairs, headers)
        headers.setdefault("content-type", "application/json")
        return Request(method.value, url, pairs, headers, json.dumps(body, default=str).encode())

    def _moving(self, position: Json, since: str | None) -> dict[str, Any]:
        """Returns the parameters that change from page to page and from run to run."""
        paging, found = self.paging, dict[str, Any]()
        if paging.size_param is not None:
            found[paging.size_param] = paging.size
        at = paging.first if position is None and paging.type in COUNTED else position
        if paging.param is not None and at is not None:
            found[paging.param] = at
        if since is not None and self._source.incremental_param is not None:
            found[self._source.incremental_param] = since
        return found

    def _url(self, carried: Mapping[str, Any]) -> str:
        path = self._path
        for name, value in carried.items():
            if f"{{{name}}}" in path:
                path = path.replace(f"{{{name}}}", path_part(value, name, self.where))
        return address_below(self._source.connection, path)

    def _checked(self, url: str) -> str:
        if not self._client.belongs(url):
            raise FatalError(
                "the next page is at another address than `base_url` (scheme, host and port)",
                where=self.where,
                hint="credentials are shown to that server only: is base_url the address that it calls itself?",
            )
        return url

    def _page(self, position: Json, request: Request, answer: Answer) -> Page:
        name = self._named(position)
        if answer.status == 304:
            if "if-none-match" not in request.headers:
                raise refusal(answer, name)
            return Page([], None, name=name, etag=request.headers["if-none-match"], unchanged=True)
        if answer.status == 204 and self.paging.type in COUNTED:
            return Page([], self._after_nothing(position), told=False, name=name)
        document = document_of(answer.body, name)
        failed = MISSING if self._error is None else self._error.one(document)
        if failed is not MISSING and failed not in (None, False, "", [], {}):
            raise RetryableError("the answer says that it failed, whatever its status", where=name)
        records = self._records.records(document, name)
        following, told, total = self._follower.follow(position, document, answer.headers, request.target, len(records))
        if isinstance(following, str) and self.paging.param is None:
            following = self._client.storable(self._checked(following))
        return Page(records, following, told, total, name, answer.headers.get("etag"))

    def _after_nothing(self, position: Json) -> Json:
        """Returns the position behind a page that has no content: whether it is the end is not for it to say."""
        return self._follower.counted(position, self.paging.size or 1)

    def _named(self, position: Json) -> str:
        if isinstance(position, int):
            return f"{self.where}: {self.paging.type} {position}"
        return self.where if position is None else f"{self.where}: a later page"


def open_reader(source: RestSource, request: ReadRequest, state: State | None) -> BatchReader:
    """Opens a reader; raises as `Source.read` says."""
    client = HttpClient(source.connection, source.place)
    try:
        pages, parents = _opened(source, client)
        return PagedReader(source, pages, request, state, parents=parents, keeps_etag=source.etag)
    except BaseException:
        client.close()
        raise


def discover(source: PagedSource) -> pa.Schema:
    """Returns the schema that reading will yield; raises as `Source.discover_schema` says."""
    assert isinstance(source, RestSource)  # noqa: S101 - its own
    if source.declared is not None:
        return source.declared
    with closing(HttpClient(source.connection, source.place)) as client:
        return declared_or_inferred(source, *_opened(source, client))


def _opened(source: RestSource, client: HttpClient) -> tuple[RestPages, Parents | None]:
    pages = RestPages(source, client)
    if source.parent is None:
        return pages, None
    fields = {name: Path(text, source.place) for name, text in source.parent.fields.items()}
    return pages, Parents(RestPages(source, client, source.parent), fields)


def check_server(connection: RestConnection) -> str:
    """Asks for the path of the check, and says what came.

    Raises:
        HeadraceError: It cannot be reached, or refuses the credentials.
    """
    place = connection.key_of("rest")[1]
    request = Request("GET", address_below(connection, connection.check_path))
    with closing(HttpClient(connection, f"rest {place}")) as client:
        answer = client.send(request)
    fault = refusal(answer, f"rest {place}")
    # Without a path of its own nothing needs to be there: any answer of the server's own is one.
    lenient = not connection.check_path and answer.status in {400, 404, 405, 410, 422}
    if answer.succeeded or answer.status == 304 or lenient:
        return f"{place} answers (HTTP status {answer.status})"
    raise fault


def address_below(connection: RestConnection, path: str) -> str:
    """Returns the address of a path, whose special characters are escaped."""
    rest = quote(path.lstrip("/"), safe="%/:@!$&'()*+,;=~")
    return f"{connection.base_url.rstrip('/')}/{rest}" if rest else connection.base_url


def path_part(value: Any, name: str, where: str) -> str:
    """Returns a value as one part of a path, which it cannot leave.

    Raises:
        FatalError: It is empty, dots alone, or no plain value.
    """
    text = plain_text(value, name, where)
    if text.strip(".") == "":
        raise FatalError(f"'{name}' has no value that a path can hold", where=where)
    return quote(text, safe="")


def _pairs(name: str, value: Any, where: str) -> list[tuple[str, str]]:
    if value is None:
        return []
    values = value if isinstance(value, list) else [value]
    return [(name, plain_text(each, name, where)) for each in values]
