"""A filter right behind a source also becomes the source's condition; the filter itself stays, so that nothing depends on it."""

from __future__ import annotations

import dataclasses

from dsl.plan.logical import LogicalPlan
from dsl.plan.templates import filled
from dsl.rewrite.patterns import alone_behind_reads, replaced

_HEAD = "SELECT * FROM {0} WHERE "


def push_down_filter(plan: LogicalPlan) -> LogicalPlan:
    """filter(read) -> filter(read with the condition), where the source evaluates conditions as DuckDB does."""
    for read, node in alone_behind_reads(plan, "filter"):
        if read.source.capabilities.filters and node.sql.startswith(_HEAD) and not node.uses_now and node.total:
            predicate = filled(node.sql.removeprefix(_HEAD), [])
            plan = replaced(
                plan, dataclasses.replace(read, request=dataclasses.replace(read.request, predicate=predicate))
            )
    return plan
