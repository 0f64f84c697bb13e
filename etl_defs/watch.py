"""Lets whoever starts a run in this process watch it: events while it goes on, a report of each stage at its end; changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from dsl.contracts.stores import EventSink
from engine.report import StageReport


class Watcher(EventSink, Protocol):
    """Someone who watches runs of this process."""

    def finished(self, report: StageReport) -> None:
        """Takes the report of a stage that has ended."""


_WATCHERS: ContextVar[tuple[Watcher, ...]] = ContextVar("headrace_watchers", default=())


def watchers() -> tuple[Watcher, ...]:
    """Returns who watches the run that the caller belongs to."""
    return _WATCHERS.get()


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Shows everything that runs within this block to a watcher."""
    token = _WATCHERS.set((*_WATCHERS.get(), watcher))
    try:
        yield
    finally:
        _WATCHERS.reset(token)
