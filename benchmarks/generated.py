"""What the benchmarks read and write: rows made up on the fly, Parquet files, stores that forget; measures nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dsl.contracts.connectors import (
    Batch,
    BatchReader,
    BatchWriter,
    CheckResult,
    Committed,
    Connection,
    Destination,
    ReadRequest,
    Source,
    Token,
)
from dsl.contracts.rows import Rejection, WriteStats
from dsl.contracts.state import State, advance
from dsl.contracts.stores import Checkpoint

if TYPE_CHECKING:
    from engine.run import RunContext

_BATCH = 65_536


@dataclass(frozen=True, kw_only=True)
class Here(Connection):
    """This process."""

    def check(self) -> CheckResult:
        """Always well."""
        return CheckResult(healthy=True, details="this process")


@dataclass(frozen=True, kw_only=True)
class Generated(Source):
    """Rows made up on the fly: id, key, amount, name.

    Attributes:
        rows: How many.
        keys: How many different keys they have.
        poison: One row in so many has a name that is no number; 0 for none.
    """

    connection: Connection = Here()
    rows: int
    keys: int
    poison: int = 0

    @property
    def physical_name(self) -> tuple[str, ...]:
        """Its name."""
        return ("generated", str(self.rows))

    def discover_schema(self) -> pa.Schema:
        """Its schema."""
        return self.batch(0, 1).schema

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        """Starts at the beginning."""
        return _Reader(self)

    def batch(self, start: int, count: int) -> pa.RecordBatch:
        """Some of its rows."""
        ids = np.arange(start, start + count)
        scattered = (ids * 2_654_435_761) % self.keys
        return pa.RecordBatch.from_arrays(
            [pa.array(ids), pa.array(scattered), pa.array(ids % 1000 / 10), self._names(ids)],
            ["id", "key", "amount", "name"],
        )

    def _names(self, ids: Any) -> Any:
        # Arrow's functions, not numpy's: those need ten times the room for texts, which is not what is to be measured.
        texts = pc.cast(pa.array(ids), pa.string())
        if not self.poison:
            return pc.binary_join_element_wise("customer number ", texts, "")
        return pc.if_else(pa.array(ids % self.poison == self.poison - 1), "poison", texts)


class _Reader(BatchReader):
    def __init__(self, source: Generated) -> None:
        self._source = source

    @property
    def schema(self) -> pa.Schema:
        return self._source.discover_schema()

    def __iter__(self) -> Iterator[Batch]:
        state: State | None = None
        for start in range(0, self._source.rows, _BATCH):
            rows = self._source.batch(start, min(_BATCH, self._source.rows - start))
            end = start + rows.num_rows
            state = advance(state, rows.num_rows, rows.nbytes, row=end, complete=end == self._source.rows)
            yield Batch(rows, state)

    def close(self) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class ParquetFile(Destination):
    """One Parquet file, written as rows come."""

    connection: Connection = Here()
    path: Path

    @property
    def physical_name(self) -> tuple[str, ...]:
        """Its name."""
        return ("parquet", str(self.path))

    def open_writer(self, schema: pa.Schema, token: Token) -> BatchWriter:
        """Opens the file."""
        return _Writer(pq.ParquetWriter(self.path, schema, compression="zstd", use_dictionary=False))


class _Writer(BatchWriter):
    def __init__(self, file: pq.ParquetWriter) -> None:
        self._file, self._rows = file, 0

    def get_state(self) -> Committed | None:
        return None

    def write(self, rows: pa.RecordBatch) -> Sequence[Rejection]:
        self._file.write_batch(rows)
        self._rows += rows.num_rows
        return ()

    def commit(self, epoch: int, state: State, *, final: bool = False) -> WriteStats:
        rows, self._rows = self._rows, 0
        return WriteStats(rows)

    def close(self) -> None:
        self._file.close()


class Forgetful:
    """Stores that keep nothing, so that they do not count."""

    def get(self, key: str) -> Checkpoint | None:
        """Nothing."""
        return None

    def put(self, checkpoint: Checkpoint) -> None:
        """Forgets it."""

    def list(self, prefix: str) -> Sequence[Checkpoint]:
        """Nothing."""
        return ()

    def delete(self, key: str) -> bool:
        """Nothing to delete."""
        return False

    def add(self, letters: object) -> int:
        """Forgets them."""
        return 0

    def known(self, key: str) -> Mapping[str, datetime]:
        """Nobody."""
        return {}

    def discard(self, key: str, epoch: int, known: Mapping[str, datetime]) -> int:
        """Nothing to forget."""
        return 0

    def count(self, key: str) -> int:
        """None."""
        return 0


def benchmark_context(home: Path, memory: int) -> RunContext:
    """What a run of a benchmark is given.

    Args:
        home: For exchanges and spilled data.
        memory: MiB for the relational operators.
    """
    from engine.run import RunContext

    forgetful = Forgetful()
    return RunContext(
        workflow="benchmark",
        run_id="benchmark",
        logical_time=datetime.now(UTC),
        home=home,
        checkpoints=forgetful,
        dead_letters=forgetful,
        memory_limit=memory * 2**20,
        threads=2,
    )
