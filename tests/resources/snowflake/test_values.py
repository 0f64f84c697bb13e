"""Snowflake's values: written exactly, or rejected with a reason before they are sent."""

from __future__ import annotations

import datetime as dt
import json
import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Token
from dsl.contracts.errors import RejectedRows, SchemaError
from resources.snowflake.resource import SnowflakeDestination
from resources.snowflake.types import Described, check, field_of, stored_type
from resources.sql import SchemaEvolution
from resources.sql_types import JSON, UUID, conform, marked
from tests.resources.snowflake.conftest import Place
from tests.resources.sql_suite import TOKEN, schema_of, write_epoch

UTC = dt.UTC
SCHEMA = pa.schema([
    *schema_of(
        b=pa.bool_(), i8=pa.int8(), u64=pa.uint64(), i=pa.int64(), f32=pa.float32(), f=pa.float64(),
        d=pa.decimal128(38, 10), s=pa.string(), x=pa.binary(), day=pa.date32(), t=pa.time64("us"),
        ts=pa.timestamp("us"), at=pa.timestamp("us", "UTC"), dict=pa.dictionary(pa.int32(), pa.string()),
    ),
    marked("u", UUID),
])  # fmt: skip
ROWS: list[dict[str, Any]] = [
    {
        "b": True, "i8": -128, "u64": 2**64 - 1, "i": -(2**63), "f32": 0.10000000149011612, "f": 5e-324,
        "d": Decimal("0.0000000001"), "s": "a'\"b\n\\%s,ü🎉", "x": b"\x00\xff'", "day": dt.date(1, 1, 1),
        "t": dt.time(23, 59, 59, 999999), "ts": dt.datetime(9999, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001 - no zone
        "at": dt.datetime(2024, 6, 1, 12, 0, 0, 1, tzinfo=UTC), "dict": "x", "u": "6f9619ff-8b86-d011-b42d-00cf4fc964ff",
    },
    {
        "b": False, "i8": 127, "u64": 0, "i": 2**63 - 1, "f32": math.inf, "f": -math.inf,
        "d": Decimal("-9999999999999999999999999999.9999999999"), "s": "", "x": b"", "day": dt.date(9999, 12, 31),
        "t": dt.time(0), "ts": dt.datetime(1583, 1, 1), "at": dt.datetime(1970, 1, 1, tzinfo=UTC), "dict": "",  # noqa: DTZ001 - no zone
        "u": "",
    },
    dict.fromkeys(SCHEMA.names),
]  # fmt: skip


@pytest.mark.parametrize("mode", [WriteMode.APPEND, WriteMode.OVERWRITE, WriteMode.UPSERT])
def test_values_arrive_as_they_are(place: Place, mode: WriteMode) -> None:
    keyed = pa.schema([pa.field("n", pa.int32()), *SCHEMA])
    rows = pa.RecordBatch.from_pylist([{"n": number, **row} for number, row in enumerate(ROWS)], schema=keyed)
    key = ("n",) if mode is WriteMode.UPSERT else ()
    target = SnowflakeDestination(connection=place.connection, table="copy", write_mode=mode, primary_key=key)
    with target.open_writer(keyed, Token("w", "s")) as writer:
        write_epoch(writer, 1, rows, final=True)
    names = ", ".join(f'"{each}"' for each in keyed.names)
    nothing = " AND ".join(f'"{each}" IS NULL' for each in SCHEMA.names)
    assert place.rows(f'SELECT "n" FROM {place.named("copy")} WHERE {nothing}') == [(2,)]
    found = place.rows(f'SELECT {names} FROM {place.named("copy")} WHERE "n" < 2 ORDER BY 1')
    for number, (row, expected) in enumerate(zip(found, ROWS[:2], strict=True)):
        assert row[0] == number
        for name, value in zip(SCHEMA.names, row[1:], strict=True):
            assert (bytes(value) if isinstance(value, bytearray) else value) == expected[name], (number, name)


def test_nan_and_negative_zero_survive(place: Place) -> None:
    schema = schema_of(f=pa.float64())
    with SnowflakeDestination(connection=place.connection, table="floats").open_writer(schema, TOKEN) as writer:
        write_epoch(writer, 1, pa.RecordBatch.from_pydict({"f": pa.array([math.nan, -0.0])}, schema=schema))
    values = [row[0] for row in place.rows(f'SELECT "f" FROM {place.named("floats")}')]
    assert sorted(math.isnan(each) for each in values) == [False, True]
    assert 0.0 in values


def test_nested_values_and_json_become_variant(place: Place) -> None:
    schema = pa.schema([pa.field("s", pa.struct([("a", pa.int32()), ("b", pa.list_(pa.string()))])), marked("j", JSON)])
    rows: list[dict[str, Any]] = [{"s": {"a": 1, "b": ["x", None]}, "j": '{"k": [1.5, "ü"]}'}, {"s": None, "j": None}]
    with SnowflakeDestination(connection=place.connection, table="nested").open_writer(schema, TOKEN) as writer:
        write_epoch(writer, 1, pa.RecordBatch.from_pylist(rows, schema=schema))
        with pytest.raises(RejectedRows, match=r"column 'j' is VARIANT, and the text is not JSON") as raised:
            writer.write(pa.RecordBatch.from_pylist([{"s": None, "j": "{}"}, {"s": None, "j": "{"}], schema=schema))
        assert raised.value.rows == (1,)
        write_epoch(writer, 2)
    found = place.rows(f'SELECT "s", "j" FROM {place.named("nested")}')
    assert [[None if each is None else json.loads(each) for each in row] for row in found] == [
        [{"a": 1, "b": ["x", None]}, {"k": [1.5, "ü"]}],
        [None, None],
    ]
    paths = f'SELECT "s":a::NUMBER, "j":k[1]::VARCHAR FROM {place.named("nested")} WHERE "s" IS NOT NULL'
    assert [(int(one), two) for one, two in place.rows(paths)] == [(1, "ü")]


LIMITS: list[tuple[Described, pa.Array[Any], str]] = [
    (Described("c", "NUMBER(38,0)", required=True), pa.array([1, None]), "may not be NULL"),
    (Described("c", "VARCHAR(3)"), pa.array(["üüü", "four"]), "no more than 3 characters"),
    (Described("c", "BINARY(2)"), pa.array([b"ab", b"abc"]), "no more than 2 bytes"),
    (Described("c", "VARCHAR(16777216)"), pa.array(["x", "ü" * 2**23 + "x"]), "no more than 16777216 bytes"),
    (Described("c", "ARRAY"), pa.array(["[1]", "[NaN]"]), "not JSON"),
    (Described("c", "VARIANT"), pa.array(["1", "plain"]), "not JSON"),
]


@pytest.mark.parametrize(("column", "values", "reason"), LIMITS, ids=[each[0].type for each in LIMITS])
def test_what_a_column_would_refuse_is_named(column: Described, values: pa.Array[Any], reason: str) -> None:
    check(column, values.slice(0, 1), "here")
    with pytest.raises(RejectedRows, match=reason) as raised:
        check(column, values, "here")
    assert raised.value.rows == (1,)


def test_columns_of_low_precision_take_only_what_they_keep() -> None:
    """Snowflake would round without a word."""
    kind = stored_type(Described("c", "TIMESTAMP_NTZ(3)"))
    exact = pa.array([1_000], pa.timestamp("us"))
    assert conform(exact, kind).cast(pa.timestamp("us")) == exact
    with pytest.raises(pa.ArrowInvalid):
        conform(pa.array([1_001], pa.timestamp("us")), kind)
    assert stored_type(Described("c", "TIME(0)")) == pa.time32("s")
    assert stored_type(Described("c", "TIMESTAMP_LTZ(9)")) == pa.timestamp("us", "UTC")


def test_columns_are_listed_as_what_they_hold() -> None:
    said = ["NUMBER(10,0)", "NUMBER(38,0)", "NUMBER(12,2)", "FLOAT", "TIMESTAMP_NTZ(9)", "TIMESTAMP_TZ(3)", "VARIANT"]
    kinds = [field_of(Described("c", each)).type for each in said]
    assert kinds == [
        pa.int64(), pa.decimal128(38, 0), pa.decimal128(12, 2), pa.float64(), pa.timestamp("us"),
        pa.timestamp("us", "UTC"), pa.string(),
    ]  # fmt: skip


def test_a_type_without_equal_is_refused(place: Place) -> None:
    target = SnowflakeDestination(connection=place.connection, table="t")
    with pytest.raises(SchemaError, match=r"column 'd' is duration.*cast it in a mapping"):
        target.open_writer(schema_of(d=pa.duration("s")), TOKEN)


def test_numbers_get_more_digits_and_no_other_scale(place: Place) -> None:
    narrow, wide, scaled = (schema_of(n=pa.decimal128(*each)) for each in ((6, 2), (12, 2), (12, 4)))
    target = SnowflakeDestination(connection=place.connection, table="widens")
    with target.open_writer(narrow, TOKEN) as writer:
        write_epoch(writer, 1, pa.RecordBatch.from_pylist([{"n": Decimal("1234.50")}], schema=narrow))
    frozen = SnowflakeDestination(connection=place.connection, table="widens", schema_evolution=SchemaEvolution.FREEZE)
    with pytest.raises(SchemaError, match=r"NUMBER\(6,2\), which cannot hold decimal128\(12, 2\).*evolve"):
        frozen.open_writer(wide, TOKEN)
    with pytest.raises(SchemaError, match=r"which cannot hold decimal128\(12, 4\)"):
        target.open_writer(scaled, TOKEN)
    with target.open_writer(wide, TOKEN) as writer:
        write_epoch(writer, 2, pa.RecordBatch.from_pylist([{"n": Decimal("1234567890.25")}], schema=wide))
    found = place.rows(f'SELECT "n" FROM {place.named("widens")} ORDER BY 1')
    assert found == [(Decimal("1234.50"),), (Decimal("1234567890.25"),)]
