"""What can be shown of Oracle without one: what is said to it parses, types and values, what its errors mean, how it is reached."""

from __future__ import annotations

import datetime as dt
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import oracledb
import pyarrow as pa
import pytest
import sqlglot

from dsl.contracts.capabilities import Proof, WriteMode
from dsl.contracts.connectors import ReadRequest, Token
from dsl.contracts.errors import ErrorType, FatalError, RejectedRows, RetryableError, SchemaError, UnavailableError
from dsl.contracts.spec import OptionError
from resources.oracle import client
from resources.oracle.reader import OracleScanner, _Relation, bound_statement
from resources.oracle.resource import OracleConnection, OracleDestination, OracleSource
from resources.oracle.types import Described, decode, expression, field_of, parameters, sizes, stored_type, type_name
from resources.oracle.writer import OracleSession
from resources.sql import TableName, Tls
from resources.sql_reader import Incremental, SqlReader
from resources.sql_types import INSTANT, JSON, TIMESTAMP, marked
from resources.sql_writer import SqlWriter
from resources.testing.samples import CANARY
from tests.resources.oracle.conftest import Script
from tests.resources.sql_suite import SCHEMA, rows_of


def column(name: str, kind: str, precision: int = 0, scale: int = 0) -> Any:
    """A column as the driver describes it."""
    return SimpleNamespace(
        name=name, type_code=getattr(oracledb, f"DB_TYPE_{kind}"), precision=precision, scale=scale, null_ok=True
    )


TARGET = [column("id", "NUMBER", 19), column("name", "VARCHAR")]
OPEN: dict[str, list[tuple[Any, ...]]] = {"SELECT fence": [(7, 0, None, None, 0)], "uniqueness": [("PK", "id")]}
MOVE = (
    'UPDATE "SHOP"."_headrace_tokens" SET epoch = :p1, state = :p2, run_id = :p3, committed_at = :p4, staging = :p5, owed = :p6 '
    "WHERE stream_key = :p7 AND fence = :p8 AND epoch = :p9"
)
CONTROL = (
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT",
    "SET TRANSACTION READ ONLY",
    "ALTER SESSION",
    "CREATE PRIVATE TEMPORARY TABLE",
)


def parsed(statement: str) -> None:
    """Fails unless the statement is Oracle's SQL; what sqlglot takes for a command of its own is no proof."""
    for each in sqlglot.parse(statement, read="oracle"):
        assert each is not None
        assert not isinstance(each, sqlglot.exp.Command), statement


def all_parsed(script: Script) -> list[str]:
    said = [statement for statement, _ in script.said]
    for each in said:
        if not each.startswith(CONTROL):
            parsed(each)
    return said


# ---- writing --------------------------------------------------------------------------------------------------------


def writer(script: Script, mode: WriteMode, key: tuple[str, ...] = ()) -> SqlWriter:
    return SqlWriter(
        OracleSession(script, "here"),
        target=TableName("SHOP", "target"),
        schema=SCHEMA,
        token=Token("orders", "load"),
        mode=mode,
        key=key,
    )


def written(mode: WriteMode, key: tuple[str, ...] = ()) -> tuple[Script, list[str]]:
    script = Script(answers=OPEN, columns={"WHERE 1 = 0": TARGET})
    with writer(script, mode, key) as opened:
        opened.write(rows_of((1, "a"), (2, None)))
        assert not script.autocommit
        opened.commit(1, {"v": 1}, final=True)
    assert script.autocommit
    return script, all_parsed(script)


def test_rows_and_token_meet_in_one_transaction() -> None:
    script, said = written(WriteMode.APPEND)
    assert said[-4:] == [
        "SAVEPOINT headrace",
        'INSERT INTO "SHOP"."target" ("id", "name") VALUES (:p1, :p2)',
        MOVE,
        "COMMIT",
    ]
    assert script.said[-3][1] == [(1, "a"), (2, None)]
    assert script.sizes == (oracledb.DB_TYPE_NUMBER, 1)


def test_an_upsert_is_one_merge() -> None:
    _, said = written(WriteMode.UPSERT, ("id",))
    made = next(each for each in said if each.startswith("CREATE PRIVATE"))
    assert '"ORA$PTT_HEADRACE" ON COMMIT PRESERVE DEFINITION AS SELECT target.*' in made
    merge = next(each for each in said if each.startswith("MERGE"))
    assert 'ON (target."id" = latest."id") WHEN MATCHED THEN UPDATE SET target."name" = latest."name"' in merge
    assert " AS latest" not in merge


