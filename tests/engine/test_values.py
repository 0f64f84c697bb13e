"""Values pass a query unchanged: NULL, NaN, -0.0, decimals, times, zones, nested ones; and a schema's promise is kept or refused."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsl.contracts.errors import SchemaError
from engine.operators.relational import Limits, Session
from engine.run import run_stage
from engine.shape import conform, conform_one, resolved
from tests.engine.fakes import NOW, Table, Tape, chunk, context, scan, stage, stream

CASES: dict[str, Any] = {
    "bool": pa.array([True, False, None]),
    "int8": pa.array([-128, 127, None], pa.int8()),
    "int64": pa.array([-(2**63), 2**63 - 1, None], pa.int64()),
    "uint8": pa.array([0, 255, None], pa.uint8()),
    "uint64": pa.array([0, 2**64 - 1, None], pa.uint64()),
    "float32": pa.array([-0.0, math.inf, math.nan, 1e-45, None], pa.float32()),
    "float64": pa.array([-0.0, 0.0, math.inf, -math.inf, math.nan, 5e-324, 1.7976931348623157e308, None]),
    "decimal": pa.array([Decimal("-0.01"), Decimal("99999999.99"), None], pa.decimal128(10, 2)),
    "widest decimal": pa.array([Decimal("9" * 38), Decimal("-" + "9" * 38), None], pa.decimal128(38, 0)),
    "finest decimal": pa.array([Decimal("0." + "0" * 37 + "1"), None], pa.decimal128(38, 38)),
    "text": pa.array(["", "ä€𝄞", "a\x00b", "x" * 5000, "\u202e", "\r\n\t'\"\\", None]),
    "large text": pa.array(["", "x" * 100, None], pa.large_string()),
    "bytes": pa.array([b"", b"\x00\xff\x80", None]),
    "fixed bytes": pa.array([b"\x00\xff", None], pa.binary(2)),
    "date": pa.array([date(1, 1, 1), date(1969, 12, 31), date(9999, 12, 31), None]),
    "time": pa.array([time(0, 0), time(23, 59, 59, 999_999), None], pa.time64("us")),
    "time in seconds": pa.array([time(0, 0), time(23, 59, 59), None], pa.time32("s")),
    "time in nanoseconds": pa.array([0, 86_399_999_999_999, None], pa.time64("ns")),
    "timestamp": pa.array([-62_135_596_800_000_000, 253_402_300_799_999_999, None], pa.timestamp("us")),
    "timestamp in seconds": pa.array([-1, 0, 2**31, None], pa.timestamp("s")),
    "timestamp in milliseconds": pa.array([-1, 2**40, None], pa.timestamp("ms")),
    "timestamp in nanoseconds": pa.array([-1, 1, 2**62, None], pa.timestamp("ns")),
    "far timestamp": pa.array([2**62, -(2**62), None], pa.timestamp("us")),
    "timestamp in UTC": pa.array([datetime(2026, 3, 29, 1, 30, tzinfo=UTC), None], pa.timestamp("us", tz="UTC")),
    "timestamp in Berlin": pa.array([1_774_747_800_000_000, None], pa.timestamp("us", tz="Europe/Berlin")),
    "zoned nanoseconds": pa.array([1, 2**60 + 1, None], pa.timestamp("ns", tz="UTC")),
    "null": pa.array([None, None]),
    "list": pa.array([[], [1, None, 3], None], pa.list_(pa.int64())),
    "list of lists": pa.array([[[1], []], [None, [2, 3]], None], pa.list_(pa.list_(pa.int32()))),
    "fixed list": pa.array([[1.0, -0.0], None], pa.list_(pa.float64(), 2)),
    "struct": pa.array([{"a": 1, "b": None}, {"a": None, "b": "x"}, None]),
    "struct in list in struct": pa.array([{"x": [{"y": Decimal("1.5")}, None]}, {"x": None}, None]),
    "map": pa.array([[("k", 1), ("l", None)], [], None], pa.map_(pa.string(), pa.int64())),
    "dictionary": pa.array(["a", "b", "a", None]).dictionary_encode(),
    "duration": pa.array([0, -1, 10**12, None], pa.duration("us")),
    "widest float list": pa.array([[math.nan, -0.0], None]),
}
REFUSED = {"duration"}
"""DuckDB has intervals of months, days and microseconds, which are no durations."""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    opened = Session(Limits(64 * 2**20, 2, tmp_path_factory.mktemp("spill"), 2**30), NOW)
    yield opened
    opened.close()


def _bits(value: Any) -> Any:
    """A value so that -0.0, 0.0 and NaN are told apart."""
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else struct.pack(">d", value)
    if isinstance(value, list | tuple):
        return [_bits(each) for each in value]
    if isinstance(value, dict):
        return {key: _bits(each) for key, each in value.items()}
    return value


def _same(found: Any, expected: Any) -> bool:
    flat = pa.chunked_array([found]) if isinstance(found, pa.Array) else found
    if flat.type != expected.type:
        return False
    try:
        return bool(_bits(flat.to_pylist()) == _bits(expected.to_pylist()))
    except (ArithmeticError, ValueError):
        return bool(flat.combine_chunks().equals(expected))


def _through(session: Session, column: Any, kind: str) -> pa.Table:
    rows = pa.RecordBatch.from_arrays([column], ["x"])
    if kind == "chunk":
        done: Any = session.chunk("SELECT x FROM input", uses_now=False, where="q").run(rows)
    else:
        query = session.stream("SELECT x FROM a", uses_now=False, where="q")
        done = pa.Table.from_batches(list(query.run({"a": (rows.schema, lambda: iter([rows]))})))
    return pa.Table.from_batches(conform(done, rows.schema, "q"), rows.schema)


@pytest.mark.parametrize("kind", ["chunk", "stream"])
@pytest.mark.parametrize("case", CASES)
def test_values_pass_exactly_or_are_refused(session: Session, case: str, kind: str) -> None:
    """Where DuckDB has no such type, the error says so; a value is never changed on its way."""
    column = CASES[case]
    if case in REFUSED:
        with pytest.raises(SchemaError, match="q: column 'x' is"):
            _through(session, column, kind)
        return
    done = _through(session, column, kind)
    assert _same(done.column("x"), column), done.column("x")


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)), min_size=1))
def test_any_float(session: Session, values: list[float | None]) -> None:
    column = pa.array(values, pa.float64())
    assert _same(_through(session, column, "chunk").column("x"), column)


@given(
    st.integers(1, 38).flatmap(
        lambda precision: st.tuples(
            st.just(precision),
            st.integers(0, precision),
            st.lists(st.integers(-(10**precision) + 1, 10**precision - 1), min_size=1, max_size=5),
        )
    )
)
def test_any_decimal(session: Session, given_: tuple[int, int, list[int]]) -> None:
    precision, scale, values = given_
    texts = pa.array([f"{each}e-{scale}" for each in values])
    column = texts.cast(pa.decimal128(precision, scale))
    assert _same(_through(session, column, "chunk").column("x"), column)


@given(st.lists(st.one_of(st.none(), st.text()), min_size=1))
def test_any_text(session: Session, values: list[str | None]) -> None:
    column = pa.array(values, pa.string())
    assert _same(_through(session, column, "stream").column("x"), column)


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1), st.sampled_from([None, "UTC", "America/New_York"]))
def test_any_timestamp(session: Session, values: list[int], zone: str | None) -> None:
    column = pa.array(values, pa.timestamp("us", tz=zone))
    assert _through(session, column, "chunk").column("x").combine_chunks().equals(column)


def test_a_whole_stage_passes_every_kind_at_once(home: Path) -> None:
    length = max(len(each) for each in CASES.values())
    columns = {name: each for name, each in CASES.items() if name not in REFUSED | {"null", "far timestamp"}}
    padded = {name: pa.concat_arrays([each, pa.nulls(length - len(each), each.type)]) for name, each in columns.items()}
    rows = pa.table(padded).append_column("id", pa.array(range(length)))
    for root in (
        chunk(scan(Tape(rows)), "SELECT * FROM input"),
        stream({"a": scan(Tape(rows))}, "SELECT * FROM a ORDER BY id"),
        scan(Tape(rows)),
    ):
        table = Table()
        run_stage(stage(root, table), context(home))
        arrived = pa.Table.from_batches(table.batches)
        for name in columns:
            kept = arrived.column(name)
            back = kept if kept.type == rows.column(name).type else kept.cast(rows.column(name).type)
            assert _same(back, rows.column(name).combine_chunks()), name


@pytest.mark.parametrize(
    "column",
    [
        {"x": pa.array([1]), "X": pa.array([2])},
        {"x": pa.array([{"a": 1, "A": 2}])},
        {"x": pa.array([[{"y": {"b": 1, "B": 2}}]])},
    ],
)
@pytest.mark.parametrize("kind", ["chunk", "stream"])
def test_names_that_differ_in_case_only_are_refused(home: Path, kind: str, column: dict[str, Any]) -> None:
    """DuckDB would give the one for the other, without a word."""
    source = scan(Tape(pa.table(column)))
    root = chunk(source, "SELECT * FROM input") if kind == "chunk" else stream({"a": source}, "SELECT * FROM a")
    with pytest.raises(SchemaError, match="differ in case only"):
        run_stage(stage(root, Table()), context(home))


def test_names_in_any_case_pass_where_no_query_is(home: Path) -> None:
    table = Table()
    run_stage(stage(scan(Tape(pa.table({"id": [1], "ID": [2]}))), table), context(home))
    assert table.rows() == [{"id": 1, "ID": 2}]


@pytest.mark.parametrize("kind", ["chunk", "stream"])
def test_the_zone_is_called_utc(session: Session, kind: str) -> None:
    query, schema = (
        "SELECT x, [x] AS l, {'y': x} AS s, MAP {'k': x} AS m FROM a",
        pa.table({"x": CASES["timestamp in UTC"]}).schema,
    )
    if kind == "stream":
        found = session.stream(query, uses_now=False, where="q").output_schema({"a": schema})
    else:
        found = session.chunk(query.replace("FROM a", "FROM input"), uses_now=False, where="q").output_schema(schema)
    zoned = pa.timestamp("us", tz="UTC")
    assert found.types == [zoned, pa.list_(zoned), pa.struct([pa.field("y", zoned)]), pa.map_(pa.string(), zoned)]


def _schema(**kinds: Any) -> pa.Schema:
    return pa.schema([pa.field(name, kind) for name, kind in kinds.items()])


def test_what_a_plan_promised_is_kept_or_refused() -> None:
    planned = _schema(a=pa.int64(), b=pa.null())
    actual = _schema(b=pa.string(), c=pa.int64(), a=pa.int64())
    assert resolved(planned, actual, "w") == _schema(a=pa.int64(), b=pa.string())
    assert resolved(None, actual, "w") == actual
    with pytest.raises(SchemaError, match=r"w: columns are missing: a, b .*dropped or renamed"):
        resolved(planned, _schema(c=pa.int64()), "w")


def test_columns_come_by_name_and_casts_are_checked() -> None:
    rows = pa.RecordBatch.from_pydict({"b": ["x"], "a": [3], "extra": [1]})
    wanted = _schema(a=pa.int8(), b=pa.large_string())
    assert conform_one(rows, wanted, "w").to_pylist() == [{"a": 3, "b": "x"}]
    with pytest.raises(SchemaError, match="column 'a' is int64, not int8"):
        conform_one(pa.RecordBatch.from_pydict({"b": ["x"], "a": [300]}), wanted, "w")
    with pytest.raises(SchemaError, match="column 'b' is missing"):
        conform_one(pa.RecordBatch.from_pydict({"a": [3]}), wanted, "w")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (pa.array([1.5]), pa.int64()),
        (pa.array([2**53 + 1]), pa.float64()),
        (pa.array([Decimal("1.234")]), pa.decimal128(5, 2)),
        (pa.array([1_500_000], pa.timestamp("us")), pa.timestamp("s")),
        (pa.array(["x"]), pa.int64()),
        (pa.array([-1]), pa.uint8()),
    ],
)
def test_no_cast_loses_a_digit(value: Any, kind: pa.DataType) -> None:
    with pytest.raises(SchemaError):
        conform_one(pa.RecordBatch.from_arrays([value], ["x"]), _schema(x=kind), "w")


def test_a_schema_without_columns_keeps_the_number_of_rows() -> None:
    rows = pa.RecordBatch.from_pydict({"a": [1, 2, 3]})
    assert conform_one(rows, pa.schema([]), "w").num_rows == 3
