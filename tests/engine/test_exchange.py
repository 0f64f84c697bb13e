"""Exchanges: exact, durable, found out when damaged; generations, consumers that lag, collecting, fences and what dead writers left."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsl.contracts.connectors import Committed, ReadRequest, Token
from dsl.contracts.errors import FatalError, FencedError, RetryableError, SchemaError
from dsl.contracts.state import State
from dsl.contracts.stores import Checkpoint
from dsl.plan.physical import ExchangeScan, ExchangeWrite, PhysicalPlan, Stage
from engine.exchange import Consumer, ExchangeDestination, ExchangeSource, ExchangeWriter, collect
from engine.flow import combined
from engine.run import RunReport, collect_exchanges, run_plan, run_stage
from tests.engine.fakes import (
    NOW,
    Checkpoints,
    Crash,
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

SCHEMA = pa.schema([pa.field("id", pa.int64())])
TOKEN = Token("flow", "map", run_id="run-1")


def _ends(*, complete: bool = True) -> State:
    return {**combined({"source": {"v": 1, "complete": complete}}, {}), "final": True}


MORE: State = {**combined({"source": {"v": 1}}, {}), "final": False}


def _writer(home: Path, schema: pa.Schema = SCHEMA) -> ExchangeWriter:
    opened = ExchangeDestination.at(home, "flow", "map").open_writer(schema, TOKEN)
    assert isinstance(opened, ExchangeWriter)
    return opened


def _ids(*values: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"id": list(values)}, schema=SCHEMA)


def _source(home: Path) -> ExchangeSource:
    return ExchangeSource.at(home, "flow", "map")


def _read(home: Path, state: State | None = None) -> tuple[list[int], State | None]:
    found: list[Any] = []
    with _source(home).read(ReadRequest(), state) as reader:
        for batch in reader:
            found += batch.rows.column(0).to_pylist()
            state = batch.state
    return found, state


def _fill(home: Path, *epochs: tuple[list[int], State]) -> None:
    with _writer(home) as writer:
        last = writer.get_state()
        for number, (values, state) in enumerate(epochs, start=1 if last is None else last.epoch + 1):
            if values:
                writer.write(_ids(*values))
            writer.commit(number, state, final=state.get("final") is True)


def test_what_was_written_is_read_and_resumed_after_every_batch(home: Path) -> None:
    with _writer(home) as writer:
        for number in range(3):
            writer.write(_ids(number * 10, number * 10 + 1))
            writer.write(_ids(number * 10 + 2))
            writer.commit(number + 1, MORE if number < 2 else _ends())
    every = [0, 1, 2, 10, 11, 12, 20, 21, 22]
    states: list[tuple[int, State]] = []
    with _source(home).read(ReadRequest(), None) as reader:
        read = 0
        for batch in reader:
            read += batch.rows.num_rows
            assert batch.state is not None
            states.append((read, batch.state))
    assert len(states) == 6
    for count, state in states:
        assert _read(home, state)[0] == every[count:]
        assert state["records_read"] == count


def test_schema_and_nested_values_survive(home: Path) -> None:
    rows = pa.RecordBatch.from_pylist([{"a": [{"b": None}], "c": b"\x00"}, {"a": None, "c": None}])
    with _writer(home, rows.schema) as writer:
        writer.write(rows)
        writer.commit(1, _ends())
    with _source(home).read(ReadRequest(), None) as reader:
        (batch,) = list(reader)
    assert batch.rows.equals(rows)
    assert _source(home).discover_schema() == rows.schema


def test_leaving_without_a_commit_leaves_nothing(home: Path) -> None:
    with _writer(home) as writer:
        writer.write(_ids(1))
    assert list((home / "exchanges").rglob("*.arrow")) == []
    with pytest.raises(SchemaError, match=r"the exchange is empty.*run the stage 'map' first"):
        _source(home).discover_schema()


@pytest.mark.parametrize("state", [MORE, _ends()])
def test_an_epoch_without_rows_still_moves_the_token(home: Path, state: State) -> None:
    _fill(home, ([], state))
    with _writer(home) as writer:
        assert writer.get_state() == Committed(1, state)
    found, after = _read(home)
    assert found == []
    assert after is not None
    assert _source(home).waiting(after) is False


def test_a_full_refresh_opens_a_generation_and_readers_finish_theirs_first(home: Path) -> None:
    _fill(home, ([1], MORE), ([2], _ends()))
    with _source(home).read(ReadRequest(), None) as reader:
        half = next(iter(reader)).state
    _fill(home, ([3, 4], MORE), ([5], _ends()))
    found, after = _read(home, half)
    assert found == [2]
    assert after is not None
    assert after["complete"] is True
    assert _source(home).waiting(after)
    assert _read(home, after)[0] == [3, 4, 5]
    assert _read(home)[0] == [1, 2]


def test_an_incremental_input_goes_on_in_one_generation(home: Path) -> None:
    _fill(home, ([1], _ends(complete=False)))
    found, after = _read(home)
    _fill(home, ([2], _ends(complete=False)))
    assert found == [1]
    assert _source(home).waiting(after)
    assert _read(home, after)[0] == [2]


def _segment(home: Path) -> Path:
    return next((home / "exchanges" / "flow" / "map").glob("*.arrow"))


def _flip(path: Path, at: int) -> None:
    held = bytearray(path.read_bytes())
    held[at % len(held)] ^= 0x10
    path.write_bytes(held)


@given(at=st.integers(0, 10_000), cut=st.integers(0, 400))
def test_a_flipped_bit_or_a_missing_end_is_found_before_a_row_leaves(at: int, cut: int) -> None:
    for damage in (lambda path: _flip(path, at), lambda path: path.write_bytes(path.read_bytes()[: -cut - 1])):
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            _fill(home, (list(range(50)), _ends()))
            damage(_segment(home))
            with pytest.raises(FatalError, match=r"map/.*damaged: its sha256.*remove the exchange's folder"):
                _read(home)


def test_a_segment_that_is_gone_is_said_to_be(home: Path) -> None:
    _fill(home, ([1], _ends()))
    _segment(home).unlink()
    with pytest.raises(FatalError, match="damaged: it is gone"):
        _read(home)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace('"rows": 1', '"rows": 2'),
        lambda text: text[: len(text) // 2],
        lambda _: "",
        lambda _: json.dumps({"manifest": {}, "sha256": "x"}),
        lambda _: "[]",
    ],
)
def test_a_damaged_manifest_is_found_by_reader_and_writer(home: Path, damage: Callable[[str], str]) -> None:
    _fill(home, ([1], _ends()))
    (path,) = (home / "exchanges" / "flow" / "map").glob("*.json")
    path.write_text(damage(path.read_text()))
    with pytest.raises(FatalError, match="damaged"):
        _read(home)
    with pytest.raises(FatalError, match="damaged"):
        _writer(home)


def test_a_newer_writer_fences_the_older_one(home: Path) -> None:
    old = _writer(home)
    old.write(_ids(1))
    new = _writer(home)
    with pytest.raises(FencedError):
        old.commit(1, MORE)
    new.write(_ids(2))
    new.commit(1, _ends())
    old.close()
    new.close()
    assert _read(home)[0] == [2]
    assert [
        each.suffix for each in sorted((home / "exchanges" / "flow" / "map").iterdir()) if each.suffix != ".json"
    ] == [
        ".arrow",
        ".fence",
    ]


def test_an_older_writer_that_was_just_committing_wins_and_the_newer_starts_again(home: Path) -> None:
    """The old one has passed its check when the new one takes over; its segment must not be swept from under it."""
    old = _writer(home)
    old.write(_ids(1))
    folder = old._folder
    check, new = folder.check_fence, []

    def take_over(fence: int) -> None:
        check(fence)
        new.append(_writer(home))

    folder.check_fence = take_over  # type: ignore[method-assign]
    old.commit(1, MORE)
    old.close()
    with new[0] as writer:
        writer.write(_ids(2))
        with pytest.raises(RetryableError, match="just as this one took over"):
            writer.commit(1, MORE)
    assert _read(home)[0] == [1]
    _fill(home, ([2], _ends()))
    assert _read(home)[0] == [1, 2]


def test_what_a_dead_writer_left_is_swept(home: Path) -> None:
    _fill(home, ([1], MORE))
    folder = home / "exchanges" / "flow" / "map"
    (folder / "000000000002-7.arrow").write_bytes(b"half a segment")
    (folder / "000000000002.1.2.partial").write_bytes(b"half a manifest")
    _fill(home, ([2], _ends()))
    assert len(list(folder.glob("*.arrow"))) == 2
    assert list(folder.glob("*.partial")) == []
    assert _read(home)[0] == [1, 2]


CONSUMERS = (Consumer("flow/a/0", "map"), Consumer("flow/b/0", "map"))


def _checkpoint(key: str, state: State | None) -> Checkpoint:
    return Checkpoint(key, 1, combined({} if state is None else {"map": state}, {}), "run-1", NOW)


def test_only_what_every_consumer_has_committed_is_collected(home: Path) -> None:
    _fill(home, ([1], MORE), ([2], MORE), ([3], _ends()), ([4], _ends()))
    checkpoints = Checkpoints()
    assert collect(_source(home), CONSUMERS, checkpoints).segments == 0
    _, after_first = _read(home)
    checkpoints.put(_checkpoint("flow/a/0", after_first))
    assert collect(_source(home), CONSUMERS, checkpoints).segments == 0
    checkpoints.put(_checkpoint("flow/b/0", {**(after_first or {}), "segment": 2, "complete": False}))
    done = collect(_source(home), CONSUMERS, checkpoints)
    assert done.segments == 2
    assert done.bytes > 0
    assert _read(home, {**(after_first or {}), "segment": 2, "complete": False})[0] == [3]
    _, after_second = _read(home, after_first)
    for each in CONSUMERS:
        checkpoints.put(_checkpoint(each.key, after_second))
    assert collect(_source(home), CONSUMERS, checkpoints).segments == 1
    # The newest manifest is the token.
    with _writer(home) as writer:
        last = writer.get_state()
        assert last is not None
        assert last.epoch == 4


def test_a_new_consumer_of_a_collected_exchange_is_told(home: Path) -> None:
    _fill(home, ([1], _ends(complete=False)), ([2], _ends(complete=False)))
    source = _source(home)
    source.folder.remove(source.folder.manifests()[0])
    with pytest.raises(
        FatalError, match=r"map, generation 1: what comes next in the exchange was .*collected.*full refresh"
    ):
        source.read(ReadRequest(), None)
    set_back = {"v": 1, "generation": 1, "segment": 0, "complete": False}
    with pytest.raises(FatalError, match="collected"):
        source.read(ReadRequest(), set_back)
    assert _read(home, {**set_back, "segment": 1})[0] == [2]


def _fan_out(tape: Tape, tables: dict[str, Table], epoch: int = 4) -> PhysicalPlan:
    held, shared = policies(epoch=epoch), ExchangeScan("map", "map", None)
    return PhysicalPlan(
        "flow",
        (
            Stage("map", scan(tape, held=held), ExchangeWrite("map", tuple(tables), held)),
            *(replace(stage(shared, table, held), id=name) for name, table in tables.items()),
        ),
        "",
    )


def _files(home: Path) -> list[str]:
    return sorted(each.suffix for each in (home / "exchanges" / "flow" / "map").iterdir())


def test_a_run_collects_what_its_stages_have_passed(home: Path) -> None:
    tables = {"a": Table(), "b": Table()}
    plan = _fan_out(Tape(numbers(20)), tables)
    assert run_plan(plan, context(home)).outcome == "finished"
    assert [each.ids() for each in tables.values()] == [list(range(20))] * 2
    assert _files(home) == [".arrow", ".fence", ".json"]


def test_a_consumer_that_lags_by_generations_gets_each_once(home: Path) -> None:
    """The second consumer is down for two whole runs; then it reads generation after generation."""
    tables = {"a": Table(), "b": Table()}
    tape, given_ = Tape(numbers(6)), context(home)

    def down(_: str) -> None:
        raise FatalError("maintenance")

    tables["b"].before = down
    plan = _fan_out(tape, tables)
    for run in (1, 2):
        with pytest.raises(FatalError, match="maintenance"):
            run_plan(plan, replace(given_, run_id=f"run-{run}"))
        tape.rows = numbers(6 + run)
    tables["b"].before = lambda _: None
    report: RunReport = run_plan(plan, replace(given_, run_id="run-3"))
    generations = [*range(6), *range(7), *range(8)]
    assert tables["a"].ids() == generations
    assert tables["b"].ids() == generations
    assert report.stages[2].attempts == 3
    assert all(each.reconciliation.balanced for each in report.stages)
    assert _files(home) == [".arrow", ".fence", ".json"]


def test_a_crash_between_producer_and_consumer_loses_nothing(home: Path) -> None:
    for incremental in (False, True):
        tables = {"a": Table(), "b": Table()}
        tape = Tape(numbers(9), incremental=incremental)
        plan = _fan_out(tape, tables, epoch=3)
        here, power = home / str(incremental), Power(1, "open_writer")
        tables["a"].power = power
        given_ = context(here)
        with suppress(Crash):
            run_plan(plan, given_)
        tables["a"].power = Power()
        tape.rows = numbers(11)
        run_plan(plan, replace(given_, run_id="run-2"))
        assert set(tables["a"].ids()) == set(range(11))
        assert len(tables["a"].ids()) == (11 if incremental else 9 + 11)
        assert tables["a"].ids() == tables["b"].ids()


def test_a_diamond_reads_one_exchange_twice_in_one_stage(home: Path) -> None:
    held, table = policies(epoch=4), Table()
    shared = ExchangeScan("map", "map", None, held)
    half = chunk(shared, "SELECT id FROM input WHERE id % 2 = 0", held, nodes=("even",), filters=True)
    joined = stream({"l": shared, "r": half}, "SELECT l.id FROM l JOIN r ON l.id = r.id", held)
    plan = PhysicalPlan(
        "flow",
        (
            Stage("map", scan(Tape(numbers(10)), held=held), ExchangeWrite("map", ("out",), held)),
            stage(joined, table, held),
        ),
        "",
    )
    report = run_plan(plan, context(home))
    assert report.outcome == "finished"
    assert sorted(table.ids()) == [0, 2, 4, 6, 8]
    assert [each.rows_out for each in report.stages[1].nodes] == [10, 10, 5, 5, 5]
    assert report.stages[1].reconciliation.balanced
    assert _files(home) == [".arrow", ".fence", ".json"]


def test_collecting_while_another_reads_is_no_error(home: Path) -> None:
    _fill(home, ([1], MORE), ([2], _ends()))
    source = _source(home)
    reader = source.read(ReadRequest(), None)
    source.folder.remove(source.folder.manifests()[0])
    assert [each.epoch for each in source.folder.manifests()] == [2]
    with pytest.raises(FatalError, match="it is gone"):
        list(reader)


def test_collect_exchanges_removes_nothing_of_a_plan_without_any(home: Path) -> None:
    plan = PhysicalPlan("flow", (stage(scan(Tape(numbers(1))), Table()),), "")
    run_stage(plan.stages[0], context(home))
    assert collect_exchanges(plan, context(home)).segments == 0
