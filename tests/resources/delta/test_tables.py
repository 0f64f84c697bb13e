"""What a Delta table takes and refuses, who may commit, and what a crash leaves, in a local folder."""

from __future__ import annotations

import datetime as dt
import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Committed, Token
from dsl.contracts.errors import FatalError, FencedError, RejectedRows, RetryableError, SchemaError
from dsl.contracts.spec import OptionError
from resources.delta.resource import DeltaConnection, DeltaDestination
from resources.testing import sample

TOKEN = Token(workflow="flow", stage="load", run_id="run-1")


@pytest.fixture
def connection(tmp_path: Path) -> DeltaConnection:
    return DeltaConnection(location=str(tmp_path))


def table(connection: DeltaConnection, **options: Any) -> DeltaDestination:
    return DeltaDestination(connection=connection, table="t", **options)


def load(destination: DeltaDestination, rows: pa.RecordBatch, epoch: int, *, final: bool = True) -> Any:
    with destination.open_writer(rows.schema, TOKEN) as writer:
        writer.write(rows)
        return writer.commit(epoch, {"v": 1, "epoch": epoch}, final=final)


def opened(connection: DeltaConnection) -> DeltaTable:
    return DeltaTable(connection.uri("t"))


def stored(connection: DeltaConnection) -> list[dict[str, Any]]:
    return opened(connection).to_pyarrow_table().to_pylist()


