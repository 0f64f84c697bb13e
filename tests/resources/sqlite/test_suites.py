"""The suites of all connectors and of SQL connectors on real SQLite files."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Destination, Source
from resources.sqlite.resource import SQLiteConnection, SQLiteDestination, SQLiteSource
from resources.testing import DestinationSuite, DestinationTarget, SourceOrigin, SourceSuite
from tests.resources.sql_suite import SqlDestinationSuite, SqlSourceSuite
from tests.resources.sqlite.conftest import Query


class TestSqlDestination(SqlDestinationSuite):
    @pytest.fixture(autouse=True)
    def _place(self, connection: SQLiteConnection, query: Query) -> None:
        self.connection, self.query = connection, query

    def destination(self, **options: Any) -> Destination:
        return SQLiteDestination(**{"connection": self.connection, "table": "target", **options})

    def stored(self, columns: str = "id, name", table: str = "target") -> list[tuple[Any, ...]]:
        if not self.query(f"SELECT 1 FROM sqlite_schema WHERE name = '{table}'"):
            return []
        return self.query(f"SELECT {columns} FROM {table} ORDER BY 1")

    def leftovers(self) -> list[str]:
        return [each[0] for each in self.query("SELECT name FROM sqlite_schema WHERE name LIKE '%headrace_stage%'")]


class TestSqlSource(SqlSourceSuite):
    @pytest.fixture(autouse=True)
    def _place(self, connection: SQLiteConnection, query: Query) -> None:
        self.connection, self.query = connection, query

    def source(self, **options: Any) -> Source:
        return SQLiteSource(**{"connection": self.connection, "table": "origin", **options})

    def fill(self, rows: Sequence[tuple[int, str, dt.datetime | None]]) -> None:
        self.query("CREATE TABLE IF NOT EXISTS origin (id INTEGER PRIMARY KEY, name TEXT, changed TIMESTAMP)")
        if rows:
            self.query("INSERT INTO origin VALUES (?, ?, ?)", rows=list(rows))


class Place:
    """One table of a file, for the suites of all connectors."""

    def __init__(self, connection: SQLiteConnection, query: Query) -> None:
        self._connection, self._query = connection, query

    def destination(self, mode: WriteMode) -> Destination:
        key = ("id",) if mode is WriteMode.UPSERT else ()
        return SQLiteDestination(connection=self._connection, table="rows", write_mode=mode, primary_key=key)

    def rows(self) -> list[dict[str, Any]]:
        if not self._query("SELECT 1 FROM sqlite_schema WHERE name = 'rows'"):
            return []
        found = self._query("SELECT id, name, score, at FROM rows")
        return [
            {"id": number, "name": name, "score": score, "at": dt.datetime.fromisoformat(at)}
            for number, name, score, at in found
        ]

    def fill(self, rows: Sequence[pa.RecordBatch]) -> None:
        self._query("CREATE TABLE rows (id INTEGER PRIMARY KEY, name TEXT, score REAL, at TIMESTAMP)")
        values = [
            (each["id"], each["name"], each["score"], str(each["at"])) for batch in rows for each in batch.to_pylist()
        ]
        if values:
            self._query("INSERT INTO rows VALUES (?, ?, ?, ?)", rows=values)

    def source(self) -> Source:
        return SQLiteSource(connection=self._connection, table="rows")


class TestDestination(DestinationSuite):
    @pytest.fixture
    def target(self, connection: SQLiteConnection, query: Query) -> DestinationTarget:
        return Place(connection, query)


class TestSource(SourceSuite):
    @pytest.fixture
    def origin(self, connection: SQLiteConnection, query: Query) -> SourceOrigin:
        return Place(connection, query)
