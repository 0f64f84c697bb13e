"""An index of a test's own on the emulator, and a look at it by other means than the connector."""

from __future__ import annotations

import urllib.error
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Destination
from dsl.contracts.secret import Secret
from resources.elasticsearch.resource import ElasticsearchConnection, ElasticsearchDestination
from resources.testing.samples import CANARY
from tests.kit.elasticsearch import ElasticsearchServer


@dataclass(frozen=True)
class Place:
    """One name on a server, as a target of the suites."""

    server: ElasticsearchServer
    connection: ElasticsearchConnection
    index: str

    def destination(self, mode: WriteMode = WriteMode.APPEND, **options: Any) -> Destination:
        key = {"id_field": "id"} if mode is WriteMode.UPSERT else {}
        return ElasticsearchDestination(
            **{"connection": self.connection, "index": self.index, "write_mode": mode, **key, **options}
        )

    def through(self, host: str, port: int, **options: Any) -> Place:
        """The same place, reached by another address."""
        return replace(self, connection=replace(self.connection, host=host, port=port, **options))

    def documents(self) -> dict[str, dict[str, Any]]:
        """Every document by its id; none if there is no such index."""
        try:
            return self.server.documents(self.index)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return {}
            raise

    def rows(self) -> list[dict[str, Any]]:
        """The documents as the suites' rows."""
        return [
            {name: datetime.fromisoformat(value) if name == "at" else value for name, value in each.items()}
            for each in self.documents().values()
        ]


@pytest.fixture
def place(elasticsearch: ElasticsearchServer, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("TEST_ES_PASSWORD", CANARY)
    connection = ElasticsearchConnection(
        host=elasticsearch.host, port=elasticsearch.port, username="elastic", password=Secret("${TEST_ES_PASSWORD}")
    )
    return Place(elasticsearch, connection, elasticsearch.new_index())
