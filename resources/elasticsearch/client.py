"""Talks HTTP to a cluster and puts its errors into words; sends each request once and knows nothing of streams.

No client library stands between: Elastic's own refuses OpenSearch and, from version 9 on, Elasticsearch 8, and none of them
lets the caller decide what a lost answer means.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlencode

import urllib3

from dsl.contracts.connectors import Stream
from dsl.contracts.errors import (
    ErrorType,
    FatalError,
    HeadraceError,
    RetryableError,
    SchemaError,
    UnavailableError,
)
from dsl.contracts.redaction import remember
from resources.sql import Tls, loopback, verifies
from resources.stores.secrets import reveal_optional

if TYPE_CHECKING:
    from resources.elasticsearch.resource import ElasticsearchConnection

JSON, LINES = "application/json", "application/x-ndjson"
LONGEST_REASON = 300
CONNECT_SECONDS = 10.0
_THROTTLED = frozenset({429, 502, 503, 504})
# What comes behind it quotes the row, which a reason must not.
_QUOTES_ROW = re.compile(
    r"( in document with id|[:.]? ?Preview of field|,? ?with value| ?\[?For input string).*", re.DOTALL
)
_PLACE = re.compile(r"^\[\d+:\d+\] ")


@dataclass(frozen=True)
class Answer:
    """What the server said.

    Attributes:
        status: The HTTP status.
        body: The parsed JSON, or None if it was none.
        after: Seconds that it asks to wait (`Retry-After`), or None.
    """

    status: int
    body: Any
    after: float | None = None

    @property
    def kind(self) -> str:
        """The type of its error, such as `index_not_found_exception`, or ""."""
        return str(self._error.get("type", ""))

    @property
    def reason(self) -> str:
        """What it says about its error."""
        return reason_of(self._error) or f"HTTP status {self.status}"

    @property
    def _error(self) -> Mapping[str, Any]:
        error = self.body.get("error") if isinstance(self.body, dict) else None
        return error if isinstance(error, dict) else {}


class Client:
    """An open connection to one cluster.

    Args:
        connection: Where it is and how to log in.

    Raises:
        FatalError: A certificate file or a secret cannot be used.
    """

    def __init__(self, connection: ElasticsearchConnection) -> None:
        self.place = place_of(connection)
        self._login = bool(connection.username or connection.api_key)
        self._headers = {"accept": JSON, "user-agent": "headrace", **_authorization(connection)}
        self._pool = _pool(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        kind: str = JSON,
        where: str = "",
        parse: Callable[[bytes], Any] = json.loads,
    ) -> Answer:
        """Sends one request once and returns the answer, whatever its status.

        Raises:
            UnavailableError: The server cannot be reached, or the connection broke: it may have acted all the same.
            RetryableError: No answer in time, or none in JSON: as above.
            FatalError: It cannot be trusted, or is no Elasticsearch.
        """
        place = where or self.place
        headers = {**self._headers, "content-type": kind}
        try:
            got = self._pool.urlopen(method, path, body=body, headers=headers, retries=False, redirect=False)
        except urllib3.exceptions.ReadTimeoutError as error:
            raise RetryableError(
                "no answer in time", where=place, hint="raise `timeout`?", error_type=ErrorType.TIMEOUT
            ) from error
        except urllib3.exceptions.SSLError as error:
            raise _untrusted(error, place) from error
        except urllib3.exceptions.HTTPError as error:
            raise UnavailableError(
                f"cannot connect: {_first_line(error)}",
                where=place,
                hint="check host and port, that it is running, and whether it wants TLS (`tls`)",
            ) from error
        return Answer(got.status, _parsed(got.data, parse), _after(got.headers.get("retry-after")))

    def ask(self, method: str, *path: str, body: object = None, where: str = "", **query: str) -> Answer:
        """Sends one JSON request; a status of 404 or 409 is an answer, every other fault an error.

        Args:
            method: The HTTP method.
            path: The parts of the path, which are escaped.
            body: Sent as JSON, if given.
            where: Names the place in errors; the cluster if absent.
            query: The parameters.

        Raises:
            HeadraceError: As `send`, and what `refusal` makes of the status.
        """
        target = "/" + "/".join(quote(each, safe=",*") for each in path) + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
        answer = self.send(method, target, data, where=where)
        if answer.status < 300 or answer.status in {404, 409}:
            if not isinstance(answer.body, dict | list):
                raise self.no_json(answer, where)
            return answer
        raise self.refusal(answer, where)

    def create_index(self, name: str, body: Mapping[str, Any], *, where: str = "") -> None:
        """Creates an index unless there is one of that name; raises as `ask` does."""
        answer = self.send("PUT", f"/{quote(name)}", json.dumps(body).encode(), where=where)
        if answer.status >= 300 and answer.kind != "resource_already_exists_exception":
            raise self.refusal(answer, where)

    def refusal(self, answer: Answer, where: str = "") -> HeadraceError:
        """Returns what a status that is no success means for the engine."""
        place = where or self.place
        if answer.status == 401:
            hint = (
                "check username and password, or api_key" if self._login else "give username and password, or api_key"
            )
            return FatalError("the server refuses the login", where=place, hint=hint, error_type=ErrorType.AUTH)
        if answer.kind == "cluster_block_exception":
            return FatalError(
                f"the index is blocked: {answer.reason}", where=place, hint="free disk space, or lift the block"
            )
        if answer.status == 403:
            return FatalError(
                f"not allowed: {answer.reason}", where=place, hint="grant this right", error_type=ErrorType.AUTH
            )
        if answer.status in _THROTTLED:
            return _overloaded(answer, place)
        if answer.status >= 500:
            return RetryableError(f"the server failed: {answer.reason}", where=place, after=answer.after)
        if not isinstance(answer.body, dict):
            return self.no_json(answer, where)
        return SchemaError(answer.reason, where=place, hint="check the names and mappings of the index")

    def no_json(self, answer: Answer, where: str = "") -> HeadraceError:
        """Returns the error for an answer that is not the API's: a proxy's page, or half of one."""
        if answer.status < 300 or answer.status >= 500:
            return RetryableError(f"the answer (HTTP status {answer.status}) is not JSON", where=where or self.place)
        return FatalError(
            f"this is no Elasticsearch: HTTP status {answer.status}",
            where=where or self.place,
            hint="check host and port",
        )

    def close(self) -> None:
        """Closes the connections."""
        self._pool.close()


def place_of(connection: ElasticsearchConnection) -> str:
    """Returns how errors name the cluster."""
    return f"elasticsearch {connection.host}:{connection.port}"


def plain(connection: ElasticsearchConnection) -> bool:
    """Tells whether it is reached without TLS."""
    return connection.tls is Tls.DISABLE or (connection.tls is Tls.AUTO and loopback(connection.host))


def reason_of(error: Mapping[str, Any]) -> str:
    """Returns what an error of the API says, in one line and without the values of a row."""
    text = _PLACE.sub("", " ".join(str(error.get("reason") or error.get("type") or "").split()))
    return _QUOTES_ROW.sub("", text)[:LONGEST_REASON]


def server_version(connection: ElasticsearchConnection) -> str:
    """Returns the product and version of the server."""
    with Client(connection) as client:
        answer = client.ask("GET")
    version = answer.body.get("version") if isinstance(answer.body, dict) else None
    if not isinstance(version, dict) or "number" not in version:
        raise FatalError("this is no Elasticsearch", where=client.place, hint="check host and port")
    product = "OpenSearch" if version.get("distribution") == "opensearch" else "Elasticsearch"
    return f"{product} {version['number']}"


def list_indices(connection: ElasticsearchConnection) -> Sequence[Stream]:
    """Lists indices and aliases that are not hidden."""
    with Client(connection) as client:
        found = client.ask("GET", "*", expand_wildcards="open").body
    names = {name for index, facts in found.items() for name in (index, *facts.get("aliases", {}))}
    return [Stream(each) for each in sorted(names) if not each.startswith(".")]


def _pool(connection: ElasticsearchConnection) -> urllib3.HTTPConnectionPool:
    seconds = connection.timeout.total_seconds()
    timeout = urllib3.Timeout(connect=min(seconds, CONNECT_SECONDS), read=seconds)
    if plain(connection):
        return urllib3.HTTPConnectionPool(connection.host, connection.port, timeout=timeout)
    return urllib3.HTTPSConnectionPool(
        connection.host, connection.port, timeout=timeout, ssl_context=_trust(connection)
    )


def _trust(connection: ElasticsearchConnection) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=connection.ca_file)
    except OSError as error:
        raise FatalError(
            f"the certificates in ca_file cannot be used: {error}", where=place_of(connection), hint="name a PEM file"
        ) from error
    if not verifies(connection.tls, connection.host):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _authorization(connection: ElasticsearchConnection) -> dict[str, str]:
    key = reveal_optional(connection.api_key)
    if key is not None:
        if not key.isascii() or not key.isprintable():
            raise FatalError("api_key holds characters that no header can", where=place_of(connection))
        return {"authorization": f"ApiKey {key}"}
    if connection.username is None:
        return {}
    password = reveal_optional(connection.password) or ""
    token = base64.b64encode(f"{connection.username}:{password}".encode()).decode()
    return {"authorization": f"Basic {remember(token)}"}


def _untrusted(error: Exception, where: str) -> FatalError:
    text = _first_line(error)
    distrusted = "certificate" in text.lower() or "hostname" in text.lower()
    plain_text = "does the server speak plain HTTP? enable TLS there, or set `tls: disable` if you accept that"
    return FatalError(
        f"no trusted connection: {text}",
        where=where,
        hint="set ca_file, or mend the certificate" if distrusted else plain_text,
    )


def _overloaded(answer: Answer, where: str) -> RetryableError:
    said = f"the server takes no more for now: {answer.reason}"
    if answer.status == 429:
        return RetryableError(said, where=where, error_type=ErrorType.THROTTLED, after=answer.after)
    return UnavailableError(said, where=where, after=answer.after)


def _parsed(data: bytes, parse: Callable[[bytes], Any]) -> Any:
    try:
        return parse(data)
    except (ValueError, RecursionError):
        return None


def _after(header: str | None) -> float | None:
    """Reads `Retry-After`: seconds or a date (RFC 9110, 10.2.3)."""
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None


def _first_line(error: BaseException) -> str:
    """Returns an error of the transport without the objects that it quotes."""
    text = re.sub(r"<[^>]*>(\(.*?\))?:? ?|HTTPS?Connection\(.*?\): ", "", str(error))
    return (text.splitlines() or [type(error).__name__])[0][:LONGEST_REASON]
