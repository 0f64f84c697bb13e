"""What the SQL connectors share against silent changes, each case one that the matrix of edge values found; needs no system."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.errors import RejectedRows
from resources.duckdb.types import interval_text
from resources.sql_refusals import refuse_beyond_calendar, refuse_minus_zero
from resources.sql_types import conform, from_text, json_text

WIDE = pa.decimal128(38, 9)


@pytest.mark.parametrize(
    "text", ["340282366920938463463374607431768211455", "1" + "0" * 29, "0.0000000001", "9" * 200, "1e29", "abc", ""]
)
def test_a_text_with_too_many_digits_is_no_decimal(text: str) -> None:
    """Arrow's cast makes -1 of the first one."""
    with pytest.raises(pa.ArrowInvalid):
        conform(pa.array(["1", text]), WIDE)
    column, failed = from_text(pa.array(["1", text]), WIDE)
    assert (column.to_pylist(), failed) == ([Decimal(1), None], (1,))


@pytest.mark.parametrize(
    "text", ["1.50000000000000000000", "007", "-0.000000001", "1e3", "+5", "9" * 29 + ".999999999"]
)
def test_a_decimal_is_read_exactly(text: str) -> None:
    assert conform(pa.array([None, text]), WIDE).to_pylist() == [None, Decimal(text)]


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
def test_only_minus_zero_is_refused(kind: pa.DataType) -> None:
    column = pa.array([0.0, -0.0, None, -1.0, float("nan"), float("-inf"), -1e-45], kind)
    with pytest.raises(RejectedRows, match=r"-0\.0, which it forgets") as refused:
        refuse_minus_zero(column, "x", "here", "it forgets")
    assert refused.value.rows == (1,)
    refuse_minus_zero(pa.array([0]), "x", "here", "it forgets")


_DAYS = {"first": -719_162, "before": -719_163, "last": 2_932_896, "after": 2_932_897, "infinity": 2**31 - 1}


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_timestamps_beyond_the_calendar_are_refused(unit: Any) -> None:
    """Arrow prints the year 290000 as 27856."""
    size = {"s": 1, "ms": 10**3, "us": 10**6}[unit] * 86_400
    counts = [
        _DAYS["first"] * size,
        (_DAYS["last"] + 1) * size - 1,
        None,
        _DAYS["first"] * size - 1,
        (_DAYS["last"] + 1) * size,
    ]
    with pytest.raises(RejectedRows, match="years 1 to 9999") as refused:
        refuse_beyond_calendar(pa.array(counts, pa.int64()).cast(pa.timestamp(unit)), "x", "here")
    assert refused.value.rows == (3, 4)


def test_dates_beyond_the_calendar_are_refused() -> None:
    with pytest.raises(RejectedRows, match="years 1 to 9999") as refused:
        refuse_beyond_calendar(pa.array([*_DAYS.values(), None], pa.int32()).cast(pa.date32()), "x", "here")
    assert refused.value.rows == (1, 3, 4)
    refuse_beyond_calendar(pa.array([dt.date.min, dt.date.max, None]), "x", "here")


def test_a_time_of_24_hours_is_refused() -> None:
    """Python makes midnight of it."""
    counts = pa.array([0, 86_400_000_000 - 1, 86_400_000_000, -1, None], pa.int64())
    with pytest.raises(RejectedRows, match="no time between") as refused:
        refuse_beyond_calendar(counts.cast(pa.time64("us")), "x", "here")
    assert refused.value.rows == (2, 3)


def test_a_zero_keeps_its_sign_within_json() -> None:
    (text,) = json_text(pa.array([[-0.0, 0.0, 1.5]])).to_pylist()
    assert json.loads(str(text)) == ["-0.0", 0.0, 1.5]


def test_a_list_of_strange_dates_is_refused() -> None:
    days = pa.array([2**31 - 1], pa.int32()).cast(pa.date32())
    with pytest.raises(pa.ArrowInvalid, match="no text"):
        conform(pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), days), pa.string())


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("P1Y2M40DT25H1M1.000001S", "14 months 40 days 90061000001 microseconds"),
        ("PT-0.000001S", "0 months 0 days -1 microseconds"),
        ("P-1M1W-1D", "-1 months 6 days 0 microseconds"),
        ("PT0S", "0 months 0 days 0 microseconds"),
        ("1 month -1 day", "1 month -1 day"),
        ("P1.5D", "P1.5D"),
    ],
)
def test_an_interval_in_iso_8601_is_spelled_for_duckdb(text: str, same: str) -> None:
    assert interval_text(text) == same