def test_an_overwrite_refills_the_table_with_its_token() -> None:
    _, said = written(WriteMode.OVERWRITE)
    inside = said[
        len(said) - said[::-1].index("SAVEPOINT headrace") : said.index("COMMIT", said.index("SAVEPOINT headrace"))
    ]
    assert 'DELETE FROM "SHOP"."target"' in inside
    assert MOVE in inside
    assert not any(each.startswith(("CREATE", "DROP", "ALTER")) for each in inside), "DDL would commit"
    assert said[-1].startswith('DROP TABLE "SHOP"."_headrace_stage_')


def test_a_key_without_an_index_is_refused() -> None:
    script = Script(answers={"SELECT fence": OPEN["SELECT fence"]}, columns={"WHERE 1 = 0": TARGET})
    with pytest.raises(SchemaError, match=r"no unique index on \(id\)"):
        writer(script, WriteMode.UPSERT, ("id",))


@dataclass
class Fault:
    """An error of one row of an array, as the driver tells it."""

    code: int
    offset: int
    message: str
    full_code: str = ""
    isrecoverable: bool = False


def test_rows_at_fault_are_named_and_worse_is_not_hidden() -> None:
    script = Script(faults=[Fault(1, 3, "ORA-00001: unique constraint"), Fault(12899, 5, "ORA-12899: too large")])
    session = OracleSession(script, "here")
    with pytest.raises(RejectedRows, match="ORA-00001") as raised:
        session.load(TableName("SHOP", "t"), ["id", "name"], rows_of((1, "a")))
    assert raised.value.rows == (3, 5)
    script.faults = [Fault(1, 0, "ORA-00001: unique"), Fault(1653, 1, "ORA-01653: unable to extend")]
    with pytest.raises(RetryableError, match="ORA-01653"):
        session.load(TableName("SHOP", "t"), ["id", "name"], rows_of((1, "a")))


def test_a_table_that_is_there_is_no_fault() -> None:
    class There(Script):
        def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Script:
            raise oracledb.DatabaseError(Fault(955, 0, "ORA-00955: name is already used"))

    OracleSession(There(), "here").ensure("CREATE TABLE IF NOT EXISTS x (y NUMBER)")
    with pytest.raises(FatalError, match="ORA-00955"):
        OracleSession(There(), "here").drop(TableName("", "x"))


TYPES: list[tuple[pa.Field[Any], str]] = [
    (pa.field("c", pa.bool_()), "NUMBER(1)"), (pa.field("c", pa.uint64()), "NUMBER(20, 0)"),
    (pa.field("c", pa.int64()), "NUMBER(19)"), (pa.field("c", pa.float32()), "BINARY_FLOAT"),
    (pa.field("c", pa.decimal128(38, 10)), "NUMBER(38, 10)"), (pa.field("c", pa.date32()), "DATE"),
    (pa.field("c", pa.timestamp("ns")), "TIMESTAMP(6)"),
    (pa.field("c", pa.timestamp("us", "Europe/Berlin")), "TIMESTAMP(6) WITH TIME ZONE"),
    (pa.field("c", pa.large_string()), "VARCHAR2(4000 BYTE)"), (pa.field("c", pa.binary(4)), "BLOB"), (marked("c", JSON), "CLOB"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "expected"), TYPES, ids=[str(each.type) for each, _ in TYPES])
def test_each_arrow_type_has_one_there(field: pa.Field[Any], expected: str) -> None:
    assert type_name(field, key=False) == expected
    parsed(f"CREATE TABLE t (c {expected})")


def test_types_that_oracle_lacks_are_refused() -> None:
    assert type_name(pa.field("c", pa.string()), key=True) == "VARCHAR2(1000 BYTE)"
    for kind in (pa.time64("us"), pa.duration("s")):
        with pytest.raises(SchemaError, match="no type"):
            type_name(pa.field("c", kind), key=False)


REFUSED: list[tuple[pa.Array[Any], str]] = [
    (pa.array(["a", "", None]), "cannot tell from NULL; see empty_text"),
    (pa.array([b"a", b""]), "cannot tell from NULL"),
    (pa.array([0.0, -0.0]), "negative zero"),
]


