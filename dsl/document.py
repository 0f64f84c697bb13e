"""YAML text to a tree of nodes with places; the only module that knows YAML, and it interprets nothing.

Scalars follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema): `no`, `12:30:45` and `014` are
texts; only true, false, null, integers and floats are anything else, and only where they are not quoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias, cast

import yaml

from dsl.codes import Code
from dsl.diagnostics import CompileError, Diagnostic, Diagnostics, Span

if TYPE_CHECKING:
    from yaml._yaml import Mark as _CMark

LONGEST = 2**20
DEEPEST = 32
MOST_ALIASES = 10
MOST_NODES = 50_000
REMEMBERED = 4_096

Value: TypeAlias = bool | int | float | str | None

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_OCTAL_OR_HEX = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(frozen=True)
class Scalar:
    """A leaf.

    Attributes:
        span: Where it stands.
        value: What it means: a text, number, boolean or None.
        text: As written, without quotes.
        first: Place of the text's first character where the text stands on one line as it is, else None.
    """

    span: Span
    value: Value
    text: str
    first: Span | None = None


@dataclass(frozen=True)
class Sequence:
    """A list."""

    span: Span
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Entry:
    """A key of a mapping with its place, and its value."""

    key: str
    span: Span
    value: Node


@dataclass(frozen=True)
class Map:
    """A mapping without duplicate keys, in the document's order."""

    span: Span
    entries: tuple[Entry, ...]

    def get(self, key: str) -> Node | None:
        """Returns the value of a key, or None."""
        entry = self.entry(key)
        return None if entry is None else entry.value

    def entry(self, key: str) -> Entry | None:
        """Returns the entry of a key, or None."""
        return next((each for each in self.entries if each.key == key), None)


Node: TypeAlias = Scalar | Sequence | Map


@lru_cache(maxsize=REMEMBERED)
def parse(text: str, path: str) -> tuple[Node, ...]:
    """Reads every document of a text; what was read of the same text before is still known, for nodes never change.

    Args:
        text: The YAML.
        path: Its file's name, for places.

    Raises:
        CompileError: Every fault found: syntax, duplicate keys, tags, depth, aliases, size.
    """
    if len(text.encode("utf-8", "surrogatepass")) > LONGEST:
        raise _refusal(Span(path, 1, 1), Code.TOO_LARGE, f"the document is larger than {LONGEST // 2**20} MiB")
    if stray := _UNPRINTABLE.search(text):
        raise _refusal(
            _place(text, stray.start(), path),
            Code.SYNTAX,
            f"the text holds the character U+{ord(stray.group()):04X}, which YAML does not allow",
            'remove it, or write it as an escape in double quotes, such as "\\x07"',
        )
    found = Diagnostics()
    documents = tuple(_Reader(path, found).documents(text))
    found.raise_if_any()
    if not documents:
        raise _refusal(Span(path, 1, 1), Code.EMPTY, "the file holds no document")
    return documents


def _refusal(span: Span, code: Code, message: str, hint: str = "") -> CompileError:
    return CompileError([Diagnostic(span, code, message, hint)])


def _place(text: str, index: int, path: str) -> Span:
    lines = text[:index].split("\n")
    return Span(path, len(lines), len(lines[-1]) + 1)


