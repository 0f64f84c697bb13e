"""A tree of nodes to a document: keys, names, inputs and the shape of the graph; knows no connector and no processor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

from dsl.blocks import POLICY_KEYS, read_policies
from dsl.codes import Code
from dsl.contracts.policies import Policies
from dsl.diagnostics import Diagnostics, Span, did_you_mean
from dsl.document import Entry, Map, Node, Scalar, Sequence
from dsl.options import OptionReader
from dsl.scalars import FAULTY
from dsl.schedule import Schedule, Trigger
from dsl.workflow import (
    NAME,
    NAME_HINT,
    ConnectionDocument,
    Declaration,
    Document,
    Input,
    Mode,
    PolicyDocument,
    Role,
    Workflow,
)

ROOTS = ("workflow", "connection", "policy")
LINEAR = ("source", "destination")
GRAPH = ("sources", "destinations")
WORKFLOW_KEYS = (
    "name",
    "description",
    "schedule",
    "trigger",
    "mode",
    "owners",
    "tags",
    *LINEAR,
    *GRAPH,
    "transformations",
    *POLICY_KEYS,
)
NODE_KEYS = ("name", "type", "config", "inputs", "connection", "schema", "persist", "description", *POLICY_KEYS)


def read_document(node: Node, found: Diagnostics) -> Document | None:
    """Reads one document.

    Returns:
        What it declares, or None where its root tells nothing.
    """
    if not isinstance(node, Map) or len(node.entries) != 1 or node.entries[0].key not in ROOTS:
        keys = [each.key for each in node.entries] if isinstance(node, Map) else []
        stray = next((each for each in keys if each not in ROOTS), "")
        span = (
            next((each.span for each in node.entries if each.key == stray), node.span)
            if isinstance(node, Map)
            else node.span
        )
        said = f"unknown root key {stray!r}" if stray else "a document has one root key"
        found.add(span, Code.ROOT, said, did_you_mean(stray, ROOTS) or "workflow:, connection: or policy:")
        return None
    entry = node.entries[0]
    if not isinstance(entry.value, Map):
        found.add(
            entry.span,
            Code.WRONG_TYPE,
            f"{entry.key} holds no mapping",
            "write its name and what it consists of below it",
        )
        return None
    return _read_root(entry, entry.value, found)


def _read_root(entry: Entry, body: Map, found: Diagnostics) -> Document | None:
    if entry.key == "workflow":
        return _WorkflowReader(body, entry.span, found).workflow()
    name = _name(body, f"a {entry.key}", found)
    if entry.key == "policy":
        return PolicyDocument(name, entry.span, body)
    reader = OptionReader(found, "a connection", body.span)
    reader.unknown_keys(body, ("name", "type", "config", "description"))
    kind, place = _kind(body, f"connection {name!r}", found)
    return ConnectionDocument(name, kind, entry.span, place, _config(body, reader))


class _WorkflowReader:
    """Reads one workflow, and goes on past every fault."""

    def __init__(self, body: Map, span: Span, found: Diagnostics) -> None:
        self._body, self._span, self._found = body, span, found
        self._reader = OptionReader(found, "a workflow", body.span)

    def workflow(self) -> Workflow:
        body, reader = self._body, self._reader
        reader.unknown_keys(body, WORKFLOW_KEYS)
        policies = read_policies(body, Policies(), reader)
        name = _name(body, "a workflow", self._found)
        nodes = tuple(self._nodes(policies))
        self._check_graph(nodes)
        return Workflow(
            name=name,
            path=self._span.path,
            span=self._span,
            description=self._optional("description", str, ""),
            schedule=self._schedule(),
            trigger=self._block("trigger", Trigger),
            mode=self._optional("mode", Mode, Mode.BATCH),
            owners=self._optional("owners", tuple[str, ...], ()),
            tags=self._optional("tags", dict[str, str], {}),
            nodes=nodes,
            policies=policies,
        )

    def _optional(self, key: str, kind: Any, default: Any) -> Any:
        node = self._body.get(key)
        if node is None or (isinstance(node, Scalar) and node.value is None):
            return default
        read = self._reader.value(kind, node, (key,))
        return default if read is FAULTY else read

    def _block(self, key: str, cls: type) -> Any:
        node = self._body.get(key)
        read = None if node is None else self._reader.block(node, cls, (key,))
        return None if read is FAULTY else read

    def _schedule(self) -> Schedule | None:
        node = self._body.get("schedule")
        if node is None or not isinstance(node, Scalar):
            block: Schedule | None = self._block("schedule", Schedule)
            return block
        cron = self._reader.value(str, node, ("schedule",))
        if cron is FAULTY:
            return None
        before = len(self._found.found)
        read = self._reader.construct(Schedule, {"cron": cron}, ("schedule",), node.span)
        self._found.found[before:] = [
            type(each)(node.span, Code.SCHEDULE, each.message, each.hint) for each in self._found.found[before:]
        ]
        return None if read is FAULTY else read

    def _nodes(self, policies: Policies) -> Iterator[Declaration]:
        linear = [key for key in LINEAR if self._body.entry(key)]
        graph = [key for key in GRAPH if self._body.entry(key)]
        if linear and graph:
            span = self._entry_span(graph[0])
            self._found.add(
                span,
                Code.FORM,
                f"{graph[0]!r} and {linear[0]!r} belong to different forms",
                "write source and destination, or sources and destinations",
            )
        elif graph:
            yield from self._graph(policies)
        else:
            yield from self._linear(policies)

    def _linear(self, policies: Policies) -> Iterator[Declaration]:
        before = "source"
        for key in LINEAR:
            if self._body.entry(key) is None:
                self._found.add(
                    self._body.span,
                    Code.MISSING_KEY,
                    f"{key!r} is missing in a workflow",
                    "a workflow reads from somewhere and writes to somewhere",
                )
        if (source := self._body.entry("source")) is not None:
            yield from self._declared(source.value, "source", Role.SOURCE, policies, source.span, ())
        for index, item in enumerate(self._steps()):
            name = f"{index + 1}_{_kind_text(item)}"
            yield from self._declared(item, name, Role.TRANSFORMATION, policies, item.span, (Input(before, item.span),))
            before = name
        if (destination := self._body.entry("destination")) is not None:
            yield from self._declared(
                destination.value,
                "destination",
                Role.DESTINATION,
                policies,
                destination.span,
                (Input(before, destination.span),),
            )

    def _steps(self) -> tuple[Node, ...]:
        node = self._body.get("transformations")
        if node is None or (isinstance(node, Scalar) and node.value is None):
            return ()
        if isinstance(node, Sequence):
            return node.items
        self._found.add(
            node.span,
            Code.FORM,
            "in the linear form `transformations` is a list",
            "begin each with `- type:`, or write sources and destinations",
        )
        return ()

    def _graph(self, policies: Policies) -> Iterator[Declaration]:
        seen: dict[str, Span] = {}
        for key, role in (
            ("sources", Role.SOURCE),
            ("transformations", Role.TRANSFORMATION),
            ("destinations", Role.DESTINATION),
        ):
            entry = self._body.entry(key)
            if entry is None:
                if role is not Role.TRANSFORMATION:
                    self._found.add(
                        self._body.span,
                        Code.MISSING_KEY,
                        f"{key!r} is missing in a workflow",
                        "a workflow reads from somewhere and writes to somewhere",
                    )
                continue
            if not isinstance(entry.value, Map):
                if not (isinstance(entry.value, Scalar) and entry.value.value is None and role is Role.TRANSFORMATION):
                    self._found.add(
                        entry.value.span,
                        Code.FORM,
                        f"in the DAG form {key!r} is a mapping of names",
                        "write each node below its name",
                    )
                continue
            for each in entry.value.entries:
                self._check_name(each, seen)
                yield from self._declared(each.value, each.key, role, policies, each.span, None)

    def _check_name(self, entry: Entry, seen: dict[str, Span]) -> None:
        if not NAME.fullmatch(entry.key):
            self._found.add(entry.span, Code.NAME, f"{entry.key!r} is not a name", NAME_HINT)
        legal = entry.key.replace("-", "_").lower()
        if legal in seen:
            self._found.add(
                entry.span,
                Code.DUPLICATE_NAME,
                f"{entry.key!r} is the name of another node as well",
                f"that one is on line {seen[legal].line}",
            )
        seen.setdefault(legal, entry.span)

    def _declared(
        self, node: Node, name: str, role: Role, policies: Policies, span: Span, inputs: tuple[Input, ...] | None
    ) -> Iterator[Declaration]:
        if not isinstance(node, Map):
            self._found.add(
                node.span, Code.WRONG_TYPE, f"{name!r} is not a mapping", "write its `type:` and its `config:` below it"
            )
            return
        reader = OptionReader(self._found, f"{role} {name!r}", span)
        keys = [each for each in NODE_KEYS if (each != "inputs" or inputs is None) and _allowed(each, role)]
        reader.unknown_keys(node, keys)
        kind, place = _kind(node, f"{role} {name!r}", self._found)
        config = node.entry("config")
        yield Declaration(
            name=name,
            role=role,
            kind=kind,
            span=span,
            kind_span=place,
            config=_config(node, reader),
            config_span=config.span if config is not None else span,
            inputs=self._inputs(node, name, role) if inputs is None else inputs,
            policies=read_policies(node, policies, reader),
            connection=_named(node, "connection", reader),
            persist=_flag(node, "persist", reader),
            schema=_map(node, "schema", reader),
        )

    def _inputs(self, node: Map, name: str, role: Role) -> tuple[Input, ...]:
        if role is Role.SOURCE:
            return ()
        entry = node.entry("inputs")
        if entry is None:
            self._found.add(
                node.span,
                Code.MISSING_KEY,
                f"'inputs' is missing in {role} {name!r}",
                "name the nodes that feed it: inputs: [users]",
            )
            return ()
        items = entry.value.items if isinstance(entry.value, Sequence) else (entry.value,)
        read = tuple(
            Input(each.text, each.span) for each in items if isinstance(each, Scalar) and each.value is not None
        )
        if len(read) != len(items) or not read:
            self._found.add(entry.value.span, Code.WRONG_TYPE, "inputs is a list of names", "write inputs: [users]")
        doubled = [each for index, each in enumerate(read) if each.name in {other.name for other in read[:index]}]
        for each in doubled:
            self._found.add(each.span, Code.DUPLICATE_NAME, f"{each.name!r} is an input twice", "name it once")
        return read

    def _check_graph(self, nodes: tuple[Declaration, ...]) -> None:
        feeding = {each.name for each in nodes if each.role is not Role.DESTINATION}
        known = {each.name for each in nodes}
        for each in nodes:
            for wanted in each.inputs:
                self._check_input(each, wanted, feeding, known)
        self._check_circles(nodes)
        used = {wanted.name for each in nodes for wanted in each.inputs}
        for each in nodes:
            if each.name in feeding - used:
                self._found.add(
                    each.span,
                    Code.UNUSED,
                    f"{each.role} {each.name!r} feeds nothing",
                    "name it in the inputs of another node, or remove it",
                )

    def _check_input(self, node: Declaration, wanted: Input, feeding: set[str], known: set[str]) -> None:
        if wanted.name in feeding:
            return
        said = (
            f"{wanted.name!r} is a destination and feeds nothing"
            if wanted.name in known
            else f"no node is called {wanted.name!r}"
        )
        self._found.add(wanted.span, Code.UNKNOWN_INPUT, said, did_you_mean(wanted.name, feeding - {node.name}))

    def _check_circles(self, nodes: tuple[Declaration, ...]) -> None:
        try:
            TopologicalSorter({each.name: [wanted.name for wanted in each.inputs] for each in nodes}).prepare()
        except CycleError as error:
            circle = error.args[1]
            spans = [each.span for each in nodes if each.name in circle]
            self._found.add(
                min(spans),
                Code.CYCLE,
                f"these nodes feed each other in a circle: {' -> '.join(reversed(circle))}",
                "take one of them out of the other's inputs",
            )

    def _entry_span(self, key: str) -> Span:
        entry = self._body.entry(key)
        return self._body.span if entry is None else entry.span


def in_order(nodes: Iterable[Declaration]) -> tuple[Declaration, ...]:
    """Returns nodes so that each stands behind its inputs, otherwise in the document's order; the graph must be sound."""
    waiting, done, order = list(nodes), set[str](), list[Declaration]()
    while waiting:
        ready = next(each for each in waiting if all(wanted.name in done for wanted in each.inputs))
        waiting.remove(ready)
        done.add(ready.name)
        order.append(ready)
    return tuple(order)