@pytest.mark.parametrize(("values", "reason"), REFUSED)
def test_what_oracle_would_change_is_rejected_by_row(values: pa.Array[Any], reason: str) -> None:
    with pytest.raises(RejectedRows, match=reason) as raised:
        parameters(values, "c", "here", empty_is_null=False)
    assert raised.value.rows == (1,)


def test_values_are_sent_as_the_driver_takes_them() -> None:
    at = pa.array([dt.datetime(2024, 6, 1, 12, tzinfo=dt.UTC)], INSTANT)
    assert parameters(at, "c", "", empty_is_null=False) == [dt.datetime(2024, 6, 1, 12)]  # noqa: DTZ001 - in UTC
    session = OracleSession(Script(), "here")
    statement = session.insert_statement(TableName("SHOP", "t"), ["at"], [INSTANT])
    assert statement.endswith("VALUES (FROM_TZ(CAST(? AS TIMESTAMP(6)), 'UTC'))")
    assert parameters(pa.array([True, None]), "c", "", empty_is_null=False) == [1, None]
    assert parameters(pa.array([""]), "c", "", empty_is_null=True) == [""]
    assert [sizes(pa.string(), each) for each in (["ü"], ["x" * 40_000], [None])] == [2, "DB_TYPE_CLOB", 1]
    assert [sizes(pa.binary(), each) for each in ([b"x"], [b"x" * 3000])] == ["DB_TYPE_RAW", "DB_TYPE_BLOB"]
    kinds = (
        "DB_TYPE_CLOB",
        "DB_TYPE_BLOB",
        "DB_TYPE_RAW",
        "DB_TYPE_BINARY_DOUBLE",
        "DB_TYPE_TIMESTAMP",
        "DB_TYPE_NUMBER",
    )
    assert all(hasattr(oracledb, each) for each in kinds)


def test_marks_of_parameters_are_numbered_outside_of_names_and_texts() -> None:
    said = client.numbered("""UPDATE "a?b" SET "c""?" = ?, d = 'it''s ?' WHERE e = ?""")
    assert said == """UPDATE "a?b" SET "c""?" = :p1, d = 'it''s ?' WHERE e = :p2"""


# ---- reading --------------------------------------------------------------------------------------------------------

ORDERS = [column("ID", "NUMBER", 10), column("AT", "TIMESTAMP", 0, 9), column("PRICE", "NUMBER", 12, 2)]


def scanned(
    connection: OracleConnection, rows: Sequence[tuple[Any, ...]], state: Any = None, **options: Any
) -> tuple[Script, list[Any], SqlReader]:
    script = Script(
        answers={
            r'^SELECT "ID"': list(rows), "all_objects": [("HEADRACE", "ORDERS")], "all_constraints": [("ID",)],
            r"gv\$transaction": [(" 2024-01-01T00:00:00.000000000",)], r"COUNT\(": [(0,)],
        },
        columns={"WHERE 1 = 0": ORDERS},
    )  # fmt: skip
    source = OracleSource(**{"connection": connection, "table": "orders", **options})
    relation = _Relation(script, source, None)
    reader = SqlReader(
        OracleScanner(script, source, ReadRequest(batch_rows=2), relation),
        ReadRequest(batch_rows=2),
        state,
        key=relation.key,
        incremental=None if relation.incremental is None else Incremental(relation.incremental, relation.key),
    )
    return script, list(reader), reader


def test_a_table_is_read_in_the_order_of_its_key_in_one_snapshot(made_up: OracleConnection) -> None:
    rows = [
        (Decimal(each), f" 2024-01-01T00:00:0{each}.123456000", Decimal("12.50"), str(each)) for each in range(1, 4)
    ]
    script, batches, _ = scanned(made_up, rows)
    said = all_parsed(script)
    assert said.index("SET TRANSACTION READ ONLY") == len(said) - 2
    assert said[-1].endswith('FROM "HEADRACE"."ORDERS" ORDER BY "ID"')
    assert [each.state.get("key") if each.state else None for each in batches] == [["2"], ["3"], None]
    assert batches[0].rows.to_pylist()[0] == {
        "ID": 1, "AT": dt.datetime(2024, 1, 1, 0, 0, 1, 123456), "PRICE": Decimal("12.50"),  # noqa: DTZ001 - no zone
    }  # fmt: skip


