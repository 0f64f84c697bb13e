"""Sources that are asked for parts and cannot be divided, and parts that are read one after the other; opens no system."""

from __future__ import annotations

from collections.abc import Iterator

from dsl.bound import BoundWorkflow
from dsl.contracts.connectors import Source
from dsl.lint.rule import Finding, Rule
from dsl.streams import grows


class Undivided(Rule):
    """`partitions` or `parallelism` is asked of a source that is read as a whole, or parts are read one after the other.

    A full refresh of some systems can be read in parts (`headrace connectors` says which ones). An incremental read and a stream have one
    reader: what comes next follows from what came last. `partitions` says in how many parts, `parallelism` how many are read at a time.
    """

    code = "W112"

    def findings(self, workflow: BoundWorkflow) -> Iterator[Finding]:
        """Yields every source of which too much is asked."""
        for node in workflow.nodes:
            source, policies = node.options, node.policies
            if not isinstance(source, Source) or max(policies.partitions or 1, policies.parallelism) == 1:
                continue
            if not source.capabilities.divides or grows(source):
                why = (
                    "is read incrementally"
                    if source.capabilities.divides
                    else f"is {node.kind}, which cannot be divided"
                )
                said = f"{node.name!r} {why}: it is read as a whole"
                yield self.found(node.spans.node, said, "leave partitions and parallelism out at this node")
            elif policies.parallelism == 1:
                said = f"the {policies.partitions} parts of {node.name!r} are read one after the other"
                yield self.found(node.spans.node, said, "say how many at a time: parallelism")
