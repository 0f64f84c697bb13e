"""Redis's options: how to reach a server, which stream to read and what to write; imports no driver and opens nothing itself."""

from __future__ import annotations

import dataclasses
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
from resources.queue_values import check_facts
from resources.sql import Tls, check_writing

DEFAULT_PORT = 6379
INPUT = "{input}"
FACTS: Mapping[str, pa.DataType] = {"id": pa.string(), "timestamp": pa.timestamp("us", "UTC")}


class EntryFormat(StrEnum):
    """How a row stands in an entry of a stream."""

    FIELDS = "fields"
    JSON = "json"


class Store(StrEnum):
    """What rows become."""

    STREAM = "stream"
    HASH = "hash"
    STRING = "string"


class OnLost(StrEnum):
    """What happens where entries were removed before they were read."""

    FAIL = "fail"
    REJECT = "reject"


@dataclass(frozen=True, kw_only=True)
class RedisConnection(Connection):
    """A Redis server (6.2 or newer), or one that speaks its protocol; not a cluster of them."""

    host: str = option(doc="Host name or address.", example="redis.example.com")
    port: int = option(default=DEFAULT_PORT, doc="Its port.")
    database: int = option(default=0, doc="The number of the database.")
    username: str | None = option(default=None, doc="The user to log in as; the default user if absent.")
    password: Secret | None = option(default=None, doc="Its password.", example="${REDIS_PASSWORD}")
    tls: Tls = option(
        default=Tls.AUTO,
        doc="auto encrypts, and verifies certificate and host name, except with the loopback address. "
        "disable speaks plain text: whoever sees the network sees rows and passwords.",
    )
    ca_file: str | None = option(
        default=None, doc="Certificates to trust, as a PEM file; the system's if absent.", advanced=True
    )
    timeout: timedelta = option(default=timedelta(seconds=60), doc="How long one answer may take.", advanced=True)

    def __post_init__(self) -> None:
        if not self.host or "/" in self.host:
            raise OptionError("host", f"'{self.host}' is no host name", "write host and port apart, without redis://")
        if self.username is not None and self.password is None:
            raise OptionError("password", "a user without a password cannot log in", "add password")
        if self.timeout <= timedelta():
            raise OptionError("timeout", "an answer takes longer than nothing", "write a duration such as 60s")

    def check(self) -> CheckResult:
        from resources.redis.client import server_version

        try:
            return CheckResult(healthy=True, details=server_version(self))
        except HeadraceError as error:
            return CheckResult(healthy=False, details=str(error))

    def discover(self) -> Sequence[Stream]:
        from resources.redis.client import streams_of

        return streams_of(self)

    def key_of(self, *parts: str) -> tuple[str, ...]:
        """Returns the asset key of something in this database."""
        host = self.host if self.port == DEFAULT_PORT else f"{self.host}_{self.port}"
        return ("redis", host, str(self.database), *parts)


@dataclass(frozen=True, kw_only=True)
class RedisSource(Source):
    """A stream, read by the ids of its entries.

    A run reads what is there when it begins, and ends; in a workflow with `mode: stream` it goes on. The id that it came to is
    kept beside the rows that it wrote; no consumer group is needed, and nothing is acknowledged or removed. Where entries
    were trimmed before they were read, the run says how many and fails (Redis 7 counts them; before, it says that it cannot tell).
    """

    capabilities: ClassVar[SourceCapabilities] = SourceCapabilities(
        sync_modes=frozenset({SyncMode.FULL_REFRESH, SyncMode.INCREMENTAL, SyncMode.STREAM}), projects=True
    )

    connection: RedisConnection
    stream: str = option(doc="The key of the stream.", example="orders")
    format: EntryFormat = option(
        default=EntryFormat.FIELDS, doc="fields: each field is a column; json: one field holds a JSON object."
    )
    value_field: str = option(default="value", doc="The field that holds the JSON object.")
    metadata: dict[str, str] = option(
        default={},
        doc="Columns beside those of the entry: id or timestamp (the one in the id), each under a name.",
        example={"entry": "id"},
    )
    sync_mode: SyncMode = option(
        default=SyncMode.INCREMENTAL, doc="`full_refresh` reads all that is kept, each time from the beginning."
    )
    on_lost: OnLost = option(
        default=OnLost.FAIL,
        doc="What happens where entries were trimmed before they were read: fail, or reject a row that says so and go on.",
        advanced=True,
    )
    declared: pa.Schema | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.stream:
            raise OptionError("stream", "it names no key", "write the key of a stream")
        check_facts(self.metadata, FACTS)

    @property
    def physical_name(self) -> tuple[str, ...]:
        return self.connection.key_of(self.stream)

    def declaring(self, schema: pa.Schema) -> Source:
        return dataclasses.replace(self, declared=schema)

    def discover_schema(self) -> pa.Schema:
        from resources.redis.reader import discover_schema

        return discover_schema(self)

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        from resources.redis.reader import RedisReader

        return RedisReader(self, request, state)

    def backlog(self, state: State | None) -> int:
        """Returns how many entries wait behind a state, up to ten thousand.

        Raises:
            SchemaError: There is no such stream.
            UnavailableError: The server cannot be reached.
        """
        from resources.redis.reader import backlog

        return backlog(self, state)


