"""Enrichments that answer an outage by giving up every row; calls nothing."""

from __future__ import annotations

from collections.abc import Iterator

from dsl.bound import BoundWorkflow
from dsl.contracts.policies import OnError
from dsl.lint.rule import Finding, Rule


class OutageRejectsRows(Rule):
    """An `enrich` step rejects rows that fail and has no `circuit_breaker`: an outage of its service rejects every row that comes by.

    With a `circuit_breaker` rows wait until the service is back, and other runs leave it alone as well. A `default` or `skip_field` of
    a `fallback` lets the rows go on instead.
    """

    code = "W110"

    def findings(self, workflow: BoundWorkflow) -> Iterator[Finding]:
        """Yields every enrichment that an outage empties into the dead letters, or into nothing."""
        for node in workflow.nodes:
            chosen = str(getattr(node.options, "on_error", None) or node.policies.on_error)
            rejects = node.kind == "enrich" and chosen in {OnError.DLQ, OnError.DROP}
            always = getattr(getattr(node.options, "fallback", None), "always", False)
            if rejects and not always and node.policies.circuit_breaker is None:
                fate = "into the dead letters" if chosen == OnError.DLQ else "away"
                said = f"an outage of the service of {node.name!r} sends every row {fate}"
                yield self.found(node.spans.node, said, "give it a circuit_breaker: {failures: 5, cooldown: 30s}")
