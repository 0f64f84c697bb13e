"""The `memory` connector: reads and writes named tables of this process; for tests and examples only.

It promises exactly-once within the process: rows and token change under one lock, and a second writer fences the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from dsl.contracts.errors import SchemaError
from dsl.contracts.spec import OptionError, option
from dsl.contracts.state import Json, State
from resources.memory.reader import MAX_ROW, MemoryReader
from resources.memory.tables import MemoryTable, names, table
from resources.memory.writer import MemoryWriter


@dataclass(frozen=True, kw_only=True)
class MemoryConnection(Connection):
    """Tables that live and end with the process."""

    space: str = option(default="default", doc="Keeps tables of the same name apart.")

    def check(self) -> CheckResult:
        return CheckResult(healthy=True, details=f"{len(names(self.space))} tables in memory")

    def discover(self) -> Sequence[Stream]:
        return [Stream(name, table(name, self.space).schema) for name in names(self.space)]

    def table(self, name: str) -> MemoryTable:
        """Returns the table of that name."""
        return table(name, self.space)


@dataclass(frozen=True, kw_only=True)
class MemorySource(Source):
    """Reads a table of this process."""

    capabilities: ClassVar[SourceCapabilities] = SourceCapabilities(
        sync_modes=frozenset({SyncMode.FULL_REFRESH, SyncMode.INCREMENTAL, SyncMode.STREAM}),
        projects=True,
        limits=True,
        divides=True,
    )

    connection: MemoryConnection
    table: str = option(doc="The table to read.", example="users")
    incremental: bool = option(default=False, doc="Read only the rows that were added since the last run.")
    rows: tuple[int, int] | None = None

    @property
    def physical_name(self) -> tuple[str, ...]:
        return ("memory", self.connection.space, self.table)

    def discover_schema(self) -> pa.Schema:
        schema = self.connection.table(self.table).schema
        if schema is None:
            raise SchemaError("there is no such table", where=f"memory table '{self.table}'", hint="fill it first")
        return schema

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        held = self.connection.table(self.table)
        held.reach("open")
        return MemoryReader(held, self.discover_schema(), request, state, incremental=self.incremental, rows=self.rows)

    def splits(self, count: int) -> tuple[Json, ...]:
        if self.incremental:
            return ()
        rows = self.connection.table(self.table).to_table().num_rows
        bounds = [rows * each // count for each in range(count + 1)]
        # Rows that are added later belong to the last part.
        ends = [*bounds[1:-1], MAX_ROW]
        return tuple([first, end] for first, end in zip(bounds, ends, strict=False) if first < end)

    def part(self, split: Json) -> Source:
        assert isinstance(split, list)  # noqa: S101 - `splits` made it
        first, end = split
        return replace(self, rows=(int(str(first)), int(str(end))))


@dataclass(frozen=True, kw_only=True)
class MemoryDestination(Destination):
    """Writes a table of this process."""

    capabilities: ClassVar[DestinationCapabilities] = DestinationCapabilities(
        write_modes=frozenset(WriteMode),
        guarantee=Guarantee.EXACTLY_ONCE,
        proof=Proof.REAL,
        compares=True,
        nested=True,
    )

    connection: MemoryConnection
    table: str = option(doc="The table to write; `{input}` stands for the name of an input.", example="users")
    primary_key: tuple[str, ...] = option(default=(), doc="Columns that tell rows apart in `upsert` and `merge`.")

    def __post_init__(self) -> None:
        """Refuses an upsert that cannot tell rows apart.

        Raises:
            OptionError: `primary_key` is missing.
        """
        if self.write_mode in {WriteMode.UPSERT, WriteMode.MERGE} and not self.primary_key:
            raise OptionError("primary_key", f"{self.write_mode} needs a key", "name the columns that tell rows apart")

    @property
    def physical_name(self) -> tuple[str, ...]:
        return ("memory", self.connection.space, self.table)

    def open_writer(self, schema: pa.Schema, token: Token) -> BatchWriter:
        held = self.connection.table(self.table)
        held.reach("open")
        return MemoryWriter(held, schema, token, self.write_mode, self.primary_key)

    def for_input(self, name: str) -> Destination:
        return replace(self, table=self.table.replace("{input}", name))


CONNECTOR = ConnectorKind(
    kind="memory",
    title="Memory",
    connection=MemoryConnection,
    source=MemorySource,
    destination=MemoryDestination,
    example="type: memory\nconfig:\n  table: users\n",
)
