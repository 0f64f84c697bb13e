"""Makes calls over HTTP with aiohttp, through one pooled session; imported when it is needed; tries nothing twice, follows no redirect."""

from __future__ import annotations

import os
import re
import socket
import ssl
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

import aiohttp
from yarl import URL

from dsl.contracts.addresses import check_host
from dsl.contracts.errors import ErrorType, FatalError
from engine.operators.http_call import Answer, CallError, Request
from engine.operators.wall import Wall

_ADDRESS = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[^\s\[\]@:\\%/?#{}]+)(:[0-9]{1,5})?(?=[/?#]|$)")
_KEPT_OF_REFUSALS = 16 * 2**10
_ANY_WRAPPING = 32 + zlib.MAX_WBITS


@dataclass(frozen=True, kw_only=True)
class Calling:
    """How calls are made.

    Attributes:
        where: Who makes them, for errors.
        method: The method.
        timeout: How long one may take.
        connections: Connections at a time, at most.
        largest: Bytes in an answer, unpacked, at most.
        wall: Where they may lead.
    """

    where: str
    method: str
    timeout: timedelta
    connections: int
    largest: int
    wall: Wall


@dataclass
class HttpClient:
    """A session; used inside one event loop.

    Attributes:
        calling: How calls are made.
        headers: What they carry; may be replaced.
    """

    calling: Calling
    headers: Mapping[str, str] = field(repr=False)
    _session: aiohttp.ClientSession | None = field(default=None, repr=False)

    async def open(self) -> None:
        """Makes the pool; connects nothing."""
        self._session = aiohttp.ClientSession(
            connector=self.calling.wall.connector(self.calling.connections),
            timeout=aiohttp.ClientTimeout(total=self.calling.timeout.total_seconds()),
            # A cookie would make an answer depend on the rows asked about before; a proxy would connect past the wall.
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            # aiohttp would unpack without this node's bound.
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Closes every connection."""
        if self._session is not None:
            await self._session.close()

    async def call(self, request: Request) -> Answer:
        """Asks once; returns the answer, whatever its status is.

        Raises:
            CallError: There is no answer, or not a whole one.
            FatalError: The address may not be called, or nobody can be sure who answers.
        """
        try:
            return await self._ask(request)
        except (aiohttp.ClientError, OSError) as error:
            raise self._judged(error) from error

    async def _ask(self, request: Request) -> Answer:
        assert self._session is not None  # noqa: S101 - opened by its owner
        asked = self._session.request(
            self.calling.method,
            URL(request.url, encoded=True),
            data=request.body,
            headers=self.headers,
            allow_redirects=False,
        )
        async with asked as response:
            if not 200 <= response.status < 300:
                return Answer(response.status, await _beginning(response), response.headers.get("Retry-After"))
            held = bytearray()
            await _read(response, held, self.calling.largest)
            return Answer(response.status, bytes(held))

    def _judged(self, error: aiohttp.ClientError | OSError) -> CallError | FatalError:
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
            return FatalError(
                f"the service cannot be trusted: {_told(error)}",
                where=self.calling.where,
                hint="is the host right, and is its certificate signed by an authority that this machine trusts?",
            )
        if isinstance(error, aiohttp.InvalidURL):
            return FatalError("the address is no address that can be called", where=self.calling.where)
        if isinstance(error, TimeoutError):
            seconds = self.calling.timeout.total_seconds()
            told = f"no whole answer came within {seconds:g} s"
            return CallError("http_timeout", told, error_type=ErrorType.TIMEOUT, down=True)
        if isinstance(error, aiohttp.ClientConnectorError):
            told = f"the service cannot be reached: {_told(error)}"
            return CallError("http_unreachable", told, error_type=ErrorType.UNAVAILABLE, down=True)
        if isinstance(error, aiohttp.ClientPayloadError):
            return CallError("http_truncated", "the answer broke off", error_type=ErrorType.TRANSIENT, down=True)
        if isinstance(error, aiohttp.ClientResponseError):
            return CallError("http_protocol", "what came back is not HTTP", error_type=ErrorType.TRANSIENT, down=True)
        told = "the connection was closed before an answer came"
        return CallError("http_closed", told, error_type=ErrorType.TRANSIENT, down=True)


def origin_of(url: str, wall: Wall) -> URL:
    """Scheme, host and port of an address or a template of one, in plain letters.

    Raises:
        FatalError: It is no address, it names a user, or it leads into the own network.
    """
    found = _ADDRESS.match(url)
    if found is None:
        hint = "write https://host/path; credentials belong into headers" if "@" in url else "write https://host/path"
        raise FatalError("the url is no address of HTTP", where=wall.where, hint=hint)
    try:
        origin = URL(found[0]).origin()
    except ValueError as error:
        raise FatalError("the url names no host", where=wall.where, hint="write https://host/path") from error
    if not wall.open:
        check_host(origin.raw_host or "", wall.where)
    return origin


def _told(error: BaseException) -> str:
    """What the system says, without the address that was asked for."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    # asyncio's own words for a connection that fails are "Connect call failed".
    if isinstance(cause, OSError) and cause.errno and not isinstance(cause, socket.gaierror | ssl.SSLError):
        return os.strerror(cause.errno)
    return str(getattr(cause, "strerror", None) or cause)


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """As much of a refusal as its reason needs; what else is wrong with it does not matter."""
    held = bytearray()
    with suppress(CallError, aiohttp.ClientError):
        await _read(response, held, _KEPT_OF_REFUSALS)
    return bytes(held[:_KEPT_OF_REFUSALS])


async def _read(response: aiohttp.ClientResponse, held: bytearray, largest: int) -> None:
    """Reads and unpacks a body, and stops at once when it grows too large."""
    unpacking = _Unpacking(response.headers.get("Content-Encoding", ""))
    async for piece in response.content.iter_any():
        held += unpacking.feed(piece, largest + 1 - len(held))
        if len(held) > largest:
            told = f"the answer is longer than max_response_bytes ({largest})"
            raise CallError("http_too_long", told, splits=True)
    unpacking.end()


class _Unpacking:
    """Undoes a `Content-Encoding` piece by piece, never further than asked."""

    def __init__(self, encoding: str) -> None:
        name = encoding.strip().lower()
        if name not in {"", "identity", "gzip", "x-gzip", "deflate"}:
            raise CallError("http_encoding", f"the answer is packed as {name[:20]!r}, which nobody asked for")
        self._stream = None if name in {"", "identity"} else zlib.decompressobj(_ANY_WRAPPING)
        self._begun = False

    def feed(self, piece: bytes, most: int) -> bytes:
        if self._stream is None:
            return piece
        self._begun = True
        try:
            return self._stream.decompress(piece, most)
        except zlib.error as error:
            raise CallError("http_truncated", "the packed answer is broken", error_type=ErrorType.TRANSIENT) from error

    def end(self) -> None:
        if self._stream is not None and self._begun and not self._stream.eof:
            raise CallError("http_truncated", "the packed answer broke off", error_type=ErrorType.TRANSIENT)
