"""A database for each test of the MySQL connector."""

from __future__ import annotations

import pytest

from dsl.contracts.secret import Secret
from resources.mysql.resource import MysqlConnection
from tests.kit.mariadb import MariaDBDatabase, MariaDBServer


@pytest.fixture
def database(mariadb: MariaDBServer) -> MariaDBDatabase:
    return mariadb.new_database()


@pytest.fixture
def connection(database: MariaDBDatabase, monkeypatch: pytest.MonkeyPatch) -> MysqlConnection:
    monkeypatch.setenv("TEST_MYSQL_PASSWORD", database.password)
    return MysqlConnection(
        host=database.host,
        port=database.port,
        database=str(database.database),
        username=database.user,
        password=Secret("${TEST_MYSQL_PASSWORD}"),
    )
