"""Circuit breakers: a failing system is left alone for a while; decides only, calls nothing itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from dsl.contracts.connectors import Clock
from dsl.contracts.errors import UnavailableError
from dsl.contracts.policies import CircuitBreakerPolicy
from dsl.contracts.stores import BreakerStore, Health

_SKEW = timedelta(seconds=5)


class OpenBreakerError(UnavailableError):
    """A breaker refused a call; nothing was asked of the system."""


@dataclass(frozen=True)
class Permit:
    """A call that was let through.

    Attributes:
        opening: `Health.opening` when it was.
        probe: Its number as a probe; 0 if the breaker was closed.
    """

    opening: int
    probe: int = 0


class MemoryBreakers:
    """Keeps health within one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, Health] = {}

    def get(self, key: str) -> Health:
        """What is known of a system."""
        return self._known.get(key, Health())

    def swap(self, key: str, before: Health, after: Health) -> bool:
        """Replaces `before` by `after` unless another thread was faster."""
        with self._lock:
            if self.get(key) != before:
                return False
            self._known[key] = after
            return True

    def now(self) -> datetime | None:
        """None: one process has one clock, the caller's."""
        return None


@dataclass(frozen=True)
class Breaker:
    """One system's breaker.

    Attributes:
        key: Names the system.
        policy: When to open and for how long.
        store: Where its health is kept.
        clock: Tells the time, where the store has no clock of its own.
    """

    key: str
    policy: CircuitBreakerPolicy
    store: BreakerStore
    clock: Clock

    def admit(self) -> Permit:
        """Lets a call through, or refuses it; what becomes of the call is told with the permit.

        Raises:
            OpenBreakerError: The breaker is open; `after` says how many seconds are left.
        """
        while True:
            health = self.store.get(self.key)
            if health.open_until is None or health.since is None:
                return Permit(health.opening)
            now = self._now()
            if now < health.since - _SKEW:
                # The clock went back: a pause is never longer than it was meant to be.
                self.store.swap(self.key, health, health.paused(now, health.open_until - health.since))
                continue
            if now < health.open_until:
                raise self._refusal(health, health.open_until - now)
            # The prober gets one cool-down; if it dies without a verdict the next caller takes over.
            probe = replace(health, probe=health.probe + 1).paused(now, self.policy.cooldown)
            if self.store.swap(self.key, health, probe):
                return Permit(health.opening, probe.probe)

    def succeeded(self, permit: Permit) -> None:
        """Notes that a call worked: ends the failures in a row, and closes the breaker if the call was a probe of this opening."""

        def after(health: Health) -> Health:
            if health.closed:
                return replace(health, failures=0)
            probed = permit.probe > 0 and permit.opening == health.opening
            return Health(opening=health.opening) if probed else health

        self._change(after)

    def failed(self, permit: Permit) -> None:
        """Notes that the system could not be reached: opens the breaker after enough failures in a row, or after a probe's."""

        def after(health: Health) -> Health:
            if permit.opening != health.opening:
                return health
            if not health.closed:
                probed = permit.probe > 0 and permit.probe == health.probe
                return health.opened(self._now(), self.policy.cooldown) if probed else health
            if health.failures + 1 >= self.policy.failures:
                return health.opened(self._now(), self.policy.cooldown)
            return replace(health, failures=health.failures + 1)

        self._change(after)

    def _change(self, after: Callable[[Health], Health]) -> None:
        while True:
            health = self.store.get(self.key)
            wanted = after(health)
            if wanted == health or self.store.swap(self.key, health, wanted):
                return

    def _now(self) -> datetime:
        return self.store.now() or self.clock.now()

    def _refusal(self, health: Health, left: timedelta) -> OpenBreakerError:
        return OpenBreakerError(
            f"the circuit breaker is open after {health.failures} failures in a row",
            where=self.key,
            hint=f"it lets one call through in {left.total_seconds():.0f} s",
            after=left.total_seconds(),
        )
