"""What the workflow means: nodes with schemas and lineage on every edge; before any decision on how to run it; data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias

import pyarrow as pa

from dsl.contracts.connectors import Destination, ReadRequest, Source
from dsl.contracts.policies import Policies
from dsl.plan.memory import Memory

Lineage: TypeAlias = Mapping[str, tuple[tuple[str, str], ...]]
"""Column -> the (source node, column) pairs it is computed from."""


@dataclass(frozen=True)
class LogicalNode:
    """What every node of the logical plan has.

    Attributes:
        id: Its name in the workflow (linear form: `source`, `1_mapping`, `2_filter`, `destination`).
        inputs: Ids of the nodes that feed it.
        schema: What leaves it, or None (Unknown) where a source was not asked.
        lineage: Where each of its columns comes from; empty while the schema is unknown.
        policies: Its policies, inherited ones included.
    """

    id: str
    inputs: tuple[str, ...]
    schema: pa.Schema | None
    lineage: Lineage = field(default_factory=dict)
    policies: Policies = field(default_factory=Policies)


@dataclass(frozen=True)
class Read(LogicalNode):
    """A source.

    Attributes:
        source: Configured, not opened.
        request: What it is asked for.
        resource: Key of the Dagster resource that holds its connection.
        poll: In a workflow that never ends, how long to wait before it is read on; None if it is read once.
    """

    source: Source = None  # type: ignore[assignment]  # always given; the order of fields forbids saying so
    request: ReadRequest = field(default_factory=ReadRequest)
    resource: str = ""
    poll: timedelta | None = None


@dataclass(frozen=True)
class Transform(LogicalNode):
    """A relational step, already SQL.

    Attributes:
        kind: Its `type` in the document (`mapping`, `join`).
        sql: A SELECT in DuckDB's dialect whose inputs are the placeholders `{0}`, `{1}` …: table names or sub-queries.
        row_local: Whether each output row depends on one input row only.
        filters: Whether rows may be left out.
        expands: Whether rows may multiply.
        total: Whether no value of a well-typed row can make it fail.
        uses_now: Whether the SQL mentions `$now`.
        reads: For each input, the columns it needs; None for all.
        memory: What it remembers between batches instead of being SQL over whole inputs; None for nothing.
    """

    kind: str = ""
    sql: str = ""
    row_local: bool = True
    filters: bool = False
    expands: bool = False
    total: bool = False
    uses_now: bool = False
    reads: tuple[frozenset[str] | None, ...] = ()
    memory: Memory | None = None


@dataclass(frozen=True)
class Process(LogicalNode):
    """A step that is not relational.

    Attributes:
        kind: Its `type` in the document (`enrich`, `mask`, `python`).
        processor: Its options.
        reads: The columns it needs; None for all.
    """

    kind: str = ""
    processor: object = None
    reads: tuple[frozenset[str] | None, ...] = ()


@dataclass(frozen=True)
class Load(LogicalNode):
    """A destination, or one of the parts of a destination with several inputs."""

    node: str = ""
    destination: Destination = None  # type: ignore[assignment]  # as for Read.source
    resource: str = ""


@dataclass(frozen=True)
class LogicalPlan:
    """The workflow as a DAG.

    Attributes:
        workflow: Its name.
        nodes: In topological order.
        persisted: Ids of the nodes that the document cuts with `persist: true`.
    """

    workflow: str
    nodes: tuple[LogicalNode, ...]
    persisted: frozenset[str] = frozenset()

    def node(self, node_id: str) -> LogicalNode:
        """Returns a node by its id.

        Raises:
            KeyError: There is no such node.
        """
        for each in self.nodes:
            if each.id == node_id:
                return each
        raise KeyError(node_id)

    def consumers(self, node_id: str) -> tuple[LogicalNode, ...]:
        """Returns the nodes that a node feeds, in plan order."""
        return tuple(each for each in self.nodes if node_id in each.inputs)
