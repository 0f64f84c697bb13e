"""MySQL's and MariaDB's options: how to reach them, what to read, where to write; imports no driver and opens nothing itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
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
from resources.sql_deletes import DeletionOptions, check_cdc, check_deletes, telling, told_schema

DEFAULT_PORT = 3306


@dataclass(frozen=True, kw_only=True)
class MysqlConnection(Connection):
    """A MySQL (8.0 or newer) or MariaDB (10.3 or newer) server and one of its databases."""

    host: str = option(doc="Host name or address.", example="db.example.com")
    port: int = option(default=DEFAULT_PORT, doc="Its port.")
    database: str = option(doc="The database.", example="shop")
    username: str = option(doc="The user to log in as.", example="headrace")
    password: Secret | None = option(default=None, doc="Its password.", example="${MYSQL_PASSWORD}")
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
        from resources.mysql.client import server_version

        try:
            return CheckResult(healthy=True, details=server_version(self))
        except HeadraceError as error:
            return CheckResult(healthy=False, details=str(error))

    def discover(self) -> Sequence[Stream]:
        from resources.mysql.reader import list_tables

        return list_tables(self)

    def key_of(self, *parts: str) -> tuple[str, ...]:
        """Returns the asset key of something on this server."""
        host = self.host if self.port == DEFAULT_PORT else f"{self.host}_{self.port}"
        return ("mysql", host, *parts)

    def table_name(self, text: str) -> TableName:
        """Reads `table` or `database.table`."""
        return TableName.parse(text, self.database)


@dataclass(frozen=True, kw_only=True)
class MysqlSource(DeletionOptions, Source):
    """A table or a query, read in one consistent snapshot.

    A full refresh of a table with a primary key resumes after any batch; the rows that follow come from a newer
    snapshot. An incremental read stops below the start of the oldest open transaction, so that what commits late is not
    lost; that needs the PROCESS right, or `lag`.
    """

    capabilities: ClassVar[SourceCapabilities] = SourceCapabilities(
        sync_modes=frozenset({SyncMode.FULL_REFRESH, SyncMode.INCREMENTAL, SyncMode.CDC}), projects=True, limits=True
    )

    connection: MysqlConnection
    table: str | None = option(default=None, doc="The table; `database.table` for another database.", example="orders")
    query: str | None = option(
        default=None, doc="One SELECT to read instead of a table.", example="SELECT id, total FROM orders"
    )
    columns: tuple[str, ...] = option(default=(), doc="The columns to read; all if absent.", example=["id", "total"])
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
        doc="cdc: read the table, then the binary log; the other modes follow from the options.",
        example="cdc",
    )

    def __post_init__(self) -> None:
        check_reading(self.table, self.query)
        check_deletes(self, incremental=self.incremental_column is not None)
        if self.deletes is Deletes.CDC and self.sync_mode is None:
            # The dataclass is frozen for everyone else: who tells deletions by the log reads the log.
            object.__setattr__(self, "sync_mode", SyncMode.CDC)
        check_cdc(self, (), ("incremental_column", "initial_value", "lag", "soft_column", "query"))
        if self.table is not None:
            self.connection.table_name(self.table)
        check_incremental(self.incremental_column, {"initial_value": self.initial_value, "lag": self.lag})

    @property
    def tells(self) -> Deletes:
        return (self.deletes or Deletes.CDC) if self.sync_mode is SyncMode.CDC else super().tells

    @property
    def physical_name(self) -> tuple[str, ...]:
        if self.table is None:
            return self.connection.key_of(self.connection.database, query_name(self.query))
        table = self.connection.table_name(self.table)
        return self.connection.key_of(table.schema, table.name)

    def discover_schema(self) -> pa.Schema:
        if self.sync_mode is SyncMode.CDC:
            from resources.mysql.cdc import discover_schema
        else:
            from resources.mysql.reader import discover_schema
        return told_schema(self, discover_schema(self))

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        if self.sync_mode is SyncMode.CDC:
            from resources.mysql.cdc import open_changes

            return open_changes(self, request, state)
        from resources.mysql.reader import open_reader

        return telling(self, request, state, open_reader)


@dataclass(frozen=True, kw_only=True)
class MysqlDestination(Destination):
    """An InnoDB table, written in one transaction an epoch that also moves the token: exactly once.

    An overwrite renames a gathered table into the target's place. The rename commits by itself, so the token says
    beforehand that it is owed; a run that finds it owed does it first.
    """

    capabilities: ClassVar[DestinationCapabilities] = DestinationCapabilities(
        write_modes=frozenset(WriteMode),
        guarantee=Guarantee.EXACTLY_ONCE,
        proof=Proof.REAL,
        compares=True,
    )

    connection: MysqlConnection
    table: str = option(
        doc="The table; `database.table` for another database; `{input}` stands for the input's name.", example="orders"
    )
    primary_key: tuple[str, ...] = option(
        default=(), doc="The columns that identify a row, for upsert and merge.", example=["id"]
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
        from resources.mysql.writer import open_writer

        return open_writer(self, schema, token)

    def for_input(self, name: str) -> Destination:
        return dataclasses.replace(self, table=self.table.replace("{input}", name))


CONNECTOR = ConnectorKind(
    kind="mysql",
    title="MySQL and MariaDB",
    connection=MysqlConnection,
    source=MysqlSource,
    destination=MysqlDestination,
    extra="mysql",
    example="""\
type: mysql
config:
  host: db.example.com
  database: shop
  username: headrace
  password: ${MYSQL_PASSWORD}
  table: orders
""",
)
