"""The edges of incremental reads of a real PostgreSQL: each row once, or a refusal that says why."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from dsl.contracts.connectors import Source
from resources.postgres.resource import PostgresConnection, PostgresSource
from resources.testing import GrowingTable, IncrementalSuite
from resources.testing.incremental import TABLE, Run
from tests.kit.postgres import PostgresDatabase


class Events:
    """The table of the suite."""

    def __init__(self, database: PostgresDatabase, connection: PostgresConnection) -> None:
        self._database, self._connection = database, connection
        self.execute(TABLE.format(int="bigint", time="timestamptz"))

    def source(self, **options: Any) -> Source:
        return PostgresSource(
            **{"connection": self._connection, "table": "events", "incremental_column": "changed", **options}
        )

    def execute(self, *statements: str) -> None:
        self._database.execute(*statements)

    def late(self) -> AbstractContextManager[Run]:
        return self._late()

    @contextmanager
    def _late(self) -> Iterator[Run]:
        with self._database.connect(autocommit=False) as opened:
            yield lambda statement: (opened.execute(statement.encode()), None)[1]

    def now(self) -> str:
        return "now()"

    def settle(self) -> None:
        time.sleep(0.05)


class TestEdges(IncrementalSuite):
    @pytest.fixture
    def growing(self, database: PostgresDatabase, connection: PostgresConnection) -> GrowingTable:
        return Events(database, connection)