def one(**columns: pa.Array[Any]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


VALUES: dict[str, tuple[list[Any], pa.DataType]] = {
    "int8": ([-128, 127, None], pa.int8()),
    "uint64": ([2**64 - 1, 0, None], pa.uint64()),
    "int64": ([-(2**63), 2**63 - 1], pa.int64()),
    "double": ([float("inf"), -0.0, 1e308, None], pa.float64()),
    "decimal": ([decimal.Decimal("9" * 28 + "." + "9" * 10), decimal.Decimal("-0.0000000001")], pa.decimal128(38, 10)),
    "date": ([dt.date(1, 1, 1), dt.date(9999, 12, 31)], pa.date32()),
    "local": ([dt.datetime(1900, 1, 1, 0, 0, 0, 1), None], pa.timestamp("us")),  # noqa: DTZ001 - without a zone on purpose
    "seconds": ([dt.datetime(2026, 1, 1, tzinfo=dt.UTC)], pa.timestamp("s", "Europe/Berlin")),
    "text": (["", "ünï\x00 😀", None], pa.large_string()),
    "words": (["a", "b", "a"], pa.dictionary(pa.int32(), pa.string())),
    "bytes": ([b"\x00\xff", b"", None], pa.binary()),
    "flag": ([True, False, None], pa.bool_()),
    "list": ([[1, None], [], None], pa.list_(pa.int32())),
    "struct": ([{"a": 1, "b": None}, None], pa.struct([("a", pa.int64()), ("b", pa.string())])),
    "map": ([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_arrive_as_they_left(connection: DeltaConnection, name: str) -> None:
    values, kind = VALUES[name]
    load(table(connection), one(v=pa.array(values, kind)), 1)
    assert stored(connection) == one(v=pa.array(values, kind)).to_pylist()


@pytest.mark.parametrize(
    "kind", [pa.time64("us"), pa.duration("us"), pa.decimal256(50, 2), pa.month_day_nano_interval()]
)
def test_what_delta_has_no_type_for_is_said(connection: DeltaConnection, kind: pa.DataType) -> None:
    with pytest.raises(SchemaError, match="'v' is .*which Delta Lake has no type for"):  # noqa: RUF043 - a pattern
        table(connection).open_writer(pa.schema([pa.field("v", kind)]), TOKEN)
    assert not DeltaTable.is_deltatable(connection.uri("t"))


def test_a_value_that_would_change_is_refused(connection: DeltaConnection) -> None:
    rows = one(at=pa.array([1_000, 1_001], pa.timestamp("ns")))
    with table(connection).open_writer(rows.schema, TOKEN) as writer:
        with pytest.raises(RejectedRows, match="column 'at'"):
            writer.write(rows)
        writer.write(rows.slice(0, 1))
        writer.commit(1, {"v": 1}, final=True)
    assert len(stored(connection)) == 1
    load(DeltaDestination(connection=connection, table="small"), one(id=pa.array([1], pa.int32())), 1)
    with pytest.raises(RejectedRows, match="column 'id' does not fit int32"):
        load(DeltaDestination(connection=connection, table="small"), one(id=pa.array([2**40], pa.int64())), 2)


def test_columns_are_added_and_missing_ones_are_null(connection: DeltaConnection) -> None:
    load(table(connection), one(id=pa.array([1]), a=pa.array(["x"])), 1)
    load(table(connection), one(b=pa.array([2.5]), id=pa.array([2])), 2)
    assert sorted(stored(connection), key=lambda row: row["id"]) == [
        {"id": 1, "a": "x", "b": None},
        {"id": 2, "a": None, "b": 2.5},
    ]


def test_an_upsert_leaves_columns_alone_that_it_does_not_bring(connection: DeltaConnection) -> None:
    odd = 'we`ird "Na.me'
    load(table(connection), one(id=pa.array([1, 2]), a=pa.array(["x", "y"]), **{odd: pa.array([1, 2])}), 1)
    upsert = table(connection, write_mode=WriteMode.UPSERT, primary_key=("id",))
    stats = load(upsert, one(id=pa.array([2, 3]), **{odd: pa.array([20, 30])}, new=pa.array([True, False])), 2)
    assert (stats.rows, stats.inserted, stats.updated) == (2, 1, 1)
    found = {row["id"]: (row["a"], row[odd], row["new"]) for row in stored(connection)}
    assert found == {1: ("x", 1, None), 2: ("y", 20, True), 3: (None, 30, False)}
    with upsert.open_writer(sample(0, 1).schema, TOKEN) as writer, pytest.raises(RejectedRows, match="NULL") as refused:
        writer.write(one(id=pa.array([1, None, 3])))
    assert refused.value.rows == (1,)


def test_partitions_are_kept(connection: DeltaConnection, tmp_path: Path) -> None:
    destination = table(connection, partition_by=("day",))
    load(destination, one(id=pa.array([1, 2]), day=pa.array(["a", "b"])), 1)
    assert {each.name for each in (tmp_path / "t").glob("day=*")} == {"day=a", "day=b"}
    assert opened(connection).metadata().partition_columns == ["day"]
    load(table(connection), one(id=pa.array([3]), day=pa.array(["b"])), 2)
    upsert = table(connection, write_mode=WriteMode.UPSERT, primary_key=("id", "day"))
    load(upsert, one(id=pa.array([3]), day=pa.array(["b"]), more=pa.array([1])), 3)
    assert sorted((row["id"], row["day"], row["more"]) for row in stored(connection)) == [
        (1, "a", None),
        (2, "b", None),
        (3, "b", 1),
    ]
    with pytest.raises(SchemaError, match="partitioned by"):
        table(connection, partition_by=("id",)).open_writer(sample(0, 1).schema, TOKEN)


def test_others_may_append_at_the_same_time(connection: DeltaConnection) -> None:
    with table(connection).open_writer(sample(0, 1).schema, TOKEN) as writer:
        writer.write(sample(0, 5))
        write_deltalake(connection.uri("t"), pa.Table.from_batches([sample(5, 5)]), mode="append")
        writer.commit(1, {"v": 1}, final=True)
    assert len(stored(connection)) == 10


def test_a_commit_that_lost_the_race_for_the_mark_is_fenced(connection: DeltaConnection) -> None:
    """The last moment there is: the rival fences after this writer looked, while its entry is being written."""
    destination = table(connection)
    with destination.open_writer(sample(0, 1).schema, TOKEN) as first:
        first.write(sample(0, 5))
        move = first._append  # type: ignore[attr-defined]

        def late(found: DeltaTable, properties: Any) -> None:
            with destination.open_writer(sample(0, 1).schema, TOKEN) as second:
                second.write(sample(0, 5))
                second.commit(1, {"v": 1}, final=True)
            move(found, properties)

        first._append = late  # type: ignore[attr-defined]
        with pytest.raises(FencedError):
            first.commit(1, {"v": 1}, final=True)
    assert len(stored(connection)) == 5


def test_an_overwrite_that_met_another_writer_changes_nothing(connection: DeltaConnection) -> None:
    destination = table(connection, write_mode=WriteMode.OVERWRITE)
    load(destination, sample(0, 3), 1)
    with destination.open_writer(sample(0, 1).schema, TOKEN) as writer:
        writer.write(sample(10, 2))
        overwrite = writer._overwrite  # type: ignore[attr-defined]

        def late(found: DeltaTable, properties: Any) -> None:
            DeltaTable(connection.uri("t")).delete()
            overwrite(found, properties)

        writer._overwrite = late  # type: ignore[attr-defined]
        with pytest.raises(RetryableError, match="nothing was committed"):
            writer.commit(2, {"v": 1}, final=True)
    with destination.open_writer(sample(0, 1).schema, TOKEN) as again:
        assert again.get_state() == Committed(1, {"v": 1, "epoch": 1})


def test_the_token_outlives_checkpoints_and_a_cleaned_log(connection: DeltaConnection) -> None:
    load(table(connection), sample(0, 5), 1)
    for each in range(3):
        write_deltalake(connection.uri("t"), pa.Table.from_batches([sample(10 + each, 1)]), mode="append")
    found = opened(connection)
    found.create_checkpoint()
    for entry in Path(connection.uri("t"), "_delta_log").glob("*.json"):
        if int(entry.stem) < found.version():
            entry.unlink()
    opened(connection).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    with table(connection).open_writer(sample(0, 1).schema, TOKEN) as writer:
        assert writer.get_state() == Committed(1, {"v": 1, "epoch": 1})


def test_a_state_that_was_removed_is_said_and_not_begun_anew(connection: DeltaConnection, tmp_path: Path) -> None:
    load(table(connection), sample(0, 5), 1)
    files = list((tmp_path / "t" / "_headrace").rglob("*.json"))
    assert len(files) == 1, "what was replaced is removed"
    files[0].unlink()
    with pytest.raises(FatalError, match="state of this stream is gone"):
        table(connection).open_writer(sample(0, 1).schema, TOKEN)


def test_nothing_is_left_of_an_overwrite_that_ended(connection: DeltaConnection, tmp_path: Path) -> None:
    destination = table(connection, write_mode=WriteMode.OVERWRITE)
    for epoch in (1, 2, 3):
        load(destination, sample(epoch * 10, 5), epoch, final=epoch == 3)
    assert sorted(row["id"] for row in stored(connection)) == [*range(10, 15), *range(20, 25), *range(30, 35)]
    assert not list((tmp_path / "t" / "_headrace").rglob("*.arrows"))


def test_options_that_do_not_fit() -> None:
    wrong: list[dict[str, Any]] = [
        {"location": "gs://x/y"},
        {"location": "s3://"},
        {"location": "/tmp/x", "region": "eu"},
    ]
    for options in wrong:
        with pytest.raises(OptionError):
            DeltaConnection(**options)
    with pytest.raises(OptionError, match="is no folder"):
        DeltaDestination(connection=DeltaConnection(location="/tmp/x"), table="../out")
    with pytest.raises(OptionError, match="shows rows"):
        DeltaConnection(location="s3://b/x", endpoint="http://example.com")
    asked = DeltaConnection(location="s3://b/x", endpoint="http://127.0.0.1:1").check()
    assert not asked.healthy
