"""What is asked over HTTP and what came back: bodies unpacked within limits, statuses put into words; connects to nothing."""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from dsl.contracts.errors import ErrorType, FatalError, HeadraceError, RetryableError, UnavailableError

LONGEST_REASON: Final = 300
_THROTTLED: Final = frozenset({429})
_UNAVAILABLE: Final = frozenset({502, 503, 504})
_AGAIN: Final = frozenset({408, 423, 425, 500, 507, 509, 520, 521, 522, 523, 524, 527, 530})
_AUTH: Final = frozenset({401, 403, 407})
_GONE: Final = frozenset({404, 410})
_PACKED: Final = {"gzip": 31, "x-gzip": 31, "deflate": 47}
_PIECE: Final = 1 << 20


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        method: Its method.
        url: Where to, with the parameters that belong to the address itself.
        params: Further parameters.
        headers: Further headers.
        body: What is sent, or None.
    """

    method: str
    url: str
    params: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = field(default=None, repr=False)

    @property
    def target(self) -> str:
        """The address with all parameters; one that is given twice stands as `params` has it."""
        return with_params(self.url, self.params)


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: Its status.
        headers: Its headers, names in small letters.
        body: Its body, unpacked.
        url: The address that answered, without parameters.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    url: str = ""

    @property
    def after(self) -> float | None:
        """Seconds that it asks to wait, or None."""
        return seconds_of(self.headers.get("retry-after"))

    @property
    def succeeded(self) -> bool:
        """Whether it is what was asked for, whole."""
        return 200 <= self.status < 300 and self.status != 206


def with_params(url: str, params: Iterable[tuple[str, str]]) -> str:
    """Returns an address with parameters, which replace those of the same name that it has."""
    pairs = list(params)
    if not pairs:
        return url
    parts = urlsplit(url)
    names = {name for name, _ in pairs}
    held = [each for each in parse_qsl(parts.query, keep_blank_values=True) if each[0] not in names]
    return urlunsplit(parts._replace(query=urlencode([*held, *pairs]), fragment=""))


def without_params(url: str, names: Iterable[str] | None = None) -> str:
    """Returns an address without the parameters named, or without any: fit to be shown or kept."""
    parts = urlsplit(url)
    query = ""
    if names is not None:
        gone = set(names)
        query = urlencode([each for each in parse_qsl(parts.query, keep_blank_values=True) if each[0] not in gone])
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, query, ""))


def origin_of(url: str) -> tuple[str, str, int]:
    """Returns scheme, host and port.

    Raises:
        ValueError: It is no address of HTTP.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("it is no address of HTTP")
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def seconds_of(header: str | None) -> float | None:
    """Reads `Retry-After`: seconds or a date (RFC 9110, 10.2.3); None for what is neither."""
    if header is None:
        return None
    text = header.strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def unpacked(pieces: Iterable[bytes], encoding: str, limit: int, where: str) -> bytes:
    """Joins a body and unpacks it, neither form larger than a limit.

    Args:
        pieces: As they arrive.
        encoding: `Content-Encoding`.
        limit: Bytes.
        where: Names the answer in errors.

    Raises:
        FatalError: It is too large, or packed in a way that was not asked for.
        RetryableError: It is cut off or broken.
    """
    ways = [each for each in re.split(r"[,\s]+", encoding.lower()) if each not in {"", "identity"}]
    if len(ways) > 1 or any(each not in _PACKED for each in ways):
        raise FatalError(f"the answer is packed as '{encoding}', which was not asked for", where=where)
    if not ways:
        return _joined(pieces, limit, where)
    try:
        return _joined(_inflated(pieces, _PACKED[ways[0]], limit, where), limit, where)
    except zlib.error as error:
        raise RetryableError(f"the answer cannot be unpacked: {error}", where=where) from error


def _inflated(pieces: Iterable[bytes], window: int, limit: int, where: str) -> Iterable[bytes]:
    inflater, taken = zlib.decompressobj(window), 0
    for piece in pieces:
        data = piece
        taken += len(piece)
        if taken > limit:
            raise _too_large(limit, where)
        while data:
            if inflater.eof:
                inflater = zlib.decompressobj(window)
            yield inflater.decompress(data, _PIECE)
            data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    if taken and not inflater.eof:
        raise RetryableError("the answer is cut off: its packed body does not end", where=where)


def _joined(pieces: Iterable[bytes], limit: int, where: str) -> bytes:
    found = bytearray()
    for each in pieces:
        found += each
        if len(found) > limit:
            raise _too_large(limit, where)
    return bytes(found)


def _too_large(limit: int, where: str) -> FatalError:
    return FatalError(
        f"the answer is larger than {limit} bytes",
        where=where,
        hint="ask for smaller pages, or raise max_response_bytes",
    )


def refusal(answer: Answer, where: str) -> HeadraceError:
    """Returns what a status that is no success means for the engine; quotes nothing of the answer, which may hold anything."""
    said = f"HTTP status {answer.status}"
    if answer.status in _THROTTLED:
        told = f"the server takes no more for now ({said})"
        return RetryableError(told, where=where, error_type=ErrorType.THROTTLED, after=answer.after)
    if answer.status in _UNAVAILABLE:
        return UnavailableError(f"the server is not available ({said})", where=where, after=answer.after)
    if answer.status in _AGAIN:
        return RetryableError(f"the server failed ({said})", where=where, after=answer.after)
    if answer.status == 206:
        return RetryableError(f"the server gave a part of what was asked for ({said})", where=where)
    if answer.status in _AUTH:
        told = f"the server refuses the credentials, or the right is missing ({said})"
        return FatalError(told, where=where, hint="check `auth` and `headers`", error_type=ErrorType.AUTH)
    if answer.status in _GONE:
        return FatalError(f"there is nothing at this address ({said})", where=where, hint="check the path")
    if 300 <= answer.status < 400:
        return FatalError(f"it leads elsewhere ({said})", where=where, hint="write the address that it has now")
    return FatalError(f"the server refuses the request ({said})", where=where, hint="check path, params and body")
