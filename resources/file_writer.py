"""Writes files into any store exactly once: staged unseen, committed by an entry of the log, then published; knows no store itself.

What a crash leaves is finished by the next opening: files of the newest commit that are not visible yet are published, those an
overwrite replaced are deleted, and what was staged without being committed is swept away.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from dsl.contracts.connectors import BatchWriter, Committed, Token
from dsl.contracts.errors import FatalError, FencedError, HeadraceError, RejectedRows, SchemaError
from dsl.contracts.failpoints import Failpoint
from dsl.contracts.folders import FOLDER, shape_of
from dsl.contracts.rows import Rejection, WriteStats
from dsl.contracts.state import State
from resources.file_folders import by_folder, fault_of_folder, without_folder
from resources.file_log import Commit, Part, StreamLog, parts_of
from resources.file_parts import Bounds, OpenParts
from resources.file_paths import is_hidden
from resources.formats.codecs import encoder
from resources.formats.options import (
    ENDING_OF,
    AvroOptions,
    Compression,
    CsvOptions,
    FileOptions,
    Format,
    ParquetOptions,
    format_of,
)
from resources.object_store import ObjectStore
from resources.sql_types import Fit, conform, fit, widened

_OURS = re.compile(r"part-[0-9a-f]{8}-\d{9}-\d{4,}\.[a-z0-9.]+")

_FENCED = Failpoint("file.fenced", "The stream belongs to this writer; what the one before left is not finished.")
_SEALED = Failpoint("file.sealed", "The epoch's files are whole and unseen; the log does not name them.")
_LOGGED = Failpoint("file.logged", "The log names the epoch's files, which commits them; none of them is visible.")
_PUBLISHED = Failpoint("file.published", "One more committed file is visible.")
_REMOVED = Failpoint("file.removed", "One more file that an overwrite replaced is gone.")
_SHOWN = Failpoint("file.shown", "Every file of the commit is visible, and noted to be.")


@dataclass(frozen=True, kw_only=True)
class Writing:
    """What is written.

    Attributes:
        path: The folder.
        folders: The folders below it that values choose, as a template; "" for none.
        open_files: How many files are written at a time where they do.
        format: Of the files.
        compression: Of whole files.
        csv: Options of CSV.
        parquet: Options of Parquet.
        avro: Options of Avro.
        overwrite: Whether a run's rows take the place of all others.
        file_bytes: Size at which a file is ended.
        file_rows: Rows at which it is, or None.
        evolves: Whether rows may bring new columns and wider types.
    """

    path: str
    folders: str = ""
    open_files: int = 100
    format: Format = Format.PARQUET
    compression: Compression = Compression.NONE
    csv: CsvOptions = field(default_factory=CsvOptions)
    parquet: ParquetOptions = field(default_factory=ParquetOptions)
    avro: AvroOptions = field(default_factory=AvroOptions)
    overwrite: bool = False
    file_bytes: int = 256 * 2**20
    file_rows: int | None = None
    evolves: bool = True

    @property
    def options(self) -> FileOptions:
        """How each file is written."""
        return FileOptions(
            format=self.format, compression=self.compression, csv=self.csv, parquet=self.parquet, avro=self.avro
        )

    @property
    def ending(self) -> str:
        """The ending of each file's name."""
        return f".{self.format}{ENDING_OF[self.compression]}"