class _Reader:
    """Turns PyYAML's events into nodes; counts depth, aliases and nodes while it does."""

    def __init__(self, path: str, found: Diagnostics) -> None:
        self._path, self._found = path, found
        self._aliases, self._nodes = 0, 0

    def documents(self, text: str) -> Iterator[Node]:
        """Yields every document that is not empty."""
        try:
            self._guard(text)
            for root in yaml.compose_all(text, Loader=_LOADER):
                if not _is_blank(root):
                    yield self._node(root, 1)
        except yaml.YAMLError as error:
            raise self._syntax(error) from error

    def _guard(self, text: str) -> None:
        """Refuses depth, tags and aliases on the flat list of events, before anything recursive sees the text."""
        depth = 0
        for event in yaml.parse(text, Loader=_LOADER):
            if getattr(event, "tag", None) is not None:
                self._refuse_tag(event)
            if isinstance(event, yaml.AliasEvent):
                self._aliases += 1
                if self._aliases > MOST_ALIASES:
                    raise _refusal(self._span(event.start_mark), Code.ALIAS, f"more than {MOST_ALIASES} aliases")
            elif isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > DEEPEST:
                    raise _refusal(self._span(event.start_mark), Code.TOO_DEEP, f"nested deeper than {DEEPEST} levels")
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1

    def _refuse_tag(self, event: yaml.Event) -> None:
        tag = str(getattr(event, "tag", "")).replace("tag:yaml.org,2002:", "!!")
        place = self._span(event.start_mark)
        self._found.add(
            place, Code.TAG, f"the tag {tag} is not allowed", "write the value without a tag, quoted if it is a text"
        )

    def _node(self, node: yaml.Node, depth: int) -> Node:
        self._nodes += 1
        if self._nodes > MOST_NODES or depth > DEEPEST:
            raise _refusal(self._span(node.start_mark), Code.ALIAS, "the document grows too large through its aliases")
        if isinstance(node, yaml.MappingNode):
            return self._map(node, depth)
        if isinstance(node, yaml.SequenceNode):
            return Sequence(self._span(node.start_mark), tuple(self._node(each, depth + 1) for each in node.value))
        return self._scalar(cast("yaml.ScalarNode", node))

    def _map(self, node: yaml.MappingNode, depth: int) -> Map:
        entries: dict[str, Entry] = {}
        for key, value in node.value:
            span = self._span(key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                self._found.add(span, Code.KEY_TYPE, "a key must be a text", "quote it, or write it on one line")
                continue
            if key.value in entries:
                first = entries[key.value].span
                self._found.add(
                    span,
                    Code.DUPLICATE_KEY,
                    f"the key {key.value!r} stands here twice",
                    f"the first one is on line {first.line}",
                )
            entries.setdefault(key.value, Entry(key.value, span, self._node(value, depth + 1)))
        return Map(self._span(node.start_mark), tuple(entries.values()))

    def _scalar(self, node: yaml.ScalarNode) -> Scalar:
        span = self._span(node.start_mark)
        plain = not node.style
        one_line = node.start_mark.line == node.end_mark.line and node.style not in {"|", ">"}
        width = node.end_mark.column - node.start_mark.column
        as_written = one_line and width == len(node.value) + (0 if plain else 2)
        first = Span(span.path, span.line, span.column + (0 if plain else 1)) if as_written else None
        return Scalar(span, _meaning(node.value) if plain else node.value, node.value, first)

    def _span(self, mark: yaml.Mark | _CMark | None) -> Span:
        if mark is None:
            return Span(self._path, 1, 1)
        return Span(self._path, mark.line + 1, mark.column + 1)

    def _syntax(self, error: yaml.YAMLError) -> CompileError:
        marks = [getattr(error, "problem_mark", None), getattr(error, "context_mark", None)]
        if "end of stream" in str(error):
            marks.reverse()  # what was opened and never closed says more than where the text ends
        mark = next((each for each in marks if each is not None), None)
        problem = getattr(error, "problem", None) or getattr(error, "context", None) or "it cannot be read"
        return _refusal(self._span(mark), Code.SYNTAX, f"the text is not YAML: {problem}", _advice(problem))


def _advice(problem: str) -> str:
    if "end of stream" in problem:
        return "what begins here is never closed"
    if "expected ','" in problem:
        return 'inside brackets, quote a text that holds one of { } [ ] , such as "${NAME}"'
    if "alias" in problem:
        return "an alias stands behind its anchor: first &name, then *name"
    if "cannot start any token" in problem:
        return "indent with spaces, and quote a text that begins with one of these signs: @ ` % &"
    return "is a quote or a bracket left open, or a line indented differently from its neighbours?"


def _is_blank(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and not node.style and node.value in _NULL


def _meaning(text: str) -> Value:
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) <= 40 else text
    if _OCTAL_OR_HEX.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(text.replace(".", "", 1)) if _NOT_FINITE.fullmatch(text) else text


def leaves_of(node: Node) -> Iterator[Scalar]:
    """Yields every leaf of a tree, in the document's order; keys are none."""
    if isinstance(node, Scalar):
        yield node
    children = (
        node.items
        if isinstance(node, Sequence)
        else [each.value for each in node.entries]
        if isinstance(node, Map)
        else []
    )
    for each in children:
        yield from leaves_of(each)


def plain(node: Node) -> object:
    """Returns a node as ordinary lists, dictionaries and values, without places."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Sequence):
        return [plain(each) for each in node.items]
    return _plain_map(node)


def _plain_map(node: Map) -> Mapping[str, object]:
    return {each.key: plain(each.value) for each in node.entries}
