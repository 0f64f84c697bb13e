"""The health of systems, shared by every process of a deployment through Dagster's run storage; decides nothing, opens no system.

One row for each system, changed by compare-and-set alone. Reads may be a second old: whoever acts on an old one is refused by the
compare-and-set and reads again, and whoever fails asks for the row itself, so a process that does not know yet that a breaker is open
makes one call too many and no more. While the storage is away, each process goes on from what it knew last, by itself.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

from dagster import DagsterInstance

from dsl.contracts.stores import Health

T = TypeVar("T")

PREFIX = "headrace/breaker/v1/"
FRESH_SECONDS = 1.0
AWAY_SECONDS = 5.0
_PLAIN = 150
_log = logging.getLogger(__name__)


class Pairs(Protocol):
    """What this rests on: texts under keys with compare-and-set, and the clock of whoever keeps them."""

    def read(self, key: str) -> tuple[str | None, datetime]:
        """The value of a key, and the time there."""

    def insert(self, key: str, value: str) -> bool:
        """Sets a key that does not exist; tells whether it did not."""

    def replace(self, key: str, old: str, new: str) -> bool:
        """Sets a key that still holds `old`; tells whether it did."""


@dataclass
class _Known:
    health: Health
    text: str | None = None
    read_at: float = float("-inf")
    alone: bool = False


class SharedBreakers:
    """Keeps the health of systems where every process sees it.

    Args:
        pairs: Where the rows are.
        seconds: Tells seconds that only grow.
    """

    def __init__(self, pairs: Pairs, seconds: Callable[[], float] = time.monotonic) -> None:
        self._pairs, self._seconds = pairs, seconds
        self._lock = threading.RLock()
        self._known: dict[str, _Known] = {}
        self._away_until = float("-inf")
        self._zero = datetime.now(UTC) - timedelta(seconds=seconds())

    @classmethod
    def of(cls, instance: DagsterInstance) -> SharedBreakers:
        """In the run storage of a Dagster instance."""
        from resources.stores.key_values import KeyValues  # SQLAlchemy is needed once there is an instance

        return cls(KeyValues(instance))

    def now(self) -> datetime:
        """The storage's time when it was last asked, and the seconds since then; this machine's while it was never reached."""
        return self._zero + timedelta(seconds=self._seconds())

    def get(self, key: str) -> Health:
        """What is known of a system; at most a second old while the storage answers."""
        with self._lock:
            known = self._known.setdefault(key, _Known(Health()))
            if self._seconds() - known.read_at >= FRESH_SECONDS:
                self._asked(lambda: self._read(key, known))
            return known.health

    def swap(self, key: str, before: Health, after: Health) -> bool:
        """Replaces `before` by `after` unless another thread or process was faster."""
        with self._lock:
            known = self._known.setdefault(key, _Known(Health()))
            if known.health != before:
                return False
            swapped = self._asked(lambda: self._stored(key, known, after))
            if swapped is None:
                known.health, known.alone = after, True
                return True
            if not swapped:
                known.read_at = float("-inf")
            return swapped

    def _read(self, key: str, known: _Known) -> bool:
        text, now = self._pairs.read(_row(key))
        self._zero = now - timedelta(seconds=self._seconds())
        mine, known.text, known.read_at = known.health, text, self._seconds()
        known.health = Health() if text is None else _decoded(text)
        if known.alone:
            known.alone = False
            if known.health.closed and not mine.closed:
                # What was learned while the storage was away is news to the others.
                self._stored(key, known, Health(mine.failures, mine.open_until, mine.since, known.health.opening + 1))
        return True

    def _stored(self, key: str, known: _Known, after: Health) -> bool:
        text, row = _encoded(after), _row(key)
        if known.alone or known.read_at == float("-inf"):
            # Nothing is known of the row since the storage came back.
            return False
        held = known.text
        done = self._pairs.insert(row, text) if held is None else self._pairs.replace(row, held, text)
        if done:
            known.health, known.text = after, text
        return done

    def _asked(self, ask: Callable[[], bool]) -> bool | None:
        """What the storage says, or None while it is away: an outage of its own must neither end a run nor close a breaker."""
        if self._seconds() < self._away_until:
            return None
        try:
            return ask()
        except Exception as error:  # noqa: BLE001 - drivers and Dagster raise what they like, and a breaker is no reason to fail
            self._away_until = self._seconds() + AWAY_SECONDS
            _log.warning(
                "circuit breakers are this process's own until Dagster's storage is back: %s", type(error).__name__
            )
            return None


def _row(key: str) -> str:
    """Returns the key in run storage: readable, and never longer than its index allows."""
    if len(key) <= _PLAIN:
        return PREFIX + key
    return f"{PREFIX}{key[:_PLAIN]}~{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def _encoded(health: Health) -> str:
    facts = {
        "failures": health.failures,
        "open_until": None if health.open_until is None else health.open_until.isoformat(),
        "since": None if health.since is None else health.since.isoformat(),
        "opening": health.opening,
        "probe": health.probe,
    }
    return json.dumps(facts, sort_keys=True)


def _decoded(text: str) -> Health:
    facts = json.loads(text)
    until, since = (
        None if facts[name] is None else datetime.fromisoformat(facts[name]) for name in ("open_until", "since")
    )
    return Health(facts["failures"], until, since, facts["opening"], facts["probe"])
