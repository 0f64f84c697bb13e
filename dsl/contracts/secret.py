"""A secret as a reference: printable, comparable, never its value; resolving it is the work of resources.stores."""

from __future__ import annotations

from dataclasses import dataclass, field

from dsl.contracts.redaction import MASK


@dataclass(frozen=True)
class Secret:
    """A field whose value must not be seen.

    Attributes:
        text: The text as written in the document. When `literal` is False it holds references
            (`${POSTGRES_PASSWORD}`, `${secret:vault/path#key}`) and is safe to show.
        literal: Whether the document holds the value itself, which is never shown.
    """

    text: str = field(repr=False)
    literal: bool = False

    def __str__(self) -> str:
        return MASK if self.literal else self.text

    def __repr__(self) -> str:
        return f"Secret({str(self)!r})"
