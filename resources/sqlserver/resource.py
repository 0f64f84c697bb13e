"""SQL Server's options: how to reach it, what to read, where to write; imports no driver and opens nothing itself."""

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
from dsl.contracts.spec import OptionError, option
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

DEFAULT_PORT = 1433


class Isolation(StrEnum):
    """What a reader sees of others."""

    SNAPSHOT = "snapshot"
    READ_COMMITTED = "read_committed"


@dataclass(frozen=True, kw_only=True)
class SqlServerConnection(Connection):
    """A SQL Server (2016 or newer) or Azure SQL database. No server proves this here: its tests run against the one in MSSQL_TEST_URL."""

    host: str = option(doc="Host name or address.", example="db.example.com")
    port: int = option(default=DEFAULT_PORT, doc="Its port.")
    database: str = option(doc="The database.", example="shop")
    schema: str = option(default="dbo", doc="The schema of tables that name none.")
    username: str = option(doc="The login.", example="headrace")
    password: Secret | None = option(default=None, doc="Its password.", example="${MSSQL_PASSWORD}")
    tls: Tls = option(
        default=Tls.AUTO,
        doc="auto encrypts, and verifies the certificate and the host name except on the loopback address.",
    )
    server_certificate: str | None = option(
        default=None,
        doc="The one certificate to accept, as a PEM file; what the system trusts if absent.",
        advanced=True,
    )
    certificate_host: str | None = option(
        default=None, doc="The host name in the certificate, where it is another one.", advanced=True
    )

    def check(self) -> CheckResult:
        from resources.sqlserver.client import server_version

        try:
            return CheckResult(healthy=True, details=server_version(self))
        except HeadraceError as error:
            return CheckResult(healthy=False, details=str(error))

    def discover(self) -> Sequence[Stream]:
        from resources.sqlserver.reader import list_tables

        return list_tables(self)

    def key_of(self, *parts: str) -> tuple[str, ...]:
        """Returns the asset key of something in this database."""
        host = self.host if self.port == DEFAULT_PORT else f"{self.host}_{self.port}"
        return ("sqlserver", host, self.database, *parts)

    def table_name(self, text: str) -> TableName:
        """Reads `table` or `schema.table`."""
        return TableName.parse(text, self.schema)


@dataclass(frozen=True, kw_only=True)
class SqlServerSource(DeletionOptions, Source):
    """A table, a view or a query, read in one snapshot.

    A full refresh of a table with a primary key resumes after any batch; the rows that follow come from a newer snapshot. An incremental
    read stops below the start of the oldest open transaction, which needs VIEW SERVER STATE (or `lag`), or below
    MIN_ACTIVE_ROWVERSION where the column is a rowversion, which needs no right and knows no clock. A column of time without a zone may
    hold the server's time or UTC: the earlier of both is the bound. A tenth of a microsecond is rejected with its row.
    """

    capabilities: ClassVar[SourceCapabilities] = SourceCapabilities(
        sync_modes=frozenset({SyncMode.FULL_REFRESH, SyncMode.INCREMENTAL}), projects=True, limits=True
    )

    connection: SqlServerConnection
    table: str | None = option(
        default=None, doc="The table or view; `schema.table` for another schema.", example="orders"
    )
    query: str | None = option(
        default=None,
        doc="One SELECT without WITH and ORDER BY to read instead.",
        example="SELECT id, total FROM dbo.orders",
    )
    columns: tuple[str, ...] = option(default=(), doc="The columns to read; all if absent.", example=["id", "total"])
    incremental_column: str | None = option(
        default=None,
        doc="Read only rows whose time or rowversion here is new since the last run.",
        example="updated_at",
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
    isolation: Isolation = option(
        default=Isolation.SNAPSHOT,
        doc="snapshot needs ALLOW_SNAPSHOT_ISOLATION of the database; read_committed waits for writers, and a row that is "
        "written meanwhile may be seen as it was or as it is.",
        advanced=True,
    )

    def __post_init__(self) -> None:
        check_reading(self.table, self.query)
        refuse_cdc(self)
        check_deletes(self, incremental=self.incremental_column is not None)
        if self.query is not None and self.query.lstrip(" \t\r\n(").lower().startswith("with"):
            raise OptionError("query", "SQL Server takes no WITH within a query", "put it into a view")
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
        from resources.sqlserver.reader import discover_schema

        return told_schema(self, discover_schema(self))

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        from resources.sqlserver.reader import open_reader

        return telling(self, request, state, open_reader)


@dataclass(frozen=True, kw_only=True)
class SqlServerDestination(Destination):
    """A table, written in one transaction an epoch that also moves the token: exactly once, as far as a contract can say it.

    Rows wait in a temporary table while an epoch is open, so that nobody waits for its locks but at the commit. An upsert is one MERGE
    under HOLDLOCK; an overwrite refills the table in the transaction of the token, so that grants, keys and triggers stay. Texts of
    tables that are made here are compared byte by byte; keys that differ in trailing blanks only are one key to SQL Server.
    """

    capabilities: ClassVar[DestinationCapabilities] = DestinationCapabilities(
        write_modes=frozenset({WriteMode.APPEND, WriteMode.OVERWRITE, WriteMode.UPSERT}),
        guarantee=Guarantee.EXACTLY_ONCE,
        proof=Proof.CONTRACT,
    )

    connection: SqlServerConnection
    table: str = option(
        doc="The table; `schema.table` for another schema; `{input}` stands for the input's name.", example="orders"
    )
    primary_key: tuple[str, ...] = option(
        default=(), doc="The columns that identify a row, for upsert.", example=["id"]
    )
    schema_evolution: SchemaEvolution = option(
        default=SchemaEvolution.EVOLVE, doc="Add columns and widen types as rows need it, or refuse such rows."
    )

    def __post_init__(self) -> None:
        check_writing(self.write_mode, self.primary_key, self.capabilities.write_modes)
        self.connection.table_name(self.table)

    @property
    def physical_name(self) -> tuple[str, ...]:
        table = self.connection.table_name(self.table)
        return self.connection.key_of(table.schema, table.name)

    def open_writer(self, schema: pa.Schema, token: Token) -> BatchWriter:
        from resources.sqlserver.writer import open_writer

        return open_writer(self, schema, token)

    def for_input(self, name: str) -> Destination:
        return dataclasses.replace(self, table=self.table.replace("{input}", name))


CONNECTOR = ConnectorKind(
    kind="sqlserver",
    title="SQL Server",
    connection=SqlServerConnection,
    source=SqlServerSource,
    destination=SqlServerDestination,
    extra="sqlserver",
    example="""\
type: sqlserver
config:
  host: db.example.com
  database: shop
  username: headrace
  password: ${MSSQL_PASSWORD}
  table: orders
""",
)
