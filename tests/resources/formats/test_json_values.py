"""Arrow values as JSON and back: every type, at its limits, is the same afterwards; what does not fit is refused."""

import decimal
import json
import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.formats.json_values import from_json, from_rows, to_json, to_lines

_INTEGERS = pa.int64()

COLUMNS: dict[str, Any] = {
    "integers": pa.array([2**63 - 1, -(2**63), None]),
    "unsigned": pa.array([2**64 - 1, 0, None], pa.uint64()),
    "floats": pa.array([math.inf, -0.0, None]),
    "singles": pa.array([1.5, None, -math.inf], pa.float32()),
    "decimals": pa.array(
        [decimal.Decimal("12345678901234567890.0123456789"), decimal.Decimal("-1e-10"), None], pa.decimal128(38, 10)
    ),
    "texts": pa.array(["", 'a\nb"\x00é\u2028', None]),
    "large_texts": pa.array(["", "x", None], pa.large_string()),
    "bytes": pa.array([b"\x00\xff", b"", None]),
    "fixed": pa.array([b"ab", None, b"cd"], pa.binary(2)),
    "dates": pa.array([0, -719162, None], pa.int32()).cast(pa.date32()),
    "far_dates": pa.array([3000000, -800000, None], pa.int32()).cast(pa.date32()),
    "nanoseconds": pa.array([1, -1, None], _INTEGERS).cast(pa.timestamp("ns")),
    "zoned": pa.array([1, -1, None], _INTEGERS).cast(pa.timestamp("us", "Europe/Berlin")),
    "far_instants": pa.array([253402300800, -(10**11), None], _INTEGERS).cast(pa.timestamp("s", "UTC")),
    "times": pa.array([86399999999999, 1, None], _INTEGERS).cast(pa.time64("ns")),
    "seconds": pa.array([86399, 0, None], pa.int32()).cast(pa.time32("s")),
    "durations": pa.array([5, -5, None], _INTEGERS).cast(pa.duration("us")),
    "lists": pa.array([[1, None], [], None], pa.list_(pa.int32())),
    "fixed_lists": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int32(), 2)),
    "nested_lists": pa.array([[[1], None], [], None], pa.large_list(pa.list_(pa.int8()))),
    "structs": pa.array(
        [{"a": 1, "b": [{"c": "x"}]}, {"a": None, "b": None}, None],
        pa.struct([("a", pa.int8()), ("b", pa.list_(pa.struct([("c", pa.string())])))]),
    ),
    "maps": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int32())),
    "doubled_keys": pa.array([[("k", 1), ("k", 2)], [], None], pa.map_(pa.string(), pa.int32())),
    "number_maps": pa.array([[(1, 1), (2, None)], [], None], pa.map_(pa.int32(), pa.int32())),
    "nulls": pa.nulls(3),
    "booleans": pa.array([True, False, None]),
    "dictionary": pa.array(["x", "y", None]).dictionary_encode(),
    "uuids": pa.array([b"0" * 16, None, b"1" * 16], pa.uuid()),
}


@pytest.mark.parametrize("name", sorted(COLUMNS))
@pytest.mark.parametrize("part", [slice(0, 3), slice(1, 3), slice(3, 3)])
def test_comes_back(name: str, part: slice) -> None:
    column = COLUMNS[name][part]
    rows = pa.RecordBatch.from_arrays([column], names=["x"])
    back = from_rows([json.loads(line) for line in to_lines(rows)], rows.schema)
    back.validate(full=True)
    assert back.schema == rows.schema
    assert str(back.column(0).cast(column.type)) == str(column) or back.column(0).to_pylist() == column.to_pylist()


def test_not_a_number_comes_back() -> None:
    assert to_json(pa.array([math.nan])) == ["NaN"]
    assert math.isnan(from_json(["NaN"], pa.float64())[0].as_py())


@given(st.lists(st.one_of(st.none(), st.lists(st.one_of(st.none(), st.text(alphabet=st.characters(codec="utf-8")))))))
def test_any_text_in_lists_comes_back(values: list[Any]) -> None:
    column = pa.array(values, pa.list_(pa.string()))
    assert from_json(json.loads(json.dumps(to_json(column))), column.type).to_pylist() == values


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("abc", pa.int64()),
        (2**63, pa.int64()),
        (True, pa.int64()),
        (1.5, pa.int32()),
        ("x", pa.float64()),
        ("1e400", pa.float64()),
        (json.loads("-1e400"), pa.float64()),
        (decimal.Decimal("1e400"), pa.float32()),
        (1, pa.bool_()),
        ("not base64!", pa.binary()),
        ("2024-13-01", pa.date32()),
        ("2024-01-01T00:00:00", pa.timestamp("us", "UTC")),
        ("25:00:00", pa.time64("us")),
        ("00:00:00.0000001", pa.time64("us")),
        ("1.23", pa.decimal128(3, 1)),
        ("one", pa.decimal128(3, 1)),
        ([1], pa.struct([("a", pa.int8())])),
        ({"b": 1}, pa.struct([("a", pa.int8())])),
        ({"a": 1}, pa.list_(pa.int8())),
        ([[1]], pa.map_(pa.int32(), pa.int32())),
    ],
)
def test_what_does_not_fit_is_refused(value: Any, kind: pa.DataType) -> None:
    with pytest.raises(ValueError, match="column 'x': "):
        from_rows([{"x": value}], pa.schema([("x", kind)]))


def test_rows_without_columns() -> None:
    rows = from_rows([{}, {}], pa.schema([]))
    assert rows.num_rows == 2
    assert to_lines(rows) == ["{}", "{}"]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.timestamp("us"), 2_070_007_833_600_000_000),
        (pa.timestamp("us", "UTC"), 9_089_363_246_400_000_000),
        (pa.timestamp("s"), -62_135_596_801),
        (pa.date32(), 2**31 - 1),
        (pa.time64("us"), 86_400_000_000),
        (pa.time64("us"), -1),
    ],
)
def test_a_time_that_no_text_says_is_a_number(kind: pa.DataType, value: int) -> None:
    """Arrow prints the year 67565 as 2029, and 24:00 as out of range."""
    width = pa.int32() if kind == pa.date32() else pa.int64()
    column = pa.array([value, None], width).cast(kind)
    written = to_json(column)
    assert written == [value, None]
    assert from_json(written, kind).equals(column)
