"""What can be shown of SQL Server without one: what is said to it parses, types and values, what its errors mean, how it is reached."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
import sqlglot
from mssql_python.exceptions import DatabaseError, sqlstate_to_exception

from dsl.contracts.capabilities import Proof, WriteMode
from dsl.contracts.connectors import ReadRequest, Token
from dsl.contracts.errors import ErrorType, FatalError, RejectedRows, RetryableError, SchemaError, UnavailableError
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError
from resources.sql import SchemaEvolution, TableName, Tls
from resources.sql_gathering import GatheringWriter
from resources.sql_reader import Incremental, SqlReader
from resources.sql_types import INSTANT, JSON, TIMESTAMP, UUID, marked
from resources.sqlserver import client
from resources.sqlserver.reader import SqlServerScanner, _Relation, bound_statement
from resources.sqlserver.resource import Isolation, SqlServerConnection, SqlServerDestination, SqlServerSource
from resources.sqlserver.types import Described, decode, expression, field_of, rows_json, type_name
from resources.sqlserver.writer import SqlServerSession, unless_there
from resources.testing.samples import CANARY
from tests.resources.sql_suite import SCHEMA, rows_of
from tests.resources.sqlserver.conftest import Script

DESCRIBED: list[tuple[Any, ...]] = [("id", "bigint", False, None), ("name", "nvarchar(max)", True, None)]
READ: dict[str, list[tuple[Any, ...]]] = {
    "dm_exec_describe": [("id", "int", False, None), ("at", "datetime2(7)", True, None), ("price", "decimal(12,2)", True, None)],
    r"^SELECT OBJECT_ID": [(1,)],
    "is_primary_key": [("id",)],
    "dm_tran_active": [("2024-01-01T00:00:00",)],
    "COUNT_BIG": [(0,)],
}  # fmt: skip


MOVE = (
    'UPDATE "dbo"."_headrace_tokens" SET epoch = ?, state = ?, run_id = ?, committed_at = ?, staging = ?, owed = ? '
    "WHERE stream_key = ? AND fence = ? AND epoch = ?"
)


def parsed(statement: str) -> None:
    """Fails unless the statement is T-SQL; what sqlglot takes for a command of its own is no proof."""
    for each in sqlglot.parse(statement, read="tsql"):
        assert each is not None
        assert not isinstance(each, sqlglot.exp.Command), statement


CONTROL = ("SET ", "BEGIN TRANSACTION", "COMMIT TRANSACTION", "IF @@TRANCOUNT", "IF OBJECT_ID")


def all_parsed(script: Script) -> list[str]:
    said = [statement for statement, _ in script.said]
    for each in said:
        if not each.startswith(CONTROL):
            parsed(each)
    return said


# ---- writing --------------------------------------------------------------------------------------------------------


def writer(script: Script, mode: WriteMode, key: tuple[str, ...] = ()) -> GatheringWriter:
    return GatheringWriter(
        SqlServerSession(script, "here"),
        target=TableName("dbo", "target"),
        schema=SCHEMA,
        token=Token("orders", "load"),
        mode=mode,
        key=key,
        evolution=SchemaEvolution.EVOLVE,
    )


def written(mode: WriteMode, key: tuple[str, ...] = ()) -> tuple[Script, list[str]]:
    script = Script({
        "dm_exec_describe": DESCRIBED, r"^SELECT OBJECT_ID": [(1,)], "is_unique": [(1, "id")],
        "SELECT fence": [(7, 0, None, None, 0)],
    })  # fmt: skip
    with writer(script, mode, key) as opened:
        opened.write(rows_of((1, "a"), (2, None)))
        opened.commit(1, {"v": 1}, final=True)
    return script, all_parsed(script)


def test_rows_and_token_meet_in_one_transaction() -> None:
    script, said = written(WriteMode.APPEND)
    begun = len(said) - said[::-1].index("BEGIN TRANSACTION") - 1
    kinds = [each.split(" (")[0] for each in said[begun:]]
    assert kinds == [
        "BEGIN TRANSACTION",
        'INSERT INTO "dbo"."target"',
        'DELETE FROM "#_headrace_work"',
        MOVE,
        "COMMIT TRANSACTION",
    ]
    gathered = next(parameters for statement, parameters in script.said if "OPENJSON" in statement)
    assert json.loads(gathered[0]) == [["1", "a", "0"], ["2", None, "1"]]
    assert "XACT_ABORT ON" in client.SESSION, "what fails rolls everything back"


def test_an_upsert_is_one_merge_that_holds_its_lock() -> None:
    _, said = written(WriteMode.UPSERT, ("id",))
    merge = next(each for each in said if each.startswith("MERGE"))
    assert "WITH (HOLDLOCK) AS target USING" in merge
    assert merge.endswith(";")
    assert 'ON target."id" = latest."id" WHEN MATCHED THEN UPDATE SET "name" = latest."name"' in merge


def test_an_overwrite_refills_the_table_with_its_token() -> None:
    _, said = written(WriteMode.OVERWRITE)
    begun = len(said) - said[::-1].index("BEGIN TRANSACTION") - 1
    inside = said[begun : said.index("COMMIT TRANSACTION", begun)]
    assert any(each.startswith('DELETE FROM "dbo"."target"') for each in inside)
    assert any(each.startswith("UPDATE") for each in inside)
    assert said[-1].startswith('DROP TABLE IF EXISTS "dbo"."_headrace_stage_')
    assert not any(each.startswith(("CREATE", "DROP", "ALTER")) for each in inside)


def test_a_key_without_an_index_is_refused() -> None:
    answers: dict[str, list[tuple[Any, ...]]] = {
        "dm_exec_describe": DESCRIBED,
        r"^SELECT OBJECT_ID": [(1,)],
        "SELECT fence": [(7, 0, None, None, 0)],
    }
    with pytest.raises(SchemaError, match=r"no unique index on \(id\)"):
        writer(Script(answers), WriteMode.UPSERT, ("id",))


def test_a_table_is_made_unless_it_is_there() -> None:
    script = Script()
    name = TableName("dbo", 'it\'s "odd"')
    SqlServerSession(script, "here").create(name, list(SCHEMA), ("id",))
    made = script.said[0][0]
    assert made.startswith('IF OBJECT_ID(N\'"dbo"."it\'\'s ""odd"""\') IS NULL CREATE TABLE "dbo"."it\'s ""odd""" (')
    parsed(made.partition("IS NULL ")[2])
    assert '"id" BIGINT NOT NULL' in made
    assert unless_there("CREATE TABLE x (y INT)") == "CREATE TABLE x (y INT)"


