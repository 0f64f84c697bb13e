"""The Oracle that ORACLE_TEST_URL names (`oracle://user:password@host:port/service`), an empty schema of that user's, else no test.

No Oracle can be had where these tests run by themselves, whether servers are required or not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import pytest

from dsl.contracts.secret import Secret
from resources.oracle.resource import OracleConnection
from resources.testing.samples import CANARY

URL = os.environ.get("ORACLE_TEST_URL", "")
NEEDS_SERVER = pytest.mark.skipif(not URL, reason="no Oracle can be installed here; run with ORACLE_TEST_URL")


@dataclass(frozen=True)
class Place:
    """An empty schema, and a look at it by other means than the connector."""

    connection: OracleConnection

    def open(self) -> Any:
        """Returns a connection of the driver, whose statements wait for a commit."""
        import oracledb

        from resources.oracle.client import settings_of

        return oracledb.connect(**settings_of(self.connection))

    def execute(self, *statements: str) -> None:
        """Runs statements, each in a transaction of its own."""
        with self.open() as opened:
            for each in statements:
                opened.cursor().execute(each)
                opened.commit()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self.open() as opened:
            return list(opened.cursor().execute(query).fetchall())

    def tables(self) -> list[str]:
        """The names of all tables."""
        return sorted(str(each[0]) for each in self.rows("SELECT table_name FROM user_tables"))

    def named(self, table: str) -> str:
        """A table's name in a statement."""
        return self.connection.table_name(table).quoted()


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    parts = urlsplit(URL)
    monkeypatch.setenv("TEST_ORACLE_PASSWORD", unquote(parts.password or ""))
    connection = OracleConnection(
        host=parts.hostname or "",
        port=parts.port or 1521,
        service=parts.path.strip("/"),
        username=unquote(parts.username or ""),
        password=Secret("${TEST_ORACLE_PASSWORD}"),
    )
    made = Place(connection)
    assert made.tables() == [], "the user of the tests must own no table: they drop all"
    yield made
    made.execute(*(f"DROP TABLE {made.named(each)} PURGE" for each in made.tables()))


@dataclass
class Script:
    """Stands for a connection of the driver: notes statements, and answers those that it knows with rows."""

    answers: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    faults: list[Any] = field(default_factory=list)
    said: list[tuple[str, Sequence[Any]]] = field(default_factory=list)
    sizes: tuple[Any, ...] = ()
    rowcount: int = 1
    description: list[Any] = field(default_factory=list)
    autocommit: bool = True
    _left: list[tuple[Any, ...]] = field(default_factory=list)

    def cursor(self) -> Script:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing: a cursor of it is the connection itself."""

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Script:
        self.said.append((statement, parameters))
        found = [rows for words, rows in self.answers.items() if re.search(words, statement)]
        self._left = list(found[0]) if found else []
        self.description = next((made for words, made in self.columns.items() if re.search(words, statement)), [])
        return self

    def setinputsizes(self, *sizes: Any) -> None:
        self.sizes = sizes

    def executemany(self, statement: str, rows: Sequence[Any], *, batcherrors: bool) -> None:
        assert batcherrors, "else nobody knows which rows are at fault"
        self.said.append((statement, rows))

    def getbatcherrors(self) -> list[Any]:
        return self.faults

    def fetchall(self) -> list[tuple[Any, ...]]:
        taken, self._left = self._left, []
        return taken

    def fetchmany(self, size: int) -> list[tuple[Any, ...]]:
        taken, self._left = self._left[:size], self._left[size:]
        return taken

    def commit(self) -> None:
        self.said.append(("COMMIT", ()))

    def rollback(self) -> None:
        self.said.append(("ROLLBACK", ()))

    def close(self) -> None:
        """Nothing, as above."""


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> OracleConnection:
    """A connection to nowhere."""
    monkeypatch.setenv("TEST_ORACLE_PASSWORD", CANARY)
    plain = OracleConnection(host="db.example.com", service="FREEPDB1", username="headrace")
    return replace(plain, password=Secret("${TEST_ORACLE_PASSWORD}"))