def test_a_row_that_arrow_cannot_hold_is_rejected(made_up: OracleConnection) -> None:
    rows = [
        (Decimal(1), " 2024-01-01T00:00:00.123456789", None, "1"),
        (Decimal(2), "-0044-03-15T00:00:00.000000000", None, "2"),
    ]
    _, batches, reader = scanned(made_up, rows)
    assert sum(each.rows.num_rows for each in batches) == 0
    assert [each.reason for each in reader.rejections()] == [
        "column 'AT' has a value that timestamp[us] cannot hold exactly"
    ] * 2


def test_a_window_is_bounded_and_resumed_column_by_column(made_up: OracleConnection) -> None:
    state = {"v": 1, "low": "2023-01-01T00:00:00", "low_inclusive": True, "seen": [["4"], ["5"]], "high": "2024-01-01T00:00:00",
             "inclusive": False, "ties": False, "cursor": "2023-06-01T00:00:00", "key": ["9"]}  # fmt: skip
    script, _, _ = scanned(made_up, [], state, incremental_column="at")
    said = all_parsed(script)
    assert next(at for at, each in enumerate(said) if "gv$transaction" in each) < said.index(
        "SET TRANSACTION READ ONLY"
    )
    window = next(each for each in said if "JSON_TABLE" in each)
    assert '"ID" > TO_NUMBER(:' in window
    assert "COLUMNS (c0 VARCHAR2(4000) PATH '$[0]')) seen WHERE seen.c0 = TO_CHAR(\"ID\", 'TM9'))" in window
    told = next(parameters for statement, parameters in script.said if statement == window)
    assert json.loads(told[3]) == [["4"], ["5"]]
    assert len(told) == 7


@pytest.mark.parametrize("lag", [None, 600.0])
@pytest.mark.parametrize("kind", ["DATE", "TIMESTAMP", "TIMESTAMP_LTZ"])
def test_bounds_parse(kind: str, lag: float | None) -> None:
    statement = bound_statement(lag, Described("AT", kind))
    parsed(statement)
    assert ("gv$transaction" in statement) == (lag is None)
    assert ("LEAST(o.moment" in statement) == (kind != "TIMESTAMP_LTZ")


def test_only_a_column_of_time_bounds_what_is_new(made_up: OracleConnection) -> None:
    with pytest.raises(SchemaError, match="nobody can tell which smaller values"):
        scanned(made_up, [], incremental_column="id")


COLUMNS: list[tuple[Any, pa.DataType, Any, Any]] = [
    (column("c", "NUMBER", 38, 10), pa.decimal128(38, 10), Decimal("0.0000000001"), Decimal("0.0000000001")),
    (column("c", "NUMBER", 18), pa.int64(), Decimal(10**18 - 1), 10**18 - 1),
    (column("c", "NUMBER", 5, -2), pa.int64(), Decimal(1234500), 1234500),
    (column("c", "NUMBER", 0, -127), pa.string(), Decimal("1E-40"), f"0.{'0' * 39}1"),
    (column("c", "NUMBER", 1), pa.bool_(), Decimal(1), True),
    (column("c", "BINARY_DOUBLE"), pa.float64(), 5e-324, 5e-324),
    (column("c", "DATE"), TIMESTAMP, " 9999-12-31T23:59:59", dt.datetime(9999, 12, 31, 23, 59, 59)),  # noqa: DTZ001 - no zone
    (column("c", "TIMESTAMP_TZ", 0, 6), INSTANT, " 2024-01-01T00:00:00.000001000", dt.datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=dt.UTC)),
    (column("c", "RAW"), pa.binary(), b"\x00\xff", b"\x00\xff"), (column("c", "CLOB"), pa.string(), "ü", "ü"),
    (column("c", "INTERVAL_DS"), pa.string(), "+02 03:04:05", "+02 03:04:05"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("told", "kind", "value", "expected"), COLUMNS, ids=[each[0].type_code.name for each in COLUMNS]
)
def test_each_type_is_read_exactly(told: Any, kind: pa.DataType, value: Any, expected: Any) -> None:
    found = Described(told.name, told.type_code.name.removeprefix("DB_TYPE_"), told.precision, told.scale)
    field = field_of(found, "here")
    assert field.type == kind
    parsed(f"SELECT {expression(found)} FROM t")
    made, failed = decode([value, None], found, field.type)
    assert (made.to_pylist(), failed) == ([expected, None], ())


