"""The suites of connectors of any kind on real DuckDB files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pytest

from resources.duckdb.resource import DuckDBConnection, DuckDBDestination, DuckDBSource
from resources.testing import DestinationSuite, DestinationTarget, SourceOrigin, SourceSuite
from tests.resources.sql_places import SqlPlace


@pytest.fixture
def place(tmp_path: Path) -> SqlPlace:
    connection = DuckDBConnection(path=str(tmp_path / "test.duckdb"))

    def ask(statement: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(connection.path) as opened:
            return opened.execute(statement).fetchall()

    def put(statement: str, rows: list[tuple[Any, ...]]) -> None:
        with duckdb.connect(connection.path) as opened:
            opened.executemany(statement, rows)

    return SqlPlace(
        ask,
        put,
        "SELECT 1 FROM duckdb_tables() WHERE table_name = 'rows'",
        'CREATE TABLE "rows" (id bigint PRIMARY KEY, name varchar, score double, "at" timestamp)',
        'INSERT INTO "rows" VALUES (?, ?, ?, ?)',
        lambda: DuckDBSource(connection=connection, table="rows"),
        lambda **options: DuckDBDestination(connection=connection, table="rows", **options),
    )


class TestDestination(DestinationSuite):
    waived: ClassVar[dict[str, str]] = {
        "test_a_second_writer_fences_the_first": "DuckDB tells the older writer of a conflict, as an error to try again; "
        "nothing of it is committed"
    }

    @pytest.fixture
    def target(self, place: SqlPlace) -> DestinationTarget:
        return place


class TestSource(SourceSuite):
    @pytest.fixture
    def origin(self, place: SqlPlace) -> SourceOrigin:
        return place
