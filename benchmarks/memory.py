"""Peak memory of a run for 1, 5 and 20 million rows through mapping, filter, join and aggregate; measures nothing else.

python -m benchmarks.memory            every case, each in a process of its own
python -m benchmarks.memory join 5     one case
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
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
from dsl.plan.physical import ChunkQuery, PhysicalNode, Scan, Stage, StreamQuery, Write

if TYPE_CHECKING:
    from engine.run import RunContext

LIMIT_MIB = 512
CASES = ("map", "aggregate", "join", "sort")
_BATCH = 65_536


@dataclass(frozen=True, kw_only=True)
class Here(Connection):
    """This process."""

    def check(self) -> CheckResult:
        """Always well."""
        return CheckResult(healthy=True, details="this process")


@dataclass(frozen=True, kw_only=True)
class Generated(Source):
    """Rows made up on the fly: id, key, amount, name."""

    connection: Connection = Here()
    rows: int
    keys: int

    @property
    def physical_name(self) -> tuple[str, ...]:
        """Its name."""
        return ("generated", str(self.rows))

    def discover_schema(self) -> pa.Schema:
        """Its schema."""
        return _batch(0, 1, self.keys).schema

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        """Starts at the beginning."""
        return _Reader(self)


class _Reader(BatchReader):
    def __init__(self, source: Generated) -> None:
        self._source = source

    @property
    def schema(self) -> pa.Schema:
        return self._source.discover_schema()

    def __iter__(self) -> Iterator[Batch]:
        state: State | None = None
        for start in range(0, self._source.rows, _BATCH):
            rows = _batch(start, min(_BATCH, self._source.rows - start), self._source.keys)
            end = start + rows.num_rows
            state = advance(state, rows.num_rows, rows.nbytes, row=end, complete=end == self._source.rows)
            yield Batch(rows, state)

    def close(self) -> None:
        pass


def _batch(start: int, count: int, keys: int) -> pa.RecordBatch:
    ids = np.arange(start, start + count)
    scattered = (ids * 2_654_435_761) % keys
    names = pa.array(np.char.add("customer number ", ids.astype("U10")))
    return pa.RecordBatch.from_arrays(
        [pa.array(ids), pa.array(scattered), pa.array(ids % 1000 / 10), names], ["id", "key", "amount", "name"]
    )


@dataclass(frozen=True, kw_only=True)
class ParquetFolder(Destination):
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


class _Forgetful:
    def get(self, key: str) -> Checkpoint | None:
        return None

    def put(self, checkpoint: Checkpoint) -> None:
        pass

    def list(self, prefix: str) -> Sequence[Checkpoint]:
        return ()

    def delete(self, key: str) -> bool:
        return False

    def add(self, letters: object) -> int:
        return 0

    def count(self, key: str) -> int:
        return 0


def root_of(case: str, rows: int) -> PhysicalNode:
    """The tree of a case."""
    left = Scan("left", Generated(rows=rows, keys=max(rows // 4, 1)), ReadRequest(), None)
    mapped = ChunkQuery(
        ("map", "filter"),
        left,
        "SELECT id, key, amount * 2 AS amount, upper(name) AS name FROM input WHERE id % 10 != 0",
        None,
        filters=True,
    )
    if case == "map":
        return mapped
    if case == "aggregate":
        return StreamQuery(("sum",), (("a", mapped),), "SELECT key, sum(amount) AS total, max(name) AS name FROM a GROUP BY key", None)
    if case == "sort":
        return StreamQuery(("sort",), (("a", mapped),), "SELECT * FROM a ORDER BY amount, id", None)
    right = Scan("right", Generated(rows=rows // 4, keys=1000), ReadRequest(), None)
    return StreamQuery(
        ("join",), (("a", mapped), ("b", right)), "SELECT a.*, b.name AS other FROM a JOIN b ON a.key = b.id", None
    )


def measure(case: str, millions: int, home: Path, memory: int) -> dict[str, float | int | str]:
    """Runs one case in this process and returns what it took."""
    from engine.run import RunContext, run_stage

    forgetful = _Forgetful()
    context: RunContext = RunContext(
        workflow="benchmark",
        run_id="memory",
        logical_time=datetime.now(UTC),
        home=home,
        checkpoints=forgetful,
        dead_letters=forgetful,
        memory_limit=memory * 2**20,
        threads=2,
    )
    imported = _peak()
    began = time.perf_counter()
    stage = Stage("out", root_of(case, millions * 1_000_000), Write("out", "x", ParquetFolder(path=home / "out.parquet")))
    report = run_stage(stage, context)
    return {
        "case": case,
        "million_rows": millions,
        "rows_out": report.reconciliation.written,
        "seconds": round(time.perf_counter() - began, 1),
        "rss_after_import_mib": imported,
        "peak_rss_mib": _peak(),
    }


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Prints a line of JSON for each case; fails when one passes the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", nargs="?", choices=CASES)
    parser.add_argument("millions", nargs="?", type=int)
    parser.add_argument("--memory", type=int, default=256, help="MiB for the relational operators")
    parser.add_argument("--home", type=Path, help="folder for what spills (a temporary one)")
    asked = parser.parse_args()
    if asked.case and asked.millions:
        with tempfile.TemporaryDirectory(dir=asked.home) as home:
            print(json.dumps(measure(asked.case, asked.millions, Path(home), asked.memory)), flush=True)
        return
    worst = 0
    for case in [asked.case] if asked.case else CASES:
        for millions in (1, 5, 20):
            command = [sys.executable, "-m", "benchmarks.memory", case, str(millions), "--memory", str(asked.memory)]
            line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            worst = max(worst, json.loads(line)["peak_rss_mib"])
            print(line, end="", flush=True)
    if worst > LIMIT_MIB:
        sys.exit(f"the peak of {worst} MiB is over the limit of {LIMIT_MIB} MiB")


if __name__ == "__main__":
    main()
