"""A document that follows a table of this process through keys and windows, from its text to the rows that arrive."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa

from dsl.compile import compile_text
from dsl.contracts.connectors import ReadRequest
from engine.context import SystemClock
from engine.report import StageOutcome
from engine.run import Control, run_plan
from resources.memory.resource import MemoryConnection, MemorySource
from resources.memory.tables import forget, table
from resources.registry import InstalledCatalog
from tests.engine.fakes import context

SPACE = "followed"
SCHEMA = pa.schema([pa.field("id", pa.int64()), pa.field("at", pa.timestamp("us", "UTC"))])
FLOW = """
workflow:
  name: flow
  mode: stream
  checkpoint: {rows: 1, period: 10ms}
  source: {type: memory, config: {space: followed, table: events, incremental: true}}
  transformations:
    - {type: deduplicate, config: {keys: [id]}}
    - type: aggregate
      config:
        window: {column: at, size: 10s, every: 5s}
        aggregates: [{function: count, destination: n}, {function: min, field: id, destination: first}]
    - {type: filter, config: {condition: "n > 1"}}
  destination: {type: memory, config: {space: followed, table: sums}}
"""


def _rows(*rows: tuple[int, int]) -> pa.RecordBatch:
    start = datetime.fromisoformat("2026-01-05T00:00:00+00:00")
    made = [{"id": each, "at": start + timedelta(seconds=at)} for each, at in rows]
    return pa.RecordBatch.from_pylist(made, schema=SCHEMA)


def test_a_followed_reader_beats_and_brings_what_is_added() -> None:
    forget(SPACE)
    held = table("events", SPACE).fill(_rows((1, 0)))
    source = MemorySource(connection=MemoryConnection(space=SPACE), table="events", incremental=True)
    with source.read(ReadRequest(follow=True), None) as reader:
        batches = iter(reader)
        first, beat = next(batches), next(batches)
        assert (first.rows.num_rows, beat.rows.num_rows) == (1, 0)
        assert beat.state == first.state
        held.add(_rows((2, 1)))
        found = next(batches)
        while not found.rows.num_rows:
            found = next(batches)
        assert found.rows.column("id").to_pylist() == [2]


def test_from_the_text_to_the_rows(tmp_path: Path) -> None:
    forget(SPACE)
    held = table("events", SPACE).fill(_rows((1, 1), (2, 2)))
    (workflow,) = compile_text(FLOW, "flow.yaml", catalog=InstalledCatalog(), environment={})
    control = Control()
    given = context(tmp_path, clock=SystemClock(), control=control)
    reports = []
    runner = threading.Thread(target=lambda: reports.append(run_plan(workflow.physical, given)))
    runner.start()
    pause = threading.Event()
    for batch in ((2, 3), (3, 7)), ((1, 8),), ((9, 16),):
        held.add(_rows(*batch))
    for _ in range(6000):
        if table("sums", SPACE).to_table().num_rows == 2:
            break
        pause.wait(0.01)
    control.stop()
    runner.join()
    assert reports[0].outcome is StageOutcome.STOPPED
    assert reports[0].stages[0].reconciliation.balanced
    found = table("sums", SPACE).to_table().to_pylist()
    assert [(each["window_start"].second, each["n"], each["first"]) for each in found] == [(55, 2, 1), (0, 3, 1)]
