"""Talks HTTP patiently: verified TLS, the wall, tries and pauses, redirects without credentials, tokens renewed; knows no rows."""

from __future__ import annotations

import random
import re
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self, TypeVar
from urllib.parse import urljoin, urlsplit

from dsl.contracts.errors import ErrorType, FatalError, RetryableError, UnavailableError
from dsl.contracts.policies import RateLimit
from resources.http_answers import (
    LONGEST_REASON,
    Answer,
    Request,
    origin_of,
    refusal,
    unpacked,
    without_params,
)
from resources.http_auth import Credentials, TokenSource, credentials_of
from resources.http_options import HttpConnection
from resources.http_wall import Wall
from resources.stores.secrets import reveal

import urllib3  # isort: skip - behind the wall, which says it if it is not installed

T = TypeVar("T")

FIRST_PAUSE: Final = 0.1
LONGEST_BACKOFF: Final = 20.0
CONNECT_SECONDS: Final = 10.0
MOST_REDIRECTS: Final = 5
_PIECE: Final = 1 << 16
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_KEEPS_METHOD: Final = frozenset({307, 308})
_SAFE: Final = frozenset({"GET", "HEAD"})
_DEFAULTS: Final = {"accept": "application/json", "accept-encoding": "gzip, deflate", "user-agent": "headrace"}


