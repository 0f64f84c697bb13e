"""The suites of connectors of any kind on a real MariaDB."""

from __future__ import annotations

from typing import Any

import pytest

from resources.mysql.resource import MysqlConnection, MysqlDestination, MysqlSource
from resources.testing import DestinationSuite, DestinationTarget, SourceOrigin, SourceSuite
from tests.kit.mariadb import MariaDBDatabase
from tests.resources.sql_places import SqlPlace


@pytest.fixture
def place(database: MariaDBDatabase, connection: MysqlConnection) -> SqlPlace:
    def ask(statement: str) -> list[tuple[Any, ...]]:
        with database.connect() as opened, opened.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def put(statement: str, rows: list[tuple[Any, ...]]) -> None:
        with database.connect() as opened, opened.cursor() as cursor:
            cursor.executemany(statement, rows)
            opened.commit()

    return SqlPlace(
        ask,
        put,
        "SHOW TABLES LIKE 'rows'",
        "CREATE TABLE `rows` (id bigint PRIMARY KEY, name text, score double, `at` datetime(6))",
        "INSERT INTO `rows` VALUES (%s, %s, %s, %s)",
        lambda: MysqlSource(connection=connection, table="rows"),
        lambda **options: MysqlDestination(connection=connection, table="rows", **options),
    )


class TestDestination(DestinationSuite):
    @pytest.fixture
    def target(self, place: SqlPlace) -> DestinationTarget:
        return place


class TestSource(SourceSuite):
    @pytest.fixture
    def origin(self, place: SqlPlace) -> SourceOrigin:
        return place
