"""Rules that make a logical plan cheaper and change nothing of what it means; each a function of a plan, in a file of its own."""

from __future__ import annotations

from dsl.plan.logical import LogicalPlan
from dsl.rewrite.prune_columns import prune_columns
from dsl.rewrite.push_down_filter import push_down_filter
from dsl.rewrite.push_down_limit import push_down_limit

RULES = (push_down_filter, push_down_limit, prune_columns)
"""In this order: a pushed condition still needs its columns, so they are pruned last."""


def rewrite(plan: LogicalPlan) -> LogicalPlan:
    """Applies every rule once, in order."""
    for rule in RULES:
        plan = rule(plan)
    return plan


__all__ = ["RULES", "rewrite"]
