"""Rule: a filter behind a source that can filter also becomes the source's condition; the filter itself stays and finds nothing to do."""

from __future__ import annotations

from dataclasses import replace

from dsl.plan.logical import LogicalNode, LogicalPlan, Read, Transform
from dsl.processors.columns import needs_text
from dsl.rewrite.plans import only_feeds, with_nodes

_SELECT = "SELECT * FROM {0} WHERE "


def push_down_filter(plan: LogicalPlan) -> LogicalPlan:
    """Lets sources leave out rows that nobody wants, where only such filters lie between.

    Only where it changes nothing else: nobody else reads the source, the condition cannot fail, does not depend on the clock, and
    looks at no column that DuckDB sees otherwise than the source (JSON, UUID).
    """
    for node in plan.nodes:
        if not isinstance(node, Transform) or not _is_pure(node):
            continue
        read = _source_below(plan, node)
        if read is None or not read.source.capabilities.filters or not _sees_same(read, node):
            continue
        condition = node.sql.removeprefix(_SELECT).format()
        before = read.request.predicate
        predicate = condition if before is None else f"({before}) AND ({condition})"
        plan = with_nodes(plan, {read.id: replace(read, request=replace(read.request, predicate=predicate))})
    return plan


def _source_below(plan: LogicalPlan, node: LogicalNode) -> Read | None:
    below = plan.node(node.inputs[0])
    while isinstance(below, Transform) and _is_pure(below) and only_feeds(plan, below.id):
        below = plan.node(below.inputs[0])
    return below if isinstance(below, Read) and only_feeds(plan, below.id) else None


def _is_pure(node: Transform) -> bool:
    return node.kind == "filter" and node.sql.startswith(_SELECT) and node.total and not node.uses_now


def _sees_same(read: Read, node: Transform) -> bool:
    columns = node.reads[0] or frozenset()
    return read.schema is not None and not any(needs_text(read.schema.field(each).type) for each in columns)
