"""The nodes of a workflow as its document declares them, linear form or DAG form; knows no connector and no processor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dsl.blocks import POLICY_KEYS, read_policies, refuse_fallback, with_fallback
from dsl.codes import Code
from dsl.contracts.policies import Policies
from dsl.diagnostics import Diagnostics, Span
from dsl.document import Entry, Map, Node, Scalar, Sequence
from dsl.options import OptionReader, refuse_secret
from dsl.scalars import FAULTY
from dsl.workflow import NAME, NAME_HINT, Declaration, Input, Role

LINEAR = ("source", "destination")
GRAPH = {"sources": Role.SOURCE, "transformations": Role.TRANSFORMATION, "destinations": Role.DESTINATION}
_COMMON_KEYS = ("type", "config", "description", *POLICY_KEYS)
_ROLE_KEYS = {
    Role.SOURCE: ("connection", "schema", "persist"),
    Role.TRANSFORMATION: ("persist",),
    Role.DESTINATION: ("connection",),
}


class NodesReader:
    """Reads the nodes of one workflow, and goes on past every fault.

    Attributes:
        unread: Names of the nodes that could not be read; "" for a whole part of the workflow.
    """

    def __init__(self, body: Map, policies: Policies, found: Diagnostics) -> None:
        self._body, self._policies, self._found = body, policies, found
        self._seen: dict[str, Span] = {}
        self.unread: set[str] = set()

    def nodes(self) -> Iterator[Declaration]:
        """Yields sources, transformations and destinations in the document's order."""
        linear = [key for key in LINEAR if self._body.entry(key)]
        graph = [each for key in ("sources", "destinations") if (each := self._body.entry(key))]
        if linear and graph:
            said = f"{graph[0].key!r} and {linear[0]!r} belong to different forms"
            self._fault(graph[0].span, Code.FORM, said, "write source and destination, or sources and destinations")
        elif graph:
            yield from self._graph()
        else:
            yield from self._linear()

    def _fault(self, span: Span, code: Code, said: str, hint: str, name: str = "") -> None:
        """Notes a fault because of which a node, or a whole part of the workflow, stays unread."""
        self._found.add(span, code, said, hint)
        self.unread.add(name)

    def _part(self, key: str) -> Entry | None:
        entry = self._body.entry(key)
        if entry is None:
            hint = "a workflow reads from somewhere and writes to somewhere"
            self._fault(self._body.span, Code.MISSING_KEY, f"{key!r} is missing in a workflow", hint)
        return entry

    def _linear(self) -> Iterator[Declaration]:
        source, destination = self._part("source"), self._part("destination")
        before = "source"
        self._seen |= {each.key: each.span for each in (source, destination) if each is not None}
        if source is not None:
            yield from self._declared(source.value, "source", Role.SOURCE, source.span, ())
        for index, item in enumerate(self._steps()):
            name = self._step_name(item, index)
            yield from self._declared(item, name, Role.TRANSFORMATION, item.span, (Input(before, item.span),))
            before = name
        if destination is not None:
            inputs = (Input(before, destination.span),)
            yield from self._declared(destination.value, "destination", Role.DESTINATION, destination.span, inputs)

    def _steps(self) -> tuple[Node, ...]:
        node = self._body.get("transformations")
        if node is None or _is_empty(node):
            return ()
        if isinstance(node, Sequence):
            return node.items
        hint = "begin each with `- type:`, or write sources and destinations"
        self._fault(node.span, Code.FORM, "in the linear form `transformations` is a list", hint)
        return ()

    def _step_name(self, item: Node, index: int) -> str:
        """Returns the name that a step gives itself, or one made of its number and its type."""
        given = item.entry("name") if isinstance(item, Map) else None
        if given is None:
            kind = item.get("type") if isinstance(item, Map) else None
            return f"{index + 1}_{kind.text}" if isinstance(kind, Scalar) and kind.text else f"{index + 1}_step"
        text = given.value.text if isinstance(given.value, Scalar) else ""
        self._check_name(text, given.value.span)
        return text

    def _graph(self) -> Iterator[Declaration]:
        for key, role in GRAPH.items():
            optional = role is Role.TRANSFORMATION
            entry = self._body.entry(key) if optional else self._part(key)
            if entry is None or (optional and _is_empty(entry.value)):
                continue
            if _is_empty(entry.value):
                self._fault(entry.span, Code.EMPTY_VALUE, f"{key!r} holds no node", "write each node below its name")
            elif not isinstance(entry.value, Map):
                said = f"in the DAG form {key!r} is a mapping of names"
                self._fault(entry.value.span, Code.FORM, said, "write each node below its name")
            else:
                yield from self._named(entry.value, role)

    def _named(self, nodes: Map, role: Role) -> Iterator[Declaration]:
        for each in nodes.entries:
            self._check_name(each.key, each.span)
            yield from self._declared(each.value, each.key, role, each.span, None)

    def _check_name(self, name: str, span: Span) -> None:
        if not NAME.fullmatch(name):
            self._found.add(span, Code.NAME, f"{name!r} is not a name", NAME_HINT)
        legal = name.replace("-", "_").lower()
        if legal in self._seen:
            said = f"{name!r} cannot be told from another node's name"
            self._found.add(span, Code.DUPLICATE_NAME, said, f"that one is on line {self._seen[legal].line}")
        self._seen.setdefault(legal, span)

    def _declared(
        self, node: Node, name: str, role: Role, span: Span, inputs: tuple[Input, ...] | None
    ) -> Iterator[Declaration]:
        if not isinstance(node, Map):
            hint = "write its `type:` and its `config:` below it"
            self._fault(node.span, Code.WRONG_TYPE, f"{name!r} is not a mapping", hint, name)
            return
        reader = OptionReader(self._found, f"{role} {name!r}", span)
        own = ("name",) if inputs and role is Role.TRANSFORMATION else ()
        fed = ("inputs",) if inputs is None and role is not Role.SOURCE else ()
        reader.unknown_keys(node, (*_COMMON_KEYS, *_ROLE_KEYS[role], *own, *fed))
        kind, place = kind_of(node, f"{role} {name!r}", self._found)
        entry, config = node.entry("config"), map_of(node, "config", reader)
        if role is Role.TRANSFORMATION and kind == "enrich":
            config = with_fallback(node, config, self._found)
        else:
            refuse_fallback(node, f"{role} {name!r}", self._found)
        yield Declaration(
            name=name,
            role=role,
            kind=kind,
            span=span,
            kind_span=place,
            config=config,
            config_span=entry.span if entry is not None else span,
            inputs=self._inputs(node, name, role) if inputs is None else inputs,
            policies=read_policies(node, self._policies, reader),
            connection=_input(node, "connection", reader),
            persist=_value(node, "persist", bool, reader) is True,
            schema=map_of(node, "schema", reader),
            description=_value(node, "description", str, reader) or "",
        )

    def _inputs(self, node: Map, name: str, role: Role) -> tuple[Input, ...]:
        if role is Role.SOURCE:
            return ()
        entry = node.entry("inputs")
        if entry is None:
            said = f"'inputs' is missing in {role} {name!r}"
            self._fault(node.span, Code.MISSING_KEY, said, "name the nodes that feed it: inputs: [users]", name)
            return ()
        items = entry.value.items if isinstance(entry.value, Sequence) else (entry.value,)
        read = tuple(
            Input(each.text, each.span) for each in items if isinstance(each, Scalar) and each.value is not None
        )
        if len(read) != len(items) or not read:
            said = "inputs is a list of names"
            self._fault(entry.value.span, Code.WRONG_TYPE, said, "write inputs: [users]", name)
        for index, each in enumerate(read):
            if each.name in {other.name for other in read[:index]}:
                self._found.add(each.span, Code.DUPLICATE_NAME, f"{each.name!r} is an input twice", "name it once")
        return read


