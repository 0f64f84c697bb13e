"""Destinations that grow by the same rows at every run; knows nothing of what the rows are."""

from __future__ import annotations

from collections.abc import Iterator

from dsl.bound import BoundNode, BoundWorkflow
from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Destination
from dsl.lint.rule import Finding, Rule, upstream
from dsl.streams import grows
from dsl.workflow import Role


class AppendRepeats(Rule):
    """A destination appends what is read in full at every run, so each run adds all rows again.

    Read incrementally (`incremental_column`), or write with `overwrite` or, by key, `upsert`.
    """

    code = "W104"

    def findings(self, workflow: BoundWorkflow) -> Iterator[Finding]:
        """Yields every appending destination none of whose sources is incremental."""
        for node in workflow.nodes:
            if not isinstance(node.options, Destination) or node.options.write_mode is not WriteMode.APPEND:
                continue
            sources = [each for each in upstream(workflow, node) if each.role is Role.SOURCE]
            if getattr(node.options, "id_field", None) is None and not any(map(is_incremental, sources)):
                read = ", ".join(repr(each.name) for each in sources)
                said = f"{node.name!r} appends all rows of {read} again at every run"
                hint = "read incrementally, or write_mode: overwrite or upsert"
                yield self.found(node.spans.at("write_mode"), said, hint)


def is_incremental(node: BoundNode) -> bool:
    """Tells whether a source reads only what is new since the last run."""
    return grows(node.options)
