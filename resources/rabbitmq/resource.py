"""RabbitMQ's options: how to reach a broker, what to read and where to write; imports no driver and opens nothing itself."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
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
    Token,
)
from dsl.contracts.errors import HeadraceError
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError, option
from dsl.contracts.state import State
from resources.queue_values import ValueFormat, check_facts
from resources.sql import Tls, check_writing, loopback

INPUT = "{input}"
COLUMN = re.compile(r"\{([^{}]+)\}")
SHORT = 255
FACTS: Mapping[str, pa.DataType] = {
    "message_id": pa.string(),
    "correlation_id": pa.string(),
    "type": pa.string(),
    "app_id": pa.string(),
    "content_type": pa.string(),
    "exchange": pa.string(),
    "routing_key": pa.string(),
    "timestamp": pa.timestamp("us", "UTC"),
    "headers": pa.string(),
    "redelivered": pa.bool_(),
    "delivery_count": pa.int64(),
    "offset": pa.int64(),
}
_QUEUED = frozenset({"redelivered", "delivery_count"})


class Start(StrEnum):
    """Where the first run of a stream begins."""

    EARLIEST = "earliest"
    LATEST = "latest"


class OnLost(StrEnum):
    """What happens where messages were removed from a stream before they were read."""

    FAIL = "fail"
    REJECT = "reject"


class Id(StrEnum):
    """What tells messages of a queue apart."""

    MESSAGE_ID = "message_id"


class QueueType(StrEnum):
    """What a queue is that a destination makes."""

    QUORUM = "quorum"
    CLASSIC = "classic"
    STREAM = "stream"


@dataclass(frozen=True, kw_only=True)
class RabbitMQConnection(Connection):
    """A RabbitMQ broker (3.9 or newer), by AMQP 0.9.1; this protocol cannot list queues, so none are discovered."""

    host: str = option(doc="Host name or address.", example="rabbitmq.example.com")
    port: int | None = option(default=None, doc="Its port; 5671 with TLS, 5672 without, if absent.")
    virtual_host: str = option(default="/", doc="The virtual host.")
    username: str = option(default="guest", doc="The user to log in as.", example="headrace")
    password: Secret = option(doc="Its password.", example="${RABBITMQ_PASSWORD}")
    tls: Tls = option(
        default=Tls.AUTO,
        doc="auto encrypts, and verifies certificate and host name, except with the loopback address. "
        "disable speaks plain text: whoever sees the network sees rows and passwords.",
    )
    ca_file: str | None = option(
        default=None, doc="Certificates to trust, as a PEM file; the system's if absent.", advanced=True
    )
    certificate_file: str | None = option(default=None, doc="The client's certificate, as a PEM file.", advanced=True)
    key_file: str | None = option(default=None, doc="The key of that certificate, as a PEM file.", advanced=True)
    timeout: timedelta = option(default=timedelta(seconds=60), doc="How long one answer may take.", advanced=True)

    def __post_init__(self) -> None:
        if not self.host or "/" in self.host:
            raise OptionError("host", f"'{self.host}' is no host name", "write host and port apart, without amqp://")
        if (self.certificate_file is None) != (self.key_file is None):
            raise OptionError("key_file", "certificate_file and key_file belong together", "give both")
        if self.timeout <= timedelta():
            raise OptionError("timeout", "an answer takes longer than nothing", "write a duration such as 60s")

    @property
    def secure(self) -> bool:
        """Whether it encrypts."""
        return self.tls is not Tls.DISABLE and not (self.tls is Tls.AUTO and loopback(self.host))

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port or (5671 if self.secure else 5672)}"

    def check(self) -> CheckResult:
        from resources.rabbitmq.client import server_version

        try:
            return CheckResult(healthy=True, details=server_version(self))
        except HeadraceError as error:
            return CheckResult(healthy=False, details=str(error))

    def key_of(self, *parts: str) -> tuple[str, ...]:
        """Returns the asset key of something in this virtual host."""
        host = self.host if self.port in {None, 5671, 5672} else f"{self.host}_{self.port}"
        return ("rabbitmq", host, self.virtual_host.strip("/") or "default", *parts)


@dataclass(frozen=True, kw_only=True)
class RabbitMQSource(Source):
    """A stream, read by offsets, or a queue, from which messages are taken.

    `stream`: a run reads what is there when it begins, and ends; in a workflow with `mode: stream` it goes on. The offset is
    kept beside the rows that it wrote: reading again from it gives the same rows, so the destination's guarantee holds. Where
    retention removed messages before they were read, the run says which and fails. AMQP does not tell where a stream ends: a run
    ends behind the last message that it is sent within `quiet` of its start.

    `queue` (quorum or classic): a run takes as many messages as are ready when it begins, or until the queue is empty. They
    are acknowledged after the commit of their rows, and never before; what was not acknowledged comes again. So rows arrive at least
    once, whatever the destination promises. With `id: message_id`, which declares that ids are unique, ids are remembered beside the
    rows and a message that comes again is acknowledged without a row: effectively once. A message that comes for more than
    the `max_deliveries`th time is rejected: something about it makes its readers fail. A preview puts all back, but a quorum queue
    counts it as a delivery.
    """

    capabilities: ClassVar[SourceCapabilities] = SourceCapabilities(
        sync_modes=frozenset({SyncMode.FULL_REFRESH, SyncMode.INCREMENTAL, SyncMode.STREAM}),
        projects=True,
        replayable=False,
    )

    connection: RabbitMQConnection
    stream: str | None = option(default=None, doc="The stream to read; or `queue`.", example="orders")
    queue: str | None = option(default=None, doc="The queue to take messages from; or `stream`.")
    format: ValueFormat = option(
        default=ValueFormat.JSON,
        doc="What a message holds: a JSON object, whose fields are columns; a text or bytes, which are one column, `value`.",
    )
    metadata: dict[str, str] = option(
        default={},
        doc="Columns beside those of the message: message_id, correlation_id, type, app_id, content_type, exchange, routing_key, "
        "timestamp, headers (a JSON text), offset (streams), redelivered or delivery_count (queues), each under a name.",
        example={"key": "routing_key"},
    )
    sync_mode: SyncMode = option(
        default=SyncMode.INCREMENTAL,
        doc="`full_refresh` reads all that a stream keeps, each time from the beginning; queues have none.",
    )
    start: Start = option(default=Start.EARLIEST, doc="Where the first run of a stream begins.")
    on_lost: OnLost = option(
        default=OnLost.FAIL,
        doc="Where a stream's messages were removed before they were read: fail, or reject a row that says which and go on.",
        advanced=True,
    )
    id: Id | None = option(default=None, doc="Declares that messages of a queue have unique ids, to drop repetitions.")
    remember: int = option(
        default=10_000,
        doc="Ids that are remembered, at least: more than messages between a commit and what comes again after it.",
        advanced=True,
    )
    max_deliveries: int = option(
        default=10, doc="Deliveries after which a message of a quorum queue is rejected.", advanced=True
    )
    prefetch: int = option(default=1000, doc="Messages that are under way at once, at most.", advanced=True)
    quiet: timedelta = option(
        default=timedelta(seconds=1),
        doc="How long a broker may take to send the end of a stream, or the next message of a queue.",
        advanced=True,
    )
    declared: pa.Schema | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        if bool(self.stream) is bool(self.queue):
            raise OptionError("stream", "a source reads a stream or a queue", "give one of `stream` and `queue`")
        check_facts(self.metadata, FACTS)
        self._check_kind()
        for name in ("prefetch", "remember", "max_deliveries"):
            if getattr(self, name) < 1:
                raise OptionError(name, "it must be at least 1", "leave it out")
        if self.prefetch > 65_535:
            raise OptionError("prefetch", "AMQP counts to 65535", "leave it out")
        if self.stream:
            # What this very source does; the class says what holds for queues as well.
            able = dataclasses.replace(self.capabilities, replayable=True)
            object.__setattr__(self, "capabilities", able)

    def _check_kind(self) -> None:
        wrong = {"offset"} if self.queue else _QUEUED
        for column, fact in self.metadata.items():
            if fact in wrong:
                kind = "queue" if self.queue else "stream"
                raise OptionError("metadata", f"a {kind} does not tell '{fact}', for column '{column}'", "remove it")
        if self.queue and self.sync_mode is SyncMode.FULL_REFRESH:
            raise OptionError("sync_mode", "what is taken from a queue is not there again", "write incremental")
        if self.queue and self.start is not Start.EARLIEST:
            raise OptionError("start", "a queue begins with its first message", "remove it")
        if self.stream and self.id is not None:
            raise OptionError("id", "a stream is read by offsets, and repeats nothing", "remove it")
        if self.sync_mode is SyncMode.FULL_REFRESH and self.start is Start.LATEST:
            raise OptionError("start", "a full refresh begins at the beginning", "remove start, or sync_mode")

    @property
    def name(self) -> str:
        """The queue or stream."""
        return self.stream or self.queue or ""

    @property
    def physical_name(self) -> tuple[str, ...]:
        return self.connection.key_of(self.name)

    def declaring(self, schema: pa.Schema) -> Source:
        return dataclasses.replace(self, declared=schema)

    def discover_schema(self) -> pa.Schema:
        from resources.rabbitmq.streams import discover_schema

        return discover_schema(self)

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        if self.queue:
            from resources.rabbitmq.queues import QueueReader

            return QueueReader(self, request, state)
        from resources.rabbitmq.streams import StreamReader

        return StreamReader(self, request, state)

    def backlog(self, state: State | None) -> int:
        """Returns how many messages wait behind a state.

        Raises:
            SchemaError: There is no such queue.
            UnavailableError: The broker cannot be reached.
        """
        from resources.rabbitmq.streams import backlog

        return backlog(self, state)


@dataclass(frozen=True, kw_only=True)
class RabbitMQDestination(Destination):
    """An exchange, to which each row is a persistent message that the broker confirms.

    Values are JSON objects, exact: what JSON has no type for is a text. Or one column is the value as it is (`value_field`). A row
    that no queue takes is rejected (`mandatory`), as is one whose routing key is NULL or too long.

    At least once: neither a queue nor a stream takes messages and a token in one act, and the publishing ids by which a stream drops
    repetitions are not part of AMQP 0.9.1. Messages are visible when they are sent, before the epoch commits; after a crash those of
    the epoch that was open are sent again. Each has a `message_id` made of the load, the row's number in it and its content, the same
    when it is sent again in the same order: a consumer that drops ids it has seen gets each row once. Where the load stands is kept in a
    small stream of its own (`headrace.token.…`), whose order decides which of two runs goes on.
    """

    capabilities: ClassVar[DestinationCapabilities] = DestinationCapabilities(
        write_modes=frozenset({WriteMode.APPEND}),
        guarantee=Guarantee.AT_LEAST_ONCE,
        proof=Proof.REAL,
        nested=True,
    )

    connection: RabbitMQConnection
    exchange: str = option(
        default="", doc="The exchange, which must exist; the default one, whose routing keys are queues, if absent."
    )
    routing_key: str = option(
        doc="The routing key; `{column}` stands for a row's value, `{input}` for the input's name.",
        example="orders.{country}",
    )
    queue_type: QueueType | None = option(
        default=None, doc="Makes the queue that `routing_key` names, of this type, if it is absent.", example="quorum"
    )
    value_field: str | None = option(
        default=None, doc="The column of text or bytes that is the whole value; a JSON object of all columns if absent."
    )
    header_fields: tuple[str, ...] = option(
        default=(), doc="Columns that are sent as headers and not in the value.", example=["trace_id"]
    )

    def __post_init__(self) -> None:
        check_writing(self.write_mode, (), self.capabilities.write_modes)
        if not self.exchange and not self.routing_key:
            raise OptionError("routing_key", "with the default exchange it names the queue", "write the queue's name")
        if self.queue_type is not None and (self.exchange or self.columns):
            hint = "write the queue's name as routing_key, without exchange, or make the queues yourself"
            raise OptionError("queue_type", "it cannot be told which queues to make", hint)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the routing key names."""
        return tuple(COLUMN.findall(self.routing_key.replace(INPUT, "")))

    @property
    def physical_name(self) -> tuple[str, ...]:
        return self.connection.key_of(*([self.exchange] if self.exchange else []), self.routing_key or "all")

    def open_writer(self, schema: pa.Schema, token: Token) -> BatchWriter:
        from resources.rabbitmq.writer import open_writer

        return open_writer(self, schema, token)

    def for_input(self, name: str) -> Destination:
        return dataclasses.replace(self, routing_key=self.routing_key.replace(INPUT, name))


CONNECTOR = ConnectorKind(
    kind="rabbitmq",
    title="RabbitMQ",
    connection=RabbitMQConnection,
    source=RabbitMQSource,
    destination=RabbitMQDestination,
    extra="rabbitmq",
    example="""\
type: rabbitmq
config:
  host: rabbitmq.example.com
  username: headrace
  password: ${RABBITMQ_PASSWORD}
  stream: orders
""",
)
