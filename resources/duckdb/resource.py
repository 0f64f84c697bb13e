"""DuckDB's options: which file, what to read, where to write; imports no driver and opens nothing itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
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
from dsl.contracts.spec import option
from dsl.contracts.state import State
from resources.sql import NullCursor, SchemaEvolution, TableName, check_reading, check_writing, query_name
from resources.sql_deletes import DeletionOptions, check_deletes, refuse_cdc, telling, told_schema

DEFAULT_SCHEMA = "main"


@dataclass(frozen=True, kw_only=True)
class DuckDBConnection(Connection):
    """A DuckDB file. One process at a time may write it."""

    path: str = option(doc="The file; made when something is written.", example="data/warehouse.duckdb")

    def check(self) -> CheckResult:
        from resources.duckdb.client import version

        try:
            return CheckResult(healthy=True, details=version(self))
        except HeadraceError as error:
            return CheckResult(healthy=False, details=str(error))

    def discover(self) -> Sequence[Stream]:
        from resources.duckdb.client import list_tables

        return list_tables(self)

    def key_of(self, *parts: str) -> tuple[str, ...]:
        """Returns the asset key of something in this file: the whole path, as files of one name in folders of one name are two."""
        path = Path(self.path)
        return ("duckdb", *path.relative_to(path.anchor).parts, *parts)


@dataclass(frozen=True, kw_only=True)
class DuckDBSource(DeletionOptions, Source):
    """A table or a query. A full refresh of a table with a primary key resumes after any batch."""

    capabilities: ClassVar[SourceCapabilities] = SourceCapabilities(
        sync_modes=frozenset({SyncMode.FULL_REFRESH, SyncMode.INCREMENTAL}), projects=True, limits=True
    )

    connection: DuckDBConnection
    table: str | None = option(default=None, doc="The table, with its schema if not `main`.", example="orders")
    query: str | None = option(default=None, doc="One SELECT to read instead of a table.", example="SELECT 1 AS one")
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
    null_cursor: NullCursor = option(
        default=NullCursor.REFUSE, doc="Refuse to run, or read once, rows whose incremental column is NULL."
    )

    def __post_init__(self) -> None:
        check_reading(self.table, self.query)
        check_deletes(self, incremental=self.incremental_column is not None)
        refuse_cdc(self)
        if self.table is not None:
            TableName.parse(self.table, DEFAULT_SCHEMA)

    @property
    def physical_name(self) -> tuple[str, ...]:
        if self.table is None:
            return self.connection.key_of(query_name(self.query))
        table = TableName.parse(self.table, DEFAULT_SCHEMA)
        return self.connection.key_of(table.schema, table.name)

    def discover_schema(self) -> pa.Schema:
        from resources.duckdb.reader import discover_schema

        return told_schema(self, discover_schema(self))

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        from resources.duckdb.reader import open_reader

        return telling(self, request, state, open_reader)


@dataclass(frozen=True, kw_only=True)
class DuckDBDestination(Destination):
    """A table, written in one transaction an epoch that also moves the token: exactly once.

    A row that breaks a constraint of a table that was there before ends the run: DuckDB undoes the whole transaction
    and has no savepoints. Tables that are created here have no constraints.
    """

    capabilities: ClassVar[DestinationCapabilities] = DestinationCapabilities(
        write_modes=frozenset(WriteMode),
        guarantee=Guarantee.EXACTLY_ONCE,
        proof=Proof.REAL,
        compares=True,
        nested=True,
    )

    connection: DuckDBConnection
    table: str = option(
        doc="The table, with its schema if not `main`; `{input}` stands for the input's name.", example="orders"
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
        from resources.duckdb.writer import open_writer

        return open_writer(self, schema, token)

    def for_input(self, name: str) -> Destination:
        return dataclasses.replace(self, table=self.table.replace("{input}", name))


CONNECTOR = ConnectorKind(
    kind="duckdb",
    title="DuckDB",
    connection=DuckDBConnection,
    source=DuckDBSource,
    destination=DuckDBDestination,
    example="""\
type: duckdb
config:
  path: data/warehouse.duckdb
  table: orders
""",
)
