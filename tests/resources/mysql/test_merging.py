"""Changes merged into tables of a real MariaDB."""

from __future__ import annotations

from typing import Any

import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Destination
from resources.mysql.resource import MysqlConnection, MysqlDestination
from resources.testing import MergeSuite, MergeTarget
from tests.kit.mariadb import MariaDBDatabase


class Place:
    """One table."""

    def __init__(self, database: MariaDBDatabase, connection: MysqlConnection) -> None:
        self._database, self._connection = database, connection

    def destination(self, key: tuple[str, ...]) -> Destination:
        return MysqlDestination(connection=self._connection, table="kept", write_mode=WriteMode.MERGE, primary_key=key)

    def rows(self) -> list[tuple[Any, ...]]:
        return self._database.rows("SELECT id, part, value FROM kept")


class TestMerging(MergeSuite):
    @pytest.fixture
    def merged(self, database: MariaDBDatabase, connection: MysqlConnection) -> MergeTarget:
        return Place(database, connection)