def kind_of(node: Map, owner: str, found: Diagnostics) -> tuple[str, Span]:
    """Returns the `type` of a node or a connection and its place; "" if it has none, which is noted."""
    kind = node.get("type")
    if isinstance(kind, Scalar) and refuse_secret(kind, "type", found):
        return "", kind.span
    if isinstance(kind, Scalar) and isinstance(kind.value, str) and kind.value:
        return kind.value, kind.span
    place = node.span if kind is None else kind.span
    found.add(place, Code.MISSING_KEY, f"'type' is missing in {owner}", "such as type: postgres")
    return "", place


def map_of(node: Map, key: str, reader: OptionReader) -> Map | None:
    """Returns the mapping below a key; None if there is none, which is noted where something else stands there."""
    value = node.get(key)
    if value is None or isinstance(value, Map):
        return value
    if not _is_empty(value):
        said = f"{key} of {reader.owner} is not a mapping"
        reader.found.add(value.span, Code.WRONG_TYPE, said, "write its keys below it")
    return None


def _value(node: Map, key: str, kind: type, reader: OptionReader) -> Any:
    value = node.get(key)
    read = None if value is None else reader.value(kind, value, (key,))
    return None if read is FAULTY else read


def _input(node: Map, key: str, reader: OptionReader) -> Input | None:
    text, value = _value(node, key, str, reader), node.get(key)
    return None if text is None or value is None else Input(text, value.span)


def _is_empty(node: Node) -> bool:
    return (isinstance(node, Scalar) and node.value is None) or (isinstance(node, Map) and not node.entries)
