"""Tables kept by key from incremental reads that say nothing of deleted rows; asks no system whether any are deleted."""

from __future__ import annotations

from collections.abc import Iterator

from dsl.bound import BoundNode, BoundWorkflow
from dsl.contracts.capabilities import WriteMode
from dsl.contracts.changes import Deletes
from dsl.contracts.connectors import Destination, Source
from dsl.lint.append_repeats import is_incremental
from dsl.lint.rule import Finding, Rule, upstream


class UndeclaredDeletes(Rule):
    """A source is read incrementally into a table that is kept by key (`upsert` or `merge`), and nobody said what becomes of deleted rows.

    What is deleted at the source is never read again, so it stays at the destination for ever. Say which is meant: `deletes: ignored`,
    `soft_column`, `full_compare` or `cdc`; all but the first want `write_mode: merge`.
    """

    code = "W111"

    def findings(self, workflow: BoundWorkflow) -> Iterator[Finding]:
        """Yields every such source."""
        kept = [each for each in workflow.nodes if _keeps_by_key(each)]
        fed = {each.name for node in kept for each in upstream(workflow, node)}
        for node in workflow.nodes:
            if node.name in fed and _says_nothing(node) and is_incremental(node):
                said = f"rows that are deleted from {node.name!r} stay at the destination, and nobody said whether they may"
                hint = "write deletes: ignored, or soft_column, full_compare or cdc with write_mode: merge"
                yield self.found(node.spans.at("incremental_column"), said, hint)


def _says_nothing(node: BoundNode) -> bool:
    options = node.options
    silent = isinstance(options, Source) and options.tells is Deletes.IGNORED
    return silent and getattr(options, "deletes", Deletes.IGNORED) is None


def _keeps_by_key(node: BoundNode) -> bool:
    options = node.options
    return isinstance(options, Destination) and options.write_mode in {WriteMode.UPSERT, WriteMode.MERGE}
