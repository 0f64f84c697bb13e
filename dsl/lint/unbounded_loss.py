"""Rejected rows that nobody counts; counts none itself."""

from __future__ import annotations

from collections.abc import Iterator

from dsl.bound import BoundWorkflow
from dsl.contracts.policies import OnError
from dsl.lint.rule import Finding, Rule


class UnboundedLoss(Rule):
    """Rows that fail are set aside or dropped, without a limit: a run that rejects every row succeeds.

    Give `dead_letter` a `max_ratio` (0.01: one row in a hundred) or `max_rows`; past it the run fails.
    """

    code = "W106"

    def findings(self, workflow: BoundWorkflow) -> Iterator[Finding]:
        """Yields the first node that may reject rows without a limit; the limit is usually the whole workflow's."""
        for node in workflow.nodes:
            budget = node.policies.dead_letter
            unbounded = budget.max_rows is None and budget.max_ratio is None
            if node.policies.on_error is not OnError.FAIL and unbounded:
                said = f"{node.name!r} may reject any number of rows and the run still succeeds"
                yield self.found(node.spans.node, said, "set dead_letter: {max_ratio: 0.01}, or max_rows")
                return
