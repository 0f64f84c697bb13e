"""What the engine executes: stages, each a tree of readers and operators under exactly one writer; data only.

A stage is a tree because each of its nodes has one consumer: where a node has two, the lowering cuts and puts an exchange.
Leaves are `Scan` (a source) and `ExchangeScan` (what another stage wrote). `ChunkQuery` maps one batch to one batch and so keeps
the batch's state; `StreamQuery` needs its whole inputs (join, aggregate, sort) and so ends the epoch only at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias

import pyarrow as pa

from dsl.contracts.connectors import Destination, ReadRequest, Source
from dsl.contracts.policies import Policies
from dsl.plan.memory import Memory

INPUT_VIEW = "input"


@dataclass(frozen=True)
class Scan:
    """Reads a source.

    Attributes:
        node: The source's name in the workflow.
        source: Configured, not opened.
        request: What the plan pushed into it; `logical_time` is filled in by the run.
        schema: What `discover_schema` said at compile time, or None if nobody asked.
        policies: The node's policies.
        resource: Key of the Dagster resource that holds its connection.
        poll: In a workflow that never ends, how long to wait before it is read on; None if it is read once.
    """

    node: str
    source: Source
    request: ReadRequest
    schema: pa.Schema | None
    policies: Policies = field(default_factory=Policies)
    resource: str = ""
    poll: timedelta | None = None


@dataclass(frozen=True)
class ExchangeScan:
    """Reads what stage `producer` wrote for node `node`."""

    node: str
    producer: str
    schema: pa.Schema | None
    policies: Policies = field(default_factory=Policies)


@dataclass(frozen=True)
class ChunkQuery:
    """One DuckDB query over one batch at a time; row-local, so a poison row can be found by bisecting.

    Attributes:
        nodes: The workflow's nodes that were fused into it, in order.
        input: What it reads; the view is called `input` in the SQL.
        sql: A SELECT in DuckDB's dialect; parameters: `$now` (the run's logical time) where `uses_now`.
        schema: What leaves, or None while it is unknown.
        policies: Those of the last fused node (`on_error` decides where poison goes).
        expands: Whether rows may multiply (unnest).
        filters: Whether rows may be left out.
        uses_now: Whether the SQL mentions the parameter `$now`.
    """

    nodes: tuple[str, ...]
    input: PhysicalNode
    sql: str
    schema: pa.Schema | None
    policies: Policies = field(default_factory=Policies)
    expands: bool = False
    filters: bool = False
    uses_now: bool = False


@dataclass(frozen=True)
class StreamQuery:
    """One DuckDB query over whole inputs, streamed and spilling to disk.

    Attributes:
        nodes: The workflow's nodes that were fused into it.
        inputs: View name in the SQL -> what feeds it.
        sql: A SELECT in DuckDB's dialect; `$now` as in `ChunkQuery`.
        schema: What leaves, or None while it is unknown.
        policies: Those of the last fused node.
        uses_now: Whether the SQL mentions the parameter `$now`.
    """

    nodes: tuple[str, ...]
    inputs: tuple[tuple[str, PhysicalNode], ...]
    sql: str
    schema: pa.Schema | None
    policies: Policies = field(default_factory=Policies)
    uses_now: bool = False


@dataclass(frozen=True)
class Remember:
    """A step that remembers something between batches; what it remembers is committed with each epoch.

    Attributes:
        node: Its name in the workflow.
        input: What it reads; the view is called `input` in the memory's SQL.
        view: SQL of what it reads, JSON and UUID brought to text.
        memory: What it remembers.
        schema: What leaves, or None while it is unknown.
        policies: The node's policies.
    """

    node: str
    input: PhysicalNode
    view: str
    memory: Memory
    schema: pa.Schema | None
    policies: Policies = field(default_factory=Policies)


@dataclass(frozen=True)
class Apply:
    """A processor that is not relational (enrich, mask, python, or one that an extension brings).

    Attributes:
        node: Its name in the workflow.
        input: What it reads.
        processor: Its options: a dataclass of `dsl.processors`, or a `contracts.connectors.Processor`.
        schema: What leaves, or None while it is unknown.
        policies: The node's policies.
    """

    node: str
    input: PhysicalNode
    processor: object
    schema: pa.Schema | None
    policies: Policies = field(default_factory=Policies)


PhysicalNode: TypeAlias = Scan | ExchangeScan | ChunkQuery | StreamQuery | Remember | Apply


@dataclass(frozen=True)
class Write:
    """The stage's writer: a destination of the workflow.

    Attributes:
        node: The destination's name in the workflow.
        input_node: The workflow's node that feeds it (names the prefix of a store with several inputs).
        destination: Configured, not opened.
        policies: The node's policies.
        resource: Key of the Dagster resource that holds its connection.
    """

    node: str
    input_node: str
    destination: Destination
    policies: Policies = field(default_factory=Policies)
    resource: str = ""


@dataclass(frozen=True)
class ExchangeWrite:
    """The stage's writer: an exchange that `consumers` read."""

    node: str
    consumers: tuple[str, ...]
    policies: Policies = field(default_factory=Policies)


@dataclass(frozen=True)
class Stage:
    """A fused chain with one writer; one Dagster op.

    Attributes:
        id: Unique in the workflow, a legal Dagster name: the writer's node, or node__input.
        root: The tree of readers and operators.
        writer: Where its rows go.
        after: Ids of the stages whose exchanges it reads.
        schema: What arrives at the writer, or None while it is unknown.
    """

    id: str
    root: PhysicalNode
    writer: Write | ExchangeWrite
    after: tuple[str, ...] = ()
    schema: pa.Schema | None = None


@dataclass(frozen=True)
class PhysicalPlan:
    """Everything a run needs.

    Attributes:
        workflow: The workflow's name.
        stages: In an order that respects `Stage.after`.
        fingerprint: sha256 of what decides the meaning of a state: nodes, SQL, sources; not of schedules or descriptions.
    """

    workflow: str
    stages: tuple[Stage, ...]
    fingerprint: str

    def stage(self, stage_id: str) -> Stage:
        """Returns a stage by its id.

        Raises:
            KeyError: There is no such stage.
        """
        for each in self.stages:
            if each.id == stage_id:
                return each
        raise KeyError(stage_id)


def inputs_of(node: PhysicalNode) -> tuple[PhysicalNode, ...]:
    """Returns what feeds a node, left to right."""
    if isinstance(node, StreamQuery):
        return tuple(each for _, each in node.inputs)
    if isinstance(node, ChunkQuery | Remember | Apply):
        return (node.input,)
    return ()


def leaves_of(node: PhysicalNode) -> tuple[Scan | ExchangeScan, ...]:
    """Returns the readers under a node, left to right."""
    if isinstance(node, Scan | ExchangeScan):
        return (node,)
    return tuple(leaf for each in inputs_of(node) for leaf in leaves_of(each))
