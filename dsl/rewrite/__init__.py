"""Rules that bring work to where it is cheapest, into sources above all; the plan means the same before and after each.

A rule is a function from a plan to a plan, in a module of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dsl.plan.logical import LogicalPlan
from dsl.rewrite.prune_columns import prune_columns
from dsl.rewrite.push_down_filter import push_down_filter
from dsl.rewrite.push_down_limit import push_down_limit

RULES: Final[tuple[Callable[[LogicalPlan], LogicalPlan], ...]] = (push_down_filter, push_down_limit, prune_columns)


def rewrite(plan: LogicalPlan) -> LogicalPlan:
    """Applies every rule once, in order."""
    for rule in RULES:
        plan = rule(plan)
    return plan