TYPES: list[tuple[pa.Field[Any], str]] = [
    (pa.field("c", pa.bool_()), "BIT"), (pa.field("c", pa.int8()), "SMALLINT"), (pa.field("c", pa.uint8()), "INT"),
    (pa.field("c", pa.uint64()), "DECIMAL(20, 0)"), (pa.field("c", pa.float32()), "REAL"),
    (pa.field("c", pa.float64()), "FLOAT(53)"), (pa.field("c", pa.decimal128(38, 10)), "DECIMAL(38, 10)"),
    (pa.field("c", pa.date32()), "DATE"), (pa.field("c", pa.time64("us")), "TIME(6)"),
    (pa.field("c", pa.timestamp("ns")), "DATETIME2(6)"), (pa.field("c", pa.timestamp("us", "Europe/Berlin")), "DATETIMEOFFSET(6)"),
    (pa.field("c", pa.large_binary()), "VARBINARY(MAX)"), (marked("c", JSON), "NVARCHAR(MAX) COLLATE Latin1_General_100_BIN2"),
    (pa.field("c", pa.list_(pa.int8())), "NVARCHAR(MAX) COLLATE Latin1_General_100_BIN2"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "expected"), TYPES, ids=[str(each.type) for each, _ in TYPES])
def test_each_arrow_type_has_one_there(field: pa.Field[Any], expected: str) -> None:
    assert type_name(field, key=False) == expected
    parsed(f"CREATE TABLE t (c {expected})")


def test_keys_are_of_limited_length() -> None:
    assert type_name(pa.field("c", pa.string()), key=True) == "NVARCHAR(450) COLLATE Latin1_General_100_BIN2"
    with pytest.raises(SchemaError, match="no type"):
        type_name(pa.field("c", pa.duration("s")), key=False)