class HttpClient:
    """An open way to one server.

    Args:
        connection: Where it is and how to be let in.
        where: Names it in errors.
        pause: Waits for some seconds.

    Raises:
        FatalError: A certificate file or a secret cannot be used.
    """

    def __init__(
        self, connection: HttpConnection, where: str, *, pause: Callable[[float], object] = time.sleep
    ) -> None:
        self.where = where
        self._connection, self._pause = connection, pause
        self._origin = origin_of(connection.address)
        self._wall = Wall.around(where, allowed=connection.allow_private_hosts)
        self._pools: dict[tuple[str, str, int], urllib3.HTTPConnectionPool] = {}
        self._trust: ssl.SSLContext | None = None
        self._headers = {name.lower(): _header(name, reveal(each), where) for name, each in connection.headers.items()}
        tokens = TokenSource(connection.auth, self._plain, where)
        self._credentials: Credentials = credentials_of(connection.auth, tokens, where)
        self._pace = None if connection.rate is None else _Pace(connection.rate)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def ask(self, request: Request, judge: Callable[[Answer], T]) -> T:
        """Makes a request that may be repeated until its answer is one that `judge` takes.

        Args:
            request: What to ask.
            judge: Makes something of an answer; a RetryableError from it means that the answer is not whole.

        Raises:
            RetryableError: It is not after all attempts, or the server asks for a longer pause.
            FatalError: The server refuses it, or may not be called.
        """

        def once() -> T:
            answer = self.send(request)
            if not answer.succeeded and answer.status != 304:
                raise refusal(answer, self.place(request))
            return judge(answer)

        return self.repeat(once)

    def repeat(self, once: Callable[[], T]) -> T:
        """Calls until there is no passing fault, with pauses, as often as the connection says; raises the last fault."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return once()
            except RetryableError as error:
                longest = self._connection.longest_pause.total_seconds()
                if attempt >= self._connection.attempts or (error.after or 0.0) > longest:
                    raise
                self._pause(error.after if error.after is not None else _backoff(attempt))

    def send(self, request: Request) -> Answer:
        """Makes a request once, whatever its status; once more where credentials were refused and could be renewed.

        Raises:
            RetryableError: The connection broke, or no answer came in time: the server may have acted all the same.
            FatalError: The server cannot be trusted, may not be called, or leads where this request may not go.
        """
        used = self._credentials.current()
        answer = self._follow(request, used)
        if answer.status == 401 and self._credentials.renew(used):
            answer = self._follow(request, self._credentials.current())
        return answer

    def belongs(self, url: str) -> bool:
        """Tells whether an address is one of this server, whom credentials may be shown to."""
        try:
            return origin_of(url) == self._origin
        except ValueError:
            return False

    def storable(self, url: str) -> str:
        """Returns an address without the parameter that holds a key: fit to be kept in a state."""
        param = self._connection.auth.param
        return url if param is None else without_params(url, (param,))

    def place(self, request: Request) -> str:
        """Returns how errors name a request: its address has no parameters there."""
        return f"{self.where}: {request.method} {without_params(request.url)}"

    def close(self) -> None:
        """Closes the connections; safe to call twice."""
        for each in self._pools.values():
            each.close()

    def _follow(self, request: Request, used: dict[str, str]) -> Answer:
        for _ in range(MOST_REDIRECTS + 1):
            own = self.belongs(request.url)
            answer = self._exchange(self._dressed(request, used) if own else _bare(request), own=own)
            if answer.status not in _MOVED or "location" not in answer.headers:
                return answer
            request = self._redirected(request, answer)
        raise FatalError("it leads from one address to the next without an end", where=self.place(request))

    def _redirected(self, request: Request, answer: Answer) -> Request:
        try:
            target = urljoin(request.target, answer.headers["location"])
            scheme = origin_of(target)[0]
        except ValueError as error:
            raise FatalError("it leads to no address of HTTP", where=self.place(request)) from error
        if request.method not in _SAFE and not (answer.status in _KEEPS_METHOD and self.belongs(target)):
            raise FatalError(
                f"a {request.method} is led elsewhere",
                where=self.place(request),
                hint="write the address that it has now",
            )
        if scheme == "http" and urlsplit(request.url).scheme == "https":
            raise FatalError("it leads from https:// to http://", where=self.place(request))
        return replace(request, url=target, params=())

    def _dressed(self, request: Request, used: dict[str, str]) -> Request:
        headers = {**_DEFAULTS, **self._headers, **{name.lower(): each for name, each in request.headers.items()}}
        param = self._connection.auth.param
        if param is None:
            return replace(request, headers={**headers, **used})
        params = (*(each for each in request.params if each[0] != param), (param, used[param]))
        return replace(request, headers=headers, params=params)

    def _plain(self, request: Request) -> Answer:
        """Makes a request without credentials: the one for a token."""
        return self._exchange(replace(request, headers={**_DEFAULTS, **request.headers}), own=True)

    def _exchange(self, request: Request, *, own: bool) -> Answer:
        if self._pace is not None and own:
            self._pause(self._pace.claim())
        place = self.place(request)
        target = urlsplit(request.target)
        path = (target.path or "/") + (f"?{target.query}" if target.query else "")
        try:
            pool = self._pool(request.url)
            got = pool.urlopen(
                request.method, path, body=request.body, headers=dict(request.headers),
                retries=False, redirect=False, preload_content=False, decode_content=False,
            )  # fmt: skip
            try:
                headers = {name.lower(): each for name, each in got.headers.items()}
                limit = self._connection.max_response_bytes
                body = unpacked(_pieces(got), headers.get("content-encoding", ""), limit, place)
            except BaseException:
                got.close()
                raise
            got.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise _transport(error, place) from None  # the cause may quote parameters, and with them a key
        except ValueError as error:
            raise FatalError(
                f"it cannot be asked: {type(error).__name__}", where=place, hint="check path and headers"
            ) from None
        return Answer(got.status, headers, body, without_params(request.url))

    def _pool(self, url: str) -> urllib3.HTTPConnectionPool:
        origin = origin_of(url)
        if origin not in self._pools:
            seconds = self._connection.timeout.total_seconds()
            timeout = urllib3.Timeout(connect=min(seconds, CONNECT_SECONDS), read=seconds)
            if origin[0] == "https" and self._trust is None:
                self._trust = _trust(self._connection, self.where)
            self._pools[origin] = self._wall.pool(*origin, timeout, self._trust)
        return self._pools[origin]


@dataclass
class _Pace:
    """Spreads requests over time: at most so many in each period."""

    limit: RateLimit
    _made: deque[float] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def claim(self) -> float:
        """Takes the next place; returns the seconds until it."""
        most, per = self.limit.requests or 1, self.limit.per.total_seconds()
        with self._lock:
            now = time.monotonic()
            at = now if len(self._made) < most else max(now, self._made[-most] + per)
            self._made.append(at)
            while len(self._made) > most:
                self._made.popleft()
            return at - now


def _bare(request: Request) -> Request:
    """Returns a request for another server than the one that credentials are for."""
    return replace(request, headers=_DEFAULTS)


def _pieces(got: Any) -> Iterator[bytes]:
    yield from got.stream(_PIECE, decode_content=False)


def _backoff(attempt: int) -> float:
    longest = min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_BACKOFF)
    return random.uniform(longest / 2, longest)  # noqa: S311 - spreads load


def _header(name: str, value: str, where: str) -> str:
    if not value.isprintable() or value != value.strip() or not value.isascii():
        told = f"the value of header '{name}' has a line break, a character that no header holds, or blanks around it"
        raise FatalError(told, where=where, hint="is there a line break at the end of the secret?")
    return value


def _trust(connection: HttpConnection, where: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=connection.ca_file)
    except OSError as error:
        raise FatalError(
            f"the certificates in ca_file cannot be used: {error}", where=where, hint="name a PEM file"
        ) from error


def _transport(error: Exception, where: str) -> FatalError | RetryableError:
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return RetryableError("no answer in time", where=where, hint="raise `timeout`?", error_type=ErrorType.TIMEOUT)
    if isinstance(error, urllib3.exceptions.SSLError):
        return FatalError(
            f"no trusted connection: {_first_line(error)}", where=where, hint="set ca_file, or mend the certificate"
        )
    if isinstance(error, urllib3.exceptions.LocationValueError | urllib3.exceptions.HTTPWarning):
        return FatalError("it is no address of HTTP", where=where)
    if isinstance(error, urllib3.exceptions.IncompleteRead | urllib3.exceptions.InvalidChunkLength):
        return RetryableError("the answer is cut off", where=where)
    if isinstance(error, urllib3.exceptions.ProtocolError):
        return UnavailableError("the connection broke, or what came is not HTTP", where=where)
    return UnavailableError(f"cannot connect: {_first_line(error)}", where=where, hint="check address and network")


def _first_line(error: BaseException) -> str:
    """Returns an error of the transport without the objects and addresses that it quotes."""
    text = re.sub(r"<[^>]*>(\(.*?\))?:? ?|HTTPS?Connection(Pool)?\(.*?\):? ?|with url: \S+", "", str(error))
    return (text.splitlines() or [type(error).__name__])[0][:LONGEST_REASON]
