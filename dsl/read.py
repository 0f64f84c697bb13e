"""A tree of nodes to a document: its root, its name, when it runs; knows no connector and no processor."""

from __future__ import annotations

from typing import Any

from dsl.blocks import POLICY_KEYS, read_policies, refuse_fallback
from dsl.codes import Code
from dsl.contracts.policies import Policies
from dsl.diagnostics import Diagnostics, Span, did_you_mean
from dsl.document import Entry, Map, Node, Scalar
from dsl.graph import check_graph
from dsl.nodes import GRAPH, LINEAR, NodesReader, kind_of, map_of
from dsl.options import OptionReader, refuse_secret
from dsl.scalars import FAULTY
from dsl.schedule import Schedule, Trigger, TriggerType
from dsl.workflow import (
    NAME,
    NAME_HINT,
    RESERVED,
    ConnectionDocument,
    Declaration,
    Document,
    Mode,
    PolicyDocument,
    Role,
    Workflow,
)

ROOTS = ("workflow", "connection", "policy")
HEADING_KEYS = ("name", "description", "schedule", "trigger", "mode", "owners", "tags")
WORKFLOW_KEYS = (
    *HEADING_KEYS,
    *LINEAR,
    *GRAPH,
    *POLICY_KEYS,
)


def read_document(node: Node, found: Diagnostics) -> Document | None:
    """Reads one document.

    Returns:
        What it declares, or None where its root tells nothing.
    """
    root = _root(node, found)
    if root is None:
        return None
    key, span, body = root
    if key == "workflow":
        return _WorkflowReader(body, span, found).workflow()
    name = _name(body, f"a {key}", found)
    if key == "policy":
        return PolicyDocument(name, span, body)
    reader = OptionReader(found, "a connection", body.span)
    reader.unknown_keys(body, ("name", "type", "config", "description"))
    kind, place = kind_of(body, f"connection {name!r}", found)
    return ConnectionDocument(name, kind, span, place, map_of(body, "config", reader))


def read_heading(node: Node, found: Diagnostics) -> Workflow | None:
    """Reads a workflow without its nodes: who it is and when it runs; None if the document is something else."""
    root = _root(node, found)
    return _WorkflowReader(root[2], root[1], found).heading() if root is not None and root[0] == "workflow" else None


def heading_of(node: Node) -> Node:
    """Returns a document without what `read_heading` does not look at, so that nobody need interpolate it."""
    if not isinstance(node, Map) or len(node.entries) != 1 or not isinstance(node.entries[0].value, Map):
        return node
    root, body = node.entries[0], node.entries[0].value
    kept = tuple(each for each in body.entries if each.key in HEADING_KEYS)
    return Map(node.span, (Entry(root.key, root.span, Map(body.span, kept)),))


def _root(node: Node, found: Diagnostics) -> tuple[str, Span, Map] | None:
    entries = node.entries if isinstance(node, Map) else ()
    if len(entries) != 1 or entries[0].key not in ROOTS:
        stray = next((each for each in entries if each.key not in ROOTS), entries[1] if len(entries) > 1 else None)
        if stray is None:
            found.add(node.span, Code.ROOT, "a document is a mapping with one root key", "begin it with workflow:")
        elif stray.key in ROOTS:
            found.add(stray.span, Code.ROOT, "a document has one root key", "put --- on a line between two documents")
        else:
            said = f"unknown root key {stray.key!r}"
            found.add(stray.span, Code.ROOT, said, did_you_mean(stray.key, ROOTS))
        return None
    key, span, body = entries[0].key, entries[0].span, entries[0].value
    if not isinstance(body, Map):
        hint = "write its name and what it consists of below it"
        found.add(span, Code.WRONG_TYPE, f"{key} holds no mapping", hint)
        return None
    return key, span, body


