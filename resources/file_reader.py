"""Reads the files of any store in order, a batch at a time, with a state that resumes after each; knows no store but through its contract.

A record that cannot be decoded is rejected with its file and line. A file that changes while it is read ends the reading.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from dsl.contracts.connectors import BatchReader, ReadRequest
from dsl.contracts.errors import SchemaError
from dsl.contracts.rows import Batch, Rejection
from dsl.contracts.state import Json, State, advance, is_complete
from resources.file_paths import PathPattern
from resources.file_progress import FullRefresh, Incremental, Progress, Todo
from resources.formats.chunks import Chunk, Malformed, pieces
from resources.formats.codecs import decode, infer
from resources.formats.columns import Wanted
from resources.formats.options import (
    Compression,
    CsvOptions,
    FileOptions,
    Format,
    Limits,
    compression_of,
    format_of,
)
from resources.object_store import ObjectStore, StoredFile

MOST_REJECTIONS = 5_000
_TYPED = {Format.PARQUET, Format.AVRO}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What is read.

    Attributes:
        pattern: The files.
        format: Their format; by their ending if None.
        compression: Their compression; by their ending if None.
        csv: How CSV is written.
        limits: What is refused.
        settle: How long a file must have been left alone, for an incremental read; None for a full refresh.
        declared: The columns that the document declares, or None.
        keys: Only files behind the first key, up to the second; None for no bound.
    """

    pattern: PathPattern
    format: Format | None = None
    compression: Compression | None = None
    csv: CsvOptions = field(default_factory=CsvOptions)
    limits: Limits = field(default_factory=Limits)
    settle: timedelta | None = None
    declared: pa.Schema | None = None
    keys: tuple[str | None, str | None] = (None, None)

    def has(self, key: str) -> bool:
        """Whether a file is within the bounds."""
        after, end = self.keys
        return (after is None or key > after) and (end is None or key <= end)

    def options(self, key: str, where: str) -> FileOptions:
        """Returns how a file is written.

        Raises:
            SchemaError: Its name does not tell its format, and nothing else does.
        """
        kind = self.format or format_of(key)
        if kind is None:
            raise SchemaError("its name does not tell its format", where=where, hint="set `format`, or narrow `path`")
        compression = compression_of(key) if self.compression is None else self.compression
        return FileOptions(format=kind, compression=compression, csv=self.csv, limits=self.limits)


def list_files(store: ObjectStore, pattern: PathPattern) -> list[StoredFile]:
    """Returns the files that a pattern means, sorted by key."""
    found = (each for each in store.list(pattern.prefix) if pattern.matches(each.key))
    return sorted(found, key=lambda each: each.key)


def parts(files: Sequence[StoredFile], count: int) -> tuple[Json, ...]:
    """Divides files into parts of about as many bytes: between which keys each lies. What is added later is in the last one."""
    whole, size = sum(each.size for each in files), 0
    ends: list[str] = []
    for each in files[:-1]:
        size += each.size
        if size * count >= whole * (len(ends) + 1) and len(ends) < count - 1:
            ends.append(each.key)
    bounds = [None, *ends, None]
    return tuple([after, end] for after, end in itertools.pairwise(bounds))


def discover_schema(store: ObjectStore, reading: Reading) -> pa.Schema:
    """Returns the schema that reading will yield: what is declared, or what the first file suggests.

    Raises:
        SchemaError: There is no file, it tells no schema, or none has a column that is declared.
    """
    return _schema_of(store, reading, list_files(store, reading.pattern))


def _schema_of(store: ObjectStore, reading: Reading, files: Sequence[StoredFile]) -> pa.Schema:
    if reading.declared is not None:
        _check_declared(store, reading, reading.declared, files)
        return reading.declared
    if not files:
        raise SchemaError(
            f"no file matches '{reading.pattern.text}'",
            where=store.place,
            hint="check `path`, or declare `schema` if there may be none",
        )
    return _inferred(store, reading, files[0])


def _inferred(store: ObjectStore, reading: Reading, file: StoredFile) -> pa.Schema:
    where = f"{store.place}/{file.key}"
    with closing(store.open(file)) as opened:
        return infer(opened, reading.options(file.key, where), where)


def _check_declared(store: ObjectStore, reading: Reading, declared: pa.Schema, files: Sequence[StoredFile]) -> None:
    """Looks for a column that neither the first nor the last file has: misspelt, it would be NULL in every row."""
    ends = {each.key: each for each in (*files[:1], *files[-1:])}
    if not ends or any(reading.options(key, f"{store.place}/{key}").format not in _TYPED for key in ends):
        return
    known = {name for each in ends.values() for name in _inferred(store, reading, each).names}
    missing = [each for each in declared.names if each not in known]
    if missing:
        raise SchemaError(
            f"column '{missing[0]}' is declared, but is in neither the first nor the last file",
            where=f"{store.place}/{files[0].key}",
            hint=f"there are: {', '.join(sorted(known)[:10])}",
        )


