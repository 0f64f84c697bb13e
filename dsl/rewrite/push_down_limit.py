"""Rule: a limit tells its source how many rows are wanted."""

from __future__ import annotations

import re
from dataclasses import replace

from dsl.contracts.capabilities import SyncMode
from dsl.plan.logical import LogicalNode, LogicalPlan, Read, Transform
from dsl.rewrite.plans import keeps_rows, only_feeds, with_nodes

_LIMIT = re.compile(r"SELECT \* FROM \{0\} LIMIT (\d+) OFFSET (\d+)")


def push_down_limit(plan: LogicalPlan) -> LogicalPlan:
    """Lets sources stop early, where only steps that keep every row lie between.

    The limit itself stays, for sources that are read in parts. A source that goes on from its last row is left alone: it would come
    back for the rest in the next run.
    """
    changed: dict[str, LogicalNode] = {}
    for node in plan.nodes:
        found = _LIMIT.fullmatch(node.sql) if isinstance(node, Transform) and node.kind == "limit" else None
        read = _source_below(plan, node) if found else None
        if found is None or read is None or not _may_stop(read):
            continue
        rows = int(found[1]) + int(found[2])
        before = read.request.limit
        limit = rows if before is None else min(rows, before)
        changed[read.id] = replace(read, request=replace(read.request, limit=limit))
    return with_nodes(plan, changed)


def _source_below(plan: LogicalPlan, node: LogicalNode) -> Read | None:
    while len(node.inputs) == 1:
        below = plan.node(node.inputs[0])
        if not only_feeds(plan, below.id):
            return None
        if isinstance(below, Read):
            return below
        if not keeps_rows(below):
            return None
        node = below
    return None


def _may_stop(read: Read) -> bool:
    mode = getattr(read.source, "sync_mode", None)
    grows = mode not in {None, SyncMode.FULL_REFRESH} or getattr(read.source, "incremental_column", None) is not None
    return read.source.capabilities.limits and not grows
