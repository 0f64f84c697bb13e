"""Queues and streams of a test's own on a real broker, filled and looked at by other means than the connector."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.capabilities import SyncMode, WriteMode
from dsl.contracts.connectors import Destination
from dsl.contracts.secret import Secret
from resources.formats.json_values import to_lines
from resources.rabbitmq.client import properties as properties_of
from resources.rabbitmq.resource import QueueType, RabbitMQConnection, RabbitMQDestination, RabbitMQSource
from resources.testing import sample
from tests.kit.rabbitmq import RabbitMQServer

QUIET = timedelta(milliseconds=400)


@dataclass
class Place:
    """One queue or stream on a broker, as origin and target of the suites."""

    server: RabbitMQServer
    connection: RabbitMQConnection
    kind: QueueType = QueueType.STREAM
    name: str = ""

    def __post_init__(self) -> None:
        self.name = self.name or self.server.new_name()

    def make(self, **facts: Any) -> None:
        """Makes it, with facts of its own."""
        with closing(self.server.connect()) as opened:
            arguments = {"x-queue-type": str(self.kind), **facts}
            opened.channel().queue_declare(self.name, durable=True, arguments=arguments)

    def send(self, *bodies: bytes, ids: Sequence[str | None] = (), **properties: Any) -> None:
        """Sends messages, each confirmed."""
        with closing(self.server.connect()) as opened:
            channel = opened.channel()
            channel.confirm_delivery()
            for at, body in enumerate(bodies):
                told = properties_of(message_id=ids[at] if ids else None, **properties)
                channel.basic_publish("", self.name, body, told, mandatory=True)

    def numbers(self, *numbers: int) -> None:
        """Sends rows of one column."""
        self.send(*(json.dumps({"id": each}).encode() for each in numbers), ids=[f"m{each}" for each in numbers])

    def fill(self, rows: Sequence[pa.RecordBatch]) -> None:
        self.make()
        self.send(*(line.encode() for each in rows for line in to_lines(each)))

    def source(self, **options: Any) -> RabbitMQSource:
        reads = {"stream": self.name} if self.kind is QueueType.STREAM else {"queue": self.name}
        mode = SyncMode.FULL_REFRESH if self.kind is QueueType.STREAM else SyncMode.INCREMENTAL
        given = {"sync_mode": mode, "declared": sample(0, 0).schema, "quiet": QUIET, **reads, **options}
        return RabbitMQSource(connection=self.connection, **given)

    def destination(self, mode: WriteMode = WriteMode.APPEND, **options: Any) -> Destination:
        given = {"routing_key": self.name, "queue_type": self.kind, "write_mode": mode, **options}
        return RabbitMQDestination(connection=self.connection, **given)

    def held(self, count: int | None = None) -> list[tuple[str, bytes]]:
        """The ids and values of all messages of a queue, which stay there; so many, where some are still being given back."""
        count = self.ready(count)
        found: list[tuple[str, bytes]] = []
        with closing(self.server.connect()) as opened:
            channel = opened.channel()
            while len(found) < count:
                for method, properties, body in channel.consume(self.name):
                    assert method is not None
                    found.append((properties.message_id, body))
                    if len(found) == count:
                        break
        self.ready(count)
        return found

    def ready(self, count: int | None = None) -> int:
        """How many messages nobody has, once it is so many: the broker takes back what a consumer left a little later."""
        with closing(self.server.connect()) as opened:
            channel, told = opened.channel(), -1
            for _ in range(200):
                told = channel.queue_declare(self.name, passive=True).method.message_count
                if count is None or told == count:
                    break
                opened.sleep(0.05)
        assert count is None or told == count
        return told

    def rows(self) -> list[dict[str, Any]]:
        """What a consumer gets that drops ids it has seen, as the suites' rows."""
        return [_typed(json.loads(body)) for body in dict(self.held()).values()]

    def counted(self) -> Counter[int]:
        """How often such a consumer gets each number."""
        return Counter(row["id"] for row in self.rows())


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "at": datetime.fromisoformat(row["at"])} if "at" in row else row


@pytest.fixture
def place(rabbitmq_server: RabbitMQServer, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("TEST_RABBITMQ_PASSWORD", rabbitmq_server.password)
    connection = RabbitMQConnection(
        host=rabbitmq_server.host,
        port=rabbitmq_server.port,
        username="headrace",
        password=Secret("${TEST_RABBITMQ_PASSWORD}"),
    )
    return Place(rabbitmq_server, connection)
