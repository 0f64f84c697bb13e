"""Tells Dagster's event log how a stage goes on, in a bounded number of lines however long it runs; never waits and never raises."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from logging import Logger
from typing import Protocol

from dsl.contracts.stores import Event, EventSink
from etl_defs.logs import sentence

EVERY = 10.0
GROWTH = 1.5
TROUBLES = 8
FREQUENT = frozenset({"progress", "committed"})


class Log(Protocol):
    """Where lines go: `context.log` of an op, or a logger."""

    def info(self, msg: str) -> object:
        """Takes a line."""

    def warning(self, msg: str) -> object:
        """Takes a line about trouble."""


class BoundedEvents:
    """An event sink that writes few lines: the first at once, then each pause longer than the one before.

    A stage of 12 hours writes about 20 lines of progress, and at most `TROUBLES` for each kind of trouble.

    Args:
        log: Where lines go.
        monotonic: Seconds of a clock that never goes back.
    """

    def __init__(self, log: Log | Logger, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._monotonic = monotonic
        self._pause: dict[str, float] = {}
        self._next: dict[str, float] = {}
        self._troubles: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def emit(self, event: Event) -> None:
        """Writes the event, or lets it pass."""
        with self._lock:
            if event.name in FREQUENT:
                self._seldom(event)
            elif event.name.endswith(("_started", "_finished")):
                self._log.info(f"[{event.stage}] {sentence(event)}")
            else:
                self._bounded(event)

    def _seldom(self, event: Event) -> None:
        now = self._monotonic()
        if event.stage not in self._next:
            self._pause[event.stage], self._next[event.stage] = EVERY, now + EVERY
        elif now >= self._next[event.stage]:
            self._pause[event.stage] *= GROWTH
            self._next[event.stage] = now + self._pause[event.stage]
            self._log.info(f"[{event.stage}] {sentence(event)}")

    def _bounded(self, event: Event) -> None:
        self._troubles[event.stage, event.name] += 1
        seen = self._troubles[event.stage, event.name]
        if seen <= TROUBLES:
            more = " (more of these go to the process's log only)" if seen == TROUBLES else ""
            self._log.warning(f"[{event.stage}] {sentence(event)}{more}")


class AllEvents:
    """Hands each event to several sinks.

    Args:
        sinks: Who is told, in this order.
    """

    def __init__(self, sinks: Sequence[EventSink]) -> None:
        self._sinks = tuple(sinks)

    def emit(self, event: Event) -> None:
        """Tells everyone."""
        for each in self._sinks:
            each.emit(event)
