"""Workflows that never end: rows are committed as they come, idle times commit nothing, a stop ends at a boundary, and runs follow on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dsl.contracts.connectors import Batch, BatchReader, ReadRequest
from dsl.contracts.errors import RetryableError
from dsl.contracts.policies import CheckpointPolicy, Policies, RetryPolicy
from dsl.contracts.state import State
from dsl.plan.physical import Remember, Scan, Stage
from engine.context import SystemClock
from engine.report import StageOutcome, StageReport
from engine.run import Control, run_stage
from engine.shape import empty
from tests.engine.fakes import (
    Checkpoints,
    Events,
    SteadyClock,
    Table,
    Tape,
    TapeReader,
    TapeSource,
    chunk,
    context,
    numbers,
    stage,
)
from tests.engine.test_memories import Row, found_windows, micro, table_of, windows

WAIT = 60.0
POLL = timedelta(milliseconds=2)


class FollowingSource(TapeSource):
    """Reads a tape for ever, and beats where nothing comes."""

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        assert request.follow
        return FollowingReader(self.tape, state)


class FollowingReader(TapeReader):
    def __iter__(self) -> Iterator[Batch]:
        while True:
            for each in super().__iter__():
                self._state = each.state or self._state
                yield each
            threading.Event().wait(0.002)
            yield Batch(empty(self.schema), self._state)


@dataclass
class Running:
    """A stage that runs beside the test."""

    stage: Stage
    home: Path
    table: Table
    checkpoints: Checkpoints
    clock: Any = field(default_factory=SystemClock)
    events: Events = field(default_factory=Events)
    control: Control = field(default_factory=Control)
    reports: list[StageReport] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def start(self) -> None:
        self.thread = threading.Thread(target=self._work)
        self.thread.start()

    def _work(self) -> None:
        given = context(
            self.home, checkpoints=self.checkpoints, events=self.events, control=self.control, clock=self.clock
        )
        try:
            self.reports.append(run_stage(self.stage, given))
        except BaseException as error:  # noqa: BLE001 - shown by the test
            self.errors.append(error)

    def until(self, reached: Callable[[], bool]) -> None:
        """Waits until something holds."""
        pause = threading.Event()
        for _ in range(int(WAIT / 0.01)):
            if reached():
                return
            assert not self.errors, self.errors
            pause.wait(0.01)
        pytest.fail("it did not come to that")

    def end(self) -> StageReport:
        self.control.stop()
        self.thread.join(WAIT)
        assert not self.thread.is_alive()
        assert not self.errors, self.errors
        return self.reports[0]


def held(**changes: Any) -> Policies:
    given: dict[str, Any] = {"rows": 200_000, "period": timedelta(milliseconds=20)}
    return Policies(checkpoint=CheckpointPolicy(**(given | changes)), retry=RetryPolicy(initial_backoff=timedelta()))


def reading(tape: Tape, policies: Policies, *, follow: bool) -> Scan:
    source = FollowingSource(tape=tape) if follow else TapeSource(tape=tape)
    return Scan("source", source, ReadRequest(follow=follow), tape.rows.schema, policies, poll=POLL)


@contextmanager
def running(home: Path, plan: Stage, table: Table, checkpoints: Checkpoints, **changes: Any) -> Iterator[Running]:
    found = Running(plan, home, table, checkpoints, **changes)
    found.start()
    try:
        yield found
    finally:
        found.control.stop()
        found.thread.join(WAIT)


@pytest.mark.parametrize("follow", [True, False])
def test_rows_arrive_as_they_come_and_idle_times_commit_nothing(home: Path, *, follow: bool) -> None:
    tape, table, kept = Tape(numbers(5), incremental=True), Table(), Checkpoints()
    plan = stage(reading(tape, held(), follow=follow), table, held())
    with running(home, plan, table, kept) as run:
        run.until(lambda: len(table.ids()) == 5)
        tape.rows = numbers(9)
        run.until(lambda: len(table.ids()) == 9)
        commits, reads, beats = len(table.commits), len(tape.opened), run.events.names().count("progress")
        pause = threading.Event()
        pause.wait(0.3)
        assert len(table.commits) == commits
        assert follow or len(tape.opened) > reads + 3
        assert beats <= 1
        report = run.end()
    assert len(table.commits) == commits
    assert report.outcome is StageOutcome.STOPPED
    assert report.reconciliation.balanced
    assert (report.reconciliation.read, report.reconciliation.written) == (9, 9)
    assert kept.kept["flow/sink/0"].state["inputs"]["source"]["row"] == 9  # type: ignore[index, call-overload]
    tape.rows = numbers(12)
    with running(home, plan, table, kept) as run:
        run.until(lambda: len(table.ids()) == 12)
        assert run.end().reconciliation.read == 3
    assert table.ids() == list(range(12))


def test_what_is_committed_is_acknowledged_while_nothing_comes(home: Path) -> None:
    tape, table = Tape(numbers(4), incremental=True), Table()
    with running(home, stage(reading(tape, held(), follow=True), table, held()), table, Checkpoints()) as run:
        run.until(lambda: bool(tape.acknowledged) and tape.acknowledged[-1]["row"] == 4)
        run.end()


def test_epochs_are_cut_by_rows_without_an_end(home: Path) -> None:
    tape, table, policies = Tape(numbers(40), batch=2, incremental=True), Table(), held(rows=10, period=None)
    with running(home, stage(reading(tape, policies, follow=True), table, policies), table, Checkpoints()) as run:
        run.until(lambda: len(table.ids()) == 40)
        run.end()
    assert [each for each, _, _ in table.commits] == [1, 2, 3, 4]
    assert not any(final for _, _, final in table.commits)


def test_a_stop_commits_what_is_open(home: Path) -> None:
    tape, table, policies = Tape(numbers(7), incremental=True), Table(), held(period=None)
    given = stage(reading(tape, policies, follow=True), table, policies)
    with running(home, given, table, Checkpoints()) as run:
        run.until(lambda: len(tape.opened) == 1)
        pause = threading.Event()
        pause.wait(0.3)
        assert table.ids() == []
        assert run.end().reconciliation.written == 7
    assert table.ids() == list(range(7))


@pytest.mark.parametrize("follow", [True, False])
def test_a_reader_that_fails_goes_on_after_the_last_epoch(home: Path, *, follow: bool) -> None:
    failures = iter([RetryableError("connection reset")] * 3)

    def fail(number: int) -> None:
        if number == 2 and (error := next(failures, None)) is not None:
            raise error

    tape, table = Tape(numbers(20), batch=2, incremental=True, at_batch=fail), Table()
    policies = held(rows=2)
    plan = stage(chunk(reading(tape, policies, follow=follow), "SELECT id FROM input", policies), table, policies)
    with running(home, plan, table, Checkpoints()) as run:
        run.until(lambda: len(table.ids()) == 20)
        report = run.end()
    assert report.attempts == 4
    assert report.reconciliation.balanced
    assert table.ids() == list(range(20))


class TurnedClock(SteadyClock):
    """A clock that the test turns."""

    def turn(self, seconds: float) -> None:
        self.time = self.time + timedelta(seconds=seconds)


def test_idle_is_told_once_and_so_is_the_end_of_it(home: Path) -> None:
    tape, table, clock = Tape(numbers(3), incremental=True), Table(), TurnedClock()
    policies = held(rows=1)
    with running(
        home, stage(reading(tape, policies, follow=True), table, policies), table, Checkpoints(), clock=clock
    ) as run:
        run.until(lambda: len(table.ids()) == 3)
        clock.turn(30)
        run.until(lambda: "idle" in run.events.names())
        clock.turn(30)
        tape.rows = numbers(4)
        run.until(lambda: "busy" in run.events.names())
        run.end()
    told = [each for each in run.events.told if each.name in {"idle", "busy"}]
    assert [each.name for each in told] == ["idle", "busy"]
    assert told[0].fields["rows_read"] == 3
    datetime.fromisoformat(str(told[0].fields["since"]))


@pytest.mark.parametrize("follow", [True, False])
def test_windows_close_by_the_clock_where_nothing_comes(home: Path, *, follow: bool) -> None:
    rows: list[Row] = [(1, 2_000_000), (1, 9_000_000), (2, 12_000_000)]
    tape, table, clock = Tape(table_of(rows), incremental=True), Table(), TurnedClock()
    policies = held(rows=1)
    memory = windows(size=micro(10_000_000), every=micro(10_000_000), idle=timedelta(seconds=3))
    root = Remember("step", reading(tape, policies, follow=follow), '"input"', memory, None, policies)
    with running(home, stage(root, table, policies), table, Checkpoints(), clock=clock) as run:
        run.until(lambda: len(table.rows()) == 1)
        threading.Event().wait(0.2)
        assert found_windows(table) == {(1, 0): [2_000_000, 9_000_000]}
        clock.turn(8)
        run.until(lambda: len(table.rows()) == 2)
        report = run.end()
    assert found_windows(table) == {(1, 0): [2_000_000, 9_000_000], (2, 10_000_000): [12_000_000]}
    assert report.reconciliation.balanced
