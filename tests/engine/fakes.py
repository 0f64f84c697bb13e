"""In-memory connectors that keep every promise of the contract and can be cut off at any point, as by SIGKILL."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import (
    Batch,
    BatchReader,
    BatchWriter,
    CheckResult,
    Committed,
    Connection,
    Destination,
    ReadRequest,
    Source,
    Token,
)
from dsl.contracts.errors import FencedError, RejectedRows
from dsl.contracts.policies import CheckpointPolicy, Policies
from dsl.contracts.rows import Rejection, WriteStats
from dsl.contracts.state import State, advance, is_complete, new_state
from dsl.contracts.stores import Checkpoint, DeadLetter, Event
from dsl.plan.physical import ChunkQuery, PhysicalNode, Scan, Stage, StreamQuery, Write
from engine.run import RunContext

SCHEMA = pa.schema([pa.field("id", pa.int64())]).append(pa.field("text", pa.string()))
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NEVER = datetime.min.replace(tzinfo=UTC)


class Crash(BaseException):
    """The process died here."""


class Power:
    """Lets the process die at the n-th step, or at the n-th step of one name; once dead, nothing has an effect any more."""

    def __init__(self, at: int | None = None, name: str | None = None) -> None:
        self.at, self.name = at, name
        self.steps: list[str] = []
        self.dead = False
        self._lock = threading.Lock()

    def step(self, name: str) -> None:
        """Passes a point at which the process may die."""
        with self._lock:
            if self.dead:
                raise Crash
            if self.name in {None, name}:
                self.steps.append(name)
                if self.at is not None and len(self.steps) == self.at:
                    self.dead = True
                    raise Crash


class SteadyClock:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.time = NOW
        self.slept: list[timedelta] = []

    def now(self) -> datetime:
        return self.time

    def sleep(self, pause: timedelta) -> None:
        self.slept.append(pause)
        self.time += pause


@dataclass(frozen=True, kw_only=True)
class FakeConnection(Connection):
    name: str = "fake"

    def check(self) -> CheckResult:
        return CheckResult(healthy=True, details="in memory")


@dataclass
class Tape:
    """What a source holds: rows, how they are cut into batches, and what happens at each of them."""

    rows: pa.Table
    batch: int = 3
    incremental: bool = False
    page: int = 1
    power: Power = field(default_factory=Power)
    acknowledged: list[State] = field(default_factory=list)
    opened: list[State | None] = field(default_factory=list)
    closed: int = 0
    malformed: dict[int, list[Rejection]] = field(default_factory=dict)
    trailing: list[Rejection] = field(default_factory=list)
    torn: bool = False
    at_batch: Callable[[int], None] = lambda _: None
    at_close: Callable[[], object] = lambda: None


@dataclass(frozen=True, kw_only=True)
class TapeSource(Source):
    """Reads a tape; full refresh unless the tape is incremental."""

    connection: Connection = FakeConnection()
    tape: Tape

    @property
    def physical_name(self) -> tuple[str, ...]:
        return ("fake", self.connection.name, "tape")  # type: ignore[attr-defined]

    def discover_schema(self) -> pa.Schema:
        return self.tape.rows.schema

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        return TapeReader(self.tape, state)


class TapeReader(BatchReader):
    def __init__(self, tape: Tape, state: State | None) -> None:
        tape.power.step("reader.open")
        tape.opened.append(state)
        self._tape, self._state = tape, state
        self._rejections: list[Rejection] = []
        self._closed = False

    @property
    def schema(self) -> pa.Schema:
        return self._tape.rows.schema

    def __iter__(self) -> Iterator[Batch]:
        assert not is_complete(self._state), "a complete refresh is not resumed"
        tape = self._tape
        state = self._state or new_state()
        at = int(state.get("row", 0))  # type: ignore[arg-type]
        for number, start in enumerate(range(at, tape.rows.num_rows, tape.batch)):
            tape.power.step("read")
            tape.at_batch(number)
            rows = tape.rows.slice(start, tape.batch).combine_chunks()
            batch = rows.to_batches()[0]
            self._rejections += tape.malformed.get(start, [])
            end = start + batch.num_rows
            whole = (number + 1) % tape.page == 0 or (end >= tape.rows.num_rows and not tape.torn)
            state = advance(state, batch.num_rows, batch.nbytes, row=end)
            yield Batch(batch, state if whole else None)
        self._rejections += tape.trailing
        if not (tape.incremental or tape.torn):
            yield Batch(
                _no_rows(self.schema),
                {**state, "complete": True},
            )

    def acknowledge(self, state: State) -> None:
        self._tape.power.step("acknowledge")
        self._tape.acknowledged.append(state)

    def rejections(self) -> Sequence[Rejection]:
        found, self._rejections = self._rejections, []
        return found

    def close(self) -> None:
        self._tape.closed += not self._closed
        self._closed = True
        self._tape.at_close()


def _no_rows(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], each.type) for each in schema], schema=schema)


@dataclass
class Table:
    """A target: its rows, its tokens, its fences; survives every crash."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    staged: list[pa.RecordBatch] = field(default_factory=list)
    tokens: dict[str, Committed] = field(default_factory=dict)
    fences: Counter[str] = field(default_factory=Counter)
    commits: list[tuple[int, State, bool]] = field(default_factory=list)
    schema: pa.Schema | None = None
    power: Power = field(default_factory=Power)
    refuse: Callable[[dict[str, Any]], bool] = lambda _: False
    names_rows: bool = False
    before: Callable[[str], None] = lambda _: None
    miscounts: int = 0

    def rows(self) -> list[dict[str, Any]]:
        """What a reader of the table sees."""
        return [row for each in self.batches for row in each.to_pylist()]

    def ids(self) -> list[Any]:
        return [row["id"] for row in self.rows()]


