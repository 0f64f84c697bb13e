"""Sources that are read in parts, several at a time: whatever dies, and whatever `partitions` says next time, every row comes once."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsl.contracts.capabilities import SourceCapabilities, WriteMode
from dsl.contracts.connectors import BatchReader, ReadRequest, Source
from dsl.contracts.errors import RetryableError
from dsl.contracts.policies import OnError
from dsl.contracts.state import Json, State, is_complete
from dsl.plan.physical import Scan, Stage
from engine.flow import part
from engine.report import StageOutcome, StageReport
from engine.run import Control, run_stage
from tests.engine.fakes import (
    SCHEMA,
    Checkpoints,
    Crash,
    DeadLetters,
    Events,
    Power,
    Table,
    Tape,
    TapeReader,
    TapeSource,
    chunk,
    context,
    policies,
    stage,
)

CAST = "SELECT id, CAST(text AS BIGINT) AS n FROM input"


@dataclass(frozen=True, kw_only=True)
class DividedSource(TapeSource):
    """Reads a tape in parts: rows from one number to another."""

    capabilities: ClassVar[SourceCapabilities] = SourceCapabilities(divides=True)

    rows: tuple[int, int] | None = None

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        return PartReader(self.tape, state, self.rows or (0, self.tape.rows.num_rows))

    def splits(self, count: int) -> tuple[Json, ...]:
        self.tape.power.step("splits")
        total = self.tape.rows.num_rows
        return tuple([total * each // count, total * (each + 1) // count] for each in range(count))

    def part(self, split: Json) -> Source:
        assert isinstance(split, list)
        return replace(self, rows=(int(str(split[0])), int(str(split[1]))))


class PartReader(TapeReader):
    """Reads the rows of a part as if they were the whole tape, so that all parts begin alike."""

    def __init__(self, tape: Tape, state: State | None, rows: tuple[int, int]) -> None:
        super().__init__(tape, state)
        whole = self._tape
        self._tape = replace(whole, rows=whole.rows.slice(rows[0], rows[1] - rows[0]), power=whole.power)
        self._counted = False
        open_now[0] += 1
        most[0] = max(most[0], open_now[0])

    def close(self) -> None:
        open_now[0] -= not self._counted
        self._counted = True


open_now, most = [0], [0]
"""How many readers are open, and were at most."""


@pytest.fixture(autouse=True)
def _counted_anew() -> None:
    open_now[0] = most[0] = 0


@dataclass
class World:
    """What outlives a process."""

    home: Path
    tape: Tape
    table: Table = field(default_factory=Table)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    letters: DeadLetters = field(default_factory=DeadLetters)
    control: Control = field(default_factory=Control)
    run_id: str = "run-1"
    epoch: int = 4
    partitions: int | None = 3
    parallelism: int = 2
    mode: WriteMode = WriteMode.APPEND

    def switch_on(self, power: Power) -> None:
        self.tape.power = self.table.power = self.checkpoints.power = self.letters.power = power

    def run(self) -> StageReport:
        given = context(
            self.home, checkpoints=self.checkpoints, dead_letters=self.letters, events=Events(), control=self.control
        )
        return run_stage(self.stage(), replace(given, run_id=self.run_id))

    def stage(self) -> Stage:
        held = policies(
            epoch=self.epoch, on_error=OnError.DLQ, partitions=self.partitions, parallelism=self.parallelism
        )
        source = Scan("source", DividedSource(tape=self.tape), ReadRequest(), self.tape.rows.schema, held)
        return stage(chunk(source, CAST, held), self.table, held, self.mode)


def rows_of(count: int, poison: int = 0) -> pa.Table:
    """Good rows 0, 1, 2 …, and in between as many bad ones, of which no two can be told apart."""
    texts = [str(each) for each in range(count)]
    ids = list(range(count))
    for each in range(poison):
        at = each * len(ids) // poison
        ids.insert(at, -1)
        texts.insert(at, "poison")
    return pa.table({"id": ids, "text": texts}, schema=SCHEMA)


def check(world: World, count: int, poison: int, note: object = None) -> None:
    assert sorted(world.table.ids()) == list(range(count)), note
    assert [row["id"] for row in world.letters.rows()] == [-1] * poison, note


POINTS = ("splits", "reader.open", "read", "open_writer", "write", "commit", "committed", "checkpoint")


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("parallelism", [1, 3])
def test_a_crash_at_every_point(home: Path, point: str, parallelism: int) -> None:
    for at in range(1, 60):
        world = World(home / str(at), Tape(rows_of(16, 4), batch=2, page=2), parallelism=parallelism)
        power = Power(at, point)
        world.switch_on(power)
        with suppress(Crash):
            world.run()
        if not power.dead:
            break
        world.switch_on(Power())
        # Another number of partitions means nothing to a pass that has begun with this one.
        world.partitions = at % 4 + 1
        assert world.run().reconciliation.balanced
        check(world, 16, 4, at)
    assert at > 1, "no process died there"


@given(
    count=st.integers(0, 30),
    poison=st.integers(0, 5),
    batch=st.integers(1, 5),
    page=st.integers(1, 3),
    sizes=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 12)), min_size=1, max_size=4),
    deaths=st.lists(st.integers(1, 40), max_size=4),
)
@settings(max_examples=25, deadline=None)
def test_any_history(
    tmp_path_factory: pytest.TempPathFactory,
    count: int,
    poison: int,
    batch: int,
    page: int,
    sizes: list[tuple[int, int, int]],
    deaths: list[int],
) -> None:
    world = World(tmp_path_factory.mktemp("home"), Tape(rows_of(count, poison), batch=batch, page=page))
    for number, at in enumerate([*deaths, 0]):
        world.partitions, world.parallelism, world.epoch = sizes[number % len(sizes)]
        world.switch_on(Power(at or None))
        with suppress(Crash):
            world.run()
    check(world, count, poison)


def test_no_more_parts_are_open_at_a_time_than_it_says(home: Path) -> None:
    world = World(home, Tape(rows_of(60), batch=2), partitions=10, parallelism=2)
    world.run()
    assert most[0] == 2
    assert len(world.tape.opened) == 10
    check(world, 60, 0)


def test_several_parts_are_read_at_a_time(home: Path) -> None:
    """Each part waits until the other one has begun."""
    together = threading.Barrier(2, timeout=60)

    def meet(_: int) -> None:
        together.wait()

    tape = Tape(rows_of(8), batch=4, at_batch=meet)
    world = World(home, tape, partitions=2, parallelism=2)
    world.run()
    check(world, 8, 0)


def test_parallelism_alone_divides_as_often(home: Path) -> None:
    world = World(home, Tape(rows_of(12), batch=2), partitions=None, parallelism=4)
    world.run()
    assert len(world.tape.opened) == 4
    check(world, 12, 0)


def test_the_state_at_the_end_is_that_of_a_refresh(home: Path) -> None:
    world = World(home, Tape(rows_of(12), batch=2), mode=WriteMode.OVERWRITE)
    world.run()
    state = part(world.table.tokens["flow/sink/0"].state, "inputs", "source")
    assert state is not None
    assert is_complete(state)
    assert "splits" not in state
    assert state["records_read"] == 12
    world.run_id = "run-2"
    report = world.run()
    assert (report.reconciliation.read, report.resumed) == (12, False)
    check(world, 12, 0)


def test_a_pass_that_began_undivided_ends_undivided(home: Path) -> None:
    world = World(home, Tape(rows_of(12), batch=2), partitions=1, parallelism=1, epoch=2)
    world.tape.at_batch = lambda number: world.control.stop() if number == 2 else None
    assert world.run().outcome is StageOutcome.STOPPED
    world.tape.at_batch, world.control, world.partitions = (lambda _: None), Control(), 4
    before = len(world.tape.opened)
    world.run()
    assert len(world.tape.opened) == before + 1
    check(world, 12, 0)


def test_a_part_that_fails_is_read_on_and_the_others_are_not_read_again(home: Path) -> None:
    fails = iter([RetryableError("reset")])
    reads = Counter[int]()

    def fail(number: int) -> None:
        reads[number] += 1
        if number == 3 and (error := next(fails, None)) is not None:
            raise error

    world = World(home, Tape(rows_of(24), batch=2, at_batch=fail), parallelism=1, epoch=2)
    report = world.run()
    assert report.attempts == 2
    assert report.reconciliation.balanced
    assert report.reconciliation.read == 24
    check(world, 24, 0)
