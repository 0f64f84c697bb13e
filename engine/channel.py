"""A bounded channel between two threads: back-pressure, errors and the end travel through it; knows nothing of rows or stages."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Generic, TypeVar

T = TypeVar("T")
_LOOK_SECONDS = 0.25


class CancelledError(Exception):
    """The other side is gone: stop producing, or there is nothing more to get; never a fault of its own."""


class NothingYetError(Exception):
    """Nothing arrived within the time that `get` was willing to wait."""


class Channel(Generic[T]):
    """Carries items in order from one producer to one consumer.

    An item is let in while the bounds hold, or when the channel is empty: so one item larger than the bound passes.

    Args:
        rows: Rows under way, at most.
        size: Bytes under way, at most.
    """

    def __init__(self, *, rows: int, size: int) -> None:
        self._rows, self._size = rows, size
        self._items: deque[tuple[T, int, int]] = deque()
        self._held_rows = self._held_size = 0
        self._ended = self._cancelled = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def put(self, item: T, *, rows: int, size: int) -> None:
        """Adds an item, waiting until there is room.

        Raises:
            CancelledError: The consumer is gone.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or self._has_room(rows, size))
            if self._cancelled:
                raise CancelledError
            self._items.append((item, rows, size))
            self._held_rows += rows
            self._held_size += size
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Says that no more items will come: because all are in, or because of an error, which the consumer will raise."""
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
                self._changed.notify_all()

    def get(self, seconds: float | None = None) -> T | None:
        """Takes the next item, or None at the end.

        Args:
            seconds: How long to wait; for ever when None.

        Raises:
            NothingYetError: Nothing came in that time.
            CancelledError: The channel was cancelled.
            BaseException: What the producer ended with.
        """
        with self._changed:
            ready = self._changed.wait_for(lambda: self._items or self._ended or self._cancelled, seconds)
            if self._cancelled:
                raise CancelledError
            if not ready:
                raise NothingYetError
            if not self._items:
                if self._error is not None:
                    raise self._error
                return None
            item, rows, size = self._items.popleft()
            self._held_rows -= rows
            self._held_size -= size
            self._changed.notify_all()
            return item

    def cancel(self) -> None:
        """Frees both sides at once; what is under way is dropped."""
        with self._changed:
            self._cancelled = True
            self._items.clear()
            self._held_rows = self._held_size = 0
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while (item := self.get()) is not None:
            yield item

    def _has_room(self, rows: int, size: int) -> bool:
        if not self._items:
            return True
        return self._held_rows + rows <= self._rows and self._held_size + size <= self._size


class Crew:
    """The threads of one attempt: started together, cancelled together, joined together."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._cancels: list[Callable[[], None]] = []
        self._cancelled = threading.Event()
        self._longest_join = float("inf")

    @property
    def cancelled(self) -> threading.Event:
        """Set as soon as the attempt is to end."""
        return self._cancelled

    def on_cancel(self, action: Callable[[], None]) -> None:
        """Registers what frees a thread that may be waiting; at once if the crew is cancelled already."""
        self._cancels.append(action)
        if self._cancelled.is_set():
            action()

    def start(self, name: str, work: Callable[[], None]) -> None:
        """Runs `work` in a thread of its own, which must never raise."""
        context = copy_context()
        # Daemon: a driver that hangs in a system call must not keep the process from ending.
        thread = threading.Thread(target=context.run, args=(work,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def cancel(self) -> None:
        """Frees every thread from what it waits for."""
        self._cancelled.set()
        for action in tuple(self._cancels):
            action()

    def hurry(self, seconds: float) -> None:
        """Cancels, and lets nobody wait longer than that for the threads at a time."""
        self._longest_join = seconds
        self.cancel()

    def join(self, seconds: float) -> tuple[str, ...]:
        """Waits for every thread, in all at most so long; returns the names of those that still run."""
        began = time.monotonic()
        until = began + seconds
        # A thread that is being joined may start others; a loop over a list sees what is appended to it.
        for thread in self._threads:
            while thread is not threading.current_thread() and thread.is_alive():
                left = min(until, began + self._longest_join) - time.monotonic()
                if left <= 0:
                    break
                thread.join(min(left, _LOOK_SECONDS))
        return tuple(each.name for each in self._threads if each.is_alive())