@dataclass(frozen=True, kw_only=True)
class TableDestination(Destination):
    connection: Connection = FakeConnection()
    table: Table

    @property
    def physical_name(self) -> tuple[str, ...]:
        return ("fake", self.connection.name, "table")  # type: ignore[attr-defined]

    def open_writer(self, schema: pa.Schema, token: Token) -> BatchWriter:
        self.table.before("open_writer")
        self.table.power.step("open_writer")
        self.table.schema = schema
        self.table.fences[token.key] += 1
        return TableWriter(self.table, token, self.write_mode)


class TableWriter(BatchWriter):
    def __init__(self, table: Table, token: Token, mode: WriteMode) -> None:
        self._table, self._token, self._mode = table, token, mode
        self._fence = table.fences[token.key]
        self._pending: list[pa.RecordBatch] = []

    def get_state(self) -> Committed | None:
        return self._table.tokens.get(self._token.key)

    def write(self, rows: pa.RecordBatch) -> Sequence[Rejection]:
        self._table.before("write")
        self._table.power.step("write")
        values = rows.to_pylist()
        bad = [index for index, row in enumerate(values) if self._table.refuse(row)]
        if bad and not self._table.names_rows:
            raise RejectedRows("the table refuses it", rows=None)
        good = [index for index in range(rows.num_rows) if index not in bad]
        self._pending.append(rows.take(pa.array(good, pa.int64())))
        return [Rejection(rows.slice(each, 1), "the table refuses it", "refused", "sink") for each in bad]

    def commit(self, epoch: int, state: State, *, final: bool = False) -> WriteStats:
        self._table.before("commit")
        self._table.power.step("commit")
        if self._table.fences[self._token.key] != self._fence:
            raise FencedError("a newer run writes this table")
        last = self._table.tokens.get(self._token.key)
        assert epoch == (last.epoch if last else 0) + 1
        written = sum(each.num_rows for each in self._pending)
        if self._mode is WriteMode.OVERWRITE:
            self._table.staged += self._pending
            if final:
                self._table.batches, self._table.staged = self._table.staged, []
        else:
            self._table.batches += self._pending
        self._pending = []
        self._table.tokens[self._token.key] = Committed(epoch, state)
        self._table.commits.append((epoch, state, final))
        self._table.power.step("committed")
        self._table.before("committed")
        return WriteStats(written + self._table.miscounts)

    def close(self) -> None:
        self._pending = []


