"""SQLite's options: which file, what to read, where to write; imports no driver and opens nothing itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
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
from dsl.contracts.spec import OptionError, option
from dsl.contracts.state import State
from resources.sql import (
    NullCursor,
    SchemaEvolution,
    TableName,
    check_incremental,
    check_reading,
    check_writing,
    query_name,
)
from resources.sql_deletes import DeletionOptions, check_deletes, refuse_cdc, telling, told_schema

MAIN = "main"


@dataclass(frozen=True, kw_only=True)
class SQLiteConnection(Connection):
    """A SQLite file. Any number of processes may read it; one transaction at a time writes."""

    path: str = option(
        doc="The file; made when something is written, in a folder that exists.", example="data/users.db"
    )
    busy_timeout: timedelta = option(
        default=timedelta(seconds=10), doc="How long to wait for another's transaction to end.", advanced=True
    )

    def __post_init__(self) -> None:
        """Refuses what is no file.

        Raises:
            OptionError: The path is empty, or names a database in memory.
        """
        if not self.path or self.path.startswith((":memory:", "file:")) or "\0" in self.path:
            raise OptionError("path", f"'{self.path}' is not the path of a file", "write a path, such as data/users.db")

    def check(self) -> CheckResult:
        from resources.sqlite.client import version

        try:
            return CheckResult(healthy=True, details=version(self))
        except HeadraceError as error:
            return CheckResult(healthy=False, details=str(error))

    def discover(self) -> Sequence[Stream]:
        from resources.sqlite.reader import list_tables

        return list_tables(self)

    def key_of(self, *parts: str) -> tuple[str, ...]:
        """Returns the asset key of something in this file: the whole path, as files of one name in folders of one name are two."""
        path = Path(self.path)
        return ("sqlite", *path.relative_to(path.anchor).parts, *parts)


def table_name(text: str) -> TableName:
    """Reads `table` or `main.table`.

    Raises:
        OptionError: It names another database: a file has one.
    """
    table = TableName.parse(text, MAIN)
    if table.schema != MAIN:
        raise OptionError("table", f"a file has no schema '{table.schema}'", f"write {table.name}")
    return table


@dataclass(frozen=True, kw_only=True)
class SQLiteSource(DeletionOptions, Source):
    """A table, a view or a query, read in one snapshot of a file that is opened for reading only.

    SQLite stores any value in any column. What a column's declared type promises decides its Arrow type, and a value
    that breaks the promise rejects its row; a column that promises nothing has the type of the values it holds. Dates
    and times are ISO 8601 text. A full refresh of a table with a primary key resumes after any batch. An incremental
    read needs a key and no bound for late commits: one transaction at a time writes, so what commits later comes later.
    (Values that a program picks before it begins its transaction may still arrive out of order.) A file that is not in
    WAL mode is copied, pass by pass, into a temporary table first, because its writers wait for everyone who reads.
    """

    capabilities: ClassVar[SourceCapabilities] = SourceCapabilities(
        sync_modes=frozenset({SyncMode.FULL_REFRESH, SyncMode.INCREMENTAL}), projects=True, limits=True
    )

    connection: SQLiteConnection
    table: str | None = option(default=None, doc="The table or view.", example="users")
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
    null_cursor: NullCursor = option(
        default=NullCursor.REFUSE, doc="Refuse to run, or read once, rows whose incremental column is NULL."
    )

    def __post_init__(self) -> None:
        check_reading(self.table, self.query)
        check_deletes(self, incremental=self.incremental_column is not None)
        refuse_cdc(self)
        if self.table is not None:
            table_name(self.table)
        check_incremental(self.incremental_column, {"initial_value": self.initial_value})

    @property
    def physical_name(self) -> tuple[str, ...]:
        if self.table is None:
            return self.connection.key_of(query_name(self.query))
        return self.connection.key_of(table_name(self.table).name)

    def discover_schema(self) -> pa.Schema:
        from resources.sqlite.reader import discover_schema

        return told_schema(self, discover_schema(self))

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        from resources.sqlite.reader import open_reader

        return telling(self, request, state, open_reader)


@dataclass(frozen=True, kw_only=True)
class SQLiteDestination(Destination):
    """A table, written in one transaction an epoch that also moves the token: exactly once.

    Rows wait in a temporary table until their epoch is committed, so that the file is locked for the commit alone and
    several workflows may write one file. A file that is made here is in WAL mode, in which readers and the writer do
    not wait for each other. Decimals are stored as text, digit by digit; NaN, which SQLite turns into NULL, rejects its
    row. A row that breaks a CHECK, a trigger or a unique expression of a table that was there before ends the run.
    """

    capabilities: ClassVar[DestinationCapabilities] = DestinationCapabilities(
        write_modes=frozenset(WriteMode),
        guarantee=Guarantee.EXACTLY_ONCE,
        proof=Proof.REAL,
        compares=True,
    )

    connection: SQLiteConnection
    table: str = option(doc="The table; `{input}` stands for the input's name.", example="users")
    primary_key: tuple[str, ...] = option(
        default=(), doc="The columns that identify a row, for upsert and merge.", example=["id"]
    )
    schema_evolution: SchemaEvolution = option(
        default=SchemaEvolution.EVOLVE, doc="Add columns and widen types as rows need it, or refuse such rows."
    )

    def __post_init__(self) -> None:
        check_writing(self.write_mode, self.primary_key, self.capabilities.write_modes)
        table_name(self.table)

    @property
    def physical_name(self) -> tuple[str, ...]:
        return self.connection.key_of(table_name(self.table).name)

    def open_writer(self, schema: pa.Schema, token: Token) -> BatchWriter:
        from resources.sqlite.writer import open_writer

        return open_writer(self, schema, token)

    def for_input(self, name: str) -> Destination:
        return dataclasses.replace(self, table=self.table.replace("{input}", name))


CONNECTOR = ConnectorKind(
    kind="sqlite",
    title="SQLite",
    connection=SQLiteConnection,
    source=SQLiteSource,
    destination=SQLiteDestination,
    example="""\
type: sqlite
config:
  path: data/users.db
  table: users
""",
)
