"""Rule: a filter right behind a source that can filter becomes the source's own condition."""

from __future__ import annotations

from dataclasses import replace

from dsl.plan.logical import LogicalPlan, Read, Transform
from dsl.processors.columns import needs_text
from dsl.rewrite.plans import read_below, with_nodes, without

_SELECT = "SELECT * FROM {0} WHERE "


def push_down_filter(plan: LogicalPlan) -> LogicalPlan:
    """Moves filters into sources, one after the other, so that rows which nobody wants are not read.

    Only where it changes nothing else: nobody else reads the source, the condition cannot fail, does not depend on the clock, and
    looks at no column that DuckDB sees otherwise than the source (JSON, UUID).
    """
    for node in plan.nodes:
        if not isinstance(node, Transform) or node.id in plan.persisted or not _is_pure(node):
            continue
        read = read_below(plan, node)
        if read is None or not read.source.capabilities.filters or not _sees_same(read, node):
            continue
        condition = node.sql.removeprefix(_SELECT).format()
        before = read.request.predicate
        predicate = condition if before is None else f"({before}) AND ({condition})"
        pushed = replace(read, request=replace(read.request, predicate=predicate))
        return push_down_filter(without(with_nodes(plan, {read.id: pushed}), node))
    return plan


def _is_pure(node: Transform) -> bool:
    return node.kind == "filter" and node.sql.startswith(_SELECT) and node.total and not node.uses_now


def _sees_same(read: Read, node: Transform) -> bool:
    columns = node.reads[0] or frozenset()
    return read.schema is not None and not any(needs_text(read.schema.field(each).type) for each in columns)
