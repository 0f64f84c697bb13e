"""The tables of the `memory` connector: rows and tokens under a name, and the faults scripted for them; no I/O."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from dsl.contracts.connectors import Committed

Fault = Callable[[], BaseException | None]
"""Called at a failpoint; returns what to raise there, or None."""


@dataclass
class StreamToken:
    """What a table remembers of one stream that writes to it."""

    fence: int = 0
    committed: Committed | None = None
    staged: list[pa.RecordBatch] = field(default_factory=list)
    found: set[tuple[Any, ...]] = field(default_factory=set)


@dataclass
class MemoryTable:
    """A named table. All changes happen under its lock, so a commit is one act.

    Attributes:
        schema: Its columns; None until something is written.
        batches: Its rows.
        tokens: For each stream its last commit.
        faults: For each failpoint (`read`, `write`, `commit`, `committed`, `open`) what happens at its n-th call.
        calls: How often each failpoint was reached.
        refuse: Called for each row that is written; a text is the reason to reject it.
    """

    name: str
    schema: pa.Schema | None = None
    batches: list[pa.RecordBatch] = field(default_factory=list)
    tokens: dict[str, StreamToken] = field(default_factory=dict)
    faults: dict[str, dict[int, Fault]] = field(default_factory=lambda: defaultdict(dict))
    calls: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    refuse: Callable[[dict[str, object]], str | None] | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)
    changed: threading.Event = field(default_factory=threading.Event)

    def fill(self, rows: pa.Table | pa.RecordBatch | Iterable[pa.RecordBatch]) -> MemoryTable:
        """Replaces the rows; returns the table."""
        if isinstance(rows, pa.RecordBatch):
            batches, schema = [rows], rows.schema
        elif isinstance(rows, pa.Table):
            batches, schema = rows.to_batches(), rows.schema
        else:
            batches = list(rows)
            schema = batches[0].schema
        with self.lock:
            self.batches, self.schema = batches, schema
        self.changed.set()
        return self

    def add(self, rows: pa.RecordBatch) -> None:
        """Adds rows behind the others."""
        with self.lock:
            self.batches.append(rows)
            self.schema = self.schema or rows.schema
        self.changed.set()

    def wait(self, seconds: float) -> None:
        """Waits until the rows may have changed, at most so long."""
        self.changed.wait(seconds)
        self.changed.clear()

    def to_table(self) -> pa.Table:
        """Returns the committed rows."""
        with self.lock:
            return pa.Table.from_batches(self.batches, self.schema or pa.schema([]))

    def fail(self, failpoint: str, call: int, error: BaseException | Fault) -> None:
        """Scripts a fault.

        Args:
            failpoint: `open`, `read`, `write`, `commit` (before it) or `committed` (after it: the answer is lost).
            call: At which call from now on, counted from 1.
            error: What to raise, or a function that says so (it may also kill the process or set an event).
        """
        with self.lock:
            fault = error if not isinstance(error, BaseException) else lambda: error
            self.faults[failpoint][self.calls[failpoint] + call] = fault

    def reach(self, failpoint: str) -> None:
        """Counts a call of a failpoint and raises what is scripted for it."""
        with self.lock:
            self.calls[failpoint] += 1
            fault = self.faults[failpoint].pop(self.calls[failpoint], None)
        error = fault() if fault is not None else None
        if error is not None:
            raise error

    def token(self, key: str) -> StreamToken:
        """Returns the token of a stream, made if absent."""
        return self.tokens.setdefault(key, StreamToken())


_tables: dict[tuple[str, str], MemoryTable] = {}
_lock = threading.Lock()


def table(name: str, space: str = "default") -> MemoryTable:
    """Returns the table of that name, made empty if absent."""
    with _lock:
        return _tables.setdefault((space, name), MemoryTable(name))


def names(space: str = "default") -> tuple[str, ...]:
    """Returns the names of all tables of a space, sorted."""
    with _lock:
        return tuple(sorted(name for held, name in _tables if held == space))


def forget(space: str | None = None) -> None:
    """Drops all tables of a space, or all."""
    with _lock:
        for key in [key for key in _tables if space is None or key[0] == space]:
            del _tables[key]
