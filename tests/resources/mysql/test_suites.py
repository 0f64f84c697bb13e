"""The suites of SQL connectors on a real MariaDB."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pytest

from dsl.contracts.connectors import Destination, Source
from resources.mysql.resource import MysqlConnection, MysqlDestination, MysqlSource
from tests.kit.mariadb import MariaDBDatabase
from tests.resources.sql_suite import SqlDestinationSuite, SqlSourceSuite


class TestDestination(SqlDestinationSuite):
    @pytest.fixture(autouse=True)
    def _place(self, database: MariaDBDatabase, connection: MysqlConnection) -> None:
        self.database, self.connection = database, connection

    def destination(self, **options: Any) -> Destination:
        return MysqlDestination(**{"connection": self.connection, "table": "target", **options})

    def stored(self, columns: str = "id, name", table: str = "target") -> list[tuple[Any, ...]]:
        return self.database.rows(f"SELECT {columns} FROM {table} ORDER BY 1")

    def leftovers(self) -> list[str]:
        return [each[0] for each in self.database.rows("SHOW TABLES") if each[0].startswith("_headrace_stage")]


class TestSource(SqlSourceSuite):
    @pytest.fixture(autouse=True)
    def _place(self, database: MariaDBDatabase, connection: MysqlConnection) -> None:
        self.database, self.connection = database, connection

    def source(self, **options: Any) -> Source:
        return MysqlSource(**{"connection": self.connection, "table": "origin", **options})

    def fill(self, rows: Sequence[tuple[int, str, dt.datetime | None]]) -> None:
        self.database.execute("CREATE TABLE IF NOT EXISTS origin (id int PRIMARY KEY, name text, changed datetime(6))")
        with self.database.connect() as opened, opened.cursor() as cursor:
            cursor.executemany("INSERT INTO origin VALUES (%s, %s, %s)", rows)
