"""What an Iceberg table takes and refuses, who may commit, and what a crash leaves, with a SQL catalog in SQLite."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import load_catalog

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Committed, Token
from dsl.contracts.errors import FencedError, RejectedRows, SchemaError
from dsl.contracts.spec import OptionError
from resources.iceberg.resource import IcebergConnection, IcebergDestination
from resources.testing import sample

TOKEN = Token(workflow="flow", stage="load", run_id="run-1")


@pytest.fixture
def connection(tmp_path: Path) -> IcebergConnection:
    return IcebergConnection(uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/lake")


def table(connection: IcebergConnection, **options: Any) -> IcebergDestination:
    return IcebergDestination(connection=connection, table="ns.t", **options)


def load(destination: IcebergDestination, rows: pa.RecordBatch, epoch: int, *, final: bool = True) -> Any:
    with destination.open_writer(rows.schema, TOKEN) as writer:
        writer.write(rows)
        return writer.commit(epoch, {"v": 1, "epoch": epoch}, final=final)


def opened(connection: IcebergConnection) -> Any:
    catalog = load_catalog("default", type="sql", uri=connection.uri, warehouse=connection.warehouse)
    return catalog.load_table("ns.t")


def stored(connection: IcebergConnection) -> list[dict[str, Any]]:
    return list(opened(connection).scan().to_arrow().to_pylist())


def one(**columns: pa.Array[Any]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


def late(writer: Any, name: str, meanwhile: Callable[[], None]) -> None:
    """Lets something happen once at the last moment: when the writer's rows are in its commit, and the commit is not made."""
    act, done = getattr(writer, name), list[bool]()

    def acted(transaction: Any) -> Any:
        found = act(transaction)
        if not done:
            done.append(True)
            meanwhile()
        return found

    setattr(writer, name, acted)


