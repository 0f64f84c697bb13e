"""Runs a workflow up to one node until enough rows have left it; writes to no system, moves no state, hides what is masked."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from dsl.contracts.connectors import BatchWriter, CheckResult, Committed, Connection, Destination, Token
from dsl.contracts.redaction import MASK
from dsl.contracts.rows import Rejection, WriteStats
from dsl.contracts.state import State
from dsl.plan.logical import Load, LogicalNode, LogicalPlan, Process, Read, Transform
from dsl.plan.lower import lower
from dsl.processors.mask import MaskOptions
from dsl.rewrite import rewrite
from engine.context import RunContext
from engine.control import Control
from engine.run import run_plan
from etl_defs.settings import read_settings
from resources.stores.checkpoints import MemoryCheckpoints
from resources.stores.dead_letters import LocalDeadLetters

NODE = "preview"
BATCH = 1_000
_SECRET = re.compile(
    r"passw|pwd|secret|token|api_?key|access_?key|private_?key|credential|authorization", re.IGNORECASE
)


def first_rows(plan: LogicalPlan, node: str, count: int) -> pa.Table:
    """Runs a workflow up to one node, until enough rows have left it.

    Args:
        plan: The workflow, with the schemas of its sources, before any rule has rewritten it.
        node: Whose rows.
        count: How many at most.
    """
    control, kept = Control(), _Kept(count)
    sink = _Collector(connection=_Nowhere(), kept=kept, control=control)
    physical = lower(rewrite(_up_to(plan, node, sink, count)))
    settings = read_settings()
    with tempfile.TemporaryDirectory(prefix="headrace-preview-") as folder:
        home = Path(folder)
        letters = LocalDeadLetters(home / "dead_letters")
        context = RunContext(
            workflow=plan.workflow,
            run_id=NODE,
            logical_time=datetime.now(UTC),
            home=home,
            checkpoints=MemoryCheckpoints(),
            dead_letters=letters,
            control=control,
            memory_limit=settings.memory,
            threads=settings.threads,
            allow_python=settings.allow_python,
        )
        try:
            run_plan(physical, context)
        finally:
            letters.close()
    return kept.table(plan.node(node).schema)


def veiled_rows(rows: pa.Table, plan: LogicalPlan, node: str) -> pa.Table:
    """Returns rows of a node without the values that may not be seen.

    Hidden is what a `mask` node hides further down, by the source columns that it comes from, and whatever is named like
    a secret, at any depth. A hidden column becomes a text.
    """
    hidden = set(_masked_later(plan, node))
    for index, each in enumerate(rows.schema):
        whole = each.name in hidden
        if whole or _names_secret(each.name, each.type):
            veiled = [_veil(each.name, value, whole=whole) for value in rows.column(index).to_pylist()]
            texts = [value if value is None or isinstance(value, str) else str(value) for value in veiled]
            rows = rows.set_column(index, each.name, pa.array(texts, pa.string()))
    return rows


def _names_secret(name: str, kind: pa.DataType) -> bool:
    """Tells whether a field, or one inside it, is named like a secret."""
    inner = [kind.field(index) for index in range(kind.num_fields)]
    return _SECRET.search(name) is not None or any(_names_secret(each.name, each.type) for each in inner)


def _veil(name: str, value: object, *, whole: bool = False) -> object:
    if value is not None and (whole or _SECRET.search(name)):
        return MASK
    if isinstance(value, dict):
        return {key: _veil(key, each) for key, each in value.items()}
    return [_veil(name, each) for each in value] if isinstance(value, list) else value


def _masked_later(plan: LogicalPlan, node: str) -> Iterator[str]:
    """Yields the columns of a node that come from what a mask hides, unless the mask stands in front of the node."""
    before = _ancestors(plan, node)
    hidden: set[tuple[str, str]] = set()
    names: set[str] = set()
    for each in plan.nodes:
        if isinstance(each, Process) and isinstance(each.processor, MaskOptions) and each.id not in before:
            columns = {rule.field.partition(".")[0] for rule in each.processor.rules}
            names |= columns
            hidden |= {origin for column in columns for origin in each.lineage.get(column, ())}
    shown = plan.node(node)
    for column in shown.schema.names if shown.schema is not None else ():
        if column in names or hidden & set(shown.lineage.get(column, ())):
            yield column


def _ancestors(plan: LogicalPlan, node: str) -> set[str]:
    needed = {node}
    for each in reversed(plan.nodes):
        if each.id in needed:
            needed.update(each.inputs)
    return needed


def _up_to(plan: LogicalPlan, node: str, sink: Destination, count: int) -> LogicalPlan:
    needed = _ancestors(plan, node)
    nodes = [each for each in plan.nodes if each.id in needed]
    size = _batch_rows(nodes, count)
    load = Load(id=NODE, inputs=(node,), schema=plan.node(node).schema, node=NODE, destination=sink)
    return dataclasses.replace(plan, nodes=(*(_small(each, size) for each in nodes), load), persisted=frozenset())


def _batch_rows(nodes: Iterable[LogicalNode], count: int) -> int | None:
    """Returns how many rows a batch should have so that little is done in vain; None where the whole input is needed."""
    nodes = list(nodes)
    if any(isinstance(each, Transform) and not each.row_local for each in nodes):
        return None
    # An enrich node calls its API for every row of a batch: then a batch is what is shown.
    asks = any(isinstance(each, Process) and each.kind != "mask" for each in nodes)
    return count if asks else max(count, BATCH)


def _small(node: LogicalNode, size: int | None) -> LogicalNode:
    if not isinstance(node, Read):
        return node
    rows = node.request.batch_rows if size is None else size
    return dataclasses.replace(node, request=dataclasses.replace(node.request, batch_rows=rows, dry=True))


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

    def table(self, schema: pa.Schema | None) -> pa.Table:
        """Returns what was kept; `schema` is that of the node where nothing has arrived."""
        return pa.Table.from_batches(self.batches, schema=self.schema or schema or pa.schema([]))


@dataclass(frozen=True, kw_only=True)
class _Nowhere(Connection):
    """No system at all."""

    def check(self) -> CheckResult:
        """Nothing can be wrong with it."""
        return CheckResult(healthy=True, details="rows are shown, not written")


@dataclass(frozen=True, kw_only=True)
class _Collector(Destination):
    """Keeps the first rows in memory and stops the run once there are enough."""

    kept: _Kept
    control: Control

    @property
    def physical_name(self) -> tuple[str, ...]:
        """It has no place."""
        return (NODE,)

    def open_writer(self, schema: pa.Schema, token: Token) -> BatchWriter:
        """Opens it."""
        del token
        self.kept.schema = schema
        return _CollectingWriter(self.kept, self.control)


class _CollectingWriter(BatchWriter):
    """The open `_Collector`."""

    def __init__(self, kept: _Kept, control: Control) -> None:
        self._kept, self._control, self._rows = kept, control, 0

    def get_state(self) -> Committed | None:
        """It never has one: each preview begins at the beginning."""
        return None

    def write(self, rows: pa.RecordBatch) -> Sequence[Rejection]:
        """Keeps what is wanted."""
        self._rows += rows.num_rows
        if self._kept.add(rows):
            self._control.stop()
        return ()

    def commit(self, epoch: int, state: State, *, final: bool = False) -> WriteStats:
        """Counts."""
        del epoch, state, final
        written, self._rows = self._rows, 0
        return WriteStats(rows=written)

    def close(self) -> None:
        """Owns nothing."""
        self._rows = 0
