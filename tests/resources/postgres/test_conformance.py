"""The suites of connectors of any kind on a real PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest

from resources.postgres.resource import PostgresConnection, PostgresDestination, PostgresSource
from resources.testing import DestinationSuite, DestinationTarget, SourceOrigin, SourceSuite
from tests.kit.postgres import PostgresDatabase
from tests.resources.sql_places import SqlPlace


@pytest.fixture
def place(database: PostgresDatabase, connection: PostgresConnection) -> SqlPlace:
    def ask(statement: str) -> list[tuple[Any, ...]]:
        with database.connect() as opened:
            done = opened.execute(statement.encode())
            return done.fetchall() if done.description else []

    def put(statement: str, rows: list[tuple[Any, ...]]) -> None:
        with database.connect() as opened, opened.cursor() as cursor:
            cursor.executemany(statement.encode(), rows)

    return SqlPlace(
        ask,
        put,
        "SELECT 1 FROM pg_tables WHERE tablename = 'rows'",
        'CREATE TABLE "rows" (id bigint PRIMARY KEY, name text, score float8, at timestamp)',
        'INSERT INTO "rows" VALUES (%s, %s, %s, %s)',
        lambda: PostgresSource(connection=connection, table="rows"),
        lambda **options: PostgresDestination(connection=connection, table="rows", **options),
    )


class TestDestination(DestinationSuite):
    @pytest.fixture
    def target(self, place: SqlPlace) -> DestinationTarget:
        return place


class TestSource(SourceSuite):
    @pytest.fixture
    def origin(self, place: SqlPlace) -> SourceOrigin:
        return place
