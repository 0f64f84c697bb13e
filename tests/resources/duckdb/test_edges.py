"""The edges of incremental reads of real DuckDB files: each row once, or a refusal that says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from dsl.contracts.connectors import Source
from resources.duckdb.resource import DuckDBConnection, DuckDBSource
from resources.testing import GrowingTable, IncrementalSuite
from resources.testing.incremental import TABLE


class Events:
    """The table of the suite."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.execute(TABLE.format(int="BIGINT", time="TIMESTAMP"))

    def source(self, **options: Any) -> Source:
        connection = DuckDBConnection(path=self._path)
        return DuckDBSource(**{"connection": connection, "table": "events", "incremental_column": "changed", **options})

    def execute(self, *statements: str) -> None:
        with duckdb.connect(self._path) as opened:
            for each in statements:
                opened.execute(each)

    def late(self) -> None:
        return None

    def now(self) -> str:
        return "now()"

    def settle(self) -> None:
        """What is committed is seen at once."""


class TestEdges(IncrementalSuite):
    @pytest.fixture
    def growing(self, tmp_path: Path) -> GrowingTable:
        return Events(str(tmp_path / "events.duckdb"))
