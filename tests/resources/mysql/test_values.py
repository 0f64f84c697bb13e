"""MariaDB's values: read and written exactly, or rejected with a reason."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.connectors import Token
from dsl.contracts.errors import RejectedRows
from resources.mysql.resource import MysqlConnection, MysqlDestination, MysqlSource
from resources.sql_types import JSON, UUID, marked
from tests.kit.mariadb import MariaDBDatabase
from tests.resources.sql_suite import read_all, schema_of, write_epoch

UTC = dt.UTC
UUID_TEXT = "6f9619ff-8b86-d011-b42d-00cf4fc964ff"
EXACT: list[tuple[str, str, Any]] = [
    ("boolean", "true", True),
    ("tinyint", "-128", -128),
    ("tinyint unsigned", "255", 255),
    ("smallint unsigned", "65535", 65535),
    ("mediumint", "-8388608", -8388608),
    ("int unsigned", "4294967295", 4294967295),
    ("bigint", "-9223372036854775808", -(2**63)),
    ("bigint unsigned", "18446744073709551615", 2**64 - 1),
    ("float", "0.1", 0.10000000149011612),
    ("double", "0.1", 0.1),
    ("double", "1.7976931348623157e308", 1.7976931348623157e308),
    ("decimal(38,10)", "1234567890123456789012345678.0123456789", Decimal("1234567890123456789012345678.0123456789")),
    ("decimal(10,2) unsigned", "0.05", Decimal("0.05")),
    (
        "decimal(50,2)",
        "123456789012345678901234567890123456789012345678.25",
        "123456789012345678901234567890123456789012345678.25",
    ),
    ("varchar(20)", "''", ""),
    ("text", "'a\\'b\\nc\\\\'", "a'b\nc\\"),
    ("text", "'grüße 🎉'", "grüße 🎉"),
    ("enum('x','y')", "'y'", "y"),
    ("set('x','y')", "'x,y'", "x,y"),
    ("blob", "x'00ff'", b"\x00\xff"),
    ("binary(3)", "x'01'", b"\x01\x00\x00"),
    ("date", "'0001-01-01'", dt.date(1, 1, 1)),
    ("date", "'9999-12-31'", dt.date(9999, 12, 31)),
    ("time(6)", "'23:59:59.999999'", dt.time(23, 59, 59, 999999)),
    ("datetime(6)", "'2024-02-29 12:00:00.000001'", dt.datetime(2024, 2, 29, 12, 0, 0, 1)),  # noqa: DTZ001 - no zone
    ("datetime", "'2024-02-29 12:00:00'", dt.datetime(2024, 2, 29, 12)),  # noqa: DTZ001 - no zone
    ("timestamp(3) null", "'2024-06-01 06:30:00.125'", dt.datetime(2024, 6, 1, 6, 30, 0, 125000, tzinfo=UTC)),
    ("year", "2024", 2024),
    ("bit(9)", "b'100000001'", 257),
    ("bit(1)", "b'1'", True),
    ("json", "'{\"a\":  1}'", '{"a":  1}'),
]
REJECTED = [
    ("date", "'0000-00-00'"),
    ("datetime", "'2024-00-10 00:00:00'"),
    ("time", "'838:59:59'"),
    ("time", "'-01:00:00'"),
    ("boolean", "2"),
]


def test_exact_values_are_read_as_they_are(database: MariaDBDatabase, connection: MysqlConnection) -> None:
    columns = [f"c{place} {declared}" for place, (declared, _, _) in enumerate(EXACT)]
    values = [text for _, text, _ in EXACT]
    with database.connect() as opened, opened.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00'")
        cursor.execute(f"CREATE TABLE edges ({', '.join(columns)})")
        cursor.execute(f"INSERT INTO edges VALUES ({', '.join(values)}), ({', '.join(['NULL'] * len(EXACT))})")
    source = MysqlSource(connection=connection, table="edges")
    batches, rejected = read_all(source)
    assert rejected == []
    first, second = [row for batch in batches for row in batch.rows.to_pylist()]
    for place, (declared, text, expected) in enumerate(EXACT):
        assert first[f"c{place}"] == expected, (declared, text)
    assert set(second.values()) == {None}
    query = MysqlSource(connection=connection, query="SELECT * FROM edges WHERE 1 < 2 AND 'a%s' LIKE '%'")
    assert query.discover_schema().types == source.discover_schema().types
    assert len(read_all(query)[0][0].rows) == 2


@pytest.mark.parametrize(("declared", "text"), REJECTED)
def test_values_that_arrow_cannot_hold_reject_their_row(
    database: MariaDBDatabase, connection: MysqlConnection, declared: str, text: str
) -> None:
    with database.connect() as opened, opened.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        cursor.execute(f"CREATE TABLE edges (id int PRIMARY KEY, v {declared})")
        cursor.execute(f"INSERT INTO edges VALUES (1, NULL), (2, {text}), (3, NULL)")
    batches, rejected = read_all(MysqlSource(connection=connection, table="edges"))
    assert [row["id"] for batch in batches for row in batch.rows.to_pylist()] == [1, 3]
    assert [(each.row.to_pylist()[0]["id"], each.code) for each in rejected] == [("2", "decode")]
    assert "column 'v'" in rejected[0].reason


ROUND = pa.schema([
    *schema_of(
        b=pa.bool_(), i8=pa.int8(), u64=pa.uint64(), i=pa.int64(), f32=pa.float32(), f=pa.float64(),
        d=pa.decimal128(38, 10), s=pa.string(), x=pa.binary(), day=pa.date32(), t=pa.time64("us"),
        ts=pa.timestamp("us"), at=pa.timestamp("us", "UTC"), dict=pa.dictionary(pa.int32(), pa.string()),
    ),
    marked("j", JSON),
    marked("u", UUID),
])  # fmt: skip
ROWS: list[dict[str, Any]] = [
    {
        "b": True, "i8": -128, "u64": 2**64 - 1, "i": -(2**63), "f32": 0.10000000149011612, "f": 5e-324,
        "d": Decimal("0.0000000001"), "s": "a'\"b\n\\%s", "x": b"\x00\xff'", "day": dt.date(1, 1, 1),
        "t": dt.time(23, 59, 59, 999999), "ts": dt.datetime(9999, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001 - no zone
        "at": dt.datetime(2038, 1, 1, tzinfo=UTC), "dict": "x", "j": '{"a": 1}', "u": UUID_TEXT,
    },
    dict.fromkeys(ROUND.names),
]  # fmt: skip


def test_values_written_are_read_back(connection: MysqlConnection) -> None:
    batch = pa.RecordBatch.from_pylist(ROWS, schema=ROUND)
    with MysqlDestination(connection=connection, table="copy").open_writer(ROUND, Token("w", "s")) as writer:
        write_epoch(writer, 1, batch)
    batches, rejected = read_all(MysqlSource(connection=connection, table="copy"))
    assert rejected == []
    assert batches[0].rows.to_pylist() == ROWS


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.float64(), float("nan")),
        (pa.float64(), float("inf")),
        (pa.timestamp("us", "UTC"), dt.datetime(2100, 1, 1, tzinfo=UTC)),
        (pa.timestamp("us", "UTC"), dt.datetime(1960, 1, 1, tzinfo=UTC)),
    ],
)
def test_values_the_server_cannot_hold_are_refused(connection: MysqlConnection, kind: pa.DataType, value: Any) -> None:
    schema = schema_of(v=kind)
    with MysqlDestination(connection=connection, table="strict").open_writer(schema, Token("w", "s")) as writer:
        with pytest.raises(RejectedRows):
            writer.write(pa.RecordBatch.from_pydict({"v": pa.array([value], kind)}))
        write_epoch(writer, 1, pa.RecordBatch.from_pydict({"v": pa.array([None], kind)}))
    assert read_all(MysqlSource(connection=connection, table="strict"))[0][0].rows.to_pylist() == [{"v": None}]