def test_values_are_sent_with_every_digit() -> None:
    rows = pa.RecordBatch.from_pydict({
        "i": pa.array([-(2**63), None]), "d": pa.array([Decimal("-9999999999999999999999999999.9999999999"), None]),
        "f": pa.array([5e-324, -0.0]), "s": pa.array(['ü\0"\\🎉', ""]), "x": pa.array([b"\x00\xff", b""]),
        "ts": pa.array([dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999999)], pa.timestamp("us")),  # noqa: DTZ001
        "at": pa.array([dt.datetime(2024, 1, 1, tzinfo=dt.UTC), None], INSTANT), "b": pa.array([True, False]),
        "t": pa.array([dt.time(23, 59, 59, 1), None]), "day": pa.array([dt.date(1, 1, 1), None]),
    })  # fmt: skip
    assert json.loads(rows_json(rows, "here")) == [
        ["-9223372036854775808", "-9999999999999999999999999999.9999999999", "5e-324", 'ü\0"\\🎉', "00ff", "0001-01-01T00:00:00",
         "2024-01-01T00:00:00+00:00", True, "23:59:59.000001", "0001-01-01"],
        [None, None, "-0.0", "", "", "9999-12-31T23:59:59.999999", None, False, None, None],
    ]  # fmt: skip


def test_numbers_that_are_none_are_rejected_by_row() -> None:
    with pytest.raises(RejectedRows, match="column 'f' is NaN or infinite") as raised:
        rows_json(pa.RecordBatch.from_pydict({"f": [1.0, math.nan, math.inf]}), "here")
    assert raised.value.rows == (1, 2)


# ---- reading --------------------------------------------------------------------------------------------------------


def scanned(
    connection: SqlServerConnection, rows: Sequence[tuple[Any, ...]], state: Any = None, **options: Any
) -> tuple[Script, list[Any], SqlReader]:
    script = Script({**READ, 'FROM "dbo"."orders"|AS query': list(rows)})
    script.answers = {**READ, r'^SELECT (TOP \(\d+\) )?"id"': list(rows)}
    source = SqlServerSource(**{"connection": connection, "table": "orders", **options})
    relation = _Relation(script, source, None)
    reader = SqlReader(
        SqlServerScanner(script, source, ReadRequest(batch_rows=2), relation),
        ReadRequest(batch_rows=2),
        state,
        key=relation.key,
        incremental=None if source.incremental_column is None else Incremental(source.incremental_column, relation.key),
    )
    return script, list(reader), reader


def test_a_table_is_read_in_the_order_of_its_key_in_one_snapshot(made_up: SqlServerConnection) -> None:
    rows = [(each, f"2024-01-01T00:00:0{each}.1234560", "12.50", str(each)) for each in range(1, 4)]
    script, batches, _ = scanned(made_up, rows)
    said = all_parsed(script)
    assert said.index("SET TRANSACTION ISOLATION LEVEL SNAPSHOT") < said.index("BEGIN TRANSACTION")
    assert said[-1].endswith('FROM "dbo"."orders" ORDER BY "id"')
    assert [each.state.get("key") if each.state else None for each in batches] == [["2"], ["3"], None]
    assert batches[0].rows.to_pylist()[0] == {
        "id": 1, "at": dt.datetime(2024, 1, 1, 0, 0, 1, 123456), "price": Decimal("12.50"),  # noqa: DTZ001 - no zone
    }  # fmt: skip


def test_a_row_that_arrow_cannot_hold_is_rejected(made_up: SqlServerConnection) -> None:
    _, batches, reader = scanned(made_up, [(1, "2024-01-01T00:00:00.1234567", None, "1"), (2, None, None, "2")])
    assert [row["id"] for each in batches for row in each.rows.to_pylist()] == [2]
    assert [each.reason for each in reader.rejections()] == [
        "column 'at' has a value that timestamp[us] cannot hold exactly"
    ]


def test_a_window_is_bounded_and_resumed_column_by_column(made_up: SqlServerConnection) -> None:
    state = {"v": 1, "low": "2023-01-01T00:00:00", "low_inclusive": True, "seen": [["4"], ["5"]], "high": "2024-01-01T00:00:00",
             "inclusive": False, "ties": False, "cursor": "2023-06-01T00:00:00", "key": ["9"]}  # fmt: skip
    script, _, _ = scanned(made_up, [], state, incremental_column="at", isolation=Isolation.READ_COMMITTED)
    said = all_parsed(script)
    assert "SET TRANSACTION ISOLATION LEVEL READ COMMITTED" in said
    window = next(each for each in said if "OPENJSON" in each)
    place = "CAST(? AS datetime2(7))"
    assert f'("at" > {place} OR ("at" = {place} AND "id" > CAST(? AS int)))' in window
    assert "NOT EXISTS (SELECT 1 FROM OPENJSON(?) WITH (c0 INT '$[0]') AS seen WHERE seen.c0 = \"id\")" in window
    parameters = next(parameters for statement, parameters in script.said if statement == window)
    assert list(parameters) == [
        "2024-01-01T00:00:00", "2023-01-01T00:00:00", "2023-01-01T00:00:00", '[["4"], ["5"]]', "2023-06-01T00:00:00",
        "2023-06-01T00:00:00", "9",
    ]  # fmt: skip


