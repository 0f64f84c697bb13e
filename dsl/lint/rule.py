"""What a lint rule is, and what it finds: advice that stops nothing; knows no rule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from dsl.bound import BoundNode, BoundWorkflow
from dsl.diagnostics import Span


@dataclass(frozen=True, order=True)
class Finding:
    """One place in a document that compiles and may still not do what its author wants."""

    span: Span
    code: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.span}: {self.code} {self.message}" + (f" ({self.hint})" if self.hint else "")


class Rule(ABC):
    """One thing worth a warning; the docstring of a rule is its entry in the reference."""

    code: ClassVar[str]

    @abstractmethod
    def findings(self, workflow: BoundWorkflow) -> Iterator[Finding]:
        """Yields what a workflow does against the rule."""

    def found(self, span: Span, message: str, hint: str) -> Finding:
        """Returns a finding of this rule."""
        return Finding(span, self.code, message, hint)


def upstream(workflow: BoundWorkflow, node: BoundNode) -> Iterator[BoundNode]:
    """Yields every node that feeds a node, directly or through others, each once, the nearest first."""
    waiting, seen = list(node.inputs), set[str]()
    while waiting:
        name = waiting.pop(0)
        if name not in seen:
            seen.add(name)
            each = workflow.node(name)
            yield each
            waiting.extend(each.inputs)
