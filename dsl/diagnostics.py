"""What is wrong with a document, as data: place, code, sentence, hint; collected, sorted, raised once; prints nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from dsl.codes import Code


@dataclass(frozen=True, order=True)
class Span:
    """A place in a document; lines and columns count from 1."""

    path: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


@dataclass(frozen=True, order=True)
class Diagnostic:
    """One fault of a document."""

    span: Span
    code: Code
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.span}: {self.code} {self.message}" + (f" ({self.hint})" if self.hint else "")


class CompileError(Exception):
    """Every fault of a document, sorted by place.

    Args:
        diagnostics: At least one.
    """

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(sorted(set(diagnostics)))
        super().__init__("\n".join(map(str, self.diagnostics)))


@dataclass
class Diagnostics:
    """Collects faults so that a step can report all of them before anyone stops."""

    found: list[Diagnostic] = field(default_factory=list)

    def add(self, span: Span, code: Code, message: str, hint: str = "") -> None:
        """Notes one fault."""
        self.found.append(Diagnostic(span, code, message, hint))

    def raise_if_any(self) -> None:
        """Raises everything noted so far.

        Raises:
            CompileError: If anything was noted.
        """
        if self.found:
            raise CompileError(self.found)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns the hint for a misspelt name: the nearest known one, or the list of all when it is short."""
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(choices)}" if 0 < len(choices) <= 12 else ""
