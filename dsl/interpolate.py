"""`${…}` in string leaves, after parsing: what stands in a document can never change its structure; reads no environment by itself."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dsl.codes import Code
from dsl.diagnostics import Diagnostics, Span
from dsl.document import Map, Node, Scalar, Sequence

REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)\}")
_VARIABLE = re.compile(r"(?!secret:)([A-Za-z_][A-Za-z0-9_]*)(?::(-|\?)?(.*))?", re.DOTALL)
_SECRET = re.compile(r"secret:[A-Za-z0-9_-]+/[^#{}]+(#[^{}]+)?")


@dataclass(frozen=True, repr=False)
class Reference(Scalar):
    """A text that holds references.

    Attributes:
        value: The text with its variables in place; those without a value stand for "".
        text: As written.
        names_secret: Whether a `${secret:…}` is among the references.
        shown: The text without the defaults of its variables: what a field that is secret keeps.
        literal: Whether the document alone decides the value: no reference, or only defaults.
        broken: Whether a reference is written wrong or has no value, which has been noted: its value means nothing.
    """

    names_secret: bool = False
    shown: str = ""
    literal: bool = False
    broken: bool = False

    def __repr__(self) -> str:
        """Returns it without its value, which may be a secret."""
        return f"Reference({self.span}, {self.shown!r})"


def interpolate(node: Node, environment: Mapping[str, str], found: Diagnostics) -> Node:
    """Returns the tree with every text that holds references replaced by a `Reference`.

    Args:
        node: The document.
        environment: The variables that it may name.
        found: Told of every variable without a value and of every reference that is written wrong.
    """
    if isinstance(node, Map):
        entries = (
            dataclasses.replace(each, value=interpolate(each.value, environment, found)) for each in node.entries
        )
        return Map(node.span, tuple(entries))
    if isinstance(node, Sequence):
        return Sequence(node.span, tuple(interpolate(each, environment, found) for each in node.items))
    if not isinstance(node.value, str) or "${" not in node.text:
        return node
    return _Resolver(node, environment, found).reference()


class _Resolver:
    """Resolves the references of one text."""

    def __init__(self, leaf: Scalar, environment: Mapping[str, str], found: Diagnostics) -> None:
        self._leaf, self._environment, self._found = leaf, environment, found
        self._names_secret, self._names_variable = False, False
        self._before = len(found.found)

    def reference(self) -> Reference:
        """Returns the text with its references resolved."""
        text = self._leaf.text
        value = REFERENCE.sub(self._resolve, text)
        rest = REFERENCE.sub("", text)
        if "${" in rest:
            index = text.rindex("${")
            self._found.add(
                self._place(index),
                Code.VARIABLE_SYNTAX,
                "the reference is not closed",
                "write ${NAME}, or $${ for the signs themselves",
            )
        broken = len(self._found.found) > self._before
        literal = not (self._names_secret or self._names_variable)
        shown = REFERENCE.sub(_without_default, text)
        return Reference(self._leaf.span, value, text, None, self._names_secret, shown, literal, broken)

    def _resolve(self, match: re.Match[str]) -> str:
        inner = match.group(1)
        if inner is None:
            return "${"
        if inner.startswith("secret:"):
            return self._secret(inner, match)
        variable = _VARIABLE.fullmatch(inner)
        if variable is None:
            self._found.add(
                self._place(match.start()),
                Code.VARIABLE_SYNTAX,
                f"'${{{inner}}}' is not a reference",
                "write ${NAME}, ${NAME:-default} or ${NAME:?message}",
            )
            return ""
        name, sign, rest = variable.groups()
        value = self._environment.get(name)
        if value or (value is not None and sign is None):
            self._names_variable = True
            return value
        if rest is not None and sign != "?":
            return rest
        self._missing(name, rest if sign == "?" else None, match)
        return ""

    def _secret(self, inner: str, match: re.Match[str]) -> str:
        self._names_secret = True
        if not _SECRET.fullmatch(inner):
            self._found.add(
                self._place(match.start()),
                Code.VARIABLE_SYNTAX,
                f"'${{{inner}}}' is not a reference to a secret",
                "write ${secret:backend/path} or ${secret:backend/path#key}",
            )
        return ""

    def _missing(self, name: str, message: str | None, match: re.Match[str]) -> None:
        hint = message or f"set it, or write ${{{name}:-default}}"
        self._found.add(self._place(match.start()), Code.VARIABLE_MISSING, f"the variable {name} is not set", hint)

    def _place(self, index: int) -> Span:
        first = self._leaf.first
        return self._leaf.span if first is None else Span(first.path, first.line, first.column + index)


def _without_default(match: re.Match[str]) -> str:
    variable = _VARIABLE.fullmatch(match.group(1) or "")
    return match.group() if variable is None else f"${{{variable.group(1)}}}"
