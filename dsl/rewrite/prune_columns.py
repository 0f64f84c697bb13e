"""Rule: a source reads only the columns that somebody needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

import pyarrow as pa

from dsl.plan.logical import LogicalNode, LogicalPlan, Process, Read, Transform

PASSING: Final = frozenset({"filter", "sort", "limit", "join", "unnest", "mask", "enrich"})
"""Kinds that pass on the columns that they do not look at: their SQL says `*`, or their operator copies them."""


def prune_columns(plan: LogicalPlan) -> LogicalPlan:
    """Asks every source that can project for the union of what its consumers need, in the source's order.

    Steps that pass columns on lose those that nobody needs from their schemas too; all others name what they read.
    """
    needs = _needs(plan)
    done: dict[str, LogicalNode] = {}
    for node in plan.nodes:
        if isinstance(node, Read):
            done[node.id] = _pruned_read(node, needs[node.id])
        else:
            done[node.id] = _narrowed(node, plan, done)
    return replace(plan, nodes=tuple(done.values()))


def _needs(plan: LogicalPlan) -> dict[str, frozenset[str] | None]:
    """Returns the columns of each node that somebody needs; None for all."""
    needs: dict[str, frozenset[str] | None] = {each.id: frozenset() for each in plan.nodes}
    for node in reversed(plan.nodes):
        for index, name in enumerate(node.inputs):
            wanted = _wanted_of(node, index, needs[node.id])
            before = needs[name]
            needs[name] = None if wanted is None or before is None else before | wanted
    return needs


def _wanted_of(node: LogicalNode, index: int, needed: frozenset[str] | None) -> frozenset[str] | None:
    if not isinstance(node, Transform | Process) or node.schema is None:
        return None
    reads = node.reads[index]
    if node.kind not in PASSING:
        return reads
    return None if reads is None or needed is None else reads | needed


def _pruned_read(node: Read, needed: frozenset[str] | None) -> Read:
    if needed is None or node.schema is None or not node.source.capabilities.projects:
        return node
    # Counting rows needs no column, but a batch without columns has no rows.
    columns = tuple(each for each in node.schema.names if each in needed) or tuple(node.schema.names[:1])
    if len(columns) == len(node.schema.names):
        return node
    schema = pa.schema([node.schema.field(each) for each in columns])
    lineage = {name: node.lineage[name] for name in columns if name in node.lineage}
    return replace(node, schema=schema, lineage=lineage, request=replace(node.request, columns=columns))


def _narrowed(node: LogicalNode, plan: LogicalPlan, done: Mapping[str, LogicalNode]) -> LogicalNode:
    if not isinstance(node, Transform | Process) or node.kind not in PASSING or node.schema is None:
        return node
    before = _columns(plan.node(each) for each in node.inputs)
    gone = before - _columns(done[each] for each in node.inputs)
    if not gone:
        return node
    schema = pa.schema([each for each in node.schema if each.name not in gone])
    return replace(
        node, schema=schema, lineage={name: pairs for name, pairs in node.lineage.items() if name in schema.names}
    )


def _columns(nodes: Iterable[LogicalNode]) -> set[str]:
    return {name for each in nodes for name in (each.schema.names if each.schema is not None else ())}
