"""Rows through every format and back: values are the same afterwards, whatever they hold; sizes of chunks do not matter."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import math
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.formats.chunks import Chunk
from resources.formats.codecs import decode, encoder, infer
from resources.formats.columns import Wanted
from resources.formats.options import AvroOptions, Compression, CsvOptions, FileOptions, Format, ParquetOptions

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
MICROS = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31))  # noqa: DTZ001
COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "integer": (pa.int64(), INT64),
    "small": (pa.int16(), st.integers(-(2**15), 2**15 - 1)),
    "unsigned": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "real": (pa.float64(), st.floats()),
    "single": (pa.float32(), st.floats(width=32)),
    "price": (pa.decimal128(38, 9), st.decimals(-(10**28), 10**28, places=9)),
    "huge": (pa.decimal256(60, 20), st.decimals(-(10**30), 10**30, places=20)),
    "word": (pa.string(), TEXT),
    "raw": (pa.binary(), st.binary(max_size=20)),
    "code": (pa.binary(3), st.binary(min_size=3, max_size=3)),
    "flag": (pa.bool_(), st.booleans()),
    "day": (pa.date32(), st.dates()),
    "at": (pa.timestamp("us"), MICROS),
    "instant": (pa.timestamp("us", "UTC"), MICROS.map(lambda at: at.replace(tzinfo=dt.UTC))),
    "precise": (pa.timestamp("ns"), INT64.filter(lambda each: abs(each) < 2**62)),
    "clock": (pa.time64("us"), st.times()),
    "span": (pa.duration("us"), INT64),
    "list": (pa.list_(pa.int32()), st.lists(st.none() | st.integers(-(2**31), 2**31 - 1), max_size=4)),
    "record": (
        pa.struct([("a", pa.int64()), ("b", pa.string())]),
        st.fixed_dictionaries({"a": st.none() | INT64, "b": st.none() | TEXT}),
    ),
    "deep": (
        pa.list_(pa.struct([("x", pa.decimal128(10, 2)), ("y", pa.list_(pa.string()))])),
        st.lists(
            st.fixed_dictionaries({
                "x": st.none() | st.decimals(-(10**7), 10**7, places=2),
                "y": st.none() | st.lists(st.none() | TEXT, max_size=3),
            }),
            max_size=3,
        ),
    ),
    "map": (pa.map_(pa.string(), pa.int64()), st.dictionaries(TEXT, st.none() | INT64, max_size=3).map(lambda d: list(d.items()))),
}  # fmt: skip
SCHEMA = pa.schema([pa.field(name, kind) for name, (kind, _) in COLUMNS.items()])


@st.composite
def batches(draw: st.DrawFn) -> pa.RecordBatch:
    """A batch of up to eight rows with any values, NULL among them."""
    rows = draw(st.integers(0, 8))
    arrays = [
        pa.array(draw(st.lists(st.none() | values, min_size=rows, max_size=rows)), kind)
        for kind, values in COLUMNS.values()
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def encoded(options: FileOptions, *rows: pa.RecordBatch) -> bytes:
    """Returns a file that holds some batches."""
    sink = io.BytesIO()
    opened = encoder(sink, rows[0].schema, options)
    for each in rows:
        opened.write(each)
    opened.close()
    return sink.getvalue()


def decoded(
    data: bytes, schema: pa.Schema, options: FileOptions, start: int = 0, wanted: Wanted | None = None
) -> list[Chunk]:
    """Returns what is read of a file."""
    return list(decode(io.BytesIO(data), wanted or Wanted(schema, tuple(schema.names)), options, "file", start))


def rows_of(chunks: list[Chunk]) -> list[dict[str, Any]]:
    """Returns the rows of chunks."""
    return [row for each in chunks for row in each.rows.to_pylist()]


def same(one: Any, other: Any) -> bool:
    """Compares values to the bit: NaN equals itself, -0.0 does not equal 0.0."""
    if isinstance(one, float) and isinstance(other, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other and type(one) is type(other))


ALL = [
    FileOptions(format=Format.CSV),
    FileOptions(format=Format.CSV, csv=CsvOptions(delimiter="\t")),
    FileOptions(format=Format.JSON),
    FileOptions(format=Format.JSONL, compression=Compression.ZSTD),
    FileOptions(format=Format.PARQUET),
    FileOptions(format=Format.PARQUET, parquet=ParquetOptions(codec="snappy", row_group_rows=3)),
    FileOptions(format=Format.AVRO),
    FileOptions(format=Format.AVRO, avro=AvroOptions(codec="xz")),
]


@pytest.mark.parametrize("options", ALL, ids=lambda each: f"{each.format}-{each.compression}")
@settings(deadline=None, max_examples=40)
@given(rows=batches())
def test_every_value_comes_back(options: FileOptions, rows: pa.RecordBatch) -> None:
    chunks = decoded(encoded(options, rows), SCHEMA, options)
    assert not [bad for each in chunks for bad in each.malformed]
    found = rows_of(chunks)
    assert len(found) == rows.num_rows
    for before, after in zip(rows.to_pylist(), found, strict=True):
        for name in SCHEMA.names:
            assert same(before[name], after[name]), name


@pytest.mark.parametrize("compression", list(Compression))
@pytest.mark.parametrize("kind", [Format.CSV, Format.JSON, Format.JSONL])
def test_every_compression(kind: Format, compression: Compression) -> None:
    options = FileOptions(format=kind, compression=compression)
    rows = pa.record_batch([pa.array(range(5000)), pa.array([f"é{each}" for each in range(5000)])], names=["n", "t"])
    data = encoded(options, rows)
    assert rows_of(decoded(data, rows.schema, options)) == rows.to_pylist()
    assert infer(io.BytesIO(data), options, "file") == rows.schema


@pytest.mark.parametrize("options", ALL, ids=lambda each: f"{each.format}-{each.compression}")
@settings(deadline=None, max_examples=20)
@given(start=st.integers(0, 60), cut=st.integers(1, 20))
def test_reading_goes_on_at_any_record(options: FileOptions, start: int, cut: int) -> None:
    rows = pa.record_batch([pa.array(range(50), pa.int64())], names=["n"])
    parts = [rows.slice(at, cut) for at in range(0, 50, cut)]
    chunks = decoded(encoded(options, *parts), rows.schema, options, start)
    assert [each["n"] for each in rows_of(chunks)] == list(range(start, 50))
    assert all(before.end == after.first for before, after in pairwise(chunks))


@pytest.mark.parametrize("options", ALL, ids=lambda each: f"{each.format}-{each.compression}")
def test_only_the_columns_wanted_are_read(options: FileOptions) -> None:
    rows = pa.record_batch([pa.array([1, 2]), pa.array(["x", None]), pa.array([1.5, None])], names=["a", "b", "c"])
    wanted = Wanted(pa.schema([rows.schema.field("c"), rows.schema.field("a")]), ("a", "b", "c"))
    found = rows_of(decoded(encoded(options, rows), rows.schema, options, wanted=wanted))
    assert found == [{"c": 1.5, "a": 1}, {"c": None, "a": 2}]
    assert list(found[0]) == ["c", "a"]
    none = rows_of(decoded(encoded(options, rows), rows.schema, options, wanted=Wanted(pa.schema([]), ("a", "b", "c"))))
    assert none == [{}, {}]


@pytest.mark.parametrize("options", ALL, ids=lambda each: f"{each.format}-{each.compression}")
def test_nothing_at_all_is_written_and_read(options: FileOptions) -> None:
    empty = pa.record_batch([pa.array([], pa.int64())], names=["n"])
    assert rows_of(decoded(encoded(options, empty), empty.schema, options)) == []


@pytest.mark.parametrize("kind", [Format.PARQUET, Format.AVRO])
def test_a_typed_file_tells_its_schema(kind: Format) -> None:
    options = FileOptions(format=kind)
    data = encoded(options, pa.RecordBatch.from_pylist([], SCHEMA))
    found = infer(io.BytesIO(data), options, "file")
    expected = SCHEMA if kind is Format.PARQUET else SCHEMA.set(2, pa.field("unsigned", pa.decimal128(20, 0)))
    assert found.names == expected.names
    assert [(each.name, each.type) for each in found] == [(each.name, each.type) for each in expected]


@given(st.lists(st.none() | TEXT, max_size=6))
@settings(deadline=None)
def test_a_csv_of_one_column_keeps_null_and_nothing_apart(values: list[str | None]) -> None:
    options = FileOptions(format=Format.CSV)
    rows = pa.record_batch([pa.array(values, pa.string())], names=["t"])
    assert [each["t"] for each in rows_of(decoded(encoded(options, rows), rows.schema, options))] == values


def test_decimals_keep_their_digits() -> None:
    value = decimal.Decimal("12345678901234567890123456789.123456789")
    rows = pa.record_batch([pa.array([value], pa.decimal128(38, 9))], names=["d"])
    for options in ALL:
        assert rows_of(decoded(encoded(options, rows), rows.schema, options)) == [{"d": value}]
