"""Runs that are made up for and read the same rows again; computes no times."""

from __future__ import annotations

from collections.abc import Iterator

from dsl.bound import BoundWorkflow
from dsl.lint.append_repeats import is_incremental
from dsl.lint.rule import Finding, Rule
from dsl.workflow import Role


class PointlessCatchup(Rule):
    """The schedule makes up for missed runs, but every source is read in full: each such run does the same again.

    Leave `catchup` out, or read a source incrementally.
    """

    code = "W107"

    def findings(self, workflow: BoundWorkflow) -> Iterator[Finding]:
        """Yields the workflow itself."""
        schedule = workflow.workflow.schedule
        sources = [each for each in workflow.nodes if each.role is Role.SOURCE]
        if schedule is not None and schedule.catchup and not any(map(is_incremental, sources)):
            said = "catchup repeats missed runs, each of which reads all rows again"
            yield self.found(workflow.workflow.span, said, "leave catchup out, or read a source incrementally")
