"""A limit right behind a source also becomes the source's limit; the limit itself stays, for its offset."""

from __future__ import annotations

import dataclasses
import re

from dsl.plan.logical import LogicalPlan
from dsl.rewrite.patterns import alone_behind_reads, replaced

_LIMIT = re.compile(r"SELECT \* FROM \{0\} LIMIT (\d+) OFFSET (\d+)")


def push_down_limit(plan: LogicalPlan) -> LogicalPlan:
    """limit(read) -> limit(read of so many rows), where the source can."""
    for read, node in alone_behind_reads(plan, "limit"):
        match = _LIMIT.fullmatch(node.sql)
        if match and read.source.capabilities.limits:
            request = dataclasses.replace(read.request, limit=int(match[1]) + int(match[2]))
            plan = replaced(plan, dataclasses.replace(read, request=request))
    return plan
