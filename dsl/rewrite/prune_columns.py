"""Columns that nobody uses are not read; only where the source can leave them out, and never of an unknown schema."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pyarrow as pa

from dsl.plan.logical import LogicalNode, LogicalPlan, Read, Transform
from dsl.rewrite.patterns import replaced

PASSING = frozenset({"filter", "sort", "limit", "deduplicate"})
"""Kinds whose every column is a column of their input: what is wanted of them is wanted of it."""
COMPUTING = frozenset({"mapping", "aggregate"})
"""Kinds whose every column is computed from what they read: nothing else is wanted of their input."""


def prune_columns(plan: LogicalPlan) -> LogicalPlan:
    """Read -> read of the columns that its consumers need, and those that pass them on say so in their schemas."""
    wanted: dict[str, frozenset[str] | None] = {}
    for node in reversed(plan.nodes):
        for position, name in enumerate(node.inputs):
            need = _need(node, position, wanted.get(node.id, _everything(node)))
            wanted[name] = need if name not in wanted else _either(wanted[name], need)
    return _kept(plan, wanted)


def _need(node: LogicalNode, position: int, wanted: frozenset[str] | None) -> frozenset[str] | None:
    """Returns the columns that a node needs of an input, when `wanted` is needed of the node; None for all."""
    if not isinstance(node, Transform) or node.reads[position] is None:
        return None
    reads = node.reads[position] or frozenset()
    if node.kind in COMPUTING:
        return reads
    if node.kind in PASSING:
        return None if wanted is None else reads | wanted
    return None


def _everything(node: LogicalNode) -> frozenset[str] | None:
    return None if node.schema is None else frozenset(node.schema.names)


def _either(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    return None if one is None or other is None else one | other


def _kept(plan: LogicalPlan, wanted: dict[str, frozenset[str] | None]) -> LogicalPlan:
    pruned: set[str] = set()
    for node in plan.nodes:
        need = wanted.get(node.id)
        if need is None or node.schema is None or need >= set(node.schema.names):
            continue
        if isinstance(node, Read) and node.source.capabilities.projects and need and node.request.columns is None:
            pruned.add(node.id)
            columns = tuple(each for each in node.schema.names if each in need)
            plan = replaced(
                plan,
                dataclasses.replace(
                    node, schema=_only(node.schema, columns), request=dataclasses.replace(node.request, columns=columns)
                ),
            )
        elif isinstance(node, Transform) and node.kind in PASSING and node.inputs[0] in pruned:
            pruned.add(node.id)
            below = plan.node(node.inputs[0]).schema
            plan = replaced(plan, dataclasses.replace(node, schema=below))
    return plan


def _only(schema: pa.Schema, columns: Iterable[str]) -> pa.Schema:
    return pa.schema([schema.field(each) for each in columns])
