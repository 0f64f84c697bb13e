"""The stage loop: epochs, resuming, crashes at every point; 0 lost, 0 doubled."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.errors import FatalError, FencedError, ReconciliationError, RegressionError
from dsl.contracts.policies import OnError, OnRegression, Policies
from dsl.contracts.stores import Checkpoint, Event
from dsl.plan.physical import PhysicalNode
from engine.flow import part
from engine.run import StageOutcome, run_stage
from tests.engine.fakes import (
    NOW,
    Checkpoints,
    Crash,
    DeadLetters,
    Events,
    Power,
    SteadyClock,
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


def test_rows_arrive_in_epochs(home: Path) -> None:
    table, tape = Table(), Tape(numbers(10), batch=2)
    report = run_stage(stage(scan(tape), table, policies(epoch=4)), context(home))
    assert table.ids() == list(range(10))
    assert [epoch for epoch, _, _ in table.commits] == [1, 2, 3]
    assert [final for _, _, final in table.commits] == [False, False, True]
    assert report.outcome is StageOutcome.FINISHED
    assert (report.epochs, report.epoch, report.reconciliation.read, report.reconciliation.written) == (3, 3, 10, 10)
    assert report.reconciliation.balanced
    assert report.stats.rows == 10
    assert report.preview.num_rows == 10
    assert tape.closed == 1
    assert [state["row"] for state in tape.acknowledged] == [4, 8, 10]


def test_an_empty_source_commits_its_state(home: Path) -> None:
    table = Table()
    report = run_stage(stage(scan(Tape(numbers(0))), table), context(home))
    assert table.commits[0][2] is True
    assert report.reconciliation.written == 0
    assert report.state is not None


def test_a_full_refresh_starts_over_and_an_incremental_goes_on(home: Path) -> None:
    for incremental, expected in ((False, 10), (True, 5)):
        table, given_ = Table(), context(home)
        tape = Tape(numbers(5), incremental=incremental)
        run_stage(stage(scan(tape), table), given_)
        again = run_stage(stage(scan(tape), table), replace(given_, run_id="run-2"))
        assert len(table.ids()) == expected
        assert again.resumed is incremental
    assert [len(table.commits), again.epochs] == [1, 0]


def test_incremental_reads_only_what_is_new(home: Path) -> None:
    table, given_ = Table(), context(home)
    run_stage(stage(scan(Tape(numbers(5), incremental=True)), table), given_)
    run_stage(stage(scan(Tape(numbers(9), incremental=True)), table), given_)
    assert table.ids() == list(range(9))


def test_pages_that_are_not_whole_are_no_boundary(home: Path) -> None:
    table = Table()
    run_stage(stage(scan(Tape(numbers(24), batch=2, page=4)), table, policies(epoch=2)), context(home))
    states = [part(state, "inputs", "source") or {} for _, state, _ in table.commits]
    assert [state["row"] for state in states] == [8, 16, 24]


def _copy(tape: Tape, held: Policies) -> PhysicalNode:
    return scan(tape, held=held)


def _chunk(tape: Tape, held: Policies) -> PhysicalNode:
    return chunk(scan(tape, held=held), CAST, held, filters=True)


def _stream(tape: Tape, held: Policies) -> PhysicalNode:
    return stream({"a": scan(tape, held=held)}, "SELECT id, text FROM a ORDER BY id", held)


def _chunk_over_stream(tape: Tape, held: Policies) -> PhysicalNode:
    below = stream({"a": chunk(scan(tape, held=held), CAST, held)}, "SELECT id, n FROM a", held)
    return chunk(below, "SELECT id FROM input", held, nodes=("after",))


CASES = {"copy": _copy, "chunk": _chunk, "stream": _stream, "chunk over stream": _chunk_over_stream}


@pytest.mark.parametrize("epoch", [3])
@pytest.mark.parametrize("case", CASES)
def test_crash_at_every_point(home: Path, case: str, epoch: int) -> None:
    poison = {4, 11} if "chunk" in case else set[int]()
    held = policies(epoch=epoch, on_error=OnError.DLQ)
    survived = 0
    for at in range(1, 200):
        power = Power(at)
        table, checkpoints, letters = Table(power=power), Checkpoints(power), DeadLetters(power)
        tape = Tape(numbers(14, poison=poison), batch=3, power=power)
        given_ = context(home, checkpoints=checkpoints, dead_letters=letters)
        try:
            run_stage(stage(CASES[case](tape, held), table, held), given_)
            died = False
        except Crash:
            died = True
        died = died or power.dead
        table.power = tape.power = checkpoints.power = letters.power = Power()
        if died:
            run_stage(stage(CASES[case](tape, held), table, held), given_)
        assert sorted(table.ids()) == [each for each in range(14) if each not in poison], (at, power.steps)
        assert sorted(row["id"] for row in letters.rows()) == sorted(poison), (at, power.steps)
        if not died:
            break
        survived += 1
    else:
        pytest.fail("the run has more points than the test tried")
    assert survived >= 8


def _finished(table: Table) -> bool:
    return bool(table.commits) and table.commits[-1][2]


def test_overwrite_swaps_only_at_the_end_and_survives_crashes(home: Path) -> None:
    for at in range(1, 60):
        power = Power()
        table, given_ = Table(), context(home)
        overwrite = WriteMode.OVERWRITE
        held = policies(epoch=3)
        run_stage(stage(scan(Tape(numbers(4))), table, held, overwrite), given_)
        tape = Tape(numbers(10), power=Power(at))
        table.power = tape.power
        given_ = replace(given_, run_id="run-2")
        try:
            run_stage(stage(scan(tape), table, held, overwrite), given_)
        except Crash:
            assert table.ids() in (list(range(4)), list(range(10)))
        done = tape.power.dead is False
        table.power = tape.power = power
        if table.ids() != list(range(10)):
            run_stage(stage(scan(tape), table, held, overwrite), given_)
        assert table.ids() == list(range(10)), at
        if done:
            return
    pytest.fail("never ran through")


def test_destination_ahead_mends_the_copy(home: Path) -> None:
    table, given_ = Table(), context(home)
    tape = Tape(numbers(5), incremental=True)
    run_stage(stage(scan(tape), table, policies(epoch=2)), given_)
    given_.checkpoints.delete("flow/sink/0")
    run_stage(stage(scan(tape), table), given_)
    copy = given_.checkpoints.get("flow/sink/0")
    assert copy is not None
    assert copy.epoch == table.tokens["flow/sink/0"].epoch
    assert table.ids() == list(range(5))


def test_destination_behind_stops_unless_told_to_rewind(home: Path) -> None:
    table, checkpoints = Table(), Checkpoints()
    tape = Tape(numbers(6), batch=2, incremental=True)
    run_stage(stage(scan(tape), table, policies(epoch=2)), context(home, checkpoints=checkpoints))
    restored = Table(batches=table.batches[:1], tokens={})
    with pytest.raises(RegressionError, match="behind the checkpoint"):
        run_stage(stage(scan(tape), restored), context(home, checkpoints=checkpoints))
    restored.batches.clear()
    held = policies(on_regression=OnRegression.REWIND)
    run_stage(stage(scan(tape), restored, held), context(home, checkpoints=checkpoints))
    assert restored.ids() == list(range(6))


def test_rewinding_goes_on_from_the_token_of_the_restored_destination(home: Path) -> None:
    """What was committed behind it is read again, what stands before it is not; the copy then follows."""
    table, checkpoints = Table(), Checkpoints()
    tape = Tape(numbers(6), batch=2, incremental=True)
    ended = run_stage(stage(scan(tape), table, policies(epoch=2)), context(home, checkpoints=checkpoints))
    assert ended is not None
    early = Table()
    run_stage(
        stage(scan(Tape(numbers(2), batch=2, incremental=True)), early, policies(epoch=2)), context(home / "early")
    )
    held = policies(on_regression=OnRegression.REWIND)
    run_stage(stage(scan(tape), early, held), context(home, checkpoints=checkpoints))
    assert early.ids() == list(range(6))
    copy = checkpoints.get("flow/sink/0")
    assert copy is not None
    assert copy.epoch == early.tokens["flow/sink/0"].epoch


def test_the_copy_of_a_run_that_took_over_is_no_regression(home: Path) -> None:
    table, tape = Table(), Tape(numbers(6), batch=2, incremental=True)

    class Overtaken(Checkpoints):
        def get(self, key: str) -> Checkpoint | None:
            if not table.commits:
                run_stage(stage(scan(tape), table, policies(epoch=2)), replace(given_, checkpoints=others))
            return others.get(key)

    others = Checkpoints()
    given_ = context(home, checkpoints=Overtaken())
    run_stage(stage(scan(tape), table, policies(epoch=2)), given_)
    assert table.ids() == list(range(6))


def test_a_run_that_was_overtaken_behind_its_fence_forgets_no_dead_letter(home: Path) -> None:
    table, letters, tape = Table(), DeadLetters(), Tape(numbers(6, poison={1, 4}), batch=2, incremental=True)
    held = policies(epoch=2, on_error=OnError.DLQ)
    whole = stage(chunk(scan(tape, held=held), CAST, held), table, held)

    def fenced(point: str) -> None:
        if point == "write":
            raise FencedError("a newer run writes this table")

    class Overtaken(Events):
        def emit(self, event: Event) -> None:
            if event.name == "stage_started":
                run_stage(whole, replace(context(home, dead_letters=letters), run_id="faster"))
                table.before = fenced

    with pytest.raises(FencedError):
        run_stage(whole, replace(context(home, dead_letters=letters, events=Overtaken()), run_id="slower"))
    assert sorted(each["id"] for each in letters.rows()) == [1, 4]


def test_a_checkpoint_store_that_is_down_does_not_stop_the_data(home: Path) -> None:
    class Down(Checkpoints):
        def put(self, checkpoint: Checkpoint) -> None:
            raise OSError("the database is down")

    table, events = Table(), Events()
    run_stage(stage(scan(Tape(numbers(5))), table), context(home, checkpoints=Down(), events=events))
    assert table.ids() == list(range(5))
    assert "checkpoint_late" in events.names()


class _Counting(Checkpoints):
    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[int] = []

    def put(self, checkpoint: Checkpoint) -> None:
        self.epochs.append(checkpoint.epoch)
        super().put(checkpoint)


def test_the_copy_follows_once_a_second_and_in_the_end(home: Path) -> None:
    clock, checkpoints, table = SteadyClock(), _Counting(), Table()

    def pass_time(point: str) -> None:
        if point == "commit":
            clock.sleep(timedelta(seconds=0.4))

    table.before = pass_time
    given_ = context(home, checkpoints=checkpoints, clock=clock)
    run_stage(stage(scan(Tape(numbers(20), batch=2)), table, policies(epoch=2)), given_)
    assert checkpoints.epochs == [1, 4, 7, 10], "every third commit, 0.4 seconds apart, and the last one"


def test_the_copy_is_there_when_a_run_fails(home: Path) -> None:
    checkpoints, table, commits = _Counting(), Table(), itertools.count(1)

    def fail(point: str) -> None:
        if point == "commit" and next(commits) == 6:
            raise FatalError("the disk is full")

    table.before = fail
    with pytest.raises(FatalError, match="the disk is full"):
        run_stage(
            stage(scan(Tape(numbers(20), batch=2)), table, policies(epoch=2)),
            context(home, checkpoints=checkpoints, clock=SteadyClock()),
        )
    assert checkpoints.epochs == [1, 5]


def test_a_newer_run_fences_this_one(home: Path) -> None:
    table = Table()

    def overtake(point: str) -> None:
        if point == "commit":
            table.fences["flow/sink/0"] += 1

    table.before = overtake
    events = Events()
    with pytest.raises(FencedError):
        run_stage(stage(scan(Tape(numbers(5))), table), context(home, events=events))
    assert table.ids() == []
    assert "stage_fenced" in events.names()


def test_a_destination_that_counts_otherwise_fails_the_run(home: Path) -> None:
    with pytest.raises(ReconciliationError, match="5 rows were written, the destination counts 6"):
        run_stage(stage(scan(Tape(numbers(5))), Table(miscounts=1)), context(home))


def test_events_tell_the_story(home: Path) -> None:
    events = Events()
    run_stage(stage(scan(Tape(numbers(5))), Table()), context(home, events=events))
    assert events.names() == ["stage_started", "committed", "stage_finished"]
    assert events.told[-1].fields["written"] == 5
    assert events.told[-1].at == NOW


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.integers(0, 40),
    batch=st.integers(1, 9),
    page=st.integers(1, 4),
    epoch=st.integers(1, 50),
    crashes=st.lists(st.integers(1, 40), max_size=4),
    poison=st.sets(st.integers(0, 39), max_size=6),
    wide=st.booleans(),
)
def test_any_mix_of_sizes_and_crashes(  # noqa: PLR0913 - one argument for each thing that varies
    home: Path, rows: int, batch: int, page: int, epoch: int, crashes: list[int], poison: set[int], *, wide: bool
) -> None:
    bad = {each for each in poison if each < rows}
    held = policies(epoch=epoch, on_error=OnError.DLQ)
    table, given_ = Table(), context(home)
    tape = Tape(numbers(rows, poison=bad), batch=batch, page=page)
    checkpoints, letters = Checkpoints(), DeadLetters()
    given_ = context(home, checkpoints=checkpoints, dead_letters=letters)
    case = CASES["chunk over stream" if wide else "chunk"]
    for at in (*crashes, None):
        if _finished(table):
            break
        power = Power(at)
        table.power = tape.power = checkpoints.power = letters.power = power
        try:
            run_stage(stage(case(tape, held), table, held), given_)
        except Crash:
            continue
    table.power = tape.power = checkpoints.power = letters.power = Power()
    if not _finished(table):
        run_stage(stage(case(tape, held), table, held), given_)
    assert sorted(table.ids()) == [each for each in range(rows) if each not in bad]
    assert sorted(row["id"] for row in letters.rows()) == sorted(bad)


def test_schema_and_preview_are_those_of_the_writer(home: Path) -> None:
    table = Table()
    report = run_stage(stage(chunk(scan(Tape(numbers(30))), CAST), table), context(home))
    assert report.schema == pa.schema([pa.field("id", pa.int64()), pa.field("n", pa.int64())]) == table.schema
    assert report.preview.num_rows == 10
    assert report.as_json()["written"] == 30
