"""What all stores of files have in common for documents: the options of source and destination, and names; opens nothing by itself.

A connector adds its connection, which opens its `ObjectStore`; reading, writing and the promises are here for all.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import ClassVar

import pyarrow as pa

from dsl.contracts.capabilities import (
    DestinationCapabilities,
    Guarantee,
    Proof,
    SeveralInputs,
    SourceCapabilities,
    SyncMode,
    WriteMode,
)
from dsl.contracts.connectors import (
    BatchReader,
    BatchWriter,
    CheckResult,
    Connection,
    Destination,
    ReadRequest,
    Source,
    Stream,
    Token,
)
from dsl.contracts.errors import HeadraceError
from dsl.contracts.folders import divided
from dsl.contracts.spec import OptionError, option
from dsl.contracts.state import Json, State
from resources.file_paths import PathPattern, check_path, is_hidden
from resources.file_reader import FileReader, Reading, discover_schema, list_files, parts
from resources.file_writer import FileWriter, Writing
from resources.formats.options import (
    AvroOptions,
    Compression,
    CsvOptions,
    Format,
    Limits,
    ParquetOptions,
    check_writing,
    format_of,
)
from resources.object_store import ObjectStore
from resources.sql import SchemaEvolution

LISTED = 1000


@dataclass(frozen=True, kw_only=True)
class StoreConnection(Connection):
    """How to reach a store of files."""

    @abstractmethod
    def open_store(self, *, create: bool = False) -> ObjectStore:
        """Opens the store; whoever asked closes it.

        Args:
            create: Whether a root that is missing is made, because something will be written.

        Raises:
            UnavailableError: It cannot be reached.
        """

    @abstractmethod
    def key_of(self, *parts: str) -> tuple[str, ...]:
        """Returns the asset key of a file or folder in it."""

    def check(self) -> CheckResult:
        try:
            with closing(self.open_store()) as store:
                next(iter(store.list("", limit=1)), None)
                return CheckResult(healthy=True, details=f"{store.place} can be listed")
        except HeadraceError as error:
            return CheckResult(healthy=False, details=str(error))

    def discover(self) -> Sequence[Stream]:
        with closing(self.open_store()) as store:
            keys = (each.key for each in store.list(""))
            readable = (each for each in keys if not is_hidden(each) and format_of(each) is not None)
            return [Stream(each) for each in islice(readable, LISTED)]


@dataclass(frozen=True, kw_only=True)
class StoreSource(Source):
    """Files of one kind: one file, a folder, or all that a glob matches, in the order of their names.

    `schema` names the columns to read and their types; without it the first file suggests them. In later files a column
    that is missing is NULL (in CSV an error), one too many an error.
    """

    capabilities: ClassVar[SourceCapabilities] = SourceCapabilities(
        sync_modes=frozenset({SyncMode.FULL_REFRESH, SyncMode.INCREMENTAL}), projects=True, limits=True, divides=True
    )

    connection: StoreConnection
    path: str = option(doc="A file, a folder, or a glob with `*`, `?`, `[a-z]` and `**`.", example="orders/*.csv")
    format: Format | None = option(default=None, doc="How rows are written; by the ending of each name if absent.")
    compression: Compression | None = option(
        default=None, doc="How files are compressed; by the ending of each name if absent."
    )
    sync_mode: SyncMode = option(
        default=SyncMode.FULL_REFRESH, doc="`incremental` reads only files that are new or changed since the last run."
    )
    settle: timedelta = option(
        default=timedelta(seconds=2),
        doc="An incremental run leaves a file that changed less than this ago to the next run.",
        advanced=True,
    )
    csv: CsvOptions = option(default=CsvOptions(), doc="How CSV is written.")
    limits: Limits = option(default=Limits(), doc="What is refused as broken or hostile.", advanced=True)
    declared: pa.Schema | None = dataclasses.field(default=None, repr=False)
    keys: tuple[str | None, str | None] = dataclasses.field(default=(None, None), repr=False)

    def __post_init__(self) -> None:
        check_path(self.path, pattern=True)

    @property
    def physical_name(self) -> tuple[str, ...]:
        return self.connection.key_of(*PathPattern(self.path).place)

    def declaring(self, schema: pa.Schema) -> Source:
        return dataclasses.replace(self, declared=schema)

    def discover_schema(self) -> pa.Schema:
        with closing(self.connection.open_store()) as store:
            return discover_schema(store, self.reading)

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        return FileReader(self.connection.open_store(), self.reading, request, state)

    def splits(self, count: int) -> tuple[Json, ...]:
        if self.sync_mode is SyncMode.INCREMENTAL:
            return ()
        with closing(self.connection.open_store()) as store:
            return parts(list_files(store, self.reading.pattern), count)

    def part(self, split: Json) -> Source:
        assert isinstance(split, list)  # noqa: S101 - `splits` made it
        after, end = (None if each is None else str(each) for each in split)
        return dataclasses.replace(self, keys=(after, end))

    @property
    def reading(self) -> Reading:
        """What the shared reader needs to know."""
        return Reading(
            pattern=PathPattern(self.path),
            format=self.format,
            compression=self.compression,
            csv=self.csv,
            limits=self.limits,
            settle=self.settle if self.sync_mode is SyncMode.INCREMENTAL else None,
            declared=self.declared,
            keys=self.keys,
        )


def exactly_once(proof: Proof) -> DestinationCapabilities:
    """Returns what a destination of files can do, with what that was proven against."""
    return DestinationCapabilities(
        write_modes=frozenset({WriteMode.APPEND, WriteMode.OVERWRITE}),
        guarantee=Guarantee.EXACTLY_ONCE,
        proof=proof,
        several_inputs=SeveralInputs.PREFIX,
        nested=True,
    )


@dataclass(frozen=True, kw_only=True)
class StoreDestination(Destination):
    """A folder of files of one format.

    Exactly once: rows are staged unseen; the creation of an entry in a log beside the data (`_headrace/`) is the commit,
    after which the files appear one by one, each whole. A crash in between is finished by the next opening. Whoever lists
    the folder never sees a row that was not committed. An overwrite gathers unseen files over all its epochs; after its
    final commit the new files appear and then the old ones go: a listing made in that moment may hold both, never neither.

    Values may choose folders: `path: orders/date={{ day }}/region={{ region }}` holds expressions over the row, and each distinct
    value gets files of its own, committed by the same entry. Values are percent-encoded, so that none leads elsewhere; NULL and the
    empty text are `__HIVE_DEFAULT_PARTITION__`. The columns stay in the files. A row whose folder has a name that is too long is refused.
    """

    capabilities: ClassVar[DestinationCapabilities] = exactly_once(Proof.REAL)

    connection: StoreConnection
    path: str = option(
        doc="The folder to write into; each of several inputs gets its own below. Values may choose folders below it.",
        example="lake/orders/date={{ day }}",
        template="path",
    )
    format: Format = option(default=Format.PARQUET, doc="How rows are written.")
    compression: Compression = option(
        default=Compression.NONE, doc="How whole files are compressed; Parquet and Avro have a `codec` instead."
    )
    csv: CsvOptions = option(default=CsvOptions(), doc="How CSV is written.")
    parquet: ParquetOptions = option(default=ParquetOptions(), doc="How Parquet is written.")
    avro: AvroOptions = option(default=AvroOptions(), doc="How Avro is written.")
    file_bytes: int = option(
        default=256 * 2**20, doc="A file that has grown to this size is ended, and the next begun.", unit="size"
    )
    file_rows: int | None = option(default=None, doc="The same for its rows; no limit if absent.", advanced=True)
    open_files: int = option(
        default=100,
        doc="Files that are written at a time where values choose the folder; beyond it the one that waited longest is ended.",
        advanced=True,
    )
    schema_evolution: SchemaEvolution = option(
        default=SchemaEvolution.EVOLVE, doc="Take new columns and wider types as rows bring them, or refuse them."
    )

    def __post_init__(self) -> None:
        fixed, folders = divided(self.path)
        if folders and not fixed:
            raise OptionError("path", "values may not choose the first folder", "write one out: orders/date={{ day }}")
        check_path(fixed, pattern=False)
        if self.write_mode not in self.capabilities.write_modes:
            raise OptionError(
                "write_mode", f"files have no keys: '{self.write_mode}' is not possible", "append or overwrite"
            )
        if self.file_bytes < 1 or (self.file_rows is not None and self.file_rows < 1):
            raise OptionError("file_bytes" if self.file_bytes < 1 else "file_rows", "is less than 1", "leave it out")
        if self.open_files < 1:
            raise OptionError("open_files", "is less than 1", "leave it out")
        check_writing(self.format, self.compression, self.csv)

    @property
    def physical_name(self) -> tuple[str, ...]:
        return self.connection.key_of(*PathPattern(divided(self.path)[0]).place)

    def open_writer(self, schema: pa.Schema, token: Token) -> BatchWriter:
        return FileWriter(self.connection.open_store(create=True), self.writing, schema, token)

    def for_input(self, name: str) -> Destination:
        fixed, folders = divided(self.path)
        return dataclasses.replace(self, path="/".join([fixed, name, *([folders] if folders else [])]))

    @property
    def writing(self) -> Writing:
        """What the shared writer needs to know."""
        return Writing(
            path=divided(self.path)[0],
            folders=divided(self.path)[1],
            open_files=self.open_files,
            format=self.format,
            compression=self.compression,
            csv=self.csv,
            parquet=self.parquet,
            avro=self.avro,
            overwrite=self.write_mode is WriteMode.OVERWRITE,
            file_bytes=self.file_bytes,
            file_rows=self.file_rows,
            evolves=self.schema_evolution is SchemaEvolution.EVOLVE,
        )
