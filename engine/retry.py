"""How long to wait before trying again, and how fast to go; pauses end early when the run should stop."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dsl.contracts.connectors import Clock
from dsl.contracts.errors import (
    BudgetExceededError,
    ErrorType,
    FencedError,
    HeadraceError,
    ReconciliationError,
    RegressionError,
    RetryableError,
)
from dsl.contracts.policies import RateLimit, RetryPolicy

_TICK = timedelta(milliseconds=250)
_MENDED = frozenset({ErrorType.AUTH, ErrorType.SCHEMA, ErrorType.POISON})
_FINAL = (FencedError, RegressionError, BudgetExceededError, ReconciliationError)
_RANDOM = secrets.SystemRandom()


def backoff(
    policy: RetryPolicy, failures: int, error: HeadraceError, random: Callable[[], float] = _RANDOM.random
) -> timedelta:
    """The pause before the next try: full jitter (Brooker, "Exponential Backoff And Jitter", AWS 2015), or what the system asked.

    Args:
        policy: Its first, its longest pause, and the factor between them.
        failures: Failures so far in a row, at least 1.
        error: The last failure; its `after` is a lower bound, capped by nothing: the system knows best.
        random: Gives numbers in [0, 1).
    """
    longest = policy.max_backoff.total_seconds()
    try:
        grown = policy.initial_backoff.total_seconds() * policy.backoff_multiplier ** (failures - 1)
    except OverflowError:
        grown = longest
    asked = error.after if isinstance(error, RetryableError) else None
    return timedelta(seconds=max(random() * min(grown, longest), asked or 0.0))


def may_retry(policy: RetryPolicy, failures: int, error: HeadraceError) -> bool:
    """Whether another try is allowed after so many failures in a row.

    Of errors that a person has to mend first, those whose class the document names may be: somebody may be mending it now.
    """
    if failures >= policy.max_attempts or error.error_type not in policy.retry_on:
        return False
    return isinstance(error, RetryableError) or (error.error_type in _MENDED and not isinstance(error, _FINAL))


@dataclass
class RetryBudget:
    """How many calls may be made again, so that retries do not become the load that keeps a system down (Finagle's RetryBudget).

    Attributes:
        share: Repeats for each call, at most.
        reserve: Repeats beyond that, so that a short run can be patient.
    """

    share: float
    reserve: int = 100
    _calls: int = 0
    _repeats: int = 0

    def called(self) -> None:
        """Notes a call that is no repeat."""
        self._calls += 1

    def spend(self) -> bool:
        """Takes one repeat; tells whether there was one left."""
        if self._repeats + 1 > self.reserve + self.share * self._calls:
            return False
        self._repeats += 1
        return True


def pause(clock: Clock, length: timedelta, ended: Callable[[], bool]) -> None:
    """Waits, looking four times a second whether the run should end."""
    until = clock.now() + length
    while not ended() and (left := until - clock.now()) > timedelta():
        clock.sleep(min(left, _TICK))


@dataclass
class Pace:
    """Holds one node to its rate limit; a whole period's share may go at once (GCRA: ITU-T I.371, virtual scheduling).

    Attributes:
        limit: How many, and in what period.
        clock: Tells the time.
        ended: Whether the run should end.
    """

    limit: RateLimit
    clock: Clock
    ended: Callable[[], bool]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _free: datetime | None = None

    def spend(self, *, rows: int = 0, requests: int = 0) -> None:
        """Waits until so much more may be sent."""
        wait = self.claim(rows=rows, requests=requests)
        if wait > timedelta():
            pause(self.clock, wait, self.ended)

    def claim(self, *, rows: int = 0, requests: int = 0) -> timedelta:
        """Books it and returns how long the caller must wait first; what exceeds a period's share delays those after it."""
        shares = [0.0]
        if self.limit.rows:
            shares.append(rows / self.limit.rows)
        if self.limit.requests:
            shares.append(requests / self.limit.requests)
        cost = self.limit.per * max(shares)
        with self._lock:
            now = self.clock.now()
            start = now if self._free is None else max(now, self._free)
            self._free = start + cost
            return max(start + min(cost, self.limit.per) - self.limit.per - now, timedelta())
