"""Kafka's options: how to reach a cluster, what to read and where to write; imports no driver and opens nothing itself."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import ClassVar

import pyarrow as pa

from dsl.contracts.capabilities import (
    DestinationCapabilities,
    Guarantee,
    Proof,
    SourceCapabilities,
    SyncMode,
    WriteMode,
)
from dsl.contracts.connectors import (
    BatchReader,
    BatchWriter,
    CheckResult,
    Connection,
    ConnectorKind,
    Destination,
    ReadRequest,
    Source,
    Stream,
    Token,
)
from dsl.contracts.errors import HeadraceError
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError, option
from dsl.contracts.state import State
from resources.endpoints import check_endpoint
from resources.queue_values import check_facts
from resources.sql import Tls

TOKEN_TOPIC = "headrace-tokens"  # noqa: S105 - a topic's name
INPUT = "{input}"
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
HEADERS: pa.DataType = pa.list_(pa.struct([pa.field("name", pa.string()), pa.field("value", pa.binary())]))
FACTS: Mapping[str, pa.DataType] = {
    "topic": pa.string(),
    "partition": pa.int32(),
    "offset": pa.int64(),
    "timestamp": pa.timestamp("us", "UTC"),
    "key": pa.string(),
    "key_bytes": pa.binary(),
    "headers": HEADERS,
}


class Mechanism(StrEnum):
    """How a user proves who they are."""

    PLAIN = "PLAIN"
    SCRAM_256 = "SCRAM-SHA-256"
    SCRAM_512 = "SCRAM-SHA-512"


class MessageFormat(StrEnum):
    """What a message holds; the last three begin with the number of a schema in a Schema Registry."""

    JSON = "json"
    TEXT = "text"
    BYTES = "bytes"
    AVRO = "avro"
    JSON_SCHEMA = "json_schema"
    PROTOBUF = "protobuf"


REGISTERED = frozenset({MessageFormat.AVRO, MessageFormat.JSON_SCHEMA, MessageFormat.PROTOBUF})


class Start(StrEnum):
    """Where the first run begins."""

    EARLIEST = "earliest"
    LATEST = "latest"


class OnLost(StrEnum):
    """What happens where messages were removed before they were read."""

    FAIL = "fail"
    REJECT = "reject"


@dataclass(frozen=True, kw_only=True)
class KafkaConnection(Connection):
    """A Kafka cluster, or one that speaks its protocol."""

    brokers: tuple[str, ...] = option(doc="Some of its brokers, as host:port.", example=["kafka-1.example.com:9093"])
    username: str | None = option(default=None, doc="The user to log in as.", example="headrace")
    password: Secret | None = option(default=None, doc="Its password.", example="${KAFKA_PASSWORD}")
    mechanism: Mechanism = option(default=Mechanism.SCRAM_512, doc="How the password is proven.")
    tls: Tls = option(
        default=Tls.AUTO,
        doc="auto encrypts, and verifies certificate and host name, except where all brokers have the loopback address. "
        "disable speaks plain text: whoever sees the network sees rows and passwords.",
    )
    ca_file: str | None = option(
        default=None, doc="Certificates to trust, as a PEM file; the system's if absent.", advanced=True
    )
    certificate_file: str | None = option(default=None, doc="The client's certificate, as a PEM file.", advanced=True)
    key_file: str | None = option(default=None, doc="The key of that certificate, as a PEM file.", advanced=True)
    key_password: Secret | None = option(default=None, doc="The password of that key.", advanced=True)
    schema_registry: str | None = option(
        default=None, doc="The address of a Schema Registry.", example="https://registry.example.com"
    )
    registry_username: str | None = option(default=None, doc="The user to log in as there.", advanced=True)
    registry_password: Secret | None = option(default=None, doc="Its password there.", advanced=True)

    def __post_init__(self) -> None:
        if not self.brokers or not all(re.fullmatch(r"[^\s,/@]+:\d+", each) for each in self.brokers):
            raise OptionError("brokers", "it names no brokers", "write a list such as [kafka-1:9092]")
        if (self.username is None) != (self.password is None):
            raise OptionError("password", "username and password belong together", "give both")
        if (self.certificate_file is None) != (self.key_file is None):
            raise OptionError("key_file", "certificate_file and key_file belong together", "give both")
        if (self.registry_username is None) != (self.registry_password is None):
            raise OptionError(
                "registry_password", "registry_username and registry_password belong together", "give both"
            )
        _check_registry(self.schema_registry, self.tls)

    def check(self) -> CheckResult:
        from resources.kafka.client import cluster_of

        try:
            return CheckResult(healthy=True, details=cluster_of(self))
        except HeadraceError as error:
            return CheckResult(healthy=False, details=str(error))

    def discover(self) -> Sequence[Stream]:
        from resources.kafka.client import topics_of

        return topics_of(self)

    def key_of(self, *parts: str) -> tuple[str, ...]:
        """Returns the asset key of something in this cluster."""
        return ("kafka", min(self.brokers).rpartition(":")[0], *parts)


@dataclass(frozen=True, kw_only=True)
class KafkaSource(Source):
    """A topic, each partition in its order.

    A run reads what is committed when it begins, and ends; in a workflow with `mode: stream` it goes on. How far it came is
    kept beside the rows that it wrote, not in the cluster, so that rows and offsets cannot part; `group` tells lag
    monitors. Messages of transactions that were given up are never seen. Partitions that are added are read from their
    beginning. Where retention removed messages before they were read, the run says which and fails.

    Messages become rows by `format`. With a registry the columns are those of the newest schema of the `subject`; each message
    is read by the schema that it names, and a column that this one has not is NULL. A message that is no row is rejected with
    its partition, offset and all it holds. A tombstone is a row of NULLs. `metadata` adds what Kafka says of a message.
    """

    capabilities: ClassVar[SourceCapabilities] = SourceCapabilities(
        sync_modes=frozenset({SyncMode.FULL_REFRESH, SyncMode.INCREMENTAL, SyncMode.STREAM}), projects=True
    )

    connection: KafkaConnection
    topic: str = option(doc="The topic to read.", example="orders")
    format: MessageFormat = option(
        default=MessageFormat.JSON,
        doc="What a message holds: a JSON object, whose fields are columns; a text or bytes, which are one column, `value`; or "
        "Avro, JSON or Protobuf by a schema in the connection's `schema_registry`.",
    )
    subject: str | None = option(
        default=None,
        doc="Where the registry keeps the schema whose columns are read; `<topic>-value` if absent.",
        advanced=True,
    )
    metadata: dict[str, str] = option(
        default={},
        doc="Columns beside those of the message: topic, partition, offset, timestamp, key, key_bytes or headers, each under a name.",
        example={"at": "timestamp", "customer": "key"},
    )
    sync_mode: SyncMode = option(
        default=SyncMode.INCREMENTAL, doc="`full_refresh` reads all that is kept, each time from the beginning."
    )
    start: Start = option(default=Start.EARLIEST, doc="Where the first run begins.")
    on_lost: OnLost = option(
        default=OnLost.FAIL,
        doc="What happens where retention removed messages before they were read: fail, or reject a row that says which and go on.",
        advanced=True,
    )
    group: str | None = option(
        default=None,
        doc="The consumer group that is told what is committed, for lag monitors.",
        example="headrace-orders",
    )
    timeout: timedelta = option(
        default=timedelta(seconds=60),
        doc="How long brokers may be silent although there is more to read.",
        advanced=True,
    )
    declared: pa.Schema | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        _check_topic("topic", self.topic)
        check_facts(self.metadata, FACTS)
        if self.sync_mode is SyncMode.FULL_REFRESH and self.start is Start.LATEST:
            raise OptionError("start", "a full refresh begins at the beginning", "remove start, or sync_mode")
        if self.format in REGISTERED and self.connection.schema_registry is None:
            raise OptionError(
                "format", f"{self.format} needs a Schema Registry", "add schema_registry to the connection"
            )

    @property
    def physical_name(self) -> tuple[str, ...]:
        return self.connection.key_of(self.topic)

    def declaring(self, schema: pa.Schema) -> Source:
        return dataclasses.replace(self, declared=schema)

    def discover_schema(self) -> pa.Schema:
        from resources.kafka.reader import discover_schema

        return discover_schema(self)

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        from resources.kafka.reader import KafkaReader

        return KafkaReader(self, request, state)

    def backlog(self, state: State | None) -> int:
        """Returns how many messages wait behind a state, about: removed and aborted ones count too.

        Raises:
            SchemaError: There is no such topic.
            UnavailableError: No broker answers.
        """
        from resources.kafka.reader import backlog

        return backlog(self, state)


@dataclass(frozen=True, kw_only=True)
class KafkaDestination(Destination):
    """A topic; each row is a message, and each epoch one transaction that also moves the stream's token.

    Values are JSON objects, exact: what JSON has no type for is a text. Or one column is the value as it is (`value_field`). With a
    `primary_key` that is the message's key, and rows of one key stay in order in one partition; `upsert` means that the newest
    message of a key counts, as in a compacted topic, and `merge` writes a deletion as a tombstone.

    Exactly once for whoever reads with `isolation.level=read_committed`: the token is a message of the same transaction in a
    compacted topic of its own, and a writer's `transactional.id` is the stream's, so that a newer run fences an older one and
    gives up what it left open. Brokers before 4.0 (without KIP-890) can, in rare faults, join a late message of an older
    transaction to a newer one. Until an epoch commits, readers of the topic that read committed messages wait for it.
    """

    capabilities: ClassVar[DestinationCapabilities] = DestinationCapabilities(
        write_modes=frozenset({WriteMode.APPEND, WriteMode.UPSERT, WriteMode.MERGE}),
        guarantee=Guarantee.EXACTLY_ONCE,
        proof=Proof.EMULATOR,
        nested=True,
    )

    connection: KafkaConnection
    topic: str = option(doc="The topic, made if absent; `{input}` stands for the input's name.", example="orders")
    primary_key: tuple[str, ...] = option(
        default=(), doc="Columns that make the message's key: the text of one, or a JSON list of several."
    )
    value_field: str | None = option(
        default=None, doc="The column of text or bytes that is the whole value; a JSON object of all columns if absent."
    )
    header_fields: tuple[str, ...] = option(
        default=(), doc="Columns that are sent as headers and not in the value.", example=["trace_id"]
    )
    partition_field: str | None = option(
        default=None, doc="The column that says the partition; the key does if absent.", advanced=True
    )
    partitions: int = option(default=-1, doc="Partitions of a topic that is made; -1 for as many as the brokers say.")
    replication: int = option(default=-1, doc="Copies of a topic that is made; -1 for as many as the brokers say.")
    transaction_timeout: timedelta = option(
        default=timedelta(minutes=10),
        doc="After it the brokers give up an epoch that is not committed; longer than an epoch, at most what they allow.",
        advanced=True,
    )
    token_topic: str = option(default=TOKEN_TOPIC, doc="The compacted topic that keeps the tokens.", advanced=True)

    def __post_init__(self) -> None:
        _check_topic("topic", self.topic.replace(INPUT, "x"))
        _check_topic("token_topic", self.token_topic)
        keyed = self.write_mode in {WriteMode.UPSERT, WriteMode.MERGE}
        if keyed and not self.primary_key:
            raise OptionError("primary_key", f"{self.write_mode} needs the columns that identify a row", "add it")
        if self.topic == self.token_topic:
            raise OptionError("token_topic", "rows and tokens need topics of their own", "leave it out")

    @property
    def physical_name(self) -> tuple[str, ...]:
        return self.connection.key_of(self.topic)

    def open_writer(self, schema: pa.Schema, token: Token) -> BatchWriter:
        from resources.kafka.writer import open_writer

        return open_writer(self, schema, token)

    def for_input(self, name: str) -> Destination:
        return dataclasses.replace(self, topic=self.topic.replace(INPUT, name))


def _check_registry(address: str | None, tls: Tls) -> None:
    try:
        check_endpoint(address, Tls.AUTO if tls is Tls.REQUIRE or address is None else tls, "a registry", path=True)
    except OptionError as error:
        raise OptionError("schema_registry", error.message, error.hint) from error


def _check_topic(option_name: str, name: str) -> None:
    if not _TOPIC.fullmatch(name) or name in {".", ".."}:
        raise OptionError(option_name, f"'{name}' cannot be a topic's name", "letters, digits, . _ and -, at most 249")


CONNECTOR = ConnectorKind(
    kind="kafka",
    title="Kafka",
    connection=KafkaConnection,
    source=KafkaSource,
    destination=KafkaDestination,
    extra="kafka",
    example="""\
type: kafka
config:
  brokers: [kafka-1.example.com:9093]
  username: headrace
  password: ${KAFKA_PASSWORD}
  topic: orders
""",
)