class Checkpoints:
    """A checkpoint store."""

    def __init__(self, power: Power | None = None) -> None:
        self.kept: dict[str, Checkpoint] = {}
        self.power = power or Power()

    def get(self, key: str) -> Checkpoint | None:
        return self.kept.get(key)

    def put(self, checkpoint: Checkpoint) -> None:
        self.power.step("checkpoint")
        self.kept[checkpoint.key] = checkpoint

    def list(self, prefix: str) -> Sequence[Checkpoint]:
        return [each for key, each in sorted(self.kept.items()) if key.startswith(prefix)]

    def delete(self, key: str) -> bool:
        return self.kept.pop(key, None) is not None


class DeadLetters:
    """A dead-letter store."""

    def __init__(self, power: Power | None = None) -> None:
        self.kept: dict[str, DeadLetter] = {}
        self.power = power or Power()

    def add(self, letters: Iterable[DeadLetter]) -> int:
        self.power.step("dead_letters")
        before = len(self.kept)
        for each in letters:
            self.kept.setdefault(each.id, each)
        self.power.step("dead_letters_kept")
        return len(self.kept) - before

    def known(self, key: str) -> Mapping[str, datetime]:
        mine = sorted((each for each in self.kept.values() if each.key == key), key=lambda each: each.rejected_at)
        return {each.run_id: each.rejected_at for each in mine}

    def discard(self, key: str, epoch: int, known: Mapping[str, datetime]) -> int:
        found = [
            each.id
            for each in self.kept.values()
            if (each.key, each.epoch) == (key, epoch) and each.rejected_at <= known.get(each.run_id, NEVER)
        ]
        for each in found:
            del self.kept[each]
        return len(found)

    def count(self, key: str) -> int:
        return sum(each.key == key for each in self.kept.values())

    def rows(self) -> list[dict[str, Any]]:
        return [each.rejection.row.to_pylist()[0] for each in self.kept.values()]


class Events:
    """An event sink that remembers; the process may die while it is told."""

    def __init__(self, power: Power | None = None) -> None:
        self.told: list[Event] = []
        self.power = power or Power()

    def emit(self, event: Event) -> None:
        self.told.append(event)
        if not self.power.dead:
            self.power.step(event.name)

    def names(self) -> list[str]:
        return [each.name for each in self.told]


def context(home: Path, **changes: Any) -> RunContext:
    """A run's context in memory."""
    given: dict[str, Any] = {
        "workflow": "flow",
        "run_id": "run-1",
        "logical_time": NOW,
        "home": home,
        "checkpoints": Checkpoints(),
        "dead_letters": DeadLetters(),
        "events": Events(),
        "clock": SteadyClock(),
        "threads": 2,
        "memory_limit": 128 * 2**20,
    }
    return RunContext(**(given | changes))


def numbers(count: int, *, poison: Iterable[int] = ()) -> pa.Table:
    """Rows 0, 1, 2 …: `text` is the number, or `poison` where asked."""
    bad = set(poison)
    texts = ["poison" if each in bad else str(each) for each in range(count)]
    return pa.table({"id": list(range(count)), "text": texts}, schema=SCHEMA)


def policies(*, epoch: int = 200_000, **changes: Any) -> Policies:
    """Policies with an epoch of so many rows."""
    return replace(Policies(checkpoint=CheckpointPolicy(rows=epoch, period=None)), **changes)


def scan(tape: Tape, node: str = "source", held: Policies | None = None) -> Scan:
    return Scan(node, TapeSource(tape=tape), ReadRequest(), tape.rows.schema, held or policies())


def chunk(source: PhysicalNode, sql: str, held: Policies | None = None, **facts: Any) -> ChunkQuery:
    return ChunkQuery(facts.pop("nodes", ("map",)), source, sql, facts.pop("schema", None), held or policies(), **facts)


def stream(inputs: dict[str, PhysicalNode], sql: str, held: Policies | None = None, **facts: Any) -> StreamQuery:
    return StreamQuery(facts.pop("nodes", ("fold",)), tuple(inputs.items()), sql, None, held or policies(), **facts)


def stage(root: PhysicalNode, table: Table, held: Policies | None = None, mode: WriteMode = WriteMode.APPEND) -> Stage:
    return Stage("sink", root, Write("sink", "x", TableDestination(table=table, write_mode=mode), held or policies()))