@pytest.mark.parametrize("lag", [None, 600.0])
@pytest.mark.parametrize("kind", ["datetime2(3)", "datetimeoffset(7)", "date"])
def test_bounds_parse(kind: str, lag: float | None) -> None:
    statement = bound_statement(lag, Described("at", kind))
    parsed(statement)
    assert ("dm_tran_active_transactions" in statement) == (lag is None)


def test_a_rowversion_needs_no_clock(made_up: SqlServerConnection) -> None:
    script = Script({
        "MIN_ACTIVE_ROWVERSION": [(2001,)], "dm_exec_describe": [("id", "int", False, None), ("v", "timestamp", False, None)],
        r"^SELECT OBJECT_ID": [(1,)], "is_primary_key": [("id",)],
    })  # fmt: skip
    source = SqlServerSource(connection=made_up, table="orders", incremental_column="v")
    scanner = SqlServerScanner(script, source, ReadRequest(), _Relation(script, source, None))
    assert (scanner.bound().text, scanner.bound().inclusive) == ("2001", False)
    assert scanner.placeholder("v") == "CAST(CAST(? AS BIGINT) AS BINARY(8))"
    other = replace(source, incremental_column="id")
    relation = _Relation(script, other, None)
    with pytest.raises(SchemaError, match="name a rowversion, or a column of time"):
        SqlServerScanner(script, other, ReadRequest(), relation)


COLUMNS: list[tuple[str, pa.DataType, Any, Any]] = [
    ("decimal(38,10)", pa.decimal128(38, 10), "0.0000000001", Decimal("0.0000000001")),
    ("money", pa.decimal128(19, 4), "-922337203685477.5808", Decimal("-922337203685477.5808")),
    ("tinyint", pa.int16(), 255, 255), ("bit", pa.bool_(), True, True), ("float", pa.float64(), 5e-324, 5e-324),
    ("datetimeoffset(7)", INSTANT, "2024-01-01T00:00:00.0000010", dt.datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=dt.UTC)),
    ("datetime2(0)", TIMESTAMP, "9999-12-31T23:59:59", dt.datetime(9999, 12, 31, 23, 59, 59)),  # noqa: DTZ001 - no zone
    ("time(7)", pa.time64("us"), "23:59:59.9999990", dt.time(23, 59, 59, 999999)),
    ("date", pa.date32(), "0001-01-01", dt.date(1, 1, 1)), ("varbinary(max)", pa.binary(), b"\x00\xff", b"\x00\xff"),
    ("uniqueidentifier", pa.string(), "6F9619FF-8B86-D011-B42D-00CF4FC964FF", "6f9619ff-8b86-d011-b42d-00cf4fc964ff"),
    ("nvarchar(10)", pa.string(), "ü", "ü"), ("rowversion", pa.binary(), None, None),
]  # fmt: skip


@pytest.mark.parametrize(("declared", "kind", "value", "expected"), COLUMNS, ids=[each[0] for each in COLUMNS])
def test_each_type_is_read_exactly(declared: str, kind: pa.DataType, value: Any, expected: Any) -> None:
    column = Described("c", "timestamp" if declared == "rowversion" else declared)
    field = field_of(column, "here")
    assert field.type == kind
    parsed(f"SELECT {expression(column)} FROM t")
    made, failed = decode([value, None], column, field.type)
    assert (made.to_pylist(), failed) == ([expected, None], ())


def test_types_without_equal_are_refused_by_name() -> None:
    for declared in ("geography", "hierarchyid", "sql_variant"):
        with pytest.raises(SchemaError, match=f"column 'c' is {declared}.*leave it out"):
            field_of(Described("c", declared), "here")
    assert field_of(Described("u", "uniqueidentifier"), "here").metadata == marked("u", UUID).metadata


# ---- errors and connections -----------------------------------------------------------------------------------------

ERRORS: list[tuple[str, str, type[Exception]]] = [
    ("42S02", "Invalid object name 'x'.", SchemaError), ("42S22", "Invalid column name 'x'.", SchemaError),
    ("40001", "Transaction (Process ID 52) was deadlocked", RetryableError), ("HYT00", "Lock request time out", RetryableError),
    ("23000", "Cannot insert the value NULL into column 'id'", RejectedRows),
    ("22001", "String or binary data would be truncated in table", RejectedRows),
    ("22003", "Arithmetic overflow error converting", RejectedRows), ("22018", "Conversion failed when", RejectedRows),
    ("42000", "The SELECT permission was denied on the object", FatalError),
    ("HY000", "Database 'x' on server 'y' is not currently available.", RetryableError),
    ("08S01", "Communication link failure", UnavailableError), ("42000", "Incorrect syntax near ')'.", FatalError),
    ("HY000", "Snapshot isolation transaction aborted due to update conflict.", RetryableError),
]  # fmt: skip


