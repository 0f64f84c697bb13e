"""What the rules have in common: a plan with some of its nodes exchanged; knows no rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dsl.plan.logical import LogicalNode, LogicalPlan, Transform


def with_nodes(plan: LogicalPlan, changed: Mapping[str, LogicalNode]) -> LogicalPlan:
    """Returns a plan in which the nodes of these ids are others."""
    return replace(plan, nodes=tuple(changed.get(each.id, each) for each in plan.nodes))


def only_feeds(plan: LogicalPlan, node_id: str) -> bool:
    """Tells whether a node feeds exactly one other, once, and is not kept by an exchange."""
    uses = sum(each.inputs.count(node_id) for each in plan.nodes)
    return uses == 1 and node_id not in plan.persisted


def keeps_rows(node: LogicalNode) -> bool:
    """Tells whether exactly one row comes out of a node for each that goes in."""
    return isinstance(node, Transform) and node.row_local and node.total and not (node.filters or node.expands)
