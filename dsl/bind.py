"""Names to objects: connectors through a catalog it is given, processors from their table; configures and opens nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dsl.bound import BoundNode, BoundWorkflow
from dsl.codes import Code
from dsl.contracts.connectors import Catalog, Source
from dsl.dead_letters import bind_dead_letters
from dsl.diagnostics import Diagnostics, did_you_mean
from dsl.document import Map, Scalar
from dsl.endpoints import EndpointBinder
from dsl.expressions import parse_type
from dsl.graph import in_order
from dsl.literals import literal_secrets
from dsl.options import OptionReader
from dsl.processors import PROCESSORS
from dsl.scalars import FAULTY
from dsl.spans import Spans
from dsl.workflow import ConnectionDocument, Declaration, Role, Workflow


@dataclass(frozen=True)
class Allow:
    """What a deployment lets documents do.

    Attributes:
        python: Whether `python` nodes, and connectors that run what a document names, may run code.
        literal_secrets: Whether a secret may stand in a document instead of a reference to it.
    """

    python: bool = False
    literal_secrets: bool = True


def bind(
    workflow: Workflow,
    catalog: Catalog,
    connections: Mapping[str, ConnectionDocument],
    allow: Allow,
    found: Diagnostics,
) -> BoundWorkflow | None:
    """Gives every node of a workflow its configured object.

    Returns:
        The bound workflow, or None if a node could not be bound or the graph is not sound; what is wrong with a node
        that could be bound all the same (an unknown key) is noted too, so ask `found` before using it.
    """
    endpoints = EndpointBinder(catalog, connections, found)
    binder = _Binder(workflow, endpoints, allow, found)
    letters = bind_dead_letters(workflow, endpoints, found)
    nodes = {each.name: binder.node(each) for each in workflow.nodes}
    bound = [each for each in nodes.values() if each is not None]
    order = in_order(workflow.nodes)
    if order is None or len(bound) < len(order):
        return None
    return BoundWorkflow(workflow, tuple(each for name in order if (each := nodes[name.name]) is not None), letters)


class _Binder:
    """Binds the nodes of one workflow, each on its own."""

    def __init__(self, workflow: Workflow, endpoints: EndpointBinder, allow: Allow, found: Diagnostics) -> None:
        self._workflow, self._endpoints = workflow, endpoints
        self._allow, self._found = allow, found

    def node(self, node: Declaration) -> BoundNode | None:
        """Binds one node; None if it cannot be."""
        if not node.kind:
            return None
        reader = OptionReader(self._found, f"{node.kind} {node.role}", node.config_span)
        binder = self._processor if node.role is Role.TRANSFORMATION else self._endpoint
        options = binder(node, reader)
        schema = self._schema(node.schema)
        return (
            None
            if options is FAULTY
            else self._bound(node, options, dataclasses.replace(reader.spans(), node=node.span), schema)
        )

    def _processor(self, node: Declaration, reader: OptionReader) -> Any:
        kind = PROCESSORS.get(node.kind)
        if kind is None:
            said = f"no processor has the type {node.kind!r}"
            self._found.add(node.kind_span, Code.UNKNOWN_KIND, said, did_you_mean(node.kind, PROCESSORS))
            return FAULTY
        if node.kind == "python":
            self._check_code(node)
        counted = self._count_inputs(node, kind.min_inputs, kind.max_inputs)
        options = reader.options(node.config, kind.options)
        return options if counted else FAULTY

    def _endpoint(self, node: Declaration, reader: OptionReader) -> Any:
        if self._endpoints.runs_code(node.kind):
            self._check_code(node)
        return self._endpoints.options(node, reader)

    def _check_code(self, node: Declaration) -> None:
        if not self._allow.python:
            hint = "set HEADRACE_ALLOW_PYTHON=1 where workflows run, if you trust their authors"
            self._found.add(node.kind_span, Code.DISABLED, f"this deployment does not allow {node.kind} nodes", hint)

    def _count_inputs(self, node: Declaration, least: int, most: int | None) -> bool:
        count = len(node.inputs)
        if count == 0 or (count >= least and (most is None or count <= most)):
            return count > 0
        wanted = str(least) if least == most else f"{least} or more" if most is None else f"{least} to {most}"
        noun = "input" if wanted == "1" else "inputs"
        said = f"{node.kind} takes {wanted} {noun}, {node.name!r} has {count}"
        self._found.add(node.inputs[-1].span, Code.INPUT_COUNT, said, _advice(node.kind, count, most))
        return False

    def _bound(self, node: Declaration, options: Any, spans: Spans, schema: pa.Schema | None) -> BoundNode:
        if not self._allow.literal_secrets:
            for path in literal_secrets(options):
                hint = "write a reference to it: ${NAME}, or ${secret:backend/path}"
                self._found.add(spans.at(*path), Code.SECRET_LITERAL, "a secret is written into the document", hint)
        return BoundNode(
            name=node.name,
            role=node.role,
            kind=node.kind,
            options=options.declaring(schema) if schema is not None and isinstance(options, Source) else options,
            inputs=tuple(each.name for each in node.inputs),
            policies=node.policies,
            spans=spans,
            connection_name=self._resource(node),
            persist=node.persist,
            declared_schema=schema,
        )

    def _resource(self, node: Declaration) -> str:
        if node.role is Role.TRANSFORMATION:
            return ""
        shared = node.connection.name if node.connection else f"{self._workflow.name}__{node.name}"
        return shared.replace("-", "_")

    def _schema(self, declared: Map | None) -> pa.Schema | None:
        """Returns the columns that a source declares; None if it declares none, or one with a type that does not exist."""
        fields = []
        for each in () if declared is None else declared.entries:
            text = each.value.text if isinstance(each.value, Scalar) else ""
            try:
                fields.append(pa.field(each.key, parse_type(text)))
            except ValueError:
                hint = "such as int64, double, string, boolean, date, timestamptz, decimal(10,2), string[]"
                self._found.add(each.value.span, Code.BAD_VALUE, f"{text!r} is not a type of column", hint)
        complete = declared is not None and len(fields) == len(declared.entries)
        return pa.schema(fields) if complete else None


def _advice(kind: str, count: int, most: int | None) -> str:
    if most is not None and count > most:
        return "join them or unite them first" if most == 1 else "use one more node of this type"
    return f"name another node in its inputs, or leave the {kind} out"
