"""`headrace preview`: the first rows that leave a node, with nothing written anywhere; keeps no state."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import click
import pyarrow as pa

from dsl.compile import CompiledWorkflow
from dsl.contracts.connectors import BatchWriter, CheckResult, Committed, Connection, Destination, Token
from dsl.contracts.rows import Rejection, WriteStats
from dsl.contracts.state import State
from dsl.plan.logical import Load, LogicalNode, LogicalPlan
from dsl.plan.lower import lower
from dsl.rewrite import rewrite
from engine.context import RunContext
from engine.control import Control
from engine.run import run_plan
from etl_defs.settings import read_settings
from resources.stores.checkpoints import MemoryCheckpoints
from resources.stores.dead_letters import LocalDeadLetters
from server.cli.deployment import compile_one, discovered
from server.cli.outcomes import Exit, print_json
from server.tables import print_rows

NODE = "preview"


@click.command()
@click.argument("path")
@click.argument("node")
@click.option("--workflow", "name", help="Which workflow of the file.")
@click.option("--rows", default=10, show_default=True, help="How many rows.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def preview(path: str, node: str, name: str | None, rows: int, as_json: bool) -> int:
    """Show the first rows that leave NODE of a workflow. Nothing is written and no state moves."""
    _, untyped = compile_one(path, name)
    known = [each.id for each in untyped.logical.nodes if not isinstance(each, Load)]
    if node not in known:
        raise click.UsageError(f"no node {node!r} to preview; the workflow has: {', '.join(known)}")
    found = first_rows(discovered(path, untyped), node, rows)
    if as_json:
        print_json(found.to_pylist())
    else:
        print_rows(found)
    return Exit.DONE


def first_rows(compiled: CompiledWorkflow, node: str, count: int) -> pa.Table:
    """Runs a workflow up to one node, until enough rows have left it.

    Args:
        compiled: The workflow, with the schemas of its sources.
        node: Whose rows.
        count: How many at most.

    Returns:
        A table of at most `count` rows.
    """
    control, kept = Control(), _Kept(count)
    sink = _Collector(connection=_Nowhere(), kept=kept, control=control)
    physical = lower(rewrite(_upto(compiled.logical, node, sink)))
    settings = read_settings()
    with tempfile.TemporaryDirectory(prefix="headrace-preview-") as folder:
        home = Path(folder)
        run_plan(
            physical,
            RunContext(
                workflow=compiled.workflow.name,
                run_id=NODE,
                logical_time=datetime.now(UTC),
                home=home,
                checkpoints=MemoryCheckpoints(),
                dead_letters=LocalDeadLetters(home / "dead_letters"),
                control=control,
                memory_limit=settings.memory,
                threads=settings.threads,
                allow_python=settings.allow_python,
            ),
        )
    return kept.table()


def _upto(plan: LogicalPlan, node: str, sink: Destination) -> LogicalPlan:
    needed = {node}
    for each in reversed(plan.nodes):
        if each.id in needed:
            needed.update(each.inputs)
    nodes: list[LogicalNode] = [each for each in plan.nodes if each.id in needed]
    load = Load(id=NODE, inputs=(node,), schema=plan.node(node).schema, node=NODE, destination=sink)
    return dataclasses.replace(plan, nodes=(*nodes, load), persisted=plan.persisted & needed)


@dataclass
class _Kept:
    """The rows that have arrived, and how many are wanted."""

    wanted: int
    schema: pa.Schema | None = None
    batches: list[pa.RecordBatch] = field(default_factory=list)

    def add(self, rows: pa.RecordBatch) -> bool:
        """Keeps what is still wanted; tells whether that is enough."""
        missing = self.wanted - sum(each.num_rows for each in self.batches)
        self.batches.append(rows.slice(0, missing))
        return rows.num_rows >= missing

    def table(self) -> pa.Table:
        return pa.Table.from_batches(self.batches, schema=self.schema)


@dataclass(frozen=True, kw_only=True)
class _Nowhere(Connection):
    """No system at all."""

    def check(self) -> CheckResult:
        return CheckResult(healthy=True, details="rows are shown, not written")


@dataclass(frozen=True, kw_only=True)
class _Collector(Destination):
    """Keeps the first rows in memory and stops the run once there are enough."""

    kept: _Kept
    control: Control

    @property
    def physical_name(self) -> tuple[str, ...]:
        return (NODE,)

    def open_writer(self, schema: pa.Schema, token: Token) -> BatchWriter:
        del token
        self.kept.schema = schema
        return _CollectingWriter(self.kept, self.control)


class _CollectingWriter(BatchWriter):
    """The open `_Collector`."""

    def __init__(self, kept: _Kept, control: Control) -> None:
        self._kept, self._control, self._rows = kept, control, 0

    def get_state(self) -> Committed | None:
        return None

    def write(self, rows: pa.RecordBatch) -> Sequence[Rejection]:
        self._rows += rows.num_rows
        if self._kept.add(rows):
            self._control.stop()
        return ()

    def commit(self, epoch: int, state: State, *, final: bool = False) -> WriteStats:
        del epoch, state, final
        written, self._rows = self._rows, 0
        return WriteStats(rows=written)

    def close(self) -> None:
        self._rows = 0
