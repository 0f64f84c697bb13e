"""Changes merged into tables of real SQLite files."""

from __future__ import annotations

from typing import Any

import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Destination
from resources.sqlite.resource import SQLiteConnection, SQLiteDestination
from resources.testing import MergeSuite, MergeTarget
from tests.resources.sqlite.conftest import Query


class Place:
    """One table."""

    def __init__(self, connection: SQLiteConnection, query: Query) -> None:
        self._connection, self._query = connection, query

    def destination(self, key: tuple[str, ...]) -> Destination:
        return SQLiteDestination(connection=self._connection, table="kept", write_mode=WriteMode.MERGE, primary_key=key)

    def rows(self) -> list[tuple[Any, ...]]:
        return self._query("SELECT id, part, value FROM kept")


class TestMerging(MergeSuite):
    @pytest.fixture
    def merged(self, connection: SQLiteConnection, query: Query) -> MergeTarget:
        return Place(connection, query)