class FileReader(BatchReader):
    """The rows of all files of a pattern, as they stood when it was opened.

    Args:
        store: Where they are; the reader closes it.
        reading: What to read, and how.
        request: What the plan wants of it.
        state: Where to go on, or None.
    """

    def __init__(self, store: ObjectStore, reading: Reading, request: ReadRequest, state: State | None) -> None:
        self._store, self._reading, self._request, self._state = store, reading, request, state
        self._rejected: list[Rejection] = []
        self._where = f"{store.place}/{reading.pattern.text}"
        try:
            files = list_files(store, reading.pattern)
            whole = _schema_of(store, reading, files)
            self._schema = whole if request.columns is None else _chosen(whole, request.columns, self._where)
            self._wanted = Wanted(self._schema, tuple(whole.names), strict=reading.declared is None)
            self._progress = self._begin(files)
        except BaseException:
            store.close()
            raise

    def _begin(self, files: Sequence[StoredFile]) -> Progress:
        state, place, settle = self._state, self._store.place, self._reading.settle
        if settle is None:
            own = [each for each in files if self._reading.has(each.key)]
            return FullRefresh(() if is_complete(state) else own, state, place)
        return Incremental(files, state, place, datetime.now(UTC), settle)

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    def __iter__(self) -> Iterator[Batch]:
        left = self._rows_left()
        for todo in self._progress.todo:
            for chunk, fields in self._steps(todo):
                rows = chunk.rows if left is None else chunk.rows.slice(0, left)
                left = None if left is None else left - rows.num_rows
                self._rejected = [_rejection(todo.file, each) for each in chunk.malformed if each.reason]
                yield self._batch(rows, fields)
                if left == 0:
                    yield self._batch(rows.slice(0, 0), self._progress.limited())
                    return
        yield self._batch(_no_rows(self._schema), self._progress.end())

    def _rows_left(self) -> int | None:
        limit, read = self._request.limit, (self._state or {}).get("records_read")
        if limit is None or self._reading.settle is not None:
            return limit
        return max(0, limit - (read if isinstance(read, int) else 0))

    def _batch(self, rows: pa.RecordBatch, fields: Mapping[str, Json]) -> Batch:
        self._state = advance(self._state, rows.num_rows, rows.nbytes, **fields)
        return Batch(rows, self._state)

    def _steps(self, todo: Todo) -> Iterator[tuple[Chunk, dict[str, Json]]]:
        """Yields the chunks of a file, each with the state's fields after it: the last one ends the file."""
        held: Chunk | None = None
        for chunk in self._chunks(todo):
            if held is not None:
                yield held, self._progress.inside(todo.file, held.end)
            held = chunk
        fields = self._progress.after(todo.file)
        if held is None:
            self._state = advance(self._state, 0, 0, **fields)
        else:
            yield held, fields

    def _chunks(self, todo: Todo) -> Iterator[Chunk]:
        """Yields the records of a file in chunks of the size that was asked for, small ones put together."""
        held: list[Chunk] = []
        rows = size = bad = 0
        for piece in self._pieces(todo):
            rows, size, bad = rows + piece.rows.num_rows, size + piece.rows.nbytes, bad + len(piece.malformed)
            if held and (rows > self._request.batch_rows or size > self._request.batch_bytes or bad > MOST_REJECTIONS):
                yield _joined(held)
                held, rows, size, bad = [], piece.rows.num_rows, piece.rows.nbytes, len(piece.malformed)
            held.append(piece)
        if held:
            yield _joined(held)

    def _pieces(self, todo: Todo) -> Iterator[Chunk]:
        where = f"{self._store.place}/{todo.file.key}"
        options = self._reading.options(todo.file.key, where)
        with closing(self._store.open(todo.file)) as opened:
            for chunk in decode(opened, self._wanted, options, where, todo.start):
                width = max(1, chunk.rows.nbytes // max(1, chunk.rows.num_rows))
                yield from pieces(chunk, max(1, min(self._request.batch_rows, self._request.batch_bytes // width)))

    def rejections(self) -> Sequence[Rejection]:
        found, self._rejected = self._rejected, []
        return found

    def close(self) -> None:
        self._store.close()


def _chosen(schema: pa.Schema, columns: Sequence[str], where: str) -> pa.Schema:
    missing = [each for each in columns if each not in schema.names]
    if missing:
        raise SchemaError(
            f"column '{missing[0]}' is gone", where=where, hint=f"there are: {', '.join(schema.names[:10])}"
        )
    return pa.schema([schema.field(each) for each in columns])


def _no_rows(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], each.type) for each in schema], schema=schema)


def _joined(chunks: Sequence[Chunk]) -> Chunk:
    if len(chunks) == 1:
        return chunks[0]
    concat: Any = vars(pa)["concat_batches"]  # not in the stubs
    rows = concat([each.rows for each in chunks])
    return Chunk(chunks[0].first, rows, tuple(bad for each in chunks for bad in each.malformed))


def _rejection(file: StoredFile, malformed: Malformed) -> Rejection:
    """Returns a record that is no row as a row of its own: where it stands, and its text."""
    row = {"file": file.key, "line": malformed.line, "record": malformed.record, "text": malformed.text}
    place = f"{file.key}:{malformed.line}" if malformed.line else f"{file.key}: record {malformed.record}"
    found = pa.RecordBatch.from_pylist([row], _REJECTED)
    return Rejection(found, f"{place}: {malformed.reason}", "malformed", "")


_COLUMNS: dict[str, pa.DataType] = {"file": pa.string(), "line": pa.int64(), "record": pa.int64(), "text": pa.string()}
_REJECTED = pa.schema(_COLUMNS)
