"""Values of JSON as declared types: exact, or refused."""

from __future__ import annotations

import datetime as dt
import json
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsl.expressions import parse_type
from dsl.processors.columns import type_of
from engine.operators.json_results import MISSING, converter, found_at, parsed

UTC = dt.UTC
at = dt.datetime.fromisoformat
FITS: list[tuple[str, str, Any]] = [
    ("int64", "7", 7), ("int64", "-9223372036854775808", -(2**63)), ("int64", "7.0", 7), ("int64", "7e2", 700),
    ("int64", '"42"', 42),
    ("int64", "9007199254740993", 2**53 + 1), ("uint64", "18446744073709551615", 2**64 - 1), ("int8", "-128", -128),
    ("double", "0.1", 0.1), ("double", "7", 7.0), ("double", '"2.5"', 2.5), ("double", "9007199254740992", 2.0**53),
    ("double", "1e-400", 0.0),
    ("double", "1e300", 1e300), ("float", "16777216", 16777216.0), ("double", "18014398509481984", 2.0**54),
    ("decimal(5,2)", "1.10", Decimal("1.10")), ("decimal(5,2)", '"999.99"', Decimal("999.99")),
    ("decimal(5,2)", "1.100", Decimal("1.1")),
    ("decimal(5,2)", "1e2", Decimal(100)), ("decimal(38,0)", "9" * 38, Decimal("9" * 38)),
    ("decimal(5,2)", "0e999999", Decimal(0)),
    ("string", '"x"', "x"), ("string", "12.50", "12.50"), ("string", "true", "true"),
    ("string", '"\\ud83d\\ude00"', "😀"), ("string", '""', ""),
    ("boolean", "true", True), ("boolean", '"false"', False), ("binary", '"AAE="', b"\0\1"), ("binary", '""', b""),
    ("date", '"2026-01-31"', dt.date(2026, 1, 31)), ("time", '"13:45:01.000001"', dt.time(13, 45, 1, 1)),
    ("time", '"13:45"', dt.time(13, 45)),
    ("timestamp", '"2026-01-31T13:45:00"', at("2026-01-31T13:45")),
    ("timestamp", '"2026-01-31"', at("2026-01-31")),
    ("timestamptz", '"2026-01-31T13:45:00Z"', dt.datetime(2026, 1, 31, 13, 45, tzinfo=UTC)),
    ("timestamptz", '"2026-01-31 13:45:00.1234560+0530"', dt.datetime(2026, 1, 31, 8, 15, 0, 123456, tzinfo=UTC)),
    ("json", '{"a": [1.10, null, "ü"]}', '{"a":[1.10,null,"ü"]}'), ("json", "1e400", "1E+400"),
    ("json", '"x"', '"x"'), ("json", "false", "false"),
    ("int64[]", "[1, null, 3]", [1, None, 3]), ("string[][]", '[["a"], []]', [["a"], []]),
]  # fmt: skip
REFUSED = [
    ("int64", "7.5"), ("int64", "9223372036854775808"), ("int64", "1e999999999"), ("int64", "true"),
    ("int64", '"7x"'), ("int64", '" 7"'),
    ("int64", '"1_0"'), ("int64", '"٧"'), ("int64", "[7]"), ("int8", "128"), ("uint8", "-1"), ("int64", '""'),
    ("double", "9007199254740993"), ("double", "1e400"), ("double", '"NaN"'), ("double", '"inf"'), ("double", "true"),
    ("float", "16777217"),
    ("float", "1e39"), ("decimal(5,2)", "1.101"), ("decimal(5,2)", "1000"), ("decimal(5,2)", "1e999999"),
    ("decimal(5,2)", '"abc"'),
    ("decimal(5,2)", "1e-999999"), ("string", "[1]"), ("string", "{}"), ("string", '"\\ud800"'),
    ("json", '["\\udc00"]'), ("json", '{"\\ud800": 1}'),
    ("boolean", "1"), ("boolean", '"yes"'), ("boolean", '"True"'), ("binary", '"A"'), ("binary", '"%%%%"'),
    ("binary", "7"),
    ("date", '"31.01.2026"'), ("date", '"2026-02-30"'), ("date", '"2026-01-31T00:00:00"'), ("date", "20260131"),
    ("date", '"0000-01-01"'),
    ("time", '"25:00"'), ("time", '"13:45:00.0000001"'), ("time", '"13:45Z"'), ("timestamp", '"2026-01-31T13:45:00Z"'),
    ("timestamp", '"2026-01-31T13:45:00.0000001"'), ("timestamp", "1738331100"),
    ("timestamptz", '"2026-01-31T13:45:00"'),
    ("timestamptz", '"2026-01-31"'), ("timestamptz", '"0001-01-01T00:00:00+10:00"'), ("int64[]", "7"),
    ("int64[]", '["x"]'), ("int64[]", "{}"),
    ("timestamptz", '"2026-W05-6T13:45Z"'), ("date", '"2026-01-31\\n"'),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "value"), FITS)
def test_what_fits_is_exact(kind: str, text: str, value: Any) -> None:
    made = converter(parse_type(kind))(parsed(text.encode()))
    array = pa.array([made, None], type_of(kind).type)
    assert array.to_pylist() == [value, None]


@pytest.mark.parametrize(("kind", "text"), REFUSED)
def test_what_does_not_fit_is_refused(kind: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|lone surrogate"):
        converter(parse_type(kind))(parsed(text.encode()))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_json_stays_what_it_was(value: Any) -> None:
    text = json.dumps(value)
    document = parsed(text.encode())
    if document is None:
        return
    if any("\ud800" <= each <= "\udfff" for each in json.dumps(value, ensure_ascii=False)):
        with pytest.raises(ValueError, match="surrogate"):
            converter(parse_type("json"))(document)
    else:
        assert json.loads(converter(parse_type("json"))(document)) == json.loads(text)


@given(st.decimals(allow_nan=False, allow_infinity=False), st.integers(1, 38), st.integers(0, 38))
def test_a_decimal_is_taken_exactly_when_arrow_takes_it(number: Decimal, precision: int, scale: int) -> None:
    scale = min(scale, precision)
    convert = converter(pa.decimal128(precision, scale))
    try:
        made = pa.array([convert(number)], pa.decimal128(precision, scale))[0].as_py()
    except ValueError:
        with pytest.raises(pa.ArrowInvalid):
            pa.array([number], pa.decimal128(precision, scale))
    else:
        assert made == number


@pytest.mark.parametrize("depth", [10, 200, 500, 900, 2_000, 100_000])
def test_a_depth_that_no_stack_bears_is_refused(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    if depth <= 200:
        assert converter(parse_type("json"))(parsed(deep)) == deep.decode()
        return
    with suppress(ValueError):
        assert converter(parse_type("json"))(parsed(deep)) == deep.decode()
    if depth >= 2_000:
        with pytest.raises(ValueError, match="deep"):
            parsed(deep)


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ((), {"a": [{"b": None}, 2], "0": "key"}), (("a", "1"), 2), (("a", "0", "b"), None), (("0",), "key"), (("a", "2"), MISSING),
        (("a", "-1"), MISSING), (("a", "b"), MISSING), (("x",), MISSING), (("a", "1", "x"), MISSING), (("a", "0", "b", "c"), MISSING),
        (("a", "¹"), MISSING),
    ],
)  # fmt: skip
def test_paths(steps: tuple[str, ...], found: Any) -> None:
    assert found_at({"a": [{"b": None}, 2], "0": "key"}, steps) == found
