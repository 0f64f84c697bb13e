"""PostgreSQL's options: how to reach it, what to read, where to write; imports no driver and opens nothing itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import pairwise
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
from dsl.contracts.changes import Deletes
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
from dsl.contracts.spec import option
from dsl.contracts.state import Json, State
from resources.sql import (
    NullCursor,
    SchemaEvolution,
    TableName,
    Tls,
    check_incremental,
    check_reading,
    check_writing,
    query_name,
)
from resources.sql_deletes import DeletionOptions, check_cdc, check_deletes, telling, told_schema

DEFAULT_PORT = 5432
DEFAULT_SCHEMA = "public"
_OF_CHANGES = SourceCapabilities(sync_modes=frozenset({SyncMode.CDC, SyncMode.STREAM}), projects=True)
_INCREMENTAL = ("incremental_column", "initial_value", "lag", "soft_column")


@dataclass(frozen=True, kw_only=True)
class PostgresConnection(Connection):
    """A PostgreSQL server (12 or newer) and one of its databases."""

    host: str = option(doc="Host name or address, or the folder of its socket.", example="db.example.com")
    port: int = option(default=DEFAULT_PORT, doc="Its port.")
    database: str = option(doc="The database.", example="shop")
    username: str = option(doc="The role to log in as.", example="headrace")
    password: Secret | None = option(default=None, doc="Its password.", example="${POSTGRES_PASSWORD}")
    tls: Tls = option(
        default=Tls.AUTO, doc="auto verifies the certificate and the host name except on the loopback address."
    )
    ca_file: str | None = option(
        default=None, doc="Certificates to trust, as a PEM file; the system's if absent.", advanced=True
    )
    connect_timeout: timedelta = option(
        default=timedelta(seconds=10), doc="How long to wait for a connection.", advanced=True
    )

    def check(self) -> CheckResult:
        from resources.postgres.client import server_version

        try:
            return CheckResult(healthy=True, details=server_version(self))
        except HeadraceError as error:
            return CheckResult(healthy=False, details=str(error))

    def discover(self) -> Sequence[Stream]:
        from resources.postgres.client import list_tables

        return list_tables(self)

    def key_of(self, *parts: str) -> tuple[str, ...]:
        """Returns the asset key of something in this database."""
        host = self.host if self.port == DEFAULT_PORT else f"{self.host}_{self.port}"
        return ("postgres", host, self.database, *parts)


@dataclass(frozen=True, kw_only=True)
class PostgresSource(DeletionOptions, Source):
    """A table or a query, read by COPY.

    A full refresh of a table with a primary key resumes after any batch; the rows that follow come from a newer
    snapshot. It can be divided (`partitions`) by ranges of the key's first column, which are all read in one snapshot.
    An incremental read stops below the start of the oldest open transaction, so that what commits late is not lost; that
    needs the right to see other sessions (`GRANT pg_monitor`), or `lag`.
    """

    capabilities: ClassVar[SourceCapabilities] = SourceCapabilities(
        sync_modes=frozenset({SyncMode.FULL_REFRESH, SyncMode.INCREMENTAL, SyncMode.CDC}),
        projects=True,
        limits=True,
        divides=True,
    )

    connection: PostgresConnection
    table: str | None = option(default=None, doc="The table, with its schema if not `public`.", example="public.users")
    query: str | None = option(
        default=None, doc="One SELECT to read instead of a table.", example="SELECT id, name FROM users"
    )
    columns: tuple[str, ...] = option(default=(), doc="The columns to read; all if absent.", example=["id", "name"])
    incremental_column: str | None = option(
        default=None, doc="Read only rows whose value here is new since the last run.", example="updated_at"
    )
    primary_key: tuple[str, ...] = option(
        default=(), doc="The columns that identify a row; the table's own primary key if absent.", example=["id"]
    )
    initial_value: str | None = option(
        default=None, doc="The first value of the incremental column to read; all if absent.", example="2024-01-01"
    )
    lag: timedelta | None = option(
        default=None,
        doc="Stay this far behind the server's clock instead of below its oldest open transaction: "
        "longer than any transaction lasts.",
        example="10m",
    )
    null_cursor: NullCursor = option(
        default=NullCursor.REFUSE, doc="Refuse to run, or read once, rows whose incremental column is NULL."
    )
    sync_mode: SyncMode | None = option(
        default=None,
        doc="cdc: read the table, then its log of changes; the other modes follow from the options.",
        example="cdc",
    )
    slot: str | None = option(
        default=None, doc="The replication slot of cdc, one for each workflow; named after the table, and made, if absent.",
        example="orders_to_warehouse",
    )  # fmt: skip
    publication: str | None = option(
        default=None,
        doc="The publication of cdc that holds the table; named after it, and made, if absent.",
        advanced=True,
    )

    within: tuple[str | None, str | None] | None = dataclasses.field(default=None, repr=False)
    snapshot: str = dataclasses.field(default="", repr=False)

    def __post_init__(self) -> None:
        check_reading(self.table, self.query)
        check_deletes(self, incremental=self.incremental_column is not None)
        if self.deletes is Deletes.CDC and self.sync_mode is None:
            # The dataclass is frozen for everyone else: who tells deletions by the log reads the log.
            object.__setattr__(self, "sync_mode", SyncMode.CDC)
        check_cdc(self, ("slot", "publication"), (*_INCREMENTAL, "query"))
        if self.sync_mode is SyncMode.CDC:
            object.__setattr__(self, "capabilities", _OF_CHANGES)
        if self.table is not None:
            TableName.parse(self.table, DEFAULT_SCHEMA)
        check_incremental(self.incremental_column, {"initial_value": self.initial_value, "lag": self.lag})

    @property
    def tells(self) -> Deletes:
        return (self.deletes or Deletes.CDC) if self.sync_mode is SyncMode.CDC else super().tells

    @property
    def physical_name(self) -> tuple[str, ...]:
        if self.table is None:
            return self.connection.key_of(query_name(self.query))
        table = TableName.parse(self.table, DEFAULT_SCHEMA)
        return self.connection.key_of(table.schema, table.name)

    def discover_schema(self) -> pa.Schema:
        if self.sync_mode is SyncMode.CDC:
            from resources.postgres.cdc import discover_schema
        else:
            from resources.postgres.reader import discover_schema
        return told_schema(self, discover_schema(self))

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        if self.sync_mode is SyncMode.CDC:
            from resources.postgres.cdc import open_changes

            return open_changes(self, request, state)
        from resources.postgres.reader import open_reader

        return telling(self, request, state, partial(open_reader, snapshot=self.snapshot))

    def splits(self, count: int) -> tuple[Json, ...]:
        if self.table is None or self.incremental_column is not None or self.tells is not Deletes.IGNORED:
            return ()
        if self.sync_mode is SyncMode.CDC:
            return ()
        from resources.postgres.reader import divided

        bounds = [None, *divided(self, count), None]
        return tuple([after, end] for after, end in pairwise(bounds))

    def part(self, split: Json) -> Source:
        assert isinstance(split, list)  # noqa: S101 - `splits` made it
        after, end = (None if each is None else str(each) for each in split)
        return dataclasses.replace(self, within=(after, end))

    @contextmanager
    def together(self) -> Iterator[Source]:
        from resources.postgres.reader import exported

        with exported(self) as snapshot:
            yield dataclasses.replace(self, snapshot=snapshot)


@dataclass(frozen=True, kw_only=True)
class PostgresDestination(Destination):
    """A table, written by COPY in one transaction an epoch that also moves the token: exactly once."""

    capabilities: ClassVar[DestinationCapabilities] = DestinationCapabilities(
        write_modes=frozenset(WriteMode),
        guarantee=Guarantee.EXACTLY_ONCE,
        proof=Proof.REAL,
        compares=True,
    )

    connection: PostgresConnection
    table: str = option(
        doc="The table, with its schema if not `public`; `{input}` stands for the input's name.", example="public.users"
    )
    primary_key: tuple[str, ...] = option(
        default=(), doc="The columns that identify a row, for upsert and merge.", example=["id"]
    )
    schema_evolution: SchemaEvolution = option(
        default=SchemaEvolution.EVOLVE, doc="Add columns and widen types as rows need it, or refuse such rows."
    )

    def __post_init__(self) -> None:
        check_writing(self.write_mode, self.primary_key, self.capabilities.write_modes)
        TableName.parse(self.table, DEFAULT_SCHEMA)

    @property
    def physical_name(self) -> tuple[str, ...]:
        table = TableName.parse(self.table, DEFAULT_SCHEMA)
        return self.connection.key_of(table.schema, table.name)

    def open_writer(self, schema: pa.Schema, token: Token) -> BatchWriter:
        from resources.postgres.writer import open_writer

        return open_writer(self, schema, token)

    def for_input(self, name: str) -> Destination:
        return dataclasses.replace(self, table=self.table.replace("{input}", name))


CONNECTOR = ConnectorKind(
    kind="postgres",
    title="PostgreSQL",
    connection=PostgresConnection,
    source=PostgresSource,
    destination=PostgresDestination,
    extra="postgres",
    example="""\
type: postgres
config:
  host: db.example.com
  database: shop
  username: headrace
  password: ${POSTGRES_PASSWORD}
  table: public.users
""",
)