VALUES: dict[str, tuple[list[Any], pa.DataType]] = {
    "int8": ([-128, 127, None], pa.int8()),
    "uint64": ([2**64 - 1, 0, None], pa.uint64()),
    "int64": ([-(2**63), 2**63 - 1], pa.int64()),
    "double": ([float("inf"), -0.0, 1e308, None], pa.float64()),
    "decimal": ([decimal.Decimal("9" * 28 + "." + "9" * 10)], pa.decimal128(38, 10)),
    "date": ([dt.date(1, 1, 1), dt.date(9999, 12, 31)], pa.date32()),
    "time": ([dt.time(23, 59, 59, 999999), None], pa.time64("us")),
    "local": ([dt.datetime(1900, 1, 1, 0, 0, 0, 1), None], pa.timestamp("us")),  # noqa: DTZ001 - without a zone on purpose
    "instant": ([dt.datetime(2026, 1, 1, tzinfo=dt.UTC)], pa.timestamp("s", "Europe/Berlin")),
    "text": (["", "ünï\x00 😀", None], pa.large_string()),
    "bytes": ([b"\x00\xff", b"", None], pa.binary()),
    "flag": ([True, False, None], pa.bool_()),
    "list": ([[1, None], [], None], pa.list_(pa.int32())),
    "struct": ([{"a": 1, "b": None}, None], pa.struct([("a", pa.int64()), ("b", pa.string())])),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_arrive_as_they_left(connection: IcebergConnection, name: str) -> None:
    values, kind = VALUES[name]
    rows = one(v=pa.array(values, kind))
    for epoch in (1, 2):
        load(table(connection), rows, epoch)
    assert stored(connection) == rows.to_pylist() * 2


def test_what_cannot_be_held_is_said_or_refused(connection: IcebergConnection) -> None:
    with pytest.raises(SchemaError, match="Iceberg has no type for"):
        table(connection).open_writer(pa.schema([pa.field("v", pa.duration("us"))]), TOKEN)
    rows = one(at=pa.array([1_000, 1_001], pa.timestamp("ns")))
    with table(connection).open_writer(rows.schema, TOKEN) as writer, pytest.raises(RejectedRows, match="column 'at'"):
        writer.write(rows)


def test_columns_are_added_and_missing_ones_are_null(connection: IcebergConnection) -> None:
    load(table(connection), one(id=pa.array([1]), a=pa.array(["x"])), 1)
    load(table(connection), one(b=pa.array([2.5]), id=pa.array([2])), 2)
    found = sorted(stored(connection), key=lambda row: row["id"])
    assert found == [{"id": 1, "a": "x", "b": None}, {"id": 2, "a": None, "b": 2.5}]
    upsert = table(connection, write_mode=WriteMode.UPSERT, primary_key=("id",))
    with pytest.raises(SchemaError, match="would empty column 'a'"):
        load(upsert, one(id=pa.array([1]), b=pa.array([0.5])), 3)


def test_an_upsert_counts_and_refuses_a_null_key(connection: IcebergConnection) -> None:
    load(table(connection), one(id=pa.array([1, 2]), a=pa.array(["x", "y"])), 1)
    upsert = table(connection, write_mode=WriteMode.UPSERT, primary_key=("id",))
    stats = load(upsert, one(id=pa.array([2, 3, 3]), a=pa.array(["Y", "no", "Z"])), 2)
    assert (stats.rows, stats.inserted, stats.updated) == (2, 1, 1)
    assert load(upsert, one(id=pa.array([2]), a=pa.array(["Y"])), 3).rows == 0
    assert {row["id"]: row["a"] for row in stored(connection)} == {1: "x", 2: "Y", 3: "Z"}
    with upsert.open_writer(one(id=pa.array([1]), a=pa.array(["x"])).schema, TOKEN) as writer:
        assert writer.get_state() == Committed(3, {"v": 1, "epoch": 3})
        with pytest.raises(RejectedRows, match="NULL") as refused:
            writer.write(one(id=pa.array([1, None]), a=pa.array(["x", "y"])))
    assert refused.value.rows == (1,)


@pytest.mark.parametrize("mode", [WriteMode.APPEND, WriteMode.OVERWRITE, WriteMode.UPSERT])
def test_a_commit_that_lost_the_race_is_fenced(connection: IcebergConnection, mode: WriteMode) -> None:
    """The rival commits after this writer has looked, and its rows are on their way; the upsert would change nothing."""
    key = ("id",) if mode is WriteMode.UPSERT else ()
    destination = table(connection, write_mode=mode, primary_key=key)
    load(destination, sample(0, 5), 1)
    with destination.open_writer(sample(0, 1).schema, TOKEN) as first:
        first.write(sample(0, 5))
        name = {WriteMode.APPEND: "_append", WriteMode.OVERWRITE: "_overwrite", WriteMode.UPSERT: "_merge"}[mode]
        late(first, name, lambda: load(destination, sample(50, 1), 2))
        with pytest.raises(FencedError):
            first.commit(2, {"v": 1}, final=True)
    found = sorted(row["id"] for row in stored(connection))
    assert found == ([50] if mode is WriteMode.OVERWRITE else [0, 1, 2, 3, 4, 50])


def test_others_may_append_at_the_same_time(connection: IcebergConnection) -> None:
    with table(connection).open_writer(sample(0, 1).schema, TOKEN) as writer:
        writer.write(sample(0, 5))
        late(writer, "_append", lambda: opened(connection).append(pa.Table.from_batches([sample(5, 5)])))
        writer.commit(1, {"v": 1}, final=True)
    assert sorted(row["id"] for row in stored(connection)) == list(range(10))


class Died(BaseException):
    """Stands for the end of the process."""


def die() -> None:
    raise Died


@pytest.mark.parametrize("name", ["_append", "_overwrite", "_discard"])
def test_dying_around_a_commit_leaves_each_row_once(connection: IcebergConnection, name: str) -> None:
    """`_discard` comes after the commit: its answer is lost."""
    mode = WriteMode.APPEND if name == "_append" else WriteMode.OVERWRITE
    destination = table(connection, write_mode=mode)
    load(destination, sample(0, 5), 1, final=False)
    with destination.open_writer(sample(0, 1).schema, TOKEN) as writer:
        writer.write(sample(5, 5))
        late(writer, name, die)
        with pytest.raises(Died):
            writer.commit(2, {"v": 1, "epoch": 2}, final=True)
    with destination.open_writer(sample(0, 1).schema, TOKEN) as again:
        committed = again.get_state()
        assert committed is not None
        assert committed.epoch == (2 if name == "_discard" else 1)
        if committed.epoch == 1:
            again.write(sample(5, 5))
            again.commit(2, {"v": 1, "epoch": 2}, final=True)
    assert sorted(row["id"] for row in stored(connection)) == list(range(10))


def test_a_database_may_hold_several_catalogs(connection: IcebergConnection) -> None:
    load(table(connection), one(id=pa.array([1])), 1)
    other = dataclasses.replace(connection, catalog="other", warehouse=f"{connection.warehouse}-2")
    load(table(other), one(id=pa.array([2])), 1)
    assert [row["id"] for row in stored(connection)] == [1]
    assert table(connection).physical_name != table(other).physical_name


def test_options_that_do_not_fit() -> None:
    wrong: list[dict[str, Any]] = [
        {"uri": "file:///x"},
        {"uri": "sqlite:///x.db"},
        {"uri": "https://user:word@example.com"},
        {"uri": "http://example.com"},
    ]
    for options in wrong:
        with pytest.raises(OptionError):
            IcebergConnection(**options)
    with pytest.raises(OptionError, match="no table with a namespace"):
        IcebergDestination(connection=IcebergConnection(uri="https://example.com"), table="orders")
    asked = IcebergConnection(uri="http://127.0.0.1:1", warehouse="x").check()
    assert not asked.healthy
