"""SQL with numbered placeholders, as the logical plan holds it: put together and filled in; parses no SQL."""

from __future__ import annotations

from collections.abc import Sequence
from string import Formatter


def joined(template: str, parts: Sequence[str]) -> str:
    """Returns a template whose placeholders are replaced by other templates.

    Args:
        template: SQL with `{0}`, `{1}` … and doubled braces.
        parts: What the placeholders become: templates themselves.
    """
    pieces: list[str] = []
    for literal, name, _, _ in Formatter().parse(template):
        pieces.append(literal.replace("{", "{{").replace("}", "}}"))
        if name is not None:
            pieces.append(parts[int(name)])
    return "".join(pieces)


def filled(template: str, parts: Sequence[str]) -> str:
    """Returns SQL: a template whose placeholders are replaced by names or sub-queries."""
    return template.format(*parts)
