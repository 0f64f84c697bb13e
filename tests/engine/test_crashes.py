"""Crash schedules: every point of a run × epochs × linear, fan-out and join plans × answers that are lost; 0 lost, 0 doubled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.errors import FencedError, RetryableError, UnavailableError
from dsl.contracts.policies import OnError, Policies
from dsl.plan.physical import ExchangeScan, ExchangeWrite, PhysicalPlan, Stage
from engine.report import RunReport, StageOutcome
from engine.run import run_plan, run_stage
from tests.engine.fakes import (
    Checkpoints,
    Crash,
    DeadLetters,
    Events,
    Power,
    Table,
    Tape,
    chunk,
    context,
    numbers,
    policies,
    scan,
    stage,
    stream,
)

CAST = "SELECT id, CAST(text AS BIGINT) AS n FROM input"
JOIN = "SELECT l.id, r.text FROM l JOIN r ON l.id = r.id"
ROWS = 9
POISON = (3, 7)


@dataclass
class World:
    """Everything that outlives a process: what is read, what is written, what is kept."""

    tape: Tape
    other: Tape
    tables: dict[str, Table] = field(default_factory=lambda: {"a": Table(), "b": Table()})
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    letters: DeadLetters = field(default_factory=DeadLetters)
    events: Events = field(default_factory=Events)

    def switch_on(self, power: Power) -> None:
        """Starts a process that dies where `power` says."""
        held = (self.tape, self.other, *self.tables.values(), self.checkpoints, self.letters, self.events)
        for each in held:
            each.power = power  # type: ignore[attr-defined]

    def run(self, plan: PhysicalPlan, home: Path, **changes: object) -> RunReport:
        given = context(home, checkpoints=self.checkpoints, dead_letters=self.letters, events=self.events, **changes)
        return run_plan(plan, given)


def _plan(*stages: Stage) -> PhysicalPlan:
    return PhysicalPlan("flow", stages, "")


def _linear(world: World, held: Policies) -> PhysicalPlan:
    return _plan(stage(chunk(scan(world.tape, held=held), CAST, held), world.tables["a"], held))


def _fan_out(world: World, held: Policies) -> PhysicalPlan:
    shared = ExchangeScan("map", "map", None, held)
    return _plan(
        Stage("map", chunk(scan(world.tape, held=held), CAST, held), ExchangeWrite("map", ("a", "b"), held)),
        replace(stage(shared, world.tables["a"], held), id="a"),
        replace(stage(chunk(shared, "SELECT id FROM input", held, nodes=("ids",)), world.tables["b"], held), id="b"),
    )


def _join(world: World, held: Policies) -> PhysicalPlan:
    left = chunk(scan(world.tape, "left", held), CAST, held)
    joined = stream({"l": left, "r": scan(world.other, "right", held)}, JOIN, held)
    return _plan(stage(joined, world.tables["a"], held))


PLANS: dict[str, Callable[[World, Policies], PhysicalPlan]] = {"linear": _linear, "fan-out": _fan_out, "join": _join}


def _world(power: Power) -> World:
    world = World(Tape(numbers(ROWS, poison=POISON), batch=2), Tape(numbers(ROWS), batch=4))
    world.switch_on(power)
    return world


def _expected() -> list[int]:
    return [each for each in range(ROWS) if each not in POISON]


def _check(world: World, shape: str, note: object) -> None:
    for name in ("a", "b") if shape == "fan-out" else ("a",):
        assert sorted(world.tables[name].ids()) == _expected(), (name, note)
    assert sorted(row["id"] for row in world.letters.rows()) == list(POISON), note


POINTS = (
    "reader.open",
    "read",
    "open_writer",
    "write",
    "dead_letters",
    "dead_letters_kept",
    "commit",
    "committed",
    "checkpoint",
    "acknowledge",
    "stage_started",
    "stage_finished",
)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize(
    ("shape", "epoch"), [("linear", 1), ("linear", 4), ("linear", 100), ("fan-out", 4), ("join", 100)]
)
def test_a_crash_at_every_point(home: Path, shape: str, epoch: int, point: str) -> None:
    """The process dies when it comes to a point for the first time, the second time, and so on."""
    held = policies(epoch=epoch, on_error=OnError.DLQ)
    for at in range(1, 100):
        power = Power(at, point)
        world, here = _world(power), home / str(at)
        plan = PLANS[shape](world, held)
        with suppress(Crash):
            world.run(plan, here)
        if not power.dead:
            break
        world.switch_on(Power())
        report = world.run(plan, here)
        assert report.outcome is StageOutcome.FINISHED
        assert all(each.reconciliation.balanced for each in report.stages)
        _check(world, shape, at)
    else:
        pytest.fail("the run comes to this point more often than the test tried")
    assert at > 1, "no process died there"


@pytest.mark.parametrize("shape", PLANS)
def test_two_crashes_in_a_row(home: Path, shape: str) -> None:
    held = policies(epoch=2, on_error=OnError.DLQ)
    for first in range(2, 60, 9):
        for second in range(1, 40, 13):
            world, here = _world(Power(first)), home / f"{first}-{second}"
            plan = PLANS[shape](world, held)
            for power in (world.tape.power, Power(second), Power()):
                world.switch_on(power)
                with suppress(Crash):
                    world.run(plan, here)
            _check(world, shape, (first, second))


@pytest.mark.parametrize("mode", [WriteMode.APPEND, WriteMode.OVERWRITE])
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_a_commit_whose_answer_is_lost_is_not_made_twice(home: Path, nth: int, mode: WriteMode) -> None:
    lost = Counter[str]()

    def lose(point: str) -> None:
        lost[point] += 1
        if point == "committed" and lost[point] == nth:
            raise RetryableError("the connection broke while it committed")

    table = Table(before=lose)
    report = run_stage(stage(scan(Tape(numbers(10), batch=3)), table, policies(epoch=3), mode), context(home))
    assert table.ids() == list(range(10))
    # The last commit is the final one: what was lost on its way back is found and booked.
    assert (report.outcome, report.attempts, report.epochs) == (StageOutcome.FINISHED, 2, 4)
    assert (report.reconciliation.read, report.reconciliation.written) == (10, 10)
    assert report.state is not None
    assert report.state["final"] is True


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_a_commit_that_failed_is_made_again(home: Path, nth: int) -> None:
    tried = Counter[str]()

    def fail(point: str) -> None:
        tried[point] += 1
        if point == "commit" and tried[point] == nth:
            raise RetryableError("the server went away before it committed")

    table = Table(before=fail)
    report = run_stage(stage(scan(Tape(numbers(10), batch=3)), table, policies(epoch=3)), context(home))
    assert table.ids() == list(range(10))
    assert (report.reconciliation.read, report.reconciliation.written, report.attempts) == (10, 10, 2)


def test_a_lost_answer_in_a_join_reads_nothing_again(home: Path) -> None:
    once = iter([RetryableError("lost")])

    def lose(point: str) -> None:
        if point == "committed" and (error := next(once, None)) is not None:
            raise error

    left, right, table = Tape(numbers(6)), Tape(numbers(6), incremental=True), Table(before=lose)
    joined = stream({"l": scan(left, "left"), "r": scan(right, "right")}, JOIN)
    report = run_stage(stage(joined, table), context(home))
    assert sorted(table.ids()) == list(range(6))
    assert report.reconciliation.balanced
    assert len(left.opened) == 1


@pytest.mark.parametrize("incremental", [False, True])
def test_a_pass_of_which_only_the_final_commit_is_missing(home: Path, *, incremental: bool) -> None:
    """Everything is committed, the run dies before it can say so; the right side of the join grows meanwhile."""
    left, right = Tape(numbers(4)), Tape(numbers(4), incremental=incremental)
    table, given = Table(), context(home)
    joined = stage(stream({"l": scan(left, "left"), "r": scan(right, "right")}, JOIN), table)
    run_stage(joined, given)
    last = table.tokens["flow/sink/0"]
    table.tokens["flow/sink/0"] = replace(last, state={**last.state, "final": False, "run": "run-0"})
    right.rows = numbers(6)
    report = run_stage(joined, given)
    assert report.outcome is StageOutcome.FINISHED
    assert sorted(table.ids()) == list(range(4))
    assert table.commits[-1][2] is True
    # The pass is whole; the next run reads what is there by then.
    again = run_stage(joined, replace(given, run_id="run-2"))
    assert again.reconciliation.read == (6 if incremental else 10)
    assert again.reconciliation.balanced


def test_a_reader_that_fails_in_the_middle_is_opened_again_after_the_last_epoch(home: Path) -> None:
    failures = iter([RetryableError("connection reset"), UnavailableError("the server is restarting")])

    def fail(number: int) -> None:
        if number == 2 and (error := next(failures, None)) is not None:
            raise error

    table, tape = Table(), Tape(numbers(20), batch=2, at_batch=fail)
    given = context(home)
    report = run_stage(stage(scan(tape), table, policies(epoch=2)), given)
    assert table.ids() == list(range(20))
    assert report.attempts == 3
    assert tape.opened[0] is None
    rows = [each["row"] for each in tape.opened[1:] if each is not None]
    assert rows == [4, 8]
    assert tape.closed == len(tape.opened)


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_second_run_takes_over_and_the_first_changes_nothing_more(home: Path, nth: int) -> None:
    """The first run is held before its n-th commit; meanwhile the second one does the whole work."""
    table, held, commits = Table(), policies(epoch=3), Counter[str]()

    def interrupt(point: str) -> None:
        commits[point] += 1
        if point == "commit" and commits[point] == nth:
            table.before = lambda _: None
            second = context(home / "second", run_id="run-2")
            run_stage(stage(scan(Tape(numbers(10), batch=3)), table, held), second)

    table.before = interrupt
    with pytest.raises(FencedError):
        run_stage(stage(scan(Tape(numbers(10), batch=3)), table, held), context(home / "first"))
    assert table.ids() == list(range(10))
