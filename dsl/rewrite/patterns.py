"""What the rules look for in a plan, and how they put a changed node back; changes nothing by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from dsl.plan.logical import LogicalNode, LogicalPlan, Read, Transform


def alone_behind_reads(plan: LogicalPlan, kind: str) -> Iterator[tuple[Read, Transform]]:
    """Yields (source, node) wherever a node of a kind is the only consumer of a source and no exchange stands between."""
    for node in plan.nodes:
        if isinstance(node, Transform) and node.kind == kind:
            before = plan.node(node.inputs[0])
            if isinstance(before, Read) and plan.consumers(before.id) == (node,) and before.id not in plan.persisted:
                yield before, node


def replaced(plan: LogicalPlan, *changed: LogicalNode) -> LogicalPlan:
    """Returns a plan with some of its nodes in place of those of the same id."""
    by_id = {each.id: each for each in changed}
    return dataclasses.replace(plan, nodes=tuple(by_id.get(each.id, each) for each in plan.nodes))
