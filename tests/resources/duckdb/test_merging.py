"""Changes merged into tables of real DuckDB files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Destination
from resources.duckdb.resource import DuckDBConnection, DuckDBDestination
from resources.testing import MergeSuite, MergeTarget


class Place:
    """One table."""

    def __init__(self, path: str) -> None:
        self._path = path

    def destination(self, key: tuple[str, ...]) -> Destination:
        connection = DuckDBConnection(path=self._path)
        return DuckDBDestination(connection=connection, table="kept", write_mode=WriteMode.MERGE, primary_key=key)

    def rows(self) -> list[tuple[Any, ...]]:
        with duckdb.connect(self._path) as opened:
            return opened.execute("SELECT id, part, value FROM kept").fetchall()


class TestMerging(MergeSuite):
    @pytest.fixture
    def merged(self, tmp_path: Path) -> MergeTarget:
        return Place(str(tmp_path / "kept.duckdb"))
