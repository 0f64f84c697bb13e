"""Enrichments by which one bad answer ends a run; calls nothing."""

from __future__ import annotations

from collections.abc import Iterator

from dsl.bound import BoundWorkflow
from dsl.contracts.policies import OnError
from dsl.lint.rule import Finding, Rule


class EnrichFailsRun(Rule):
    """An `enrich` node has no `on_error`, so the first row that the service refuses fails the run.

    A service that answers for thousands of rows refuses one sooner or later. Write `on_error: dlq` to keep such rows and
    go on, or `on_error: fail` in the node's `config` to say that this is meant.
    """

    code = "W105"

    def findings(self, workflow: BoundWorkflow) -> Iterator[Finding]:
        """Yields every enrichment that nobody decided about."""
        for node in workflow.nodes:
            undecided = (
                getattr(node.options, "on_error", None) is None and getattr(node.options, "fallback", None) is None
            )
            if node.kind == "enrich" and undecided and node.policies.on_error is OnError.FAIL:
                said = f"the first row that the service of {node.name!r} refuses fails the run"
                yield self.found(node.spans.node, said, "write on_error: dlq, or in its config on_error: fail")
