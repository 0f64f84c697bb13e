"""A server that speaks Kafka's protocol, one topic a test. It is an emulator: docs/dependencies.md says of what."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic  # type: ignore[attr-defined]  # it does export them

from tests.kit.process import ServerProcess, find_program, free_port, make_folder


@dataclass(frozen=True)
class KafkaServer:
    """A running server. `new_topic()` isolates a test; there is no login."""

    host: str
    port: int
    version: str
    process: ServerProcess = field(repr=False)

    @property
    def address(self) -> str:
        """The broker, as clients want it."""
        return f"{self.host}:{self.port}"

    @property
    def admin(self) -> AdminClient:
        """A client that makes and changes topics; keep it until its answers are there."""
        return AdminClient({"bootstrap.servers": self.address})

    def new_name(self) -> str:
        """Return a topic's name that nobody else has; the topic does not exist yet."""
        return f"t-{uuid.uuid4().hex[:12]}"

    def new_topic(self, partitions: int = 1) -> str:
        """Create a topic and return its name."""
        name = self.new_name()
        admin = self.admin
        admin.create_topics([NewTopic(name, partitions, 1)])[name].result(30)
        return name

    def add_partitions(self, topic: str, whole: int) -> None:
        """Let a topic have so many partitions."""
        admin = self.admin
        admin.create_partitions([NewPartitions(topic, whole)])[topic].result(30)

    def remove_before(self, topic: str, partition: int, offset: int) -> None:
        """Delete the messages before an offset, as retention does."""
        admin = self.admin
        for each in admin.delete_records([TopicPartition(topic, partition, offset)]).values():
            each.result(30)

    def send(self, topic: str, values: Sequence[bytes | None], *, partition: int = 0, **message: Any) -> None:
        """Write messages outside of any transaction."""
        producer = Producer({"bootstrap.servers": self.address})
        for each in values:
            producer.produce(topic, each, partition=partition, **message)
        assert producer.flush(30) == 0

    def messages(self, topic: str) -> list[Any]:
        """Return what a reader of committed messages sees, partition by partition; [] if there is no such topic."""
        held = self.admin.list_topics(timeout=10).topics
        if topic not in held:
            return []
        consumer = Consumer({
            "bootstrap.servers": self.address,
            "group.id": "look",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        })  # fmt: skip
        left = set(held[topic].partitions)
        consumer.assign([TopicPartition(topic, each, 0) for each in left])
        found = []
        while left:
            got: Any = consumer.poll(30)
            assert got is not None, "the server is silent"
            if got.error() is None:
                found.append(got)
            else:
                assert got.error().code() == KafkaError._PARTITION_EOF, got.error()
                left.discard(got.partition())
        consumer.close()
        return sorted(found, key=lambda each: (each.partition(), each.offset()))


def start_kafka() -> KafkaServer:
    """Start a server on a free port.

    Raises:
        Unavailable: noida-db is not installed, or does not start; carries its log.
    """
    program = find_program("noida-db")
    folder = make_folder("kafka")
    port = free_port()
    options = ["--data-dir", str(folder / "data"), "--only", "kafka", "--kafka-port", str(port)]
    process = ServerProcess("kafka", [program, "start", *options], folder)
    server = KafkaServer("127.0.0.1", port, "noida-db, an emulator", process)
    process.wait_until(lambda: server.admin.list_topics(timeout=2))
    return server
