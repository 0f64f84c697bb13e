"""PostgreSQL's values: read and written exactly, or rejected with a reason."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.connectors import Token
from dsl.contracts.errors import RejectedRows, SchemaError
from resources.postgres import copying, writer
from resources.postgres.resource import PostgresConnection, PostgresDestination, PostgresSource
from resources.sql_types import INTERVAL, JSON, UUID, mark_of, marked
from tests.kit.postgres import PostgresDatabase
from tests.resources.sql_suite import read_all, schema_of, write_epoch

UTC = dt.UTC
UUID_TEXT = "6f9619ff-8b86-d011-b42d-00cf4fc964ff"
EXACT: list[tuple[str, str, Any]] = [
    ("boolean", "true", True),
    ("boolean", "false", False),
    ("smallint", "-32768", -32768),
    ("integer", "2147483647", 2147483647),
    ("bigint", "-9223372036854775808", -(2**63)),
    ("real", "'1e-45'", 1.401298464324817e-45),
    ("double precision", "0.1", 0.1),
    ("double precision", "'Infinity'", math.inf),
    ("double precision", "'-Infinity'", -math.inf),
    ("double precision", "'1.7976931348623157e308'", 1.7976931348623157e308),
    ("numeric(38,10)", "1234567890123456789012345678.0123456789", Decimal("1234567890123456789012345678.0123456789")),
    ("numeric(5,-2)", "12345", Decimal(12300)),
    ("numeric", "0.5000000000000", Decimal("0.500000000")),
    (
        "numeric(50,2)",
        "12345678901234567890123456789012345678901234.25",
        "12345678901234567890123456789012345678901234.25",
    ),
    ("money", "1234.5", Decimal("1234.50")),
    ("text", "''", ""),
    ("text", "E'a\"b,c\\nd\\\\.'", 'a"b,c\nd\\.'),
    ("text", "'\\.'", "\\."),
    ("text", "'NULL'", "NULL"),
    ("text", "'grüße 🎉'", "grüße 🎉"),
    ("varchar(3)", "'abc'", "abc"),
    ("char(4)", "'ab'", "ab  "),
    ("bytea", "'\\x00ff10'", b"\x00\xff\x10"),
    ("bytea", "''", b""),
    ("date", "'0001-01-01'", dt.date(1, 1, 1)),
    ("date", "'9999-12-31'", dt.date(9999, 12, 31)),
    ("time", "'23:59:59.999999'", dt.time(23, 59, 59, 999999)),
    ("timestamp", "'2024-02-29 12:00:00.000001'", dt.datetime(2024, 2, 29, 12, 0, 0, 1)),  # noqa: DTZ001 - the column has no zone
    ("timestamptz", "'2024-06-01 12:00:00+05:30'", dt.datetime(2024, 6, 1, 6, 30, tzinfo=UTC)),
    ("timestamptz", "'0001-01-01 00:00:00+00'", dt.datetime(1, 1, 1, tzinfo=UTC)),
    ("interval", "'1 mon 2 days 03:04:05.6'", "P1M2DT3H4M5.6S"),
    ("json", "'{\"a\":  [1, 2.50]}'", '{"a":  [1, 2.50]}'),
    ("jsonb", '\'{"b": null, "a": 1.10}\'', '{"a": 1.10, "b": null}'),
    ("uuid", f"'{UUID_TEXT}'", UUID_TEXT),
    ("inet", "'10.0.0.1/8'", "10.0.0.1/8"),
    ("int4range", "'[1,5)'", "[1,5)"),
    ("bit(3)", "B'101'", "101"),
    ("integer[]", "'{1,NULL,3}'", [1, None, 3]),
    ("integer[]", "'{}'", []),
    ("text[]", "array['a,b', '\"', '']", ["a,b", '"', ""]),
    ("bytea[]", "array['\\x01'::bytea]", [b"\x01"]),
    ("timestamptz[]", "array['2024-01-01 00:00+00'::timestamptz]", [dt.datetime(2024, 1, 1, tzinfo=UTC)]),
    ("boolean[]", "'{t,f}'", [True, False]),
    ("numeric(10,2)[]", "'{1.50}'", [Decimal("1.50")]),
    ("mood", "'glad'", "glad"),
    ("positive", "7", 7),
    ("pair", "ROW(1, 'x')", '{"a":1,"b":"x"}'),
]
REJECTED = [
    ("date", "'infinity'"),
    ("date", "'0044-03-15 BC'"),
    ("date", "'10000-01-01'"),
    ("timestamp", "'-infinity'"),
    ("timestamptz", "'infinity'"),
    ("timestamptz", "'294276-12-31 00:00:00+00'"),
    ("time", "'24:00:00'"),
    ("numeric", "'NaN'"),
    ("numeric(10,2)", "'NaN'"),
    ("numeric", "0.12345678901"),
    ("integer[]", "'{{1,2},{3,4}}'"),
]
TYPES = (
    "CREATE TYPE mood AS ENUM ('glad', 'sad')",
    "CREATE DOMAIN positive AS int",
    "CREATE TYPE pair AS (a int, b text)",
)


@pytest.fixture(autouse=True, params=["binary", "text"])
def _form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every value goes both ways in both forms of COPY."""
    if request.param == "text":
        monkeypatch.setattr(copying, "_calls", lambda: None)
        monkeypatch.setattr(writer, "library", lambda: None)