def _allowed(key: str, role: Role) -> bool:
    if key == "connection":
        return role is not Role.TRANSFORMATION
    if key == "schema":
        return role is Role.SOURCE
    if key == "inputs":
        return role is not Role.SOURCE
    return key != "persist" or role is not Role.DESTINATION


def _name(body: Map, owner: str, found: Diagnostics) -> str:
    node = body.get("name")
    if node is None:
        found.add(body.span, Code.MISSING_KEY, f"'name' is missing in {owner}", NAME_HINT)
        return ""
    text = node.text if isinstance(node, Scalar) else ""
    if not NAME.fullmatch(text):
        found.add(node.span, Code.NAME, f"{text!r} is not a name", NAME_HINT)
    return text


def _kind(node: Map, owner: str, found: Diagnostics) -> tuple[str, Span]:
    kind = node.get("type")
    if isinstance(kind, Scalar) and isinstance(kind.value, str) and kind.value:
        return kind.value, kind.span
    place = node.span if kind is None else kind.span
    found.add(place, Code.MISSING_KEY, f"'type' is missing in {owner}", "such as type: postgres")
    return "", place


def _kind_text(node: Node) -> str:
    kind = node.get("type") if isinstance(node, Map) else None
    return kind.text if isinstance(kind, Scalar) else "step"


def _config(node: Map, reader: OptionReader) -> Map | None:
    return _map(node, "config", reader)


def _map(node: Map, key: str, reader: OptionReader) -> Map | None:
    value = node.get(key)
    if value is None or isinstance(value, Map):
        return value
    if not (isinstance(value, Scalar) and value.value is None):
        reader.found.add(
            value.span, Code.WRONG_TYPE, f"{key} of {reader.owner} is not a mapping", "write its keys below it"
        )
    return None


def _named(node: Map, key: str, reader: OptionReader) -> Input | None:
    value = node.get(key)
    if value is None:
        return None
    text = reader.value(str, value, (key,))
    return None if text is FAULTY else Input(text, value.span)


def _flag(node: Map, key: str, reader: OptionReader) -> bool:
    value = node.get(key)
    return value is not None and reader.value(bool, value, (key,)) is True
