"""The files of one open epoch, in one folder or many: begun, filled, ended when large enough, sealed together; commits nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, cast

import pyarrow as pa

from resources.file_log import Part
from resources.formats.codecs import Encoder, encoder
from resources.formats.options import FileOptions
from resources.formats.streams import HashedSink
from resources.object_store import ObjectStore, StagedFile

HELD_BYTES = 64 * 2**20
"""What one open file holds in memory, at most: a row group, about."""


@dataclass(frozen=True)
class Bounds:
    """When a file is ended.

    Attributes:
        file_bytes: It has grown to this size.
        file_rows: It has so many rows; None for no limit.
        open_files: So many others are filled at the same time, and it waited longest.
        open_bytes: Together they hold so much in memory, about, and it waited longest.
    """

    file_bytes: int
    file_rows: int | None = None
    open_files: int = 1
    open_bytes: int = 256 * 2**20


class OpenParts:
    """The uncommitted files of a writer.

    Args:
        store: Where they are staged.
        options: How they are written.
        bounds: When they are ended.
        name: Gives the key of the epoch's n-th file, in a folder below `home` or in "".
        home: The folder of the data.
    """

    def __init__(
        self, store: ObjectStore, options: FileOptions, bounds: Bounds, name: Callable[[str, int], str], home: str
    ) -> None:
        self._store, self._options, self._bounds, self._name, self._home = store, options, bounds, name, home
        self._open: dict[str, _OpenPart] = {}  # the one that waited longest first
        self._begun = 0
        self._done: list[tuple[Part, StagedFile]] = []

    def write(self, rows: pa.RecordBatch, folder: str = "") -> None:
        """Adds rows to the file of a folder, to a new one where that is full."""
        most = self._bounds.file_rows
        while most is not None and rows.num_rows > (room := most - self._rows_open(folder)):
            self._write(rows.slice(0, room), folder)
            rows = rows.slice(room)
        self._write(rows, folder)

    def begin(self, schema: pa.Schema) -> None:
        """Begins a file that holds a schema and perhaps no rows, unless there is one that holds it."""
        if not self._open:
            self._opened("", schema)

    def finish(self) -> tuple[Part, ...]:
        """Seals all files; from now on they are somebody else's to publish or discard."""
        for each in list(self._open):
            self._seal(each)
        self._begun = 0
        parts, self._done = tuple(part for part, _ in self._done), []
        return parts

    def discard(self) -> None:
        """Gives up all files that were not handed over; safe to call twice."""
        for each in self._open.values():
            each.staged.discard()
        self._open = {}
        for _, staged in self._done:
            staged.discard()
        self._done = []

    def _rows_open(self, folder: str) -> int:
        opened = self._open.get(folder)
        return 0 if opened is None else opened.rows

    def _write(self, rows: pa.RecordBatch, folder: str) -> None:
        opened = self._opened(folder, rows.schema)
        if not rows.num_rows:
            return
        opened.write(rows)
        if opened.sink.count >= self._bounds.file_bytes or opened.rows == self._bounds.file_rows:
            self._seal(folder)
        while len(self._open) > 1 and sum(each.held for each in self._open.values()) > self._bounds.open_bytes:
            self._seal(next(iter(self._open)))

    def _opened(self, folder: str, schema: pa.Schema) -> _OpenPart:
        """Returns the open file of a folder, which is now the one that waited least."""
        opened = self._open.pop(folder, None)
        if opened is None:
            while len(self._open) >= self._bounds.open_files:
                self._seal(next(iter(self._open)))
            self._begun += 1
            key = self._name(folder, self._begun)
            opened = _OpenPart(key, self._store.stage(key, self._home if folder else ""), schema, self._options)
        self._open[folder] = opened
        return opened

    def _seal(self, folder: str) -> None:
        opened = self._open[folder]
        self._done.append((opened.seal(), opened.staged))
        del self._open[folder]


class _OpenPart:
    """A file being written."""

    def __init__(self, key: str, staged: StagedFile, schema: pa.Schema, options: FileOptions) -> None:
        self.key, self.staged, self.rows, self._given = key, staged, 0, 0
        self.sink = HashedSink(cast("IO[bytes]", staged))
        self._encoder: Encoder = encoder(cast("IO[bytes]", self.sink), schema, options)

    def write(self, rows: pa.RecordBatch) -> None:
        self._encoder.write(rows)
        self.rows += rows.num_rows
        self._given += rows.nbytes

    @property
    def held(self) -> int:
        """Bytes that it holds in memory, at most."""
        return min(self._given, HELD_BYTES)

    def seal(self) -> Part:
        self._encoder.close()
        return Part(self.key, dict(self.staged.seal()), self.sink.sha256, self.rows, self.sink.count)
