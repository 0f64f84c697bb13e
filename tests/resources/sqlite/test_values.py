"""SQLite's values: read and written exactly, or rejected with a reason, whatever a column is declared as."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Token
from dsl.contracts.errors import RejectedRows, SchemaError
from resources.sql import SchemaEvolution
from resources.sql_types import DECIMAL, INTERVAL, JSON, UUID, mark_of, marked
from resources.sqlite.resource import SQLiteConnection, SQLiteDestination, SQLiteSource
from tests.resources.sql_suite import TOKEN, read_all, schema_of, write_epoch
from tests.resources.sqlite.conftest import Query

UTC = dt.UTC
UUID_TEXT = "6f9619ff-8b86-d011-b42d-00cf4fc964ff"
EXACT: list[tuple[str, str, Any]] = [
    ("INTEGER", "9223372036854775807", 2**63 - 1),
    ("BIGINT", "-9223372036854775808", -(2**63)),
    ("INT", "'12'", 12),
    ("UNSIGNED BIG INT", "0", 0),
    ("REAL", "0.1", 0.1),
    ("DOUBLE PRECISION", "1.7976931348623157e308", 1.7976931348623157e308),
    ("FLOAT", "5e-324", 5e-324),
    ("REAL", "9e999", math.inf),
    ("REAL", "-9e999", -math.inf),
    ("REAL", "3", 3.0),
    ("TEXT", "''", ""),
    ("TEXT", "'grüße 🎉\n\"''\\'", "grüße 🎉\n\"'\\"),
    ("TEXT", "'a' || char(0) || 'b'", "a\0b"),
    ("VARCHAR(3)", "'longer than three'", "longer than three"),
    ("TEXT", "007", "7"),
    ("BLOB", "x'00ff10'", b"\x00\xff\x10"),
    ("BLOB", "x''", b""),
    ("BOOLEAN", "1", True),
    ("BOOL", "0", False),
    ("DATE", "'0001-01-01'", dt.date(1, 1, 1)),
    ("DATE", "'9999-12-31'", dt.date(9999, 12, 31)),
    ("TIME", "'23:59:59.999999'", dt.time(23, 59, 59, 999999)),
    ("TIME", "'10:30'", dt.time(10, 30)),
    ("DATETIME", "'2024-02-29 12:00:00.000001'", dt.datetime(2024, 2, 29, 12, 0, 0, 1)),  # noqa: DTZ001 - no zone
    ("TIMESTAMP", "'2024-02-29T12:00'", dt.datetime(2024, 2, 29, 12)),  # noqa: DTZ001 - no zone
    ("TIMESTAMP", "'2024-02-29T12:00:00Z'", dt.datetime(2024, 2, 29, 12, tzinfo=UTC)),
    ("TIMESTAMPTZ", "'2024-06-01 12:00:00+05:30'", dt.datetime(2024, 6, 1, 6, 30, tzinfo=UTC)),
    ("TIMESTAMPTZ", "'2024-06-01 12:00:00'", dt.datetime(2024, 6, 1, 12, tzinfo=UTC)),
    ("DECIMAL(10,2)", "'1.50'", Decimal("1.50")),
    ("DECIMAL(10,2)", "7", Decimal("7.00")),
    ("NUMERIC(15, 2)", "9999999999999.99", Decimal("9999999999999.99")),
    ("DECIMAL_TEXT(38,10)", "'1234567890123456789012345678.0123456789'", Decimal("1234567890123456789012345678.0123456789")),
    ("DECIMAL_TEXT(50,2)", "'" + "1" * 48 + ".25'", "1" * 48 + ".25"),
    ("NUMERIC", "12", 12),
    ("NUMERIC", "1.25", 1.25),
    ("STRING", "'text'", "text"),
    ("", "'text'", "text"),
    ("", "x'01'", b"\x01"),
    ("", "5", 5),
    ("JSON", "'{\"a\": [1, null]}'", '{"a": [1, null]}'),
    ("JSON", "'12'", "12"),
    ("UUID", f"'{UUID_TEXT}'", UUID_TEXT),
]  # fmt: skip
REJECTED = [
    ("INTEGER", "'twelve'"),
    ("INTEGER", "1.5"),
    ("INTEGER", "x'01'"),
    ("REAL", "'much'"),
    ("TEXT", "x'ff'"),
    ("TEXT", "CAST(x'ff41' AS TEXT)"),
    ("BLOB", "'text'"),
    ("BLOB", "1"),
    ("BOOLEAN", "2"),
    ("BOOLEAN", "'true'"),
    ("DATE", "'2024-02-30'"),
    ("DATE", "'2024-01-01 00:00:00'"),
    ("DATE", "20240101"),
    ("TIME", "'24:00'"),
    ("TIMESTAMP", "1700000000"),
    ("TIMESTAMP", "'2024-02-29 12:00:00.123456789'"),
    ("TIMESTAMP", "'yesterday'"),
    ("DECIMAL(10,2)", "'1.505'"),
    ("DECIMAL(10,2)", "123456789.01"),
    ("DECIMAL(38,2)", "'1234567890123456.25'"),
    ("DECIMAL(10,2)", "'many'"),
    ("DECIMAL(10,2)", "9e999"),
    ("DECIMAL_TEXT(10,2)", "'1_0'"),
]


def test_exact_values_are_read_as_they_are(connection: SQLiteConnection, query: Query) -> None:
    columns = [f"c{place} {declared}" for place, (declared, _, _) in enumerate(EXACT)]
    values = [text for _, text, _ in EXACT]
    query(f"CREATE TABLE edges ({', '.join(columns)})")
    query(f"INSERT INTO edges VALUES ({', '.join(values)}), ({', '.join(['NULL'] * len(EXACT))})")
    batches, rejected = read_all(SQLiteSource(connection=connection, table="edges"))
    assert rejected == []
    first, second = [row for batch in batches for row in batch.rows.to_pylist()]
    for place, (declared, text, expected) in enumerate(EXACT):
        assert first[f"c{place}"] == expected, (declared, text)
        assert type(first[f"c{place}"]) is type(expected), (declared, text)
    assert set(second.values()) == {None}
    asked = SQLiteSource(connection=connection, query="SELECT * FROM edges WHERE 1 < 2 AND '?' LIKE '%'")
    assert asked.discover_schema() == SQLiteSource(connection=connection, table="edges").discover_schema()
    assert read_all(asked)[0][0].rows.to_pylist()[0] == first


@pytest.mark.parametrize(("declared", "text"), REJECTED)
def test_values_that_break_their_promise_reject_their_row(
    connection: SQLiteConnection, query: Query, declared: str, text: str
) -> None:
    query(f"CREATE TABLE edges (id INTEGER PRIMARY KEY, v {declared})")
    query(f"INSERT INTO edges VALUES (1, NULL), (2, {text}), (3, NULL)")
    batches, rejected = read_all(SQLiteSource(connection=connection, table="edges"))
    assert [row["id"] for batch in batches for row in batch.rows.to_pylist()] == [1, 3]
    assert [(each.row.to_pylist()[0]["id"], each.code) for each in rejected] == [("2", "decode")]
    assert "column 'v'" in rejected[0].reason
    assert rejected[0].row.to_pylist()[0]["v"] is not None


def test_a_column_without_type_is_what_its_values_are(connection: SQLiteConnection, query: Query) -> None:
    query("CREATE TABLE loose (a, b, c, d NUMERIC, e)")
    query("INSERT INTO loose VALUES (1, 1, 'x', 1.5, NULL), (2, 2.5, 'y', 2, NULL), (NULL, NULL, NULL, NULL, NULL)")
    source = SQLiteSource(connection=connection, table="loose")
    kinds = [pa.int64(), pa.float64(), pa.string(), pa.float64(), pa.string()]
    assert source.discover_schema().types == kinds
    made = SQLiteSource(
        connection=connection, query="SELECT a + 1 AS n, b || 'x' AS t, count(*) OVER () AS c FROM loose"
    )
    assert made.discover_schema().types == [pa.int64(), pa.string(), pa.int64()]
    query("INSERT INTO loose (a) VALUES ('mixed')")
    batches, rejected = read_all(source)
    assert [row["a"] for batch in batches for row in batch.rows.to_pylist()] == [None, "mixed"]
    assert [each.row.to_pylist()[0]["a"] for each in rejected] == ["1", "2"]


def test_marks_name_what_text_is(connection: SQLiteConnection, query: Query) -> None:
    query("CREATE TABLE m (j JSON_TEXT, u UUID, i DURATION_TEXT, d DECIMAL_TEXT(50, 2))")
    marks = [mark_of(each) for each in SQLiteSource(connection=connection, table="m").discover_schema()]
    assert marks == [JSON, UUID, INTERVAL, DECIMAL]


ROUND = pa.schema([
    *schema_of(
        b=pa.bool_(), i8=pa.int8(), u64=pa.uint64(), i=pa.int64(), f32=pa.float32(), f=pa.float64(),
        d=pa.decimal128(38, 10), n=pa.decimal128(18, 0), s=pa.string(), x=pa.binary(), day=pa.date32(),
        t=pa.time64("us"), ts=pa.timestamp("us"), at=pa.timestamp("us", "UTC"),
        dict=pa.dictionary(pa.int32(), pa.string()),
    ),
    marked("j", JSON),
    marked("u", UUID),
    marked("long", DECIMAL),
])  # fmt: skip
ROWS: list[dict[str, Any]] = [
    {
        "b": True, "i8": -128, "u64": 2**64 - 1, "i": -(2**63), "f32": 0.10000000149011612, "f": 5e-324,
        "d": Decimal("0.0000000001"), "n": Decimal(10**18 - 1), "s": "a'\"b\n\\%s\0?", "x": b"\x00\xff'",
        "day": dt.date(1, 1, 1), "t": dt.time(23, 59, 59, 999999),
        "ts": dt.datetime(9999, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001 - no zone
        "at": dt.datetime(1, 1, 1, tzinfo=UTC), "dict": "x", "j": '{"a":  1.50}', "u": UUID_TEXT, "long": "1" * 60,
    },
    {
        "b": False, "i8": 127, "u64": 0, "i": 2**63 - 1, "f32": math.inf, "f": 0.0,
        "d": Decimal("-9999999999999999999999999999.9999999999"), "n": Decimal(-1), "s": "007", "x": b"",
        "day": dt.date(9999, 12, 31), "t": dt.time(0), "ts": dt.datetime(1, 1, 1),  # noqa: DTZ001 - no zone
        "at": dt.datetime(2024, 1, 1, tzinfo=UTC), "dict": "", "j": "1e400", "u": "", "long": "-0.5",
    },
    dict.fromkeys(ROUND.names),
]  # fmt: skip


@pytest.mark.parametrize("mode", [WriteMode.APPEND, WriteMode.OVERWRITE])
def test_values_written_are_read_back(connection: SQLiteConnection, mode: WriteMode) -> None:
    batch = pa.RecordBatch.from_pylist(ROWS, schema=ROUND)
    target = SQLiteDestination(connection=connection, table="copy", write_mode=mode)
    with target.open_writer(ROUND, Token("w", "s")) as writer:
        write_epoch(writer, 1, batch, final=True)
    batches, rejected = read_all(SQLiteSource(connection=connection, table="copy"))
    assert rejected == []
    assert batches[0].rows.to_pylist() == ROWS
    with target.open_writer(batches[0].rows.schema, Token("w", "again")) as writer:
        write_epoch(writer, 1, batches[0].rows, final=True)
    again, _ = read_all(SQLiteSource(connection=connection, table="copy"))
    assert again[0].rows.to_pylist()[-3:] == ROWS


def test_numbers_and_times_can_be_compared_where_they_are_stored(connection: SQLiteConnection, query: Query) -> None:
    schema = schema_of(n=pa.decimal128(10, 0), at=pa.timestamp("us"), big=pa.int64())
    rows = [{"n": Decimal(each), "at": dt.datetime(2024, 1, each), "big": each} for each in (9, 10)]  # noqa: DTZ001 - no zone
    with SQLiteDestination(connection=connection, table="t").open_writer(schema, TOKEN) as writer:
        write_epoch(writer, 1, pa.RecordBatch.from_pylist(rows, schema=schema))
    assert query("SELECT n, typeof(n), big FROM t WHERE n > 9 AND at > '2024-01-09' AND big > 9") == [
        (10, "integer", 10)
    ]
    assert query("SELECT strftime('%d', max(at)) FROM t") == [("10",)]


def test_nested_values_become_json(connection: SQLiteConnection, query: Query) -> None:
    schema = schema_of(s=pa.struct([("a", pa.int32()), ("b", pa.list_(pa.string()))]))
    with SQLiteDestination(connection=connection, table="nested").open_writer(schema, TOKEN) as writer:
        write_epoch(writer, 1, pa.RecordBatch.from_pylist([{"s": {"a": 1, "b": ["x", None]}}], schema=schema))
    assert query("SELECT s ->> '$.a', json_extract(s, '$.b[0]') FROM nested") == [(1, "x")]


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        (pa.float64(), math.nan, "NaN, which SQLite turns into NULL"),
        (pa.float64(), -0.0, "-0.0, which SQLite turns into 0.0"),
        (pa.float32(), -0.0, "-0.0, which SQLite turns into 0.0"),
        (pa.timestamp("us"), 253402300800000000, "outside of the years 1 to 9999"),
        (pa.timestamp("us", "UTC"), -62135596800000001, "outside of the years 1 to 9999"),
        (pa.timestamp("ns"), 1, "cannot hold"),
    ],
)
def test_values_it_cannot_hold_are_refused(
    connection: SQLiteConnection, kind: pa.DataType, value: Any, reason: str
) -> None:
    schema = schema_of(v=kind)
    raw = (
        pa.array([None, value], kind) if pa.types.is_floating(kind) else pa.array([None, value], pa.int64()).view(kind)
    )
    with SQLiteDestination(connection=connection, table="strict").open_writer(schema, TOKEN) as writer:
        with pytest.raises(RejectedRows, match=reason) as raised:
            writer.write(pa.RecordBatch.from_arrays([raw], schema=schema))
        assert raised.value.rows in {(1,), None}
        write_epoch(writer, 1, pa.RecordBatch.from_arrays([raw.slice(0, 1)], schema=schema))
    assert read_all(SQLiteSource(connection=connection, table="strict"))[0][0].rows.to_pylist() == [{"v": None}]


@pytest.mark.parametrize("declared", ["JSON", "UUID", "INTEGER UNIQUE"])
def test_a_text_that_affinity_would_change_rejects_its_row(
    connection: SQLiteConnection, query: Query, declared: str
) -> None:
    query(f"CREATE TABLE target (v {declared})")
    schema = schema_of(v=pa.string())
    target = SQLiteDestination(connection=connection, table="target")
    if declared.startswith("INTEGER"):
        with pytest.raises(SchemaError, match="column 'v' is INTEGER, which cannot hold string"):
            target.open_writer(schema, TOKEN)
        return
    with target.open_writer(schema, TOKEN) as writer:
        with pytest.raises(RejectedRows, match="would turn a text into a number") as raised:
            writer.write(pa.RecordBatch.from_pydict({"v": ["plain", "007"]}, schema=schema))
        assert raised.value.rows == (1,)
        write_epoch(writer, 1, pa.RecordBatch.from_pydict({"v": ["plain"]}, schema=schema))
    assert query("SELECT v FROM target") == [("plain",)]


def test_tables_of_others_keep_what_their_types_can(connection: SQLiteConnection, query: Query) -> None:
    query("CREATE TABLE target (price DECIMAL(10,2), anything, amount DECIMAL(30,4))")
    schema = schema_of(price=pa.decimal128(10, 2), anything=pa.binary())
    row = {"price": Decimal("1234567.10"), "anything": b"\x00"}
    with SQLiteDestination(connection=connection, table="target").open_writer(schema, TOKEN) as writer:
        write_epoch(writer, 1, pa.RecordBatch.from_pylist([row], schema=schema))
    assert query("SELECT price, typeof(price), anything FROM target") == [(1234567.1, "real", b"\x00")]
    assert read_all(SQLiteSource(connection=connection, table="target", columns=("price",)))[0][0].rows.to_pylist() == [
        {"price": Decimal("1234567.10")}
    ]
    with pytest.raises(SchemaError, match=r"column 'amount' is DECIMAL\(30,4\), which cannot hold decimal128\(30, 4\)"):
        SQLiteDestination(connection=connection, table="target", schema_evolution=SchemaEvolution.FREEZE).open_writer(
            schema_of(amount=pa.decimal128(30, 4)), Token("w", "b")
        )


def test_a_type_without_equal_is_refused(connection: SQLiteConnection) -> None:
    with pytest.raises(SchemaError, match=r"column 'd' is duration.*cast it in a mapping"):
        SQLiteDestination(connection=connection, table="t").open_writer(schema_of(d=pa.duration("s")), TOKEN)
