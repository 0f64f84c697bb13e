"""What the rules have in common: a plan with some of its nodes exchanged; knows no rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dsl.plan.logical import LogicalNode, LogicalPlan, Read, Transform


def with_nodes(plan: LogicalPlan, changed: Mapping[str, LogicalNode]) -> LogicalPlan:
    """Returns a plan in which the nodes of these ids are others."""
    return replace(plan, nodes=tuple(changed.get(each.id, each) for each in plan.nodes))


def without(plan: LogicalPlan, node: LogicalNode) -> LogicalPlan:
    """Returns a plan without a node of one input, whose consumers read that input instead."""
    left = (
        replace(each, inputs=tuple(node.inputs[0] if name == node.id else name for name in each.inputs))
        for each in plan.nodes
        if each.id != node.id
    )
    return replace(plan, nodes=tuple(left))


def only_feeds(plan: LogicalPlan, node_id: str) -> bool:
    """Tells whether a node feeds exactly one other, once, and is not kept by an exchange."""
    uses = sum(each.inputs.count(node_id) for each in plan.nodes)
    return uses == 1 and node_id not in plan.persisted


def read_below(plan: LogicalPlan, node: LogicalNode) -> Read | None:
    """Returns the source right below a node that nobody else reads, or None."""
    below = plan.node(node.inputs[0]) if len(node.inputs) == 1 else None
    return below if isinstance(below, Read) and only_feeds(plan, below.id) else None


def keeps_rows(node: LogicalNode) -> bool:
    """Tells whether exactly one row comes out of a node for each that goes in."""
    return isinstance(node, Transform) and node.row_local and node.total and not (node.filters or node.expands)
