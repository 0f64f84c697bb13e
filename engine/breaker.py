"""Circuit breakers: a failing system is left alone for a while; decides only, calls nothing itself."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from dsl.contracts.connectors import Clock
from dsl.contracts.errors import UnavailableError
from dsl.contracts.policies import CircuitBreakerPolicy


class OpenBreakerError(UnavailableError):
    """A breaker refused a call; nothing was asked of the system."""


@dataclass(frozen=True)
class Health:
    """What is known of one system.

    Attributes:
        failures: Failures in a row.
        open_until: No call before this time but one probe after it; None while closed.
        probing: Whether somebody is trying it now.
    """

    failures: int = 0
    open_until: datetime | None = None
    probing: bool = False


class BreakerStore(Protocol):
    """Keeps the health of systems; shared by every process that should share a breaker."""

    def get(self, key: str) -> Health:
        """What is known of a system."""

    def swap(self, key: str, before: Health, after: Health) -> bool:
        """Replaces `before` by `after` unless somebody was faster; tells whether it did."""


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


@dataclass(frozen=True)
class Breaker:
    """One system's breaker.

    Attributes:
        key: Names the system.
        policy: When to open and for how long.
        store: Where its health is kept.
        clock: Tells the time.
    """

    key: str
    policy: CircuitBreakerPolicy
    store: BreakerStore
    clock: Clock

    def admit(self) -> None:
        """Lets a call through, or refuses it.

        Raises:
            OpenBreakerError: The breaker is open; `after` says how many seconds are left.
        """
        while True:
            health = self.store.get(self.key)
            if health.open_until is None:
                return
            left = health.open_until - self.clock.now()
            if left > timedelta():
                raise self._refusal(left)
            # The prober gets one cool-down; if it dies without a verdict the next caller takes over.
            probe = Health(health.failures, self.clock.now() + self.policy.cooldown, probing=True)
            if self.store.swap(self.key, health, probe):
                return

    def succeeded(self) -> None:
        """Notes that a call worked: closes the breaker."""
        while (health := self.store.get(self.key)) != Health():
            if self.store.swap(self.key, health, Health()):
                return

    def failed(self) -> None:
        """Notes that the system could not be reached: opens the breaker after enough failures in a row."""
        while True:
            health = self.store.get(self.key)
            failures = health.failures + 1
            opens = failures >= self.policy.failures or health.probing
            until = self.clock.now() + self.policy.cooldown if opens else health.open_until
            if self.store.swap(self.key, health, Health(failures, until)):
                return

    def _refusal(self, left: timedelta) -> OpenBreakerError:
        return OpenBreakerError(
            f"the circuit breaker is open after {self.policy.failures} failures in a row",
            where=self.key,
            hint=f"it lets one call through in {left.total_seconds():.0f} s",
            after=left.total_seconds(),
        )
