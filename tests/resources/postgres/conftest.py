"""A database for each test of the PostgreSQL connector."""

from __future__ import annotations

import pytest

from dsl.contracts.secret import Secret
from resources.postgres.resource import PostgresConnection
from tests.kit.postgres import PostgresDatabase, PostgresServer


@pytest.fixture
def database(postgres: PostgresServer) -> PostgresDatabase:
    return postgres.new_database()


@pytest.fixture
def connection(database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> PostgresConnection:
    monkeypatch.setenv("TEST_POSTGRES_PASSWORD", database.password)
    return PostgresConnection(
        host=database.host,
        port=database.port,
        database=database.database,
        username=database.user,
        password=Secret("${TEST_POSTGRES_PASSWORD}"),
    )