@dataclass(frozen=True, kw_only=True)
class RedisDestination(Destination):
    """A stream with an entry for each row, or a hash or string for each key.

    `store: stream` appends. `hash` and `string` (a JSON object) need `write_mode: upsert` or `merge` and a `primary_key`: the row
    of key 7 stands at `<target>:7`, and replaces what was there. NULL is a field that is absent.

    Exactly once on one server: an epoch's rows and the token, a hash beside them, change in one `MULTI`, which a newer run's
    fence makes fail. What the server loses in a crash or a failover (`appendfsync`, asynchronous replicas), it loses of rows and
    token together: the next run finds the older token and stops, because its checkpoint is ahead, before it writes anything.
    """

    capabilities: ClassVar[DestinationCapabilities] = DestinationCapabilities(
        write_modes=frozenset({WriteMode.APPEND, WriteMode.UPSERT, WriteMode.MERGE}),
        guarantee=Guarantee.EXACTLY_ONCE,
        proof=Proof.REAL,
        nested=True,
    )

    connection: RedisConnection
    target: str = option(
        doc="The key of the stream, or what stands before the keys of rows; `{input}` stands for the input's name.",
        example="orders",
    )
    store: Store = option(default=Store.STREAM, doc="What rows become.")
    format: EntryFormat = option(
        default=EntryFormat.FIELDS, doc="Entries of a stream: a field for each column, or one that holds a JSON object."
    )
    value_field: str = option(default="value", doc="The field that holds the JSON object.")
    primary_key: tuple[str, ...] = option(default=(), doc="Columns that tell rows apart in `upsert` and `merge`.")
    max_entries: int | None = option(
        default=None, doc="Entries that the stream keeps, about; older ones are trimmed.", advanced=True
    )

    def __post_init__(self) -> None:
        check_writing(self.write_mode, self.primary_key, self.capabilities.write_modes)
        if (self.store is Store.STREAM) is not (self.write_mode is WriteMode.APPEND):
            hint = "write_mode: upsert goes with store: hash or string, append with store: stream"
            raise OptionError("store", f"{self.write_mode} and {self.store} do not fit together", hint)
        if not self.target:
            raise OptionError("target", "it names no key", "write the key of the stream")

    @property
    def physical_name(self) -> tuple[str, ...]:
        return self.connection.key_of(self.target)

    def open_writer(self, schema: pa.Schema, token: Token) -> BatchWriter:
        from resources.redis.writer import open_writer

        return open_writer(self, schema, token)

    def for_input(self, name: str) -> Destination:
        return dataclasses.replace(self, target=self.target.replace(INPUT, name))


CONNECTOR = ConnectorKind(
    kind="redis",
    title="Redis",
    connection=RedisConnection,
    source=RedisSource,
    destination=RedisDestination,
    extra="redis",
    example="""\
type: redis
config:
  host: redis.example.com
  password: ${REDIS_PASSWORD}
  stream: orders
""",
)
