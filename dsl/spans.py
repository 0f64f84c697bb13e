"""Where each option of a node stands in its document; answers with the nearest place it knows; data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from dsl.diagnostics import Span

OptionPath: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True)
class Spans:
    """Where each option of a node stands in the document.

    Attributes:
        node: The place of the node itself.
        places: Option path, such as `("mappings", 0, "source")`, -> the place of its value.
        texts: Option paths whose value is a plain text on one line -> the column of its first character.
    """

    node: Span
    places: Mapping[OptionPath, Span] = field(default_factory=dict)
    texts: Mapping[OptionPath, Span] = field(default_factory=dict)

    def at(self, *path: str | int, index: int | None = None) -> Span:
        """Returns the place of an option, or of the nearest option around it.

        Args:
            path: The option's path.
            index: A character of its text, counted from 0: the place of that character, where it is known.
        """
        if index is not None and path in self.texts:
            first = self.texts[path]
            return Span(first.path, first.line, first.column + index)
        while path:
            if path in self.places:
                return self.places[path]
            path = path[:-1]
        return self.node
