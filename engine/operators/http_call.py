"""One call over HTTP: what is asked, what came back, and every way in which it may fail; tries nothing twice and knows no rows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from dsl.contracts.errors import ErrorType, RetryableError

LONGEST_PAUSE: Final = 86_400.0
_EXCERPT: Final = 200
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\U0010ffff]+")
_KINDS: Final = {
    401: ErrorType.AUTH,
    403: ErrorType.AUTH,
    407: ErrorType.AUTH,
    408: ErrorType.TIMEOUT,
    425: ErrorType.TRANSIENT,
    429: ErrorType.THROTTLED,
    502: ErrorType.UNAVAILABLE,
    503: ErrorType.UNAVAILABLE,
    504: ErrorType.UNAVAILABLE,
}

_UNANSWERED: Final = frozenset({ErrorType.TRANSIENT, ErrorType.TIMEOUT, ErrorType.THROTTLED, ErrorType.UNAVAILABLE})


@dataclass(frozen=True)
class Request:
    """What is asked.

    Attributes:
        url: The address, its values escaped.
        body: The body, or None.
    """

    url: str
    body: bytes | None = None


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: The status.
        body: The body; of an answer without success only its beginning.
        retry_after: The header of that name, or None.
    """

    status: int
    body: bytes
    retry_after: str | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the status says success."""
        return 200 <= self.status < 300


class CallError(RetryableError):
    """A call that failed; whether it is tried again is for the policy to say.

    Args:
        code: Stable short name of the fault (`http_422`).
        message: What happened.
        error_type: Its class.
        after: Seconds that the service asked for.
        down: Whether it counts against the service's circuit breaker.
        splits: Whether the rows asked about may be at fault, so that asking about fewer tells which.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        error_type: ErrorType = ErrorType.POISON,
        after: float | None = None,
        down: bool = False,
        splits: bool = False,
    ) -> None:
        super().__init__(message, error_type=error_type, after=after)
        self.code, self.down, self.splits = code, down, splits

    @property
    def unanswered(self) -> bool:
        """Whether the service gave no answer, so that another one may."""
        return self.error_type in _UNANSWERED

    def after_tries(self, tries: int) -> CallError:
        """The same, saying how often it was tried."""
        if tries < 2:
            return self
        message = f"{self.message} ({tries} tries)"
        return CallError(self.code, message, error_type=self.error_type, down=self.down, splits=self.splits)


def refusal(answer: Answer, now: datetime) -> CallError:
    """What an answer without success means.

    A redirect is not followed: data could otherwise lead a call, and the secrets in its headers, to another host.
    """
    status = answer.status
    kind = _KINDS.get(status, ErrorType.TRANSIENT if status >= 500 else ErrorType.POISON)
    if 300 <= status < 400:
        return CallError("http_redirect", f"the service answered {status}, a redirect, which is not followed")
    said = excerpt(answer.body)
    message = f"the service answered {status}" + (f": {said}" if said else "")
    return CallError(
        f"http_{status}",
        message,
        error_type=kind,
        after=seconds_of(answer.retry_after, now),
        down=status >= 500,
        splits=kind is ErrorType.POISON,
    )


def excerpt(body: bytes) -> str:
    """The beginning of an answer in one printable line."""
    text = _UNPRINTABLE.sub(" ", body[: 4 * _EXCERPT].decode("utf-8", "replace")).strip()
    return text if len(text) <= _EXCERPT else text[: _EXCERPT - 1] + "…"


def seconds_of(retry_after: str | None, now: datetime) -> float | None:
    """How many seconds a `Retry-After` asks for (RFC 9110, 10.2.3), a day at most; None where it says nothing that makes sense."""
    text = (retry_after or "").strip()
    if re.fullmatch(r"[0-9]{1,18}", text):
        return min(float(text), LONGEST_PAUSE)
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    aware = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
    return min(max((aware - now).total_seconds(), 0.0), LONGEST_PAUSE)
