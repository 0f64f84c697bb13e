"""A schema for each test of the Snowflake connector: in an emulator, or in a real account that the environment names.

With SNOWFLAKE_TEST_ACCOUNT set, the same tests run against that account, as SNOWFLAKE_TEST_USER with
SNOWFLAKE_TEST_PASSWORD, in SNOWFLAKE_TEST_DATABASE, SNOWFLAKE_TEST_WAREHOUSE and SNOWFLAKE_TEST_ROLE.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from dsl.contracts.secret import Secret
from resources.snowflake.resource import Protocol, SnowflakeConnection
from resources.sql import TableName
from resources.testing.samples import CANARY
from tests.kit.snowflake import SnowflakeDatabase

REAL = os.environ.get("SNOWFLAKE_TEST_ACCOUNT", "")


@dataclass(frozen=True)
class Place:
    """An empty schema, and a look at it by other means than the connector."""

    database: SnowflakeDatabase
    connection: SnowflakeConnection

    def execute(self, *statements: str) -> None:
        """Runs statements in a session of their own."""
        self.database.execute(*statements)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query in a session of its own."""
        return self.database.rows(query)

    def tables(self) -> list[str]:
        """The names of all tables."""
        found = self.rows(
            f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{self.database.schema}'"
        )
        return sorted(str(each[0]) for each in found)

    def named(self, table: str) -> str:
        """A table's name in a statement."""
        return TableName(self.database.schema, table).quoted()


def _real() -> SnowflakeDatabase:
    def given(name: str) -> str:
        return os.environ.get(f"SNOWFLAKE_TEST_{name}", "")

    host = f"{REAL}.snowflakecomputing.com"
    login = (given("USER"), given("PASSWORD"), given("DATABASE"))
    return SnowflakeDatabase(host, 443, "https", REAL, *login, schema=f"HEADRACE_{uuid.uuid4().hex[:12].upper()}")


@pytest.fixture
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    database = _real() if REAL else request.getfixturevalue("snowflake").new_database()
    if REAL:
        replace(database, schema="PUBLIC").execute(f"CREATE SCHEMA {database.schema}")
    monkeypatch.setenv("TEST_SNOWFLAKE_PASSWORD", database.password if REAL else CANARY)
    connection = SnowflakeConnection(
        account=database.account,
        host=database.host,
        port=database.port,
        protocol=Protocol(database.protocol),
        username=database.user,
        password=Secret("${TEST_SNOWFLAKE_PASSWORD}"),
        database=database.database or "",
        schema=database.schema,
        warehouse=os.environ.get("SNOWFLAKE_TEST_WAREHOUSE"),
        role=os.environ.get("SNOWFLAKE_TEST_ROLE"),
    )
    yield Place(database, connection)
    if REAL:
        database.execute(f"DROP SCHEMA {database.schema} CASCADE")
