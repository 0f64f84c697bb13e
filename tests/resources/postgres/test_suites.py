"""The suites of SQL connectors on a real PostgreSQL."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pytest

from dsl.contracts.connectors import Destination, Source
from resources.postgres.resource import PostgresConnection, PostgresDestination, PostgresSource
from tests.kit.postgres import PostgresDatabase
from tests.resources.sql_suite import SqlDestinationSuite, SqlSourceSuite


class TestDestination(SqlDestinationSuite):
    @pytest.fixture(autouse=True)
    def _place(self, database: PostgresDatabase, connection: PostgresConnection) -> None:
        self.database, self.connection = database, connection

    def destination(self, **options: Any) -> Destination:
        return PostgresDestination(**{"connection": self.connection, "table": "target", **options})

    def stored(self, columns: str = "id, name", table: str = "target") -> list[tuple[Any, ...]]:
        return self.database.rows(f"SELECT {columns} FROM {table} ORDER BY 1")

    def leftovers(self) -> list[str]:
        found = self.database.rows(
            "SELECT relname FROM pg_class WHERE relname LIKE '\\_headrace\\_stage%' AND relkind = 'r'"
        )
        return [each[0] for each in found]


class TestSource(SqlSourceSuite):
    @pytest.fixture(autouse=True)
    def _place(self, database: PostgresDatabase, connection: PostgresConnection) -> None:
        self.database, self.connection = database, connection

    def source(self, **options: Any) -> Source:
        return PostgresSource(**{"connection": self.connection, "table": "origin", **options})

    def fill(self, rows: Sequence[tuple[int, str, dt.datetime | None]]) -> None:
        self.database.execute("CREATE TABLE IF NOT EXISTS origin (id int PRIMARY KEY, name text, changed timestamptz)")
        with self.database.connect() as opened:
            opened.cursor().executemany("INSERT INTO origin VALUES (%s, %s, %s)", rows)
