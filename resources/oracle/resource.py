"""Oracle's options: how to reach it, what to read, where to write; imports no driver and opens nothing itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
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
from dsl.contracts.spec import option
from dsl.contracts.state import State
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
from resources.sql_deletes import DeletionOptions, check_deletes, refuse_cdc, telling, told_schema

DEFAULT_PORT = 1521


class EmptyText(StrEnum):
    """What happens to an empty text, which Oracle keeps as NULL."""

    REJECT = "reject"
    NULL = "null"


@dataclass(frozen=True, kw_only=True)
class OracleConnection(Connection):
    """An Oracle Database (18c or newer), by its thin driver. No server proves it here: its tests run against ORACLE_TEST_URL."""

    host: str = option(doc="Host name or address.", example="db.example.com")
    port: int = option(default=DEFAULT_PORT, doc="Its port.")
    service: str = option(doc="The service of the database.", example="FREEPDB1")
    username: str = option(doc="The user to log in as.", example="headrace")
    password: Secret | None = option(default=None, doc="Its password.", example="${ORACLE_PASSWORD}")
    schema: str | None = option(
        default=None, doc="The schema of tables that name none; the user's own if absent.", example="SHOP"
    )
    tls: Tls = option(
        default=Tls.AUTO,
        doc="auto speaks TLS and verifies the certificate and the host name, except with the loopback address. Oracle's native "
        "encryption is not for this driver: a server without TLS needs disable.",
    )
    ca_file: str | None = option(
        default=None, doc="Certificates to trust, as a PEM file; the system's if absent.", advanced=True
    )
    connect_timeout: timedelta = option(
        default=timedelta(seconds=10), doc="How long to wait for a connection.", advanced=True
    )

    @property
    def home(self) -> str:
        """The schema of tables that name none."""
        return self.schema or self.username.upper()

    def check(self) -> CheckResult:
        from resources.oracle.client import server_version

        try:
            return CheckResult(healthy=True, details=server_version(self))
        except HeadraceError as error:
            return CheckResult(healthy=False, details=str(error))

    def discover(self) -> Sequence[Stream]:
        from resources.oracle.reader import list_tables

        return list_tables(self)

    def key_of(self, *parts: str) -> tuple[str, ...]:
        """Returns the asset key of something in this database."""
        host = self.host if self.port == DEFAULT_PORT else f"{self.host}_{self.port}"
        return ("oracle", host, self.service, *parts)

    def table_name(self, text: str) -> TableName:
        """Reads `table` or `schema.table`."""
        return TableName.parse(text, self.home)


@dataclass(frozen=True, kw_only=True)
class OracleSource(DeletionOptions, Source):
    """A table, a view or a query, read in one read-only transaction.

    A full refresh of a table with a primary key resumes after any batch; the rows that follow come from a newer snapshot. An incremental
    read stops below the start of the oldest open transaction, which needs SELECT on GV_$TRANSACTION, or `lag`; a transaction is listed from
    its first write on, so a program that reads the clock long before it writes needs `lag`. A column of time without a zone may hold the
    server's time or UTC: the earlier of both is the bound. Names are found whatever their case. A value with nanoseconds is rejected
    with its row, and so is another value than 0 and 1 of a NUMBER(1), which is a boolean.
    """

    capabilities: ClassVar[SourceCapabilities] = SourceCapabilities(
        sync_modes=frozenset({SyncMode.FULL_REFRESH, SyncMode.INCREMENTAL}), projects=True, limits=True
    )

    connection: OracleConnection
    table: str | None = option(
        default=None, doc="The table or view; `schema.table` for another schema.", example="orders"
    )
    query: str | None = option(
        default=None, doc="One SELECT to read instead of a table.", example="SELECT id, total FROM orders"
    )
    columns: tuple[str, ...] = option(default=(), doc="The columns to read; all if absent.", example=["id", "total"])
    incremental_column: str | None = option(
        default=None,
        doc="Read only rows whose time here is new since the last run.",
        example="UPDATED_AT",
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

    def __post_init__(self) -> None:
        check_reading(self.table, self.query)
        refuse_cdc(self)
        check_deletes(self, incremental=self.incremental_column is not None)
        if self.table is not None:
            self.connection.table_name(self.table)
        check_incremental(self.incremental_column, {"initial_value": self.initial_value, "lag": self.lag})

    @property
    def lag_seconds(self) -> float | None:
        """The lag in seconds."""
        return None if self.lag is None else self.lag.total_seconds()

    @property
    def physical_name(self) -> tuple[str, ...]:
        if self.table is None:
            return self.connection.key_of(query_name(self.query))
        table = self.connection.table_name(self.table)
        return self.connection.key_of(table.schema, table.name)

    def discover_schema(self) -> pa.Schema:
        from resources.oracle.reader import discover_schema

        return told_schema(self, discover_schema(self))

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        from resources.oracle.reader import open_reader

        return telling(self, request, state, open_reader)


@dataclass(frozen=True, kw_only=True)
class OracleDestination(Destination):
    """A table, written in one transaction an epoch that also moves the token: exactly once, as far as a contract can say it.

    An upsert is one MERGE from a private temporary table; an overwrite refills the table in the transaction of the token, so that grants
    and keys stay. DDL commits by itself in Oracle, so tables are changed before an epoch, never within. Names that are made keep their
    case; those that are there are found whatever their case. A text is a VARCHAR2 of 4,000 bytes, longer ones are rejected unless the
    column was made as a CLOB. Oracle keeps an empty text as NULL: it is rejected, unless `empty_text` says that it may become one; a
    negative zero is rejected, for it would become a positive one.
    """

    capabilities: ClassVar[DestinationCapabilities] = DestinationCapabilities(
        write_modes=frozenset({WriteMode.APPEND, WriteMode.OVERWRITE, WriteMode.UPSERT}),
        guarantee=Guarantee.EXACTLY_ONCE,
        proof=Proof.CONTRACT,
    )

    connection: OracleConnection
    table: str = option(
        doc="The table; `schema.table` for another schema; `{input}` stands for the input's name.", example="orders"
    )
    primary_key: tuple[str, ...] = option(
        default=(), doc="The columns that identify a row, for upsert.", example=["id"]
    )
    schema_evolution: SchemaEvolution = option(
        default=SchemaEvolution.EVOLVE, doc="Add columns and widen types as rows need it, or refuse such rows."
    )

    empty_text: EmptyText = option(
        default=EmptyText.REJECT, doc="Reject rows with an empty text, which Oracle keeps as NULL, or take it for NULL."
    )

    def __post_init__(self) -> None:
        check_writing(self.write_mode, self.primary_key, self.capabilities.write_modes)
        self.connection.table_name(self.table)

    @property
    def physical_name(self) -> tuple[str, ...]:
        table = self.connection.table_name(self.table)
        return self.connection.key_of(table.schema, table.name)

    def open_writer(self, schema: pa.Schema, token: Token) -> BatchWriter:
        from resources.oracle.writer import open_writer

        return open_writer(self, schema, token)

    def for_input(self, name: str) -> Destination:
        return dataclasses.replace(self, table=self.table.replace("{input}", name))


CONNECTOR = ConnectorKind(
    kind="oracle",
    title="Oracle Database",
    connection=OracleConnection,
    source=OracleSource,
    destination=OracleDestination,
    extra="oracle",
    example="""\
type: oracle
config:
  host: db.example.com
  service: FREEPDB1
  username: headrace
  password: ${ORACLE_PASSWORD}
  table: orders
""",
)