def test_exact_values_are_read_as_they_are(database: PostgresDatabase, connection: PostgresConnection) -> None:
    columns = [f"c{place} {declared}" for place, (declared, _, _) in enumerate(EXACT)]
    values = [text for _, text, _ in EXACT]
    nulls = ["NULL"] * len(EXACT)
    database.execute(
        *TYPES,
        f"CREATE TABLE edges ({', '.join(columns)})",
        f"INSERT INTO edges VALUES ({', '.join(values)}), ({', '.join(nulls)})",
    )
    source = PostgresSource(connection=connection, table="edges")
    batches, rejected = read_all(source)
    assert rejected == []
    first, second = [row for batch in batches for row in batch.rows.to_pylist()]
    for place, (declared, text, expected) in enumerate(EXACT):
        assert first[f"c{place}"] == expected, (declared, text)
    assert set(second.values()) == {None}
    query = PostgresSource(connection=connection, query="SELECT * FROM edges")
    assert query.discover_schema().types == source.discover_schema().types


@pytest.mark.parametrize(("declared", "text"), REJECTED)
def test_values_that_arrow_cannot_hold_reject_their_row(
    database: PostgresDatabase, connection: PostgresConnection, declared: str, text: str
) -> None:
    database.execute(
        f"CREATE TABLE edges (id int PRIMARY KEY, v {declared})",
        f"INSERT INTO edges VALUES (1, NULL), (2, {text}), (3, NULL)",
    )
    batches, rejected = read_all(PostgresSource(connection=connection, table="edges"))
    assert [row["id"] for batch in batches for row in batch.rows.to_pylist()] == [1, 3]
    assert [(each.row.to_pylist()[0]["id"], each.code) for each in rejected] == [("2", "decode")]
    assert "column 'v'" in rejected[0].reason
    last = batches[-1].state
    assert last is not None
    assert last["records_read"] == 3


def test_nan_survives(database: PostgresDatabase, connection: PostgresConnection) -> None:
    database.execute("CREATE TABLE edges (v double precision)", "INSERT INTO edges VALUES ('NaN'), ('-0')")
    batches, _ = read_all(PostgresSource(connection=connection, table="edges"))
    nan, zero = (float(row["v"]) for row in batches[0].rows.to_pylist())
    assert math.isnan(nan)
    assert math.copysign(1, zero) == -1


def test_marks_name_what_text_is(database: PostgresDatabase, connection: PostgresConnection) -> None:
    database.execute("CREATE TABLE edges (j jsonb, u uuid, i interval)")
    schema = PostgresSource(connection=connection, table="edges").discover_schema()
    assert [mark_of(each) for each in schema] == [JSON, UUID, INTERVAL]


