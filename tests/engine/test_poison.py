"""Poison rows: found alone at any rate, in a query, at the writer and at the reader; fail, drop or dead letters, as the document says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsl.contracts.errors import ErrorType, FatalError, HeadraceError, RejectedRows
from dsl.contracts.policies import OnError, Policies
from dsl.contracts.rows import Rejection
from dsl.plan.physical import Stage
from engine.channel import CancelledError
from engine.isolate import isolate
from engine.report import StageReport
from engine.run import run_stage
from tests.engine.fakes import DeadLetters, Table, Tape, chunk, context, numbers, policies, scan, stage, stream

CAST = "SELECT id, CAST(text AS BIGINT) AS n FROM input"
RATES = {"none": set[int](), "one": {1234}, "a tenth": set(range(5, 200, 10)), "all": set(range(60))}


def _batch(count: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"id": list(range(count))})


class Refusing:
    """Work that refuses batches with poison in them, naming the rows or not; applies a batch whole or not at all."""

    def __init__(self, poison: set[int], names: int = 0) -> None:
        self.poison, self.names, self.calls = poison, names, 0
        self.applied: list[int] = []

    def __call__(self, rows: pa.RecordBatch) -> int:
        self.calls += 1
        ids: list[Any] = rows.column(0).to_pylist()
        bad = [at for at, each in enumerate(ids) if each in self.poison]
        if bad:
            raise RejectedRows("refused", rows=bad[: self.names] or None)
        self.applied += ids
        return len(ids)


def _going_on() -> None:
    return None


def _some(draw_from: int) -> st.SearchStrategy[set[int]]:
    """Single rows, and stretches of them."""
    stretches = st.builds(
        lambda start, size: set(range(start, start + size)), st.integers(0, draw_from), st.integers(1, 40)
    )
    return st.lists(st.one_of(stretches, st.sets(st.integers(0, draw_from)))).map(lambda sets: set[int]().union(*sets))


@given(
    count=st.integers(0, 300),
    poison=_some(299),
    names=st.sampled_from([0, 1, 3, 1000]),
)
def test_exactly_the_rows_at_fault_are_found(count: int, poison: set[int], names: int) -> None:
    work, bad = Refusing(poison, names), sorted(each for each in poison if each < count)
    found = isolate(_batch(count), work, _going_on)
    assert sorted(row.column(0)[0].as_py() for row, _ in found.faults) == bad
    assert sorted(work.applied) == [each for each in range(count) if each not in poison]
    assert sum(found.results) + len(found.faults) == count
    assert all(row.num_rows == 1 for row, _ in found.faults)
    assert work.applied == sorted(work.applied)


def test_one_in_a_million_costs_twice_the_halvings() -> None:
    work = Refusing({765_432})
    found = isolate(_batch(2**20), work, _going_on)
    assert len(found.faults) == 1
    assert work.calls <= 1.6 * math.log2(2**20) + 1


def test_all_of_them_cost_a_call_a_row_and_names_cost_two_in_all() -> None:
    every = set(range(256))
    work = Refusing(every)
    assert len(isolate(_batch(256), work, _going_on).faults) == 256
    assert work.calls <= 256 + 2 * math.log2(256)
    naming = Refusing({1, 9, 200}, names=1000)
    assert len(isolate(_batch(256), naming, _going_on).faults) == 3
    assert naming.calls == 2


def test_rows_that_fail_only_together_all_pass() -> None:
    """Two rows that a system takes one after the other, but not in one statement."""
    applied: list[int] = []

    def work(rows: pa.RecordBatch) -> None:
        ids: list[Any] = rows.column(0).to_pylist()
        if {3, 12} <= set(ids):
            raise RejectedRows("the same key twice")
        applied.extend(ids)

    assert isolate(_batch(16), work, _going_on).faults == []
    assert applied == list(range(16))


def test_a_name_outside_the_batch_is_an_error_and_no_loop() -> None:
    def lie(rows: pa.RecordBatch) -> None:
        raise RejectedRows(f"refused {rows.num_rows}", rows=[7])

    with pytest.raises(FatalError, match="row 7 of 3"):
        isolate(_batch(3), lie, _going_on)


def test_an_ending_run_stops_the_search() -> None:
    left = [5]

    def ended() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise CancelledError

    with pytest.raises(CancelledError):
        isolate(_batch(64), Refusing(set(range(64))), ended)


def _count(poison: set[int]) -> int:
    return 60 if len(poison) == 60 else 200 if len(poison) == 20 else 2000


def _casting(poison: set[int], table: Table, held: Policies) -> Stage:
    tape = Tape(numbers(_count(poison), poison=poison), batch=128)
    return stage(chunk(scan(tape, held=held), CAST, held), table, held)


def _refused(poison: set[int], table: Table, held: Policies) -> Stage:
    table.refuse = lambda row: row["id"] in poison
    return stage(scan(Tape(numbers(_count(poison)), batch=128), held=held), table, held)


def _named(poison: set[int], table: Table, held: Policies) -> Stage:
    table.names_rows = True
    return _refused(poison, table, held)


def _malformed(poison: set[int], table: Table, held: Policies) -> Stage:
    every = numbers(_count(poison)).to_pylist()
    good = pa.Table.from_pylist([row for row in every if row["id"] not in poison], numbers(0).schema)
    lines = [
        Rejection(pa.RecordBatch.from_pylist([{"id": each}]), "not JSON", "malformed", "source")
        for each in sorted(poison)
    ]
    tape = Tape(good, batch=128)
    if good.num_rows:
        tape.malformed = {0: lines[: len(lines) // 2], (good.num_rows - 1) // 128 * 128: lines[len(lines) // 2 :]}
    else:
        tape.trailing = lines
    return stage(scan(tape, held=held), table, held)


PLACES = {
    "in a query": _casting,
    "at the writer": _refused,
    "at the writer, by name": _named,
    "at the reader": _malformed,
}


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("on_error", OnError)
def test_each_row_is_written_or_refused_as_the_document_says(
    home: Path, place: str, rate: str, on_error: OnError
) -> None:
    poison, table, letters = RATES[rate], Table(), DeadLetters()
    held = policies(on_error=on_error)
    planned = PLACES[place](poison, table, held)

    def run() -> StageReport:
        return run_stage(planned, context(home, dead_letters=letters))

    if poison and on_error is OnError.FAIL:
        with pytest.raises(FatalError, match="a row was refused") as raised:
            run()
        assert raised.value.error_type is ErrorType.POISON
        assert "on_error: dlq" in raised.value.hint
        assert table.ids() == []
        return
    books = run().reconciliation
    assert sorted(table.ids()) == [each for each in range(_count(poison)) if each not in poison]
    kept = sorted(row["id"] for row in letters.rows())
    assert kept == (sorted(poison) if on_error is OnError.DLQ else [])
    assert books.balanced
    assert (books.read, books.written) == (_count(poison), _count(poison) - len(poison))
    assert (books.rejected, books.filtered) == (len(poison), 0)


def test_a_batch_that_poison_cut_apart_is_written_in_one_call(home: Path) -> None:
    table, calls, held = Table(), [0], policies(on_error=OnError.DROP)

    def count(point: str) -> None:
        calls[0] += point == "write"

    table.before = count
    root = chunk(scan(Tape(numbers(300, poison=range(0, 300, 7)), batch=100), held=held), CAST, held)
    run_stage(stage(root, table, held), context(home))
    assert calls[0] == 3
    assert table.ids() == [each for each in range(300) if each % 7]


def test_a_filter_and_a_poison_row_are_told_apart(home: Path) -> None:
    table, letters, held = Table(), DeadLetters(), policies(on_error=OnError.DLQ)
    query = "SELECT id, CAST(text AS BIGINT) AS n FROM input WHERE CAST(text AS BIGINT) % 2 = 0"
    root = chunk(scan(Tape(numbers(20, poison={4, 5}), batch=7), held=held), query, held, filters=True)
    books = run_stage(stage(root, table, held), context(home, dead_letters=letters)).reconciliation
    assert table.ids() == [0, 2, 6, 8, 10, 12, 14, 16, 18]
    assert (books.read, books.written, books.filtered, books.rejected) == (20, 9, 9, 2)


def test_a_row_that_multiplies_keeps_the_books(home: Path) -> None:
    table, held = Table(), policies(on_error=OnError.DLQ)
    query = "SELECT id, unnest(range(CAST(text AS BIGINT))) AS n FROM input"
    root = chunk(scan(Tape(numbers(6, poison={4}), batch=4), held=held), query, held, expands=True)
    books = run_stage(stage(root, table, held), context(home)).reconciliation
    assert table.ids() == [1, 2, 2, 3, 3, 3, 5, 5, 5, 5, 5]
    assert books.balanced
    assert books.rejected == 1


@pytest.mark.parametrize(
    ("query", "facts", "found"),
    [
        ("SELECT id FROM input WHERE id > 3", {}, "8 rows went in, 4 came out"),
        ("SELECT unnest([id, id]) AS id FROM input", {}, "8 rows went in, 16 came out"),
        ("SELECT unnest([id, id]) AS id FROM input", {"filters": True}, "8 rows went in, 16 came out"),
    ],
)
def test_a_query_that_loses_or_doubles_rows_against_its_plan_commits_nothing(
    home: Path, query: str, facts: dict[str, Any], found: str
) -> None:
    table = Table()
    with pytest.raises(HeadraceError, match=found):
        run_stage(stage(chunk(scan(Tape(numbers(8), batch=8)), query, **facts), table), context(home))
    assert table.ids() == []


def test_a_query_over_whole_inputs_names_the_value_and_the_way_out(home: Path) -> None:
    root = stream({"a": scan(Tape(numbers(9, poison={5})))}, "SELECT sum(CAST(text AS BIGINT)) AS n FROM a")
    with pytest.raises(FatalError, match=r"fold: Could not convert string 'poison'.*clean it in a mapping"):
        run_stage(stage(root, Table()), context(home))
