"""The suites of all connectors and of SQL connectors on the SQL Server in MSSQL_TEST_URL; its database allows snapshot isolation."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Destination, Source
from resources.sqlserver.resource import SqlServerDestination, SqlServerSource
from resources.testing import (
    DestinationSuite,
    DestinationTarget,
    GrowingTable,
    IncrementalSuite,
    SourceOrigin,
    SourceSuite,
)
from resources.testing.incremental import TABLE, Run
from resources.testing.samples import FIELDS
from tests.resources.sql_suite import SqlDestinationSuite, SqlSourceSuite
from tests.resources.sqlserver.conftest import NEEDS_SERVER, Place

pytestmark = NEEDS_SERVER


class TestSqlDestination(SqlDestinationSuite):
    @pytest.fixture(autouse=True)
    def _place(self, place: Place) -> None:
        self.place = place

    def destination(self, **options: Any) -> Destination:
        return SqlServerDestination(**{"connection": self.place.connection, "table": "target", **options})

    def stored(self, columns: str = "id, name", table: str = "target") -> list[tuple[Any, ...]]:
        if table not in self.place.tables():
            return []
        return self.place.rows(f"SELECT {columns} FROM {self.place.named(table)} ORDER BY 1")

    def leftovers(self) -> list[str]:
        return [each for each in self.place.tables() if each.startswith("_headrace_stage")]


def insert(place: Place, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    with place.open() as opened:
        for row in rows:
            places = ", ".join(["?"] * len(row))
            opened.cursor().execute(f"INSERT INTO {place.named(table)} VALUES ({places})", row)


class TestSqlSource(SqlSourceSuite):
    @pytest.fixture(autouse=True)
    def _place(self, place: Place) -> None:
        self.place = place

    def source(self, **options: Any) -> Source:
        return SqlServerSource(**{"connection": self.place.connection, "table": "origin", **options})

    def fill(self, rows: Sequence[tuple[int, str, dt.datetime | None]]) -> None:
        if "origin" not in self.place.tables():
            kinds = "(id int NOT NULL PRIMARY KEY, name nvarchar(max), changed datetime2(6))"
            self.place.execute(f"CREATE TABLE {self.place.named('origin')} {kinds}")
        insert(self.place, "origin", rows)


class Target:
    """One table, for the suite of all connectors."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def destination(self, mode: WriteMode) -> Destination:
        key = ("id",) if mode is WriteMode.UPSERT else ()
        return SqlServerDestination(connection=self._place.connection, table="rows", write_mode=mode, primary_key=key)

    def rows(self) -> list[dict[str, Any]]:
        if "rows" not in self._place.tables():
            return []
        found = self._place.rows(f"SELECT id, name, score, at FROM {self._place.named('rows')}")
        return [dict(zip(FIELDS, row, strict=True)) for row in found]


class TestDestination(DestinationSuite):
    @pytest.fixture
    def target(self, place: Place) -> DestinationTarget:
        return Target(place)


class Origin:
    """One table with a key, for the suite of all connectors."""

    def __init__(self, place: Place) -> None:
        self._place = place
        kinds = "(id bigint NOT NULL PRIMARY KEY, name nvarchar(max), score float, at datetime2(6))"
        place.execute(f"CREATE TABLE {place.named('rows')} {kinds}")

    def fill(self, rows: Sequence[pa.RecordBatch]) -> None:
        insert(self._place, "rows", [tuple(row.values()) for each in rows for row in each.to_pylist()])

    def source(self) -> Source:
        return SqlServerSource(connection=self._place.connection, table="rows")


class TestSource(SourceSuite):
    @pytest.fixture
    def origin(self, place: Place) -> SourceOrigin:
        return Origin(place)


class Growing:
    """The table of the suite of incremental reads; the suite's statements in SQL Server's words."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.execute(TABLE.format(int="bigint", time="datetime2(6)").replace("BOOLEAN", "BIT"))

    def source(self, **options: Any) -> Source:
        given = {"table": "events", "incremental_column": "changed"}
        return SqlServerSource(**{"connection": self._place.connection, **given, **options})

    def execute(self, *statements: str) -> None:
        self._place.execute(*map(self._translated, statements))

    def _translated(self, statement: str) -> str:
        named = re.sub(r"\bevents\b", lambda _: self._place.named("events"), statement, count=1)
        return named.replace("gone = false", "gone = 0").replace("gone = true", "gone = 1")

    def late(self) -> AbstractContextManager[Run] | None:
        return self._late()

    @contextmanager
    def _late(self) -> Iterator[Run]:
        with self._place.open(autocommit=False) as opened:
            yield lambda statement: opened.cursor().execute(self._translated(statement))
            opened.commit()

    def now(self) -> str:
        return "SYSDATETIME()"

    def settle(self) -> None:
        """Waits for the second that the bound keeps behind the oldest transaction."""
        self._place.execute("WAITFOR DELAY '00:00:01.200'")


class TestIncremental(IncrementalSuite):
    @pytest.fixture
    def growing(self, place: Place) -> GrowingTable:
        return Growing(place)
