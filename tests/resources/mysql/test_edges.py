"""The edges of incremental reads of a real MariaDB: each row once, or a refusal that says why."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from dsl.contracts.connectors import Source
from resources.mysql.resource import MysqlConnection, MysqlSource
from resources.testing import GrowingTable, IncrementalSuite
from resources.testing.incremental import TABLE, Run
from tests.kit.mariadb import MariaDBDatabase


class Events:
    """The table of the suite."""

    def __init__(self, database: MariaDBDatabase, connection: MysqlConnection) -> None:
        self._database, self._connection = database, connection
        self.execute(TABLE.format(int="bigint", time="datetime(6)"))

    def source(self, **options: Any) -> Source:
        return MysqlSource(
            **{"connection": self._connection, "table": "events", "incremental_column": "changed", **options}
        )

    def execute(self, *statements: str) -> None:
        self._database.execute(*statements)

    def late(self) -> AbstractContextManager[Run]:
        return self._late()

    @contextmanager
    def _late(self) -> Iterator[Run]:
        with self._database.connect(autocommit=False) as opened, opened.cursor() as cursor:
            yield lambda statement: (cursor.execute(statement), None)[1]
            opened.commit()

    def now(self) -> str:
        return "NOW(6)"

    def settle(self) -> None:
        time.sleep(1.2)


class TestEdges(IncrementalSuite):
    @pytest.fixture
    def growing(self, database: MariaDBDatabase, connection: MysqlConnection) -> GrowingTable:
        return Events(database, connection)
