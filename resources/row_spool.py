"""The rows of one epoch on the local disk until their commit, and the last of each key among them; knows no system and no table."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_NUMBER = "_headrace_row"


class Spool:
    """A temporary file of batches that can be read again and again; it ends with the process.

    Args:
        schema: Of every batch.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.rows = self.bytes = 0
        self._file: Any = None
        self._writer: Any = None

    def add(self, rows: pa.RecordBatch) -> None:
        """Adds a batch."""
        if self._writer is None:
            self._file = tempfile.TemporaryFile(prefix="headrace-rows-")  # noqa: SIM115 - `close` removes it
            self._writer = pa.ipc.new_stream(
                self._file, self.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
            )
        self._writer.write_batch(rows)
        self.rows += rows.num_rows
        self.bytes += rows.nbytes

    def opened(self) -> Any:
        """Returns the file at its beginning; nothing can be added any more."""
        self._writer.close()
        self._file.flush()
        self._file.seek(0)
        return self._file

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        if self._file is not None:
            with pa.ipc.open_stream(pa.PythonFile(self.opened(), mode="r")) as reader:
                yield from reader

    def latest(self, key: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yields the last row of each key; only keys are held in memory."""
        keys = pa.Table.from_batches([each.select(list(key)) for each in self])
        numbered = keys.append_column(_NUMBER, pa.array(range(keys.num_rows), pa.int64()))
        last = numbered.group_by(list(key), use_threads=False).aggregate([(_NUMBER, "max")]).column(f"{_NUMBER}_max")
        kept: Any = pc.is_in(pa.array(range(keys.num_rows), pa.int64()), value_set=last.combine_chunks())
        at = 0
        for each in self:
            yield each.filter(kept.slice(at, each.num_rows))
            at += each.num_rows

    def close(self) -> None:
        """Removes the file."""
        if self._file is not None:
            self._file.close()
        self._file = self._writer = None
