"""The suites of all connectors and of SQL connectors on Snowflake: an emulator, or the account in SNOWFLAKE_TEST_ACCOUNT."""

from __future__ import annotations

from typing import Any

import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Destination
from resources.snowflake.resource import SnowflakeDestination
from resources.testing import DestinationSuite, DestinationTarget
from tests.resources.snowflake.conftest import Place
from tests.resources.sql_suite import SqlDestinationSuite


class TestSqlDestination(SqlDestinationSuite):
    @pytest.fixture(autouse=True)
    def _place(self, place: Place) -> None:
        self.place = place

    def destination(self, **options: Any) -> Destination:
        return SnowflakeDestination(**{"connection": self.place.connection, "table": "target", **options})

    def stored(self, columns: str = "id, name", table: str = "target") -> list[tuple[Any, ...]]:
        if table not in self.place.tables():
            return []
        names = ", ".join(f'"{each.strip()}"' for each in columns.split(","))
        return self.place.rows(f"SELECT {names} FROM {self.place.named(table)} ORDER BY 1")

    def leftovers(self) -> list[str]:
        return [each for each in self.place.tables() if "headrace_stage" in each.lower()]


class Target:
    """One table, for the suite of all connectors."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def destination(self, mode: WriteMode) -> Destination:
        key = ("id",) if mode is WriteMode.UPSERT else ()
        return SnowflakeDestination(connection=self._place.connection, table="rows", write_mode=mode, primary_key=key)

    def rows(self) -> list[dict[str, Any]]:
        if "rows" not in self._place.tables():
            return []
        found = self._place.rows(f'SELECT "id", "name", "score", "at" FROM {self._place.named("rows")}')
        return [dict(zip(("id", "name", "score", "at"), row, strict=True)) for row in found]


class TestDestination(DestinationSuite):
    @pytest.fixture
    def target(self, place: Place) -> DestinationTarget:
        return Target(place)
