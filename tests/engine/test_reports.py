"""What a run tells: reports that add up, JSON for machines, previews, events without secrets; readers that are acknowledged and let go."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Committed
from dsl.contracts.errors import FatalError, ReconciliationError
from dsl.contracts.policies import CheckpointPolicy, OnError
from dsl.contracts.redaction import remember
from dsl.contracts.rows import WriteStats
from dsl.contracts.state import State
from dsl.contracts.stores import Event
from dsl.plan.physical import PhysicalPlan
from engine.epoch import Edges, Epoch
from engine.events import PERIOD, Teller
from engine.flow import Counts, Flow, Ledger, combined, cut, merged, part, same_place
from engine.run import Control, StageOutcome, run_plan, run_stage
from engine.totals import Pending, Totals
from tests.engine.fakes import (
    NOW,
    Events,
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

CAST = "SELECT id, CAST(text AS BIGINT) AS n FROM input WHERE id % 2 = 0"


def test_a_report_counts_what_went_through_each_node(home: Path) -> None:
    held = policies(epoch=3, on_error=OnError.DLQ)
    root = chunk(scan(Tape(numbers(20, poison={4, 5, 6}), batch=5), held=held), CAST, held, filters=True)
    report = run_stage(stage(root, Table(), held), context(home, preview_rows=3))
    read, mapped, written = report.nodes
    assert (read.kind, read.rows_in, read.rows_out) == ("scan", 20, 20)
    assert (mapped.kind, mapped.rows_in, mapped.rows_out, mapped.filtered) == ("chunk_query", 20, 8, 10)
    assert mapped.rejected == 2
    assert (written.kind, written.rows_in, written.rows_out) == ("write", 8, 8)
    assert all(each.balanced for each in report.nodes)
    assert report.preview.to_pylist() == [{"id": 0, "n": 0}, {"id": 2, "n": 2}, {"id": 8, "n": 8}]
    assert report.bytes_written == written.bytes_out > 0
    told = json.loads(json.dumps(report.as_json()))
    assert (told["read"], told["written"], told["filtered"], told["rejected"]) == (20, 8, 10, 2)
    assert told["balanced"] is True
    assert told["rejected_by_code"] == {"map/conversion": 2}
    assert told["schema"] == {"id": "int64", "n": "int64"}


def test_a_plan_s_report_ends_with_the_stage_that_was_stopped(home: Path) -> None:
    control = Control()
    tape = Tape(numbers(50), batch=1, at_batch=lambda number: control.stop() if number == 3 else None)
    plan = PhysicalPlan(
        "flow",
        (
            replace(stage(scan(Tape(numbers(3))), Table()), id="one"),
            replace(stage(scan(tape), Table()), id="two"),
            replace(stage(scan(Tape(numbers(3))), Table()), id="three"),
        ),
        "print",
    )
    report = run_plan(plan, context(home, control=control))
    assert [each.stage for each in report.stages] == ["one", "two"]
    assert report.outcome is StageOutcome.STOPPED
    assert json.loads(json.dumps(report.as_json()))["outcome"] == "stopped"


@pytest.mark.parametrize(
    ("counts", "balanced"),
    [
        (Counts(rows_in=5, rows_out=5), True),
        (Counts(rows_in=5, rows_out=3, filtered=1, rejected=1), True),
        (Counts(rows_in=5, rows_out=9, expanded=4), True),
        (Counts(rows_in=5, rows_out=4), False),
        (Counts(rows_in=5, rows_out=6), False),
    ],
)
def test_an_epoch_whose_rows_do_not_add_up_is_refused(counts: Counts, *, balanced: bool) -> None:
    edges = Edges({"map": (), "write": ("map",)}, frozenset())
    written = Counts(rows_in=counts.rows_out, rows_out=counts.rows_out)
    ledger = Ledger({"map": counts, "write": written})
    assert counts.balanced is balanced
    if balanced:
        edges.check(ledger, "w")
        lost = Ledger({"map": counts, "write": replace(written, rows_in=written.rows_in - 1)})
        with pytest.raises(ReconciliationError, match=r"w: \d+ rows were sent to 'write', \d+ arrived"):
            edges.check(lost, "w")
        return
    with pytest.raises(ReconciliationError, match="the rows of 'map' do not add up"):
        edges.check(ledger, "w")
    Edges({"map": (), "write": ("map",)}, frozenset({"map"})).check(ledger, "w")


def _taken(rows: int, state: State | None, size: int = 8) -> Epoch:
    epoch = Epoch(1, NOW)
    ledger = Ledger({"source": Counts(rows_in=rows, rows_out=rows)})
    batch = pa.RecordBatch.from_pydict({"id": list(range(rows))})
    epoch.take(Flow(batch, state, "", ledger), rows, size * rows)
    return epoch


@pytest.mark.parametrize(
    ("rows", "size", "seconds", "pending", "due"),
    [
        (9, 1, 0, 0, False),
        (10, 1, 0, 0, True),
        (1, 1000, 0, 0, True),
        (1, 1, 29, 0, False),
        (1, 1, 30, 0, True),
        (0, 0, 30, 0, True),
        (1, 1, 0, 1000, True),
    ],
)
def test_an_epoch_is_due_by_rows_bytes_time_or_refused_rows(
    rows: int, size: int, seconds: int, pending: int, *, due: bool
) -> None:
    policy = CheckpointPolicy(rows=10, bytes=1000, period=timedelta(seconds=30))
    epoch = _taken(rows, combined({"source": {"row": rows}}, {}), size)
    assert epoch.due(policy, NOW + timedelta(seconds=seconds), pending) is due


def test_a_dry_stretch_and_a_moving_state_are_committed_too(home: Path) -> None:
    """Rows that are all filtered move the state; nobody wants to read them again."""
    table, clock = Table(), SteadyClock()
    held = policies(epoch=2)
    root = chunk(scan(Tape(numbers(100), batch=5), held=held), "SELECT * FROM input WHERE id < 0", held, filters=True)
    run_stage(stage(root, table, held), context(home, clock=clock))
    assert len(table.commits) >= 4
    idle = Epoch(1, NOW, before=combined({"s": {"lsn": 1}}, {}))
    idle.state = combined({"s": {"lsn": 1}}, {})
    period = CheckpointPolicy(period=timedelta(seconds=1))
    assert not idle.due(period, NOW + timedelta(hours=1), 0)
    idle.state = combined({"s": {"lsn": 2}}, {})
    assert idle.due(period, NOW + timedelta(hours=1), 0)


def test_an_epoch_may_only_be_cut_at_a_state() -> None:
    assert _taken(3, {"inputs": {}}).committable
    epoch = _taken(3, None)
    assert not epoch.committable
    assert epoch.inside
    epoch.take(Flow(pa.RecordBatch.from_pydict({"id": []}), {"inputs": {}}, "", Ledger()), 0, 0)
    assert epoch.committable


def test_a_reader_that_ends_inside_a_page_is_at_fault(home: Path) -> None:
    tape = Tape(numbers(6), batch=2, page=10, torn=True)
    with pytest.raises(FatalError, match="ended inside a page"):
        run_stage(stage(scan(tape), Table()), context(home))


def test_states_of_branches_are_merged_and_found_again() -> None:
    one = combined({"a": {"x": 1}}, {"op": {"y": 2}})
    both = merged([one, combined({"b": {"x": 3}}, {})])
    assert part(both, "inputs", "b") == {"x": 3}
    assert part(both, "operators", "op") == {"y": 2}
    assert part(both, "inputs", "c") is None
    assert part(None, "inputs", "a") is None
    assert same_place(one, {**one, "final": True, "run": "r"})
    assert not same_place(one, both)
    assert same_place(None, {})


@pytest.mark.parametrize(("rows", "size", "pieces"), [(100, 10**9, 1), (4, 10**9, 3), (100, 32, 3), (1, 1, 10)])
def test_a_grown_batch_is_cut_and_its_books_stay_with_the_last_piece(rows: int, size: int, pieces: int) -> None:
    batch = pa.RecordBatch.from_pydict({"id": list(range(10))})
    ledger = Ledger({"x": Counts(rows_in=10)})
    found = list(cut(Flow(batch, {"s": 1}, "anchor", ledger), rows, size))
    assert len(found) == pieces
    assert [each.state for each in found] == [None] * (pieces - 1) + [{"s": 1}]
    assert pa.Table.from_batches([each.rows for each in found]).column("id").to_pylist() == list(range(10))
    assert found[-1].ledger is ledger
    assert all(each.ledger.counts == {} for each in found[:-1])


def test_a_commit_that_was_lost_is_booked_only_if_the_token_says_so() -> None:
    state = combined({"s": {"row": 3}}, {})
    for committed, booked in (
        (None, False),
        (Committed(1, state), True),
        (Committed(2, state), False),
        (Committed(1, combined({"s": {"row": 2}}, {})), False),
    ):
        totals = Totals(pending=Pending(_taken(3, state), state, "write"))
        assert totals.recall(committed) is booked
        assert totals.epochs == int(booked)
        assert totals.recall(Committed(1, state)) is False


def test_counts_that_a_destination_does_not_tell_stay_unknown() -> None:
    totals = Totals()
    totals.committed(_taken(3, {}), {}, WriteStats(3, 10, inserted=3, updated=0), "write", timedelta())
    totals.committed(_taken(2, {}), {}, WriteStats(-1, 5), "write", timedelta())
    assert totals.stats == WriteStats(-1, 15, inserted=-1, updated=-1)


def test_an_overwrite_is_not_held_to_the_destination_s_count(home: Path) -> None:
    table = Table(miscounts=7)
    run_stage(stage(scan(Tape(numbers(3))), table, mode=WriteMode.OVERWRITE), context(home))
    assert table.ids() == [0, 1, 2]


def test_progress_is_told_now_and_then_only() -> None:
    events, clock = Events(), SteadyClock()
    teller = Teller(context(Path(), events=events, clock=clock), "sink")
    for _ in range(100):
        teller.progress(lambda: {"rows_read": 1})
        clock.sleep(PERIOD / 10)
    assert 9 <= len(events.told) <= 10


def test_events_carry_no_secret(home: Path) -> None:
    canary, seen = remember("canary-91c7e"), []

    class Remembering:
        def emit(self, event: Event) -> None:
            seen.append(json.dumps(dict(event.fields)))

    def fail(point: str) -> None:
        if point == "write":
            raise RuntimeError(f"could not connect with {canary}")

    with pytest.raises(RuntimeError):
        run_stage(stage(scan(Tape(numbers(3))), Table(before=fail)), context(home, events=Remembering()))
    assert any("***" in each for each in seen)
    assert not any(canary in each for each in seen)


def test_every_committed_state_is_acknowledged_in_order_and_nothing_else(home: Path) -> None:
    tape, table = Tape(numbers(30), batch=3, incremental=True), Table()
    run_stage(stage(scan(tape), table, policies(epoch=6)), context(home))
    rows = [state["row"] for state in tape.acknowledged]
    committed = [part(state, "inputs", "source") for _, state, _ in table.commits]
    assert rows == [each["row"] for each in committed if each is not None]
    joined = Tape(numbers(5)), Tape(numbers(5))
    root = stream({"l": scan(joined[0], "left"), "r": scan(joined[1], "right")}, "SELECT l.id FROM l JOIN r USING (id)")
    run_stage(stage(root, Table()), context(home))
    assert [len(each.acknowledged) for each in joined] == [1, 1]
