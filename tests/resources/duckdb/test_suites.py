"""The suites of SQL connectors on real DuckDB files."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from dsl.contracts.connectors import Destination, ReadRequest, Source
from dsl.contracts.errors import FatalError, SchemaError, UnavailableError
from resources.duckdb.resource import DuckDBConnection, DuckDBDestination, DuckDBSource
from tests.resources.sql_suite import TOKEN, SqlDestinationSuite, SqlSourceSuite, rows_of, write_epoch


@pytest.fixture
def connection(tmp_path: Path) -> DuckDBConnection:
    return DuckDBConnection(path=str(tmp_path / "test.duckdb"))


def query(connection: DuckDBConnection, statement: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(connection.path) as opened:
        opened.execute("SET TimeZone = 'UTC'")
        return opened.execute(statement).fetchall()


class TestDestination(SqlDestinationSuite):
    @pytest.fixture(autouse=True)
    def _place(self, connection: DuckDBConnection) -> None:
        self.connection = connection

    def destination(self, **options: Any) -> Destination:
        return DuckDBDestination(**{"connection": self.connection, "table": "target", **options})

    def stored(self, columns: str = "id, name", table: str = "target") -> list[tuple[Any, ...]]:
        try:
            return query(self.connection, f"SELECT {columns} FROM {table} ORDER BY 1")
        except duckdb.CatalogException:
            return []

    def leftovers(self) -> list[str]:
        found = query(
            self.connection, "SELECT table_name FROM duckdb_tables() WHERE table_name LIKE '_headrace_stage%'"
        )
        return [each[0] for each in found]


class TestSource(SqlSourceSuite):
    @pytest.fixture(autouse=True)
    def _place(self, connection: DuckDBConnection) -> None:
        self.connection = connection

    def source(self, **options: Any) -> Source:
        return DuckDBSource(**{"connection": self.connection, "table": "origin", **options})

    def fill(self, rows: Sequence[tuple[int, str, dt.datetime | None]]) -> None:
        with duckdb.connect(self.connection.path) as opened:
            opened.execute(
                "CREATE TABLE IF NOT EXISTS origin (id INTEGER PRIMARY KEY, name VARCHAR, changed TIMESTAMPTZ)"
            )
            for row in rows:
                opened.execute("INSERT INTO origin VALUES (?, ?, ?)", list(row))


EDGES = {
    "TINYINT": ["-128", "127"],
    "DECIMAL(38,10)": ["9999999999999999999999999999.9999999999", "-0.0000000001"],
    "DOUBLE": ["'NaN'", "'Infinity'", "'-0.0'"],
    "DATE": ["'0001-01-01'", "'9999-12-31'"],
    "TIMESTAMP": ["'1970-01-01 00:00:00.000001'"],
    "TIMESTAMPTZ": ["'2026-06-01 12:00:00+02'"],
    "TIME": ["'23:59:59.999999'"],
    "BLOB": ["'\\x00\\xFF'::BLOB"],
    "UUID": ["'00000000-0000-0000-0000-000000000001'"],
    "JSON": ["'{\"a\": [1, null]}'"],
    "VARCHAR": ["'ünïcode ☃'", "''"],
    "INTEGER[]": ["[1, NULL, 3]"],
    "STRUCT(a INTEGER, b VARCHAR)": ["{'a': 1, 'b': NULL}"],
    "BOOLEAN": ["true", "NULL"],
}


@pytest.mark.parametrize("kind", EDGES)
def test_values_arrive_as_they_left(connection: DuckDBConnection, kind: str) -> None:
    values = ", ".join(f"({index}, {text})" for index, text in enumerate(EDGES[kind]))
    query(connection, f"CREATE TABLE origin (id INTEGER PRIMARY KEY, v {kind})")
    query(connection, f"INSERT INTO origin VALUES {values}")
    source = DuckDBSource(connection=connection, table="origin")
    with source.read(ReadRequest(), None) as reader:
        batches = [each.rows for each in reader]
        schema = reader.schema
    with DuckDBDestination(connection=connection, table="target").open_writer(schema, TOKEN) as writer:
        write_epoch(writer, 1, *batches, final=True)
    assert query(connection, "SELECT count(*) FROM target") == [(len(EDGES[kind]),)]
    assert (
        query(connection, "(FROM origin EXCEPT ALL FROM target) UNION ALL (FROM target EXCEPT ALL FROM origin)") == []
    )


def test_numbers_too_long_for_arrow_arrive_as_texts(connection: DuckDBConnection) -> None:
    query(connection, "CREATE TABLE origin AS SELECT 170141183460469231731687303715884105727::HUGEINT AS v")
    with DuckDBSource(connection=connection, table="origin").read(ReadRequest(), None) as reader:
        assert [row["v"] for each in reader for row in each.rows.to_pylist()] == [str(2**127 - 1)]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    source = DuckDBSource(connection=DuckDBConnection(path=str(tmp_path / "none.duckdb")), table="t")
    with pytest.raises(UnavailableError, match="there is no such file"):
        source.discover_schema()
    assert not (tmp_path / "none.duckdb").exists(), "asking makes no file"


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "text.duckdb"
    path.write_text("this is no database, only a text of some length" * 100)
    checked = DuckDBConnection(path=str(path)).check()
    assert not checked.healthy
    assert str(path) in checked.details


def test_a_table_that_is_not_there_is_named_with_its_neighbour(connection: DuckDBConnection) -> None:
    query(connection, "CREATE TABLE customers (id INTEGER)")
    with pytest.raises(SchemaError, match="did you mean 'customers'"):
        DuckDBSource(connection=connection, table="custmers").discover_schema()


def test_a_broken_constraint_ends_the_epoch_and_leaves_nothing(connection: DuckDBConnection) -> None:
    query(connection, "CREATE TABLE target (id BIGINT, name VARCHAR NOT NULL)")
    destination = DuckDBDestination(connection=connection, table="target")
    with destination.open_writer(rows_of().schema, TOKEN) as writer:
        writer.write(rows_of((1, "a")))
        with pytest.raises(FatalError, match="nothing of this epoch was written"):
            writer.write(rows_of((2, None)))
    assert query(connection, "FROM target") == []


def test_what_can_be_read_is_listed(connection: DuckDBConnection) -> None:
    query(connection, "CREATE TABLE orders (id INTEGER PRIMARY KEY, total DECIMAL(12,2))")
    found = connection.discover()
    assert [(each.name, each.primary_key) for each in found] == [("orders", ("id",))]
    wanted: dict[str, pa.DataType] = {"id": pa.int32(), "total": pa.decimal128(12, 2)}
    assert found[0].schema == pa.schema(wanted)
