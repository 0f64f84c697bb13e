"""A schema for each test on the SQL Server that MSSQL_TEST_URL names (`mssql://user:password@host:port/database`), else no test.

No SQL Server can be had where these tests run by themselves, whether servers are required or not.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from dsl.contracts.secret import Secret
from resources.sqlserver.resource import SqlServerConnection
from resources.testing.samples import CANARY

URL = os.environ.get("MSSQL_TEST_URL", "")
NEEDS_SERVER = pytest.mark.skipif(not URL, reason="no SQL Server can be installed here; run with MSSQL_TEST_URL")


@dataclass(frozen=True)
class Place:
    """An empty schema, and a look at it by other means than the connector."""

    connection: SqlServerConnection

    def open(self, *, autocommit: bool = True) -> Any:
        """Returns a connection of the driver."""
        import mssql_python as driver

        from resources.sqlserver.client import connection_string

        return driver.connect(connection_string(self.connection), autocommit=autocommit)

    def execute(self, *statements: str) -> None:
        """Runs statements, each in a transaction of its own."""
        with self.open() as opened:
            for each in statements:
                opened.cursor().execute(each)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query, without those that are not committed."""
        with self.open() as opened:
            cursor = opened.cursor()
            cursor.execute(f"SET TRANSACTION ISOLATION LEVEL SNAPSHOT; {query}")
            return [tuple(each) for each in cursor.fetchall()]

    def tables(self) -> list[str]:
        """The names of all tables."""
        asked = f"SELECT name FROM sys.tables WHERE SCHEMA_NAME(schema_id) = '{self.connection.schema}'"
        return sorted(str(each[0]) for each in self.rows(asked))

    def named(self, table: str) -> str:
        """A table's name in a statement."""
        return self.connection.table_name(table).quoted()


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    parts = urlsplit(URL)
    monkeypatch.setenv("TEST_MSSQL_PASSWORD", unquote(parts.password or ""))
    connection = SqlServerConnection(
        host=parts.hostname or "",
        port=parts.port or 1433,
        database=parts.path.strip("/"),
        username=unquote(parts.username or ""),
        password=Secret("${TEST_MSSQL_PASSWORD}"),
        schema=f"t_{uuid.uuid4().hex[:12]}",
    )
    made = Place(connection)
    made.execute(f"CREATE SCHEMA {connection.schema}")
    yield made
    made.execute(*(f"DROP TABLE {made.named(each)}" for each in made.tables()), f"DROP SCHEMA {connection.schema}")


@dataclass
class Script:
    """Stands for a connection of the driver: notes statements, and answers those that it knows with rows."""

    answers: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    said: list[tuple[str, Sequence[Any]]] = field(default_factory=list)
    rowcount: int = 1
    _left: list[tuple[Any, ...]] = field(default_factory=list)

    def cursor(self) -> Script:
        return self

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Script:
        self.said.append((statement, parameters))
        found = [rows for words, rows in self.answers.items() if re.search(words, statement)]
        self._left = list(found[0]) if found else []
        return self

    def fetchall(self) -> list[tuple[Any, ...]]:
        taken, self._left = self._left, []
        return taken

    def fetchmany(self, size: int) -> list[tuple[Any, ...]]:
        taken, self._left = self._left[:size], self._left[size:]
        return taken

    def close(self) -> None:
        """Nothing: a cursor of it is the connection itself."""


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> SqlServerConnection:
    """A connection to nowhere."""
    monkeypatch.setenv("TEST_MSSQL_PASSWORD", CANARY)
    plain = SqlServerConnection(host="db.example.com", database="shop", username="headrace")
    return replace(plain, password=Secret("${TEST_MSSQL_PASSWORD}"))
