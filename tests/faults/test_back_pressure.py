"""A fast source and a slow destination: what is under way never exceeds the channels' bound, whatever the shape of the stage."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest

from dsl.plan.physical import PhysicalNode
from engine.run import run_stage
from engine.tree import BYTES_UNDER_WAY, ROWS_UNDER_WAY
from tests.engine.fakes import Table, Tape, chunk, context, policies, scan, stage, stream

WIDE = 200_000


@dataclass
class Gauge:
    """How many bytes were read and are not yet written."""

    size: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    read: int = 0
    written: int = 0
    worst: int = 0

    def on_read(self, _: int) -> None:
        with self.lock:
            self.read += 1
            self.worst = max(self.worst, self.read - self.written)

    def on_write(self, point: str) -> None:
        if point == "write":
            time.sleep(0.005)
            with self.lock:
                self.written += 1


def _wide(rows: int) -> pa.Table:
    return pa.table({"id": list(range(rows)), "text": ["x" * WIDE] * rows})


SHAPES: dict[str, tuple[int, Callable[[Tape], PhysicalNode]]] = {
    "copy": (1, scan),
    "chunk": (2, lambda tape: chunk(scan(tape), "SELECT * FROM input")),
    "two chunks": (
        2,
        lambda tape: chunk(chunk(scan(tape), "SELECT * FROM input"), "SELECT * FROM input", nodes=("b",)),
    ),
    "stream": (2, lambda tape: stream({"a": scan(tape)}, "SELECT * FROM a")),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_bytes_under_way_stay_bounded(home: Path, shape: str) -> None:
    channels, root = SHAPES[shape]
    batch = 5 * (WIDE + 12)
    gauge = Gauge(batch)
    tape, table = Tape(_wide(600), batch=5, at_batch=gauge.on_read), Table(before=gauge.on_write)
    run_stage(stage(root(tape), table), context(home))
    assert len(table.batches) > 0
    assert sum(each.num_rows for each in table.batches) == 600
    # Besides the channels each thread holds one batch, and a streamed result of DuckDB 10 MiB of its own.
    own = 12 * 2**20 if shape == "stream" else 0
    assert gauge.worst * batch <= channels * BYTES_UNDER_WAY + own + (2 * channels + 2) * batch
    assert gauge.worst > 1


def test_rows_under_way_stay_bounded(home: Path) -> None:
    read, written, worst = [0], [0], [0]

    def on_read(_: int) -> None:
        read[0] += 20_000
        worst[0] = max(worst[0], read[0] - written[0])

    def on_write(point: str) -> None:
        if point == "write":
            time.sleep(0.02)
            written[0] += 20_000

    narrow = pa.table({"id": pa.array([1] * 1_000_000, pa.int8())})
    table = Table(before=on_write)
    run_stage(
        stage(scan(Tape(narrow, batch=20_000, at_batch=on_read)), table, policies(epoch=10**9)),
        context(home),
    )
    assert sum(each.num_rows for each in table.batches) == 1_000_000
    assert worst[0] <= ROWS_UNDER_WAY + 3 * 20_000