def test_what_has_no_equal_is_refused() -> None:
    for kind in ("XMLTYPE", "VECTOR", "BFILE", "OBJECT"):
        with pytest.raises(SchemaError, match=f"column 'c' is {kind}.*leave it out"):
            field_of(Described("c", kind), "here")
    assert decode([Decimal(2), Decimal(0)], Described("c", "NUMBER", 1), pa.bool_())[1] == (0,)
    assert stored_type(Described("c", "NUMBER", 38, 84)) is None


# ---- errors and connections -----------------------------------------------------------------------------------------

ERRORS: list[tuple[int, str, type[Exception]]] = [
    (942, "", SchemaError), (904, "", SchemaError), (1031, "", FatalError), (1, "", RejectedRows), (1400, "", RejectedRows),
    (12899, "", RejectedRows), (1438, "", RejectedRows), (2291, "", RejectedRows), (60, "", RetryableError),
    (1555, "", RetryableError), (8177, "", RetryableError), (1653, "", RetryableError), (3113, "", UnavailableError),
    (12541, "", UnavailableError), (1089, "", UnavailableError), (0, "DPY-4011", UnavailableError),
    (0, "DPY-1001", UnavailableError), (900, "", FatalError), (0, "DPY-2000", FatalError),
]  # fmt: skip


@pytest.mark.parametrize(("number", "code", "expected"), ERRORS, ids=[f"{each[0]}{each[1]}" for each in ERRORS])
def test_errors_mean_what_the_engine_must_do(number: int, code: str, expected: type[Exception]) -> None:
    error = oracledb.DatabaseError(Fault(number, 0, f"ORA-{number:05d}: said\nHelp: a link", full_code=code))
    found = client.translated(error, "here")
    assert type(found) is expected
    assert "Help" not in str(found)


def test_a_refused_login_is_no_matter_of_retrying(made_up: OracleConnection) -> None:
    found = client.refused(oracledb.DatabaseError(Fault(1017, 0, "ORA-01017: invalid username/password")), made_up)
    assert isinstance(found, FatalError)
    assert found.error_type is ErrorType.AUTH
    missing = client.refused(oracledb.DatabaseError(Fault(0, 0, "DPY-6001: no", full_code="DPY-6001")), made_up)
    assert "check service" in str(missing)


def test_certificates_are_verified_unless_told_otherwise(made_up: OracleConnection) -> None:
    told = client.settings_of(made_up)
    assert (told["protocol"], told["ssl_server_dn_match"]) == ("tcps", True)
    assert (told["ssl_context"].verify_mode, told["ssl_context"].check_hostname) == (ssl.CERT_REQUIRED, True)
    trusting = client.settings_of(replace(made_up, tls=Tls.REQUIRE))
    assert (trusting["protocol"], trusting["ssl_context"].verify_mode) == ("tcps", ssl.CERT_NONE)
    assert client.settings_of(replace(made_up, host="127.0.0.1"))["protocol"] == "tcp"
    assert client.settings_of(replace(made_up, host="127.0.0.1", tls=Tls.VERIFY_FULL))["protocol"] == "tcps"
    assert client.settings_of(replace(made_up, tls=Tls.DISABLE))["protocol"] == "tcp"
    with pytest.raises(FatalError, match="ca_file cannot be used"):
        client.settings_of(replace(made_up, ca_file="/no/such.pem"))


def test_a_server_that_is_not_there_is_unavailable_and_shows_no_password(made_up: OracleConnection) -> None:
    nowhere = replace(made_up, host="127.0.0.1", port=1)
    with pytest.raises(UnavailableError, match="cannot connect") as raised:
        client.connect(nowhere)
    assert CANARY not in f"{raised.value} {raised.value.__cause__!r} {nowhere.check()} {nowhere!r}"


def test_options_that_do_not_fit_are_refused(made_up: OracleConnection) -> None:
    with pytest.raises(OptionError, match="merge"):
        OracleDestination(connection=made_up, table="t", write_mode=WriteMode.MERGE, primary_key=("id",))
    assert OracleDestination.capabilities.proof is Proof.CONTRACT
    assert OracleSource(connection=made_up, table="t").physical_name == (
        "oracle",
        "db.example.com",
        "FREEPDB1",
        "HEADRACE",
        "t",
    )