class FileWriter(BatchWriter):
    """Appends files to a folder, or replaces them.

    Args:
        store: Where they are; the writer closes it.
        writing: What to write, and how.
        schema: The schema of the rows to come.
        token: The stream.
    """

    def __init__(self, store: ObjectStore, writing: Writing, schema: pa.Schema, token: Token) -> None:
        self._store, self._writing, self._run_id = store, writing, token.run_id
        self._where = f"{store.place}/{writing.path}"
        self._broken = False
        try:
            own = self._own(schema)
            self._check_format(own)
            if writing.overwrite:
                self._check_foreign()
            self._log = StreamLog(store, writing.path, token)
            _FENCED.reach()
            newest = self._log.newest()
            self._committed = self._log.committed()
            self._gathered = self._recover(newest)
            recorded = newest if not writing.overwrite or self._gathered else None
            self._schema = self._agreed(own, recorded)
            bounds = Bounds(writing.file_bytes, writing.file_rows, writing.open_files)
            self._parts = OpenParts(store, writing.options, bounds, self._key_of, writing.path)
        except BaseException:
            store.close()
            raise

    def get_state(self) -> Committed | None:
        return self._committed

    def write(self, rows: pa.RecordBatch) -> Sequence[Rejection]:
        if not self._writing.folders:
            self._add(rows)
            return ()
        return [each for folder, some in by_folder(rows) for each in self._add_to(folder, some)]

    def _add(self, rows: pa.RecordBatch, folder: str = "") -> None:
        if not rows.num_rows:
            return
        ready = self._conformed(rows)
        self._guard()
        self._broken = True
        try:
            with self._owning():
                self._parts.write(ready, folder)
        except RejectedRows:
            self._broken = False
            raise
        self._broken = False

    def _add_to(self, folder: str, rows: pa.RecordBatch) -> list[Rejection]:
        """Adds rows of one folder; finds those that cannot be added by itself, for rows of other folders have been added."""
        if why := fault_of_folder(self._writing.path, folder):
            said = f"its folder '{folder[:200]}' cannot be: {why}"
            return [Rejection(rows.slice(at, 1), said, "folder", "") for at in range(rows.num_rows)]
        try:
            self._add(without_folder(rows), folder)
        except RejectedRows as error:
            if rows.num_rows == 1:
                return [Rejection(rows, error.message, "value", "")]
            half = rows.num_rows // 2
            return [*self._add_to(folder, rows.slice(0, half)), *self._add_to(folder, rows.slice(half))]
        return []

    def commit(self, epoch: int, state: State, *, final: bool = False) -> WriteStats:
        self._guard()
        expected = 1 if self._committed is None else self._committed.epoch + 1
        if epoch != expected:
            raise FatalError(
                f"epoch {epoch} cannot follow epoch {expected - 1}", where=self._where, hint="this is a defect"
            )
        self._broken = True
        replaces = self._writing.overwrite and final
        if replaces and not self._gathered:
            self._parts.begin(self._schema)
        with self._owning():
            parts = self._parts.finish()
        _SEALED.reach()
        commit = Commit(
            epoch=epoch,
            state=dict(state),
            run_id=self._run_id,
            schema=_as_text(self._schema),
            parts=parts,
            gathers=self._writing.overwrite and not final,
            previous=self._log.number if self._gathered else 0,
            removed=tuple(self._replaced()) if replaces else (),
        )
        self._append(commit, parts)
        _LOGGED.reach()
        if commit.gathers:
            self._gathered = True
        else:
            self._show(commit)
            self._gathered = False
        self._committed = Committed(epoch, dict(state))
        self._broken = False
        return WriteStats(sum(each.rows for each in parts), sum(each.bytes for each in parts))

    def close(self) -> None:
        # The rows are not committed, whether their files could be discarded or not; the next opening sweeps them.
        with suppress(HeadraceError):
            self._parts.discard()
        self._store.close()

    @contextmanager
    def _owning(self) -> Iterator[None]:
        """Says that a newer run writes the stream where that is why a file cannot be written: it has swept what was open."""
        try:
            yield
        except RejectedRows:
            raise
        except HeadraceError as error:
            if self._overtaken():
                raise FencedError("a newer run writes this stream", where=self._where) from error
            raise

    def _overtaken(self) -> bool:
        try:
            return self._log.overtaken()
        except HeadraceError:  # then what befell the file is all that is known
            return False

    def _guard(self) -> None:
        if self._broken:
            raise FatalError("this writer failed before", where=self._where, hint="open a new one; this is a defect")

    def _key_of(self, folder: str, number: int) -> str:
        epoch = 1 if self._committed is None else self._committed.epoch + 1
        where = f"{self._writing.path}/{folder}" if folder else self._writing.path
        return f"{where}/{self._begins}{epoch:09d}-{number:04d}{self._writing.ending}"

    @property
    def _begins(self) -> str:
        return f"part-{self._log.short}-"

    # ---- commits --------------------------------------------------------------------------------

    def _append(self, commit: Commit, parts: Sequence[Part]) -> None:
        try:
            self._log.append(commit)
        except FencedError:
            for each in parts:
                self._store.discard(each.ticket)
            raise

    def _show(self, commit: Commit) -> None:
        """Makes a commit's files visible, and those it replaces disappear; safe to repeat."""
        commits = [commit, *self._log.chain(commit.previous)]
        for part in parts_of(commits):
            self._store.publish(part.ticket)
            _PUBLISHED.reach()
        for key in commit.removed:
            self._store.delete(key)
            _REMOVED.reach()
        self._log.note_shown()
        _SHOWN.reach()

    def _recover(self, newest: Commit | None) -> bool:
        """Finishes what a crash cut off, and sweeps what was never committed; tells whether an overwrite goes on."""
        goes_on = newest is not None and newest.gathers and self._writing.overwrite
        if newest is not None and not newest.gathers and not self._log.shown():
            self._show(newest)
        kept = [each.ticket for each in parts_of([*self._log.chain(self._log.number)])] if goes_on else []
        self._store.sweep(f"{self._writing.path}/{self._begins}", kept)
        return goes_on

    def _replaced(self) -> list[str]:
        """Returns the visible files that streams of Headrace have written where this one writes, or this one has anywhere below."""
        found = ((below, name) for below, name in self._listed() if _OURS.fullmatch(name))
        ours = (each for each in found if self._is_place(each[0]) or each[1].startswith(self._begins))
        return ["/".join([self._writing.path, *([below] if below else []), name]) for below, name in ours]

    def _listed(self) -> Iterator[tuple[str, str]]:
        """Yields folder and name of all visible files below the folder of the data."""
        folder = f"{self._writing.path}/"
        for each in self._store.list(folder):
            below, _, name = each.key.removeprefix(folder).rpartition("/")
            yield below, name

    def _is_place(self, below: str) -> bool:
        """Tells whether this writer puts files into a folder below that of the data, or into that one itself."""
        return not below or (
            self._writing.folders != "" and shape_of(self._writing.folders).fullmatch(below) is not None
        )

    def _check_foreign(self) -> None:
        """Refuses to overwrite a folder with files of others: they would neither stay unread nor may they be deleted."""
        for below, name in self._listed():
            if self._is_place(below) and not is_hidden(name) and format_of(name) and not _OURS.fullmatch(name):
                raise FatalError(
                    f"'{name}' was not written by a workflow, so that an overwrite may not remove it",
                    where=self._where,
                    hint="move it away, or write into a folder of its own",
                )

    # ---- schemas --------------------------------------------------------------------------------

    def _own(self, schema: pa.Schema) -> pa.Schema:
        """Returns the columns that are written, given those that come."""
        if self._writing.folders and FOLDER not in schema.names:
            raise SchemaError(
                "values choose the folder, but nothing here computes it from the rows",
                where=self._where,
                hint="write a path without {{ }} for rows that are not those of a workflow, such as dead letters",
            )
        return schema if not self._writing.folders else without_folder(schema)

    def _check_format(self, schema: pa.Schema) -> None:
        try:
            probe = encoder(io.BytesIO(), schema, self._writing.options)
            probe.close()
        except pa.ArrowException as error:
            raise SchemaError(
                f"{self._writing.format} cannot hold these columns: {error}",
                where=self._where,
                hint="cast or leave out the column with a mapping",
            ) from error

    def _agreed(self, come: pa.Schema, newest: Commit | None) -> pa.Schema:
        """Returns the schema to write: the columns of the files before, in their types, and the new ones behind them."""
        if newest is None:
            return come
        before = _from_text(newest.schema)
        fields = [self._agreed_field(each, come) for each in before]
        new = [each for each in come if each.name not in before.names]
        if new and not self._writing.evolves:
            raise SchemaError(
                f"column '{new[0].name}' is new", where=self._where, hint="set schema_evolution: evolve to take it"
            )
        return pa.schema([*fields, *new])

    def _agreed_field(self, before: pa.Field[Any], come: pa.Schema) -> pa.Field[Any]:
        if before.name not in come.names:
            return before.with_nullable(True)
        after = come.field(before.name)
        how = fit(before.type, after.type)
        wide = widened(before.type, after.type) if how is Fit.WIDEN else before.type
        if how is Fit.NO or wide is None or (how is Fit.WIDEN and not self._writing.evolves):
            raise SchemaError(
                f"column '{before.name}' is {after.type}, but was {before.type} in the files before",
                where=self._where,
                hint="cast it with a mapping, or write to another path",
            )
        return before.with_type(wide)

    def _conformed(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        if rows.schema.equals(self._schema):
            return rows
        columns = []
        for each in self._schema:
            at = rows.schema.get_field_index(each.name)
            try:
                columns.append(_nulls(rows.num_rows, each.type) if at < 0 else conform(rows.column(at), each.type))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise RejectedRows(
                    f"column '{each.name}' has a value that {each.type} cannot hold: {error}", where=self._where
                ) from error
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)


def _nulls(count: int, kind: Any) -> Any:
    return pa.nulls(count, kind)


def _as_text(schema: pa.Schema) -> str:
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def _from_text(text: str) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
