"""Logical plan to physical plan: cuts it into stages with one writer each, and fuses what may run as one query; pushes nothing down.

Row-local nodes in a row become one `ChunkQuery`. A blocking node becomes a `StreamQuery`, which takes in its neighbours only
where no value of a well-typed row can make them fail: a row that fails can only be found in a chunk.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from dataclasses import dataclass

import pyarrow as pa

from dsl.contracts.connectors import Destination, Source
from dsl.contracts.policies import Policies
from dsl.plan.logical import Load, LogicalNode, LogicalPlan, Process, Read, Transform
from dsl.plan.physical import (
    INPUT_VIEW,
    Apply,
    ChunkQuery,
    ExchangeScan,
    ExchangeWrite,
    PhysicalNode,
    PhysicalPlan,
    Scan,
    Stage,
    StreamQuery,
    Write,
    leaves_of,
)
from dsl.plan.templates import filled, joined


def lower(plan: LogicalPlan) -> PhysicalPlan:
    """Returns the stages that do what a logical plan means."""
    stages = _Lowering(plan).stages()
    return PhysicalPlan(plan.workflow, stages, _fingerprint(stages))


def is_cut(plan: LogicalPlan, node_id: str) -> bool:
    """Tells whether an exchange stands behind a node: it feeds two consumers, or the document says so."""
    edges = sum(each.inputs.count(node_id) for each in plan.nodes)
    return edges > 1 or node_id in plan.persisted


@dataclass(frozen=True)
class _Draft:
    """A query that may still grow.

    Attributes:
        nodes: What was fused into it.
        inputs: What its placeholders stand for.
        sql: A template over them.
        blocking: Whether it needs its whole inputs.
        total: Whether no row can make it fail.
        node: The last node fused into it.
        filters: Whether rows may be left out.
        expands: Whether rows may multiply.
        uses_now: Whether it mentions `$now`.
    """

    nodes: tuple[str, ...]
    inputs: tuple[PhysicalNode, ...]
    sql: str
    blocking: bool
    total: bool
    node: Transform
    filters: bool
    expands: bool
    uses_now: bool

    def finished(self) -> PhysicalNode:
        """Returns the query, which grows no more."""
        if not self.blocking:
            return ChunkQuery(
                nodes=self.nodes,
                input=self.inputs[0],
                sql=filled(self.sql, [INPUT_VIEW]),
                schema=self.node.schema,
                policies=self.node.policies,
                expands=self.expands,
                filters=self.filters,
                uses_now=self.uses_now,
            )
        views = [f"{INPUT_VIEW}_{index}" for index in range(len(self.inputs))]
        return StreamQuery(
            nodes=self.nodes,
            inputs=tuple(zip(views, self.inputs, strict=True)),
            sql=filled(self.sql, views),
            schema=self.node.schema,
            policies=self.node.policies,
            uses_now=self.uses_now,
        )


class _Lowering:
    """Lowers one plan."""

    def __init__(self, plan: LogicalPlan) -> None:
        self._plan = plan
        self._cuts = {each.id for each in plan.nodes if not isinstance(each, Load) and is_cut(plan, each.id)}

    def stages(self) -> tuple[Stage, ...]:
        """Returns one stage for each cut and each destination, producers first."""
        ends = [each for each in self._plan.nodes if each.id in self._cuts or isinstance(each, Load)]
        stages = [self._stage(each) for each in ends]
        readers = {
            each.id: {leaf.producer for leaf in leaves_of(each.root) if isinstance(leaf, ExchangeScan)}
            for each in stages
        }
        return tuple(
            dataclasses.replace(each, writer=_read_by(each, readers), after=tuple(sorted(readers[each.id])))
            for each in stages
        )

    def _stage(self, end: LogicalNode) -> Stage:
        if isinstance(end, Load):
            feeding = self._plan.node(end.inputs[0])
            writer = Write(end.node, feeding.id, end.destination, end.policies, end.resource)
            return Stage(
                _legal(end.id),
                self._tree(feeding.id, from_exchange=feeding.id in self._cuts),
                writer,
                schema=feeding.schema,
            )
        return Stage(
            _legal(end.id),
            self._tree(end.id, from_exchange=False),
            ExchangeWrite(end.id, (), end.policies),
            schema=end.schema,
        )

    def _tree(self, node_id: str, *, from_exchange: bool) -> PhysicalNode:
        built = self._built(node_id, from_exchange=from_exchange)
        return built.finished() if isinstance(built, _Draft) else built

    def _built(self, node_id: str, *, from_exchange: bool) -> PhysicalNode | _Draft:
        node = self._plan.node(node_id)
        if from_exchange:
            return ExchangeScan(node.id, _legal(node.id), node.schema, node.policies)
        if isinstance(node, Read):
            return Scan(node.id, node.source, node.request, node.schema, node.policies, node.resource)
        if isinstance(node, Process):
            feeding = self._tree(node.inputs[0], from_exchange=node.inputs[0] in self._cuts)
            return Apply(node.id, feeding, node.processor, node.schema, node.policies)
        if isinstance(node, Transform):
            return self._query(node)
        raise TypeError(f"{node_id} is a destination and feeds nothing")

    def _query(self, node: Transform) -> _Draft:
        """Returns the query of a node, grown around those of its inputs that it may take in."""
        inputs: list[PhysicalNode] = []
        parts: list[str] = []
        nodes: list[str] = []
        taken: list[_Draft] = []
        for each in node.inputs:
            built = self._built(each, from_exchange=each in self._cuts)
            if isinstance(built, _Draft) and _takes_in(node, built):
                parts.append(
                    f"({joined(built.sql, [f'{{{index + len(inputs)}}}' for index in range(len(built.inputs))])})"
                )
                inputs += built.inputs
                nodes += built.nodes
                taken.append(built)
            else:
                parts.append(f"{{{len(inputs)}}}")
                inputs.append(built.finished() if isinstance(built, _Draft) else built)
        return _Draft(
            nodes=(*nodes, node.id),
            inputs=tuple(inputs),
            sql=joined(node.sql, parts),
            blocking=not node.row_local or any(each.blocking for each in taken),
            total=node.total and all(each.total for each in taken),
            node=node,
            filters=node.filters or any(each.filters for each in taken),
            expands=node.expands or any(each.expands for each in taken),
            uses_now=node.uses_now or any(each.uses_now for each in taken),
        )


def _takes_in(node: Transform, before: _Draft) -> bool:
    """Tells whether a node may run in one query with the query in front of it."""
    if not _same_fate(node.policies, before.node.policies):
        return False
    if node.row_local:
        return not before.blocking or node.total
    return before.blocking or before.total


def _same_fate(one: Policies, other: Policies) -> bool:
    """Tells whether rows that fail go the same way in both."""
    return (one.on_error, one.fallback, one.dead_letter) == (other.on_error, other.fallback, other.dead_letter)


def _read_by(stage: Stage, readers: dict[str, set[str]]) -> Write | ExchangeWrite:
    if isinstance(stage.writer, Write):
        return stage.writer
    return dataclasses.replace(
        stage.writer, consumers=tuple(name for name, read in readers.items() if stage.id in read)
    )


def _legal(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


def _fingerprint(stages: tuple[Stage, ...]) -> str:
    """Returns a digest of what gives a state its meaning: sources, queries, processors, targets."""
    text = "\n".join(f"{each.id}: {_said(each.root)} -> {_said_of_writer(each.writer)}" for each in stages)
    return hashlib.sha256(text.encode()).hexdigest()


def _said(node: PhysicalNode) -> str:
    if isinstance(node, Scan):
        request = (node.request.columns, node.request.predicate, node.request.limit)
        return f"scan {_configured(node.source)} {request}"
    if isinstance(node, ExchangeScan):
        return f"exchange {node.producer}"
    if isinstance(node, Apply):
        return f"apply {node.processor!r} to ({_said(node.input)})"
    if isinstance(node, ChunkQuery):
        return f"chunk {node.sql} of ({_said(node.input)})"
    return f"stream {node.sql} of {[(view, _said(each)) for view, each in node.inputs]}"


def _said_of_writer(writer: Write | ExchangeWrite) -> str:
    return _configured(writer.destination) if isinstance(writer, Write) else "exchange"


def _configured(endpoint: Source | Destination) -> str:
    """Returns what is read or written, and how; not where its server is reached today."""
    own = {
        each.name: getattr(endpoint, each.name) for each in dataclasses.fields(endpoint) if each.name != "connection"
    }
    shown = {name: str(value) if isinstance(value, pa.Schema) else repr(value) for name, value in sorted(own.items())}
    return f"{type(endpoint).__name__} {endpoint.physical_name} {shown}"