class _WorkflowReader:
    """Reads one workflow, and goes on past every fault."""

    def __init__(self, body: Map, span: Span, found: Diagnostics) -> None:
        self._body, self._span, self._found = body, span, found
        self._reader = OptionReader(found, "a workflow", body.span)

    def workflow(self) -> Workflow:
        """Reads all of it."""
        self._reader.unknown_keys(self._body, WORKFLOW_KEYS)
        policies = read_policies(self._body, Policies(), self._reader)
        refuse_fallback(self._body, "a workflow", self._reader.found)
        reader = NodesReader(self._body, policies, self._found)
        nodes = tuple(reader.nodes())
        check_graph(nodes, reader.unread, self._found)
        read = self.heading(nodes, policies)
        if read.trigger is not None and not reader.unread:
            self._check_trigger(read.trigger, nodes)
        return read

    def heading(self, nodes: tuple[Declaration, ...] = (), policies: Policies | None = None) -> Workflow:
        """Reads who it is and when it runs."""
        return Workflow(
            name=_name(self._body, "a workflow", self._found, reserved=RESERVED),
            path=self._span.path,
            span=self._span,
            description=self._optional("description", str, ""),
            schedule=self._schedule(),
            trigger=self._block("trigger", Trigger),
            mode=self._optional("mode", Mode, Mode.BATCH),
            owners=self._optional("owners", tuple[str, ...], ()),
            tags=self._optional("tags", dict[str, str], {}),
            nodes=nodes,
            policies=policies or Policies(),
        )

    def _optional(self, key: str, kind: Any, default: Any) -> Any:
        node = self._body.get(key)
        if node is None or (isinstance(node, Scalar) and node.value is None):
            return default
        read = self._reader.value(kind, node, (key,))
        return default if read is FAULTY else read

    def _block(self, key: str, cls: type, code: Code = Code.OPTIONS) -> Any:
        node = self._body.get(key)
        read = None if node is None else self._reader.block(node, cls, (key,), code)
        return None if read is FAULTY else read

    def _schedule(self) -> Schedule | None:
        node = self._body.get("schedule")
        read: Any = None
        if not isinstance(node, Scalar):
            read = self._block("schedule", Schedule, Code.SCHEDULE)
        elif (cron := self._reader.value(str, node, ("schedule",))) is not FAULTY:
            read = self._reader.construct(Schedule, {"cron": cron}, ("schedule",), node.span, Code.SCHEDULE)
        return read if isinstance(read, Schedule) else None

    def _check_trigger(self, trigger: Trigger, nodes: tuple[Declaration, ...]) -> None:
        sources = [each.name for each in nodes if each.role is Role.SOURCE]
        place = self._reader.spans().at("trigger", "source")
        if trigger.source is not None and trigger.source not in sources:
            said = f"no source is called {trigger.source!r}"
            self._found.add(place, Code.UNKNOWN_INPUT, said, did_you_mean(trigger.source, sources))
        unsaid = trigger.type is TriggerType.FILE and trigger.source is None and trigger.path is None
        if unsaid and len(sources) > 1:
            hint = f"write source: {sources[0]}, or a path"
            self._found.add(place, Code.OPTIONS, "the trigger does not say whose files it watches", hint)


def _name(body: Map, owner: str, found: Diagnostics, reserved: frozenset[str] = frozenset()) -> str:
    node = body.get("name")
    if node is None:
        found.add(body.span, Code.MISSING_KEY, f"'name' is missing in {owner}", NAME_HINT)
        return ""
    if isinstance(node, Scalar) and refuse_secret(node, "name", found):
        return ""
    text = node.text if isinstance(node, Scalar) else ""
    if not NAME.fullmatch(text):
        hint = "a name is the same everywhere: write it out" if "${" in text else NAME_HINT
        found.add(node.span, Code.NAME, f"{text!r} is not a name", hint)
    elif text.replace("-", "_") in reserved:
        found.add(node.span, Code.NAME, f"the name {text!r} is taken by Dagster", f"such as {text}-workflow")
    return text