@pytest.mark.parametrize(("state", "text", "expected"), ERRORS, ids=[f"{each[0]}-{each[1][:20]}" for each in ERRORS])
def test_errors_mean_what_the_engine_must_do(state: str, text: str, expected: type[Exception]) -> None:
    error = sqlstate_to_exception(
        state, f"[Microsoft][ODBC Driver 18 for SQL Server][SQL Server]{text}"
    ) or DatabaseError(f"An error occurred with SQLSTATE code: {state}", f"[Microsoft][SQL Server]{text}")
    found = client.translated(error, "here")
    assert type(found) is expected
    assert str(found).startswith(
        f"here: {text}" if expected is not UnavailableError else "here: the connection was lost"
    )


def test_snapshots_that_are_not_allowed_are_explained() -> None:
    error = DatabaseError(
        "An error occurred",
        "Snapshot isolation transaction failed because snapshot isolation is not allowed",
    )
    assert "ALLOW_SNAPSHOT_ISOLATION ON, or set isolation" in str(client.translated(error, "here"))


def test_a_refused_login_is_no_matter_of_retrying(made_up: SqlServerConnection) -> None:
    error = sqlstate_to_exception("28000", f"[SQL Server]Login failed for user 'headrace' with {CANARY}")
    assert error is not None
    found = client.refused(error, made_up)
    assert isinstance(found, FatalError)
    assert found.error_type is ErrorType.AUTH
    assert CANARY not in str(found)


TRANSPORTS: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {"Encrypt={yes}", "TrustServerCertificate={no}"}),
    ({"host": "127.0.0.1"}, {"Encrypt={yes}", "TrustServerCertificate={yes}"}),
    ({"host": "localhost", "tls": Tls.VERIFY_FULL}, {"Encrypt={yes}", "TrustServerCertificate={no}"}),
    ({"tls": Tls.REQUIRE}, {"Encrypt={yes}", "TrustServerCertificate={yes}"}),
    ({"tls": Tls.DISABLE}, {"Encrypt={no}"}),
    ({"server_certificate": "/ca.pem", "certificate_host": "sql"}, {"ServerCertificate={/ca.pem}", "HostnameInCertificate={sql}"}),
]  # fmt: skip


@pytest.mark.parametrize(("options", "expected"), TRANSPORTS)
def test_certificates_are_verified_unless_told_otherwise(
    made_up: SqlServerConnection, options: dict[str, Any], expected: set[str]
) -> None:
    told = set(client.connection_string(replace(made_up, **options)).split(";"))
    assert expected <= told
    assert not any("TrustServerCertificate" in each for each in told - expected) or "server_certificate" in options


def test_what_a_password_holds_stays_in_it(made_up: SqlServerConnection) -> None:
    odd = replace(made_up, password=Secret("a;Encrypt=no}{", literal=True))
    assert "PWD={a;Encrypt=no}}{}" in client.connection_string(odd)
    from mssql_python.connection_string_parser import _ConnectionStringParser

    told = _ConnectionStringParser()._parse(client.connection_string(odd))
    assert (told["pwd"], told["encrypt"]) == ("a;Encrypt=no}{", "yes")


def test_a_server_that_is_not_there_is_said_without_the_password(made_up: SqlServerConnection) -> None:
    nowhere = replace(made_up, host="127.0.0.1", port=1)
    checked = nowhere.check()
    assert not checked.healthy
    assert CANARY not in f"{checked} {nowhere!r}"


def test_options_that_do_not_fit_are_refused(made_up: SqlServerConnection) -> None:
    with pytest.raises(OptionError, match="no WITH within a query"):
        SqlServerSource(connection=made_up, query="WITH a AS (SELECT 1 AS x) SELECT x FROM a")
    with pytest.raises(OptionError, match="without incremental_column"):
        SqlServerSource(connection=made_up, table="t", lag=timedelta(seconds=1))
    with pytest.raises(OptionError, match="merge"):
        SqlServerDestination(connection=made_up, table="t", write_mode=WriteMode.MERGE, primary_key=("id",))
    assert SqlServerDestination.capabilities.proof is Proof.CONTRACT
