"""The files of one open epoch: begun, filled, ended when they are large enough, sealed together; commits nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, cast

import pyarrow as pa

from resources.file_log import Part
from resources.formats.codecs import Encoder, encoder
from resources.formats.options import FileOptions
from resources.formats.streams import HashedSink
from resources.object_store import ObjectStore, StagedFile


class OpenParts:
    """The uncommitted files of a writer.

    Args:
        store: Where they are staged.
        options: How they are written.
        largest: Bytes after which a file is ended.
        most: Rows after which it is, or None.
        name: Gives the key of the epoch's n-th file.
    """

    def __init__(
        self, store: ObjectStore, options: FileOptions, largest: int, most: int | None, name: Callable[[int], str]
    ) -> None:
        self._store, self._options, self._largest, self._most, self._name = store, options, largest, most, name
        self._open: _OpenPart | None = None
        self._done: list[tuple[Part, StagedFile]] = []

    def write(self, rows: pa.RecordBatch) -> None:
        """Adds rows, to a new file where the last one is full."""
        while self._most is not None and rows.num_rows > (room := self._most - self._rows_open()):
            self._write(rows.slice(0, room))
            rows = rows.slice(room)
        self._write(rows)

    def begin(self, schema: pa.Schema) -> None:
        """Begins a file that holds a schema and perhaps no rows."""
        if self._open is None:
            key = self._name(len(self._done) + 1)
            self._open = _OpenPart(key, self._store.stage(key), schema, self._options)

    def finish(self) -> tuple[Part, ...]:
        """Seals all files; from now on they are somebody else's to publish or discard."""
        self._seal()
        parts, self._done = tuple(part for part, _ in self._done), []
        return parts

    def discard(self) -> None:
        """Gives up all files that were not handed over; safe to call twice."""
        if self._open is not None:
            self._open.staged.discard()
            self._open = None
        for _, staged in self._done:
            staged.discard()
        self._done = []

    def _rows_open(self) -> int:
        return 0 if self._open is None else self._open.rows

    def _write(self, rows: pa.RecordBatch) -> None:
        self.begin(rows.schema)
        opened = self._open
        if opened is None or not rows.num_rows:
            return
        opened.write(rows)
        if opened.sink.count >= self._largest or opened.rows == self._most:
            self._seal()

    def _seal(self) -> None:
        opened = self._open
        if opened is not None:
            self._done.append((opened.seal(), opened.staged))
            self._open = None


class _OpenPart:
    """A file being written."""

    def __init__(self, key: str, staged: StagedFile, schema: pa.Schema, options: FileOptions) -> None:
        self.key, self.staged, self.rows = key, staged, 0
        self.sink = HashedSink(cast("IO[bytes]", staged))
        self._encoder: Encoder = encoder(cast("IO[bytes]", self.sink), schema, options)

    def write(self, rows: pa.RecordBatch) -> None:
        self._encoder.write(rows)
        self.rows += rows.num_rows

    def seal(self) -> Part:
        self._encoder.close()
        return Part(self.key, dict(self.staged.seal()), self.sink.sha256, self.rows, self.sink.count)
