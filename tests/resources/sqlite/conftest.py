"""A file for each test of the SQLite connector, and a look at it by other means than the connector."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from resources.sqlite.resource import SQLiteConnection

Query = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def connection(tmp_path: Path) -> SQLiteConnection:
    return SQLiteConnection(path=str(tmp_path / "a test.db"))


@pytest.fixture
def query(connection: SQLiteConnection) -> Query:
    """Executes statements in a connection of its own; returns the rows of the last."""

    def execute(*statements: str, rows: list[tuple[Any, ...]] | None = None) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(connection.path, isolation_level=None)) as opened:
            found: list[tuple[Any, ...]] = []
            for each in statements:
                found = opened.executemany(each, rows).fetchall() if rows else opened.execute(each).fetchall()
            return found

    return execute
