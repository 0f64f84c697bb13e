"""Incremental reads that cannot tell equal rows apart; asks no system for its keys."""

from __future__ import annotations

from collections.abc import Iterator

from dsl.bound import BoundWorkflow
from dsl.lint.rule import Finding, Rule
from dsl.workflow import Role


class IncrementalWithoutKey(Rule):
    """A query is read incrementally without `primary_key`.

    A table has a primary key of its own to tell apart the rows whose `incremental_column` is equal; the result of a
    query has none. Without one, such rows are read again, so that none is lost, and arrive twice.
    """

    code = "W103"

    def findings(self, workflow: BoundWorkflow) -> Iterator[Finding]:
        """Yields every incremental query without a key."""
        for node in workflow.nodes:
            options = node.options
            incremental = node.role is Role.SOURCE and getattr(options, "incremental_column", None) is not None
            if (
                incremental
                and getattr(options, "query", None) is not None
                and not getattr(options, "primary_key", True)
            ):
                said = f"{node.name!r} reads a query incrementally and has no primary_key"
                yield self.found(node.spans.at("incremental_column"), said, "name the columns that identify a row")
