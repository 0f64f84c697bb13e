"""Topics of a test's own on the emulator, filled and looked at by other means than the connector."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.capabilities import SyncMode, WriteMode
from dsl.contracts.connectors import Destination, Source
from dsl.contracts.secret import Secret
from resources.formats.json_values import to_lines
from resources.kafka.resource import KafkaConnection, KafkaDestination, KafkaSource
from resources.testing import sample
from resources.testing.samples import CANARY
from tests.kit.kafka import KafkaServer


@dataclass
class Place:
    """One topic on a server, as origin and target of the suites."""

    server: KafkaServer
    connection: KafkaConnection
    topic: str = ""
    tokens: str = field(default="")

    def __post_init__(self) -> None:
        self.topic, self.tokens = self.topic or self.server.new_name(), self.server.new_name()

    def fill(self, rows: Sequence[pa.RecordBatch]) -> None:
        self.topic = self.server.new_topic(3)
        for number, each in enumerate(rows):
            self.server.send(self.topic, [line.encode() for line in to_lines(each)], partition=number % 3)

    def source(self, **options: Any) -> Source:
        given = {"sync_mode": SyncMode.FULL_REFRESH, "declared": sample(0, 0).schema, **options}
        return KafkaSource(connection=self.connection, topic=self.topic, **given)

    def destination(self, mode: WriteMode = WriteMode.APPEND, **options: Any) -> Destination:
        key = {} if mode is WriteMode.APPEND else {"primary_key": ("id",)}
        given = {"partitions": 2, "replication": 1, "token_topic": self.tokens, **key, **options}
        return KafkaDestination(connection=self.connection, topic=self.topic, write_mode=mode, **given)

    def documents(self) -> list[dict[str, Any]]:
        """The values that committed readers see; of messages with a key the newest, unless that is a tombstone."""
        found: dict[Any, Any] = {}
        for number, each in enumerate(self.server.messages(self.topic)):
            key = number if each.key() is None else each.key()
            found[key] = each.value()
        return [json.loads(each) for each in found.values() if each is not None]

    def rows(self) -> list[dict[str, Any]]:
        """The documents as the suites' rows."""
        return [
            {name: datetime.fromisoformat(value) if name == "at" else value for name, value in each.items()}
            for each in self.documents()
        ]


@pytest.fixture
def place(kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("TEST_KAFKA_KEY", CANARY)
    return Place(kafka, KafkaConnection(brokers=(kafka.address,), key_password=Secret("${TEST_KAFKA_KEY}")))
