"""Keys of a test's own on a real server, filled and looked at by other means than the connector."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.capabilities import SyncMode, WriteMode
from dsl.contracts.connectors import Destination, Source
from dsl.contracts.secret import Secret
from resources.formats.json_values import to_rows
from resources.redis.resource import RedisConnection, RedisDestination, RedisSource, Store
from resources.testing import sample
from resources.testing.samples import CANARY
from tests.kit.redis import RedisServer


@dataclass
class Place:
    """One key on a server, as origin and target of the suites."""

    server: RedisServer
    connection: RedisConnection
    key: str = ""
    store: Store = Store.HASH

    def __post_init__(self) -> None:
        self.key = self.key or self.server.new_key()

    def fill(self, rows: Sequence[pa.RecordBatch]) -> None:
        client = self.server.client()
        client.delete(self.key)
        for each in rows:
            for row in to_rows(each):
                client.xadd(self.key, {name: str(value) for name, value in row.items() if value is not None})
        if not client.exists(self.key):
            client.xgroup_create(self.key, "nobody", mkstream=True)

    def source(self, **options: Any) -> Source:
        given = {"sync_mode": SyncMode.FULL_REFRESH, "declared": sample(0, 0).schema, **options}
        return RedisSource(connection=self.connection, stream=self.key, **given)

    def destination(self, mode: WriteMode = WriteMode.APPEND, **options: Any) -> Destination:
        keyed = {"primary_key": ("id",), "store": self.store}
        given = {**({} if mode is WriteMode.APPEND else keyed), **options}
        return RedisDestination(connection=self.connection, target=self.key, write_mode=mode, **given)

    def rows(self) -> list[dict[str, Any]]:
        """Everything at the key, or at the keys below it, as the suites' rows."""
        client = self.server.client()
        if client.exists(self.key):
            return [_row(fields) for _, fields in client.xrange(self.key)]
        names = list(client.scan_iter(f"{self.key}:*"))
        if self.store is Store.STRING:
            return [_typed(json.loads(client.get(each))) for each in names]
        return [_row(client.hgetall(each)) for each in names]


def _row(fields: dict[bytes, bytes]) -> dict[str, Any]:
    held = {name.decode(): value.decode() for name, value in fields.items()}
    for name, kind in (("id", int), ("score", float)):
        if name in held:
            held[name] = kind(held[name])  # type: ignore[assignment]
    return _typed(held)


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "at": datetime.fromisoformat(row["at"])} if "at" in row else row


@pytest.fixture
def place(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("TEST_REDIS_PASSWORD", CANARY)
    connection = RedisConnection(
        host=redis_server.host, port=redis_server.port, username="headrace", password=Secret("${TEST_REDIS_PASSWORD}")
    )
    return Place(redis_server, connection)