ROUND = pa.schema([
    *schema_of(
        b=pa.bool_(), i8=pa.int8(), u64=pa.uint64(), i=pa.int64(), f32=pa.float32(), f=pa.float64(),
        d=pa.decimal128(38, 10), s=pa.string(), ls=pa.large_string(), x=pa.binary(), day=pa.date32(),
        t=pa.time64("us"), ts=pa.timestamp("us"), at=pa.timestamp("us", "UTC"), n=pa.null(),
        dict=pa.dictionary(pa.int32(), pa.string()),
    ),
    marked("j", JSON),
    marked("u", UUID),
])  # fmt: skip
ROWS = [
    {
        "b": True, "i8": -128, "u64": 2**64 - 1, "i": -(2**63), "f32": 1.5, "f": 5e-324,
        "d": Decimal("-9999999999999999999999999999.9999999999"),
        "s": 'a"b\n,\\N', "ls": "", "x": b"\x00\xff", "day": dt.date(1, 1, 1), "t": dt.time(23, 59, 59, 999999),
        "ts": dt.datetime(9999, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001 - the column has no zone
        "at": dt.datetime(1, 1, 1, tzinfo=UTC), "n": None,
        "dict": "x", "j": '{"a": 1}', "u": UUID_TEXT,
    },
    dict.fromkeys(ROUND.names),
]  # fmt: skip


def test_values_written_are_read_back(database: PostgresDatabase, connection: PostgresConnection) -> None:
    batch = pa.RecordBatch.from_pylist(ROWS, schema=ROUND)
    with PostgresDestination(connection=connection, table="copy").open_writer(ROUND, Token("w", "s")) as writer:
        write_epoch(writer, 1, batch)
    batches, rejected = read_all(PostgresSource(connection=connection, table="copy"))
    assert rejected == []
    assert batches[0].rows.to_pylist() == ROWS
    said = dict(
        database.rows("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'copy'")
    )
    assert (said["j"], said["u"], said["u64"], said["at"]) == ("jsonb", "uuid", "numeric", "timestamp with time zone")


def test_nested_values_become_json(database: PostgresDatabase, connection: PostgresConnection) -> None:
    schema = pa.schema(
        [("s", pa.struct([("a", pa.int64()), ("d", pa.decimal128(5, 2))])), ("l", pa.list_(pa.date32()))]
    )
    row = {"s": {"a": 1, "d": Decimal("1.25")}, "l": [dt.date(2024, 1, 2), None]}
    with PostgresDestination(connection=connection, table="nested").open_writer(schema, Token("w", "s")) as writer:
        write_epoch(writer, 1, pa.RecordBatch.from_pylist([row], schema=schema))
    assert database.rows("SELECT s, l FROM nested") == [({"a": 1, "d": "1.25"}, ["2024-01-02", None])]


def test_arrays_are_written_to_array_columns(database: PostgresDatabase, connection: PostgresConnection) -> None:
    database.execute("CREATE TABLE arrays (a text[], n int[])")
    schema = schema_of(a=pa.list_(pa.string()), n=pa.list_(pa.int32()))
    row = {"a": ['x"y', "{,}", None, "\\"], "n": [1, None]}
    with PostgresDestination(connection=connection, table="arrays").open_writer(schema, Token("w", "s")) as writer:
        write_epoch(writer, 1, pa.RecordBatch.from_pylist([row], schema=schema))
    assert database.rows("SELECT a, n FROM arrays") == [(row["a"], row["n"])]


@pytest.mark.parametrize(
    ("declared", "kind", "values", "at_fault"),
    [
        ("text", pa.string(), ["ok", "nul\0"], (1,)),
        ("varchar(2)", pa.string(), ["ok", "ok", "long"], (2,)),
        ("jsonb", pa.string(), ["{}", "{"], (1,)),
        ("uuid", pa.string(), ["x"], (0,)),
        ("int NOT NULL", pa.int32(), [1, None], (1,)),
        ("int CHECK (v > 0)", pa.int32(), [1, -1], (1,)),
        ("int UNIQUE", pa.int32(), [1, 2, 1], (2,)),
    ],
)
def test_rows_the_server_refuses_are_named(
    database: PostgresDatabase,
    connection: PostgresConnection,
    declared: str,
    kind: pa.DataType,
    values: list[Any],
    at_fault: tuple[int, ...],
) -> None:
    database.execute(f"CREATE TABLE strict (v {declared})")
    schema = pa.schema([("v", kind)])
    with PostgresDestination(connection=connection, table="strict").open_writer(schema, Token("w", "s")) as writer:
        with pytest.raises(RejectedRows) as raised:
            writer.write(pa.RecordBatch.from_pydict({"v": pa.array(values, kind)}))
        assert raised.value.rows == at_fault
        write_epoch(
            writer, 1, pa.RecordBatch.from_pydict({"v": pa.array(values[:1], kind)}) if at_fault[0] else _none(kind)
        )


def _none(kind: pa.DataType) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"v": pa.array([], kind)})


def test_a_type_without_equal_is_refused(connection: PostgresConnection) -> None:
    schema = pa.schema([("v", pa.duration("us"))])
    with pytest.raises(SchemaError, match="no type"):
        PostgresDestination(connection=connection, table="odd").open_writer(schema, Token("w", "s"))
