"""Secrets that are written into a document; shows none."""

from __future__ import annotations

from collections.abc import Iterator

from dsl.bound import BoundWorkflow
from dsl.lint.rule import Finding, Rule
from dsl.literals import literal_secrets


class SecretLiteral(Rule):
    """A password, key or token stands in the document itself.

    Whoever can read the file, or its history, has it. Write `${NAME}` or `${secret:backend/path#key}`: such a
    reference is resolved only by the process that opens the connection. A default (`${NAME:-hunter2}`) is a literal too.
    """

    code = "W101"

    def findings(self, workflow: BoundWorkflow) -> Iterator[Finding]:
        """Yields the place of every literal secret, also where it stands in a shared connection."""
        for node in workflow.nodes:
            for path in literal_secrets(node.options):
                said = f"{'.'.join(map(str, path))} of {node.name!r} is a secret written into the document"
                yield self.found(node.spans.at(*path), said, "write ${NAME}, or ${secret:backend/path#key}")
