"""Dead letters: named alike in every replay, kept before their epoch commits, in a store or as rows, without secrets; and the budget."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.errors import BudgetExceededError, FatalError, RetryableError, UnavailableError
from dsl.contracts.policies import DeadLetterPolicy, OnError, Policies, RetryPolicy
from dsl.contracts.redaction import remember
from dsl.contracts.rows import Rejection
from dsl.contracts.stores import DeadLetter
from dsl.plan.physical import Stage
from engine.deadletter import FLUSH_ROWS, Numbering, check_budget
from engine.flow import Ledger
from engine.json_rows import row_as_json
from engine.run import run_stage
from resources.stores.dead_letters import LocalDeadLetters
from tests.engine.fakes import (
    NOW,
    Crash,
    DeadLetters,
    Power,
    Table,
    TableDestination,
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
DLQ = policies(epoch=4, on_error=OnError.DLQ)
ONCE = RetryPolicy(max_attempts=1)


def _casting(tape: Tape, table: Table, held: Policies = DLQ) -> Stage:
    return stage(chunk(scan(tape, held=held), CAST, held), table, held)


def _row(**values: Any) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([values])


def _named(row: pa.RecordBatch, anchor: str, times: int = 1) -> list[str]:
    ledger, numbering = Ledger(), Numbering("flow/sink/0", "map", DLQ)
    for _ in range(times):
        numbering.refuse(ledger, "map", anchor, [Rejection(row, "no", "code", "map")])
    return [each.id for each in ledger.rejected]


def test_names_depend_on_stream_place_and_content_only() -> None:
    wide = pa.RecordBatch.from_pylist([{"a": None, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": None}])
    for at in range(3):
        assert _named(wide.slice(at, 1), "s") == _named(_row(**wide.slice(at, 1).to_pylist()[0]).cast(wide.schema), "s")
    row = _row(a=1)
    assert _named(row, "s") != _named(row, "t")
    assert _named(row, "s") != _named(_row(a=2), "s")
    first, second = _named(row, "s", times=2)
    assert first != second
    assert [first] == _named(row, "s")


def test_a_dictionary_coded_row_is_named_by_its_value() -> None:
    coded = pa.RecordBatch.from_arrays([pa.array(["a", "b", "c", "b"]).dictionary_encode()], ["x"])
    assert (
        _named(coded.slice(1, 1), "s") == _named(coded.slice(3, 1), "s") == _named(coded.slice(1, 2).slice(0, 1), "s")
    )
    assert _named(coded.slice(1, 1), "s") != _named(coded.slice(2, 1), "s")
    other = pa.RecordBatch.from_arrays([pa.array(["z", "b"]).dictionary_encode()], ["x"])
    assert _named(coded.slice(1, 1), "s") == _named(other.slice(1, 1), "s")


@pytest.mark.parametrize("first", [1, 3, 7])
@pytest.mark.parametrize("then", [2, 5])
def test_a_replay_in_batches_of_another_size_keeps_each_once(home: Path, first: int, then: int) -> None:
    """The run dies when the dead letters of its epoch are kept and its rows are not."""
    for nth in (1, 2, 3):
        power, letters, table = Power(nth, "dead_letters_kept"), DeadLetters(), Table()
        given = context(home, dead_letters=letters)
        tape = Tape(numbers(14, poison={1, 5, 6, 11}), batch=first)
        tape.power = table.power = letters.power = power
        with suppress(Crash):
            run_stage(_casting(tape, table), given)
        tape.power = table.power = letters.power = Power()
        tape.batch = then
        run_stage(_casting(tape, table), given)
        assert sorted(row["id"] for row in letters.rows()) == [1, 5, 6, 11]
        assert sorted(table.ids()) == [each for each in range(14) if each not in {1, 5, 6, 11}]


def test_letters_say_where_when_and_why(home: Path) -> None:
    letters = DeadLetters()
    tape = Tape(numbers(9, poison={2, 8}), batch=3)
    report = run_stage(_casting(tape, Table()), context(home, dead_letters=letters))
    first, last = letters.kept.values()
    assert (first.key, first.run_id, first.rejected_at, first.rejection.node) == ("flow/sink/0", "run-1", NOW, "map")
    assert first.rejection.code == "conversion"
    assert "'poison'" in first.rejection.reason
    assert (first.epoch, last.epoch) == (1, 2)
    assert first.rejection.row.schema == tape.rows.schema
    assert report.rejected_by_code == {"map/conversion": 2}


def _malformed(count: int) -> Tape:
    """A tape with so many rows that cannot be decoded, 500 before each of its batches."""
    lines = [Rejection(_row(line=each), "not JSON", "malformed", "source") for each in range(count)]
    parts = {3 * at: lines[start : start + 500] for at, start in enumerate(range(0, count, 500))}
    return Tape(numbers(3 * len(parts)), batch=3, malformed=parts)


def test_refused_rows_under_a_query_over_whole_inputs_do_not_pile_up(home: Path) -> None:
    rows = 3 * FLUSH_ROWS
    sent: list[int] = []

    class Counting(DeadLetters):
        def add(self, letters: Iterable[DeadLetter]) -> int:
            held = list(letters)
            sent.append(len(held))
            return super().add(held)

    held = policies(on_error=OnError.DLQ)
    letters = Counting()
    root = stream({"a": scan(_malformed(rows), held=held)}, "SELECT count(*) AS n FROM a", held)
    report = run_stage(stage(root, Table(), held), context(home, dead_letters=letters))
    assert len(letters.kept) == rows == report.reconciliation.rejected
    assert max(sent) <= FLUSH_ROWS
    assert {each.epoch for each in letters.kept.values()} == {1}
    assert report.reconciliation.balanced


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), UnavailableError("the store is down")])
def test_without_a_store_nothing_commits(home: Path, error: Exception) -> None:
    class Down(DeadLetters):
        def add(self, letters: Iterable[DeadLetter]) -> int:
            raise error

    table, tape = Table(), Tape(numbers(8, poison={5}), batch=2)
    held = replace(DLQ, retry=ONCE)
    with pytest.raises(UnavailableError):
        run_stage(_casting(tape, table, held), context(home, dead_letters=Down()))
    assert sorted(table.ids()) == [0, 1, 2, 3]
    run_stage(_casting(tape, table, held), context(home))
    assert sorted(table.ids()) == [0, 1, 2, 3, 4, 6, 7]


def test_a_local_store_on_disk_takes_a_whole_run_and_its_replay(tmp_path: Path) -> None:
    tape, table, letters = Tape(numbers(40, poison={3, 33}), batch=4), Table(), LocalDeadLetters(tmp_path)
    given = context(tmp_path, dead_letters=letters)
    table.power = tape.power = Power(5, "commit")
    with suppress(Crash):
        run_stage(_casting(tape, table), given)
    tape.power = table.power = Power()
    run_stage(_casting(tape, table), given)
    assert sorted(each.rejection.row.to_pylist()[0]["id"] for each in letters.list()) == [3, 33]
    letters.close()


def _written(home: Path, letters: Table, **changes: Any) -> Any:
    return context(home, dead_letter_destination=TableDestination(table=letters), **changes)


def test_letters_as_rows_of_a_destination(home: Path) -> None:
    kept = Table()
    run_stage(_casting(Tape(numbers(9, poison={2, 8})), Table()), _written(home, kept))
    first, second = kept.rows()
    assert json.loads(first["row"]) == {"id": 2, "text": "poison"}
    assert (first["workflow"], first["stage"], first["node"], first["code"]) == ("flow", "sink", "map", "conversion")
    assert (first["epoch"], second["epoch"], first["rejected_at"]) == (1, 2, NOW)
    assert set(kept.tokens) == {"flow/sink.dead_letters/0"}


def test_letters_at_a_destination_survive_a_crash_at_every_point(home: Path) -> None:
    for at in range(1, 120):
        power = Power(at)
        tape, table, kept = Tape(numbers(14, poison={1, 5, 11}), power=power), Table(power=power), Table(power=power)
        given = _written(home, kept)
        with suppress(Crash):
            run_stage(_casting(tape, table), given)
        if not power.dead:
            return
        tape.power = table.power = kept.power = Power()
        run_stage(_casting(tape, table), given)
        assert sorted(json.loads(row["row"])["id"] for row in kept.rows()) == [1, 5, 11], power.steps
        assert sorted(table.ids()) == [each for each in range(14) if each not in {1, 5, 11}], power.steps
    pytest.fail("never ran through")


def test_a_later_refresh_that_refuses_the_same_row_writes_it_again(home: Path) -> None:
    kept, table, tape = Table(), Table(), Tape(numbers(3, poison={1}))
    for run in ("run-1", "run-2", "run-3"):
        run_stage(_casting(tape, table), _written(home, kept, run_id=run))
    assert [row["run_id"] for row in kept.rows()] == ["run-1", "run-2", "run-3"]


def test_many_letters_are_one_commit_of_the_destination_and_no_growing_token(home: Path) -> None:
    rows, kept = 2 * FLUSH_ROWS + 10, Table()
    held = policies(on_error=OnError.DLQ)
    root = stream({"a": scan(_malformed(rows), held=held)}, "SELECT count(*) AS n FROM a", held)
    run_stage(stage(root, Table(), held), _written(home, kept))
    assert len(kept.rows()) == rows
    assert len(kept.commits) == 1


def test_a_destination_that_refuses_a_letter_stops_the_run(home: Path) -> None:
    kept, table = Table(refuse=lambda _: True, names_rows=True), Table()
    with pytest.raises(FatalError, match="the dead-letter destination refused a row"):
        run_stage(_casting(Tape(numbers(3, poison={1})), table), _written(home, kept))
    assert table.ids() == []


def test_secrets_are_scrubbed_from_reasons(home: Path) -> None:
    canary = remember("canary-7f3a9")
    rows = pa.table({"id": [1], "text": [canary]}, schema=numbers(0).schema)
    letters = DeadLetters()
    run_stage(_casting(Tape(rows), Table()), context(home, dead_letters=letters))
    (letter,) = letters.kept.values()
    assert canary not in letter.rejection.reason
    assert "***" in letter.rejection.reason


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (pa.array([b"\x00\xff"]), "AP8="),
        (pa.array([Decimal("1.50")]), "1.50"),
        (pa.array([datetime(2026, 1, 2, tzinfo=UTC)]), "2026-01-02 00:00:00+00:00"),
        (pa.array([2**62], pa.timestamp("us")), None),
        (pa.array([-(2**62)], pa.timestamp("us", tz="UTC")), None),
        (pa.array([2**30], pa.date32()), None),
        (pa.array([1], pa.timestamp("ns")), None),
        (pa.array([float("nan")]), None),
        (pa.array([[2**62]], pa.list_(pa.timestamp("us"))), None),
    ],
)
def test_any_row_becomes_json(value: Any, expected: str | None) -> None:
    found = json.loads(row_as_json(pa.RecordBatch.from_arrays([value], ["x"])), parse_constant=_no_constant)
    assert "x" in found
    assert expected is None or found["x"] == expected
    assert found["x"] is not None


def _no_constant(name: str) -> None:
    pytest.fail(f"{name} is not JSON")


@pytest.mark.parametrize(
    ("policy", "rejected", "read", "ended", "fails"),
    [
        (DeadLetterPolicy(), 10**6, 10**6, True, False),
        (DeadLetterPolicy(max_rows=3), 3, 3, True, False),
        (DeadLetterPolicy(max_rows=3), 4, 10**6, False, True),
        (DeadLetterPolicy(max_rows=0), 1, 10**6, False, True),
        (DeadLetterPolicy(max_ratio=0.1), 100, 999, False, False),
        (DeadLetterPolicy(max_ratio=0.1), 100, 999, True, True),
        (DeadLetterPolicy(max_ratio=0.1), 100, 1000, False, False),
        (DeadLetterPolicy(max_ratio=0.1), 101, 1000, False, True),
        (DeadLetterPolicy(max_ratio=0.0), 1, 10**6, False, True),
        (DeadLetterPolicy(max_ratio=0.0), 0, 0, True, False),
        (DeadLetterPolicy(max_ratio=1.0), 5, 5, True, False),
    ],
)
def test_budgets(policy: DeadLetterPolicy, rejected: int, read: int, *, ended: bool, fails: bool) -> None:
    def judge() -> None:
        check_budget(policy, rejected, read, ended=ended, where="flow/sink/0")

    if not fails:
        judge()
        return
    with pytest.raises(BudgetExceededError, match="max_r"):
        judge()


@pytest.mark.parametrize("budget", [DeadLetterPolicy(max_rows=2), DeadLetterPolicy(max_ratio=0.2)])
@pytest.mark.parametrize("on_error", [OnError.DLQ, OnError.DROP])
def test_a_run_over_its_budget_fails_and_keeps_what_was_committed(
    home: Path, budget: DeadLetterPolicy, on_error: OnError
) -> None:
    table, held = Table(), replace(DLQ, dead_letter=budget, on_error=on_error)
    tape = Tape(numbers(12, poison={3, 8, 9, 10}), batch=4)
    with pytest.raises(BudgetExceededError):
        run_stage(_casting(tape, table, held), context(home))
    assert len(table.ids()) < 8
    assert set(table.ids()) <= set(range(12)) - {3, 8, 9, 10}


def test_retries_do_not_count_a_refused_row_twice(home: Path) -> None:
    left = [3]

    def fail(point: str) -> None:
        if point == "commit" and left[0]:
            left[0] -= 1
            raise RetryableError("try again")

    table, held = Table(before=fail), replace(DLQ, dead_letter=DeadLetterPolicy(max_rows=2))
    report = run_stage(_casting(Tape(numbers(9, poison={1, 7})), table, held), context(home))
    assert report.reconciliation.rejected == 2
    assert report.attempts == 4
