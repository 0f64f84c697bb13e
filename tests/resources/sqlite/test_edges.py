"""The edges of incremental reads of real SQLite files, in both of their modes: each row once, or a refusal that says why."""

from __future__ import annotations

from typing import Any

import pytest

from dsl.contracts.connectors import Source
from resources.sqlite.resource import SQLiteConnection, SQLiteSource
from resources.testing import GrowingTable, IncrementalSuite
from resources.testing.incremental import TABLE
from tests.resources.sqlite.conftest import Query


class Events:
    """The table of the suite."""

    def __init__(self, connection: SQLiteConnection, query: Query) -> None:
        self._connection, self._query = connection, query
        self.execute(TABLE.format(int="INTEGER", time="TIMESTAMP"))

    def source(self, **options: Any) -> Source:
        return SQLiteSource(
            **{"connection": self._connection, "table": "events", "incremental_column": "changed", **options}
        )

    def execute(self, *statements: str) -> None:
        self._query(*statements)

    def late(self) -> None:
        return None

    def now(self) -> str:
        return "CURRENT_TIMESTAMP"

    def settle(self) -> None:
        """What is committed is seen at once."""


class TestEdges(IncrementalSuite):
    @pytest.fixture(params=["WAL", "DELETE"])
    def growing(self, connection: SQLiteConnection, query: Query, request: pytest.FixtureRequest) -> GrowingTable:
        query(f"PRAGMA journal_mode = {request.param}")
        return Events(connection, query)
