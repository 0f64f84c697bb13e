"""Rows of an epoch as Parquet files in a stage, made and sent while the epoch is open; loads nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dsl.contracts.errors import UnavailableError

PART_BYTES = 64 * 2**20


class Parts:
    """The files of one epoch, in a folder of their own that goes with them.

    Args:
        put: Sends a file to a path of the stage.
        where: Who writes, for errors.
    """

    def __init__(self, put: Callable[[Path, str], None], where: str) -> None:
        self._put, self._where = put, where
        self._folder = tempfile.TemporaryDirectory(prefix="headrace-snowflake-")
        self._open: pq.ParquetWriter | None = None
        self._file = Path()
        self._epoch = self._rows = 0
        self.sent: dict[str, int] = {}
        """How many rows each file of the epoch has, by name."""

    @property
    def path(self) -> str:
        """The epoch's path in the stage."""
        return f"epoch_{self._epoch}"

    @property
    def pending(self) -> bool:
        """Whether rows wait that have not been sent."""
        return self._open is not None

    def add(self, columns: Sequence[pa.Array[Any]]) -> None:
        """Writes rows to the file under way, whose columns are `c0`, `c1` …; sends it when it is large enough.

        Raises:
            UnavailableError: There is no space for it.
        """
        rows = pa.RecordBatch.from_arrays(list(columns), names=[f"c{place}" for place in range(len(columns))])
        try:
            if self._open is None:
                self._file = Path(self._folder.name) / f"part_{len(self.sent):06d}.parquet"
                self._open, self._rows = pq.ParquetWriter(self._file, rows.schema, compression="snappy"), 0
            self._open.write_batch(rows)
            self._rows += rows.num_rows
            large = self._file.stat().st_size >= PART_BYTES
        except OSError as error:
            raise self._no_space(error) from error
        if large:
            self.send()

    def send(self) -> None:
        """Closes the file under way and sends it; does nothing when there is none."""
        if self._open is None:
            return
        made, self._open = self._open, None
        try:
            made.close()
        except OSError as error:
            raise self._no_space(error) from error
        self._put(self._file, self.path)
        self.sent[self._file.name] = self._rows
        self._file.unlink()

    def next_epoch(self) -> None:
        """Begins an empty epoch under a path of its own."""
        self.sent, self._epoch = {}, self._epoch + 1

    def close(self) -> None:
        """Removes the folder."""
        if self._open is not None:
            self._open.close()
            self._open = None
        self._folder.cleanup()

    def _no_space(self, error: OSError) -> UnavailableError:
        return UnavailableError(
            f"a file of rows cannot be written: {error.strerror or error}",
            where=f"{self._where}: {self._folder.name}",
            hint="free some space there, or set TMPDIR; nothing of this epoch was committed",
        )
