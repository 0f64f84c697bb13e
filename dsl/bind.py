"""Names to objects: connectors through a catalog it is given, processors from their table; configures and opens nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dsl.bound import BoundNode, BoundWorkflow
from dsl.codes import Code
from dsl.contracts.capabilities import SyncMode, WriteMode
from dsl.contracts.connectors import Catalog, ConnectorKind, Destination, Source
from dsl.contracts.errors import HeadraceError
from dsl.contracts.spec import Spec, spec_of
from dsl.diagnostics import Diagnostics, did_you_mean
from dsl.document import Map, Scalar
from dsl.expressions import ExpressionError, parse_type
from dsl.options import OptionReader
from dsl.processors import PROCESSORS
from dsl.read import in_order
from dsl.scalars import FAULTY
from dsl.workflow import ConnectionDocument, Declaration, Role, Workflow


@dataclass(frozen=True)
class Allow:
    """What a deployment lets documents do.

    Attributes:
        python: Whether `python` nodes may run code.
    """

    python: bool = False


def bind(
    workflow: Workflow,
    catalog: Catalog,
    connections: Mapping[str, ConnectionDocument],
    allow: Allow,
    found: Diagnostics,
) -> BoundWorkflow | None:
    """Gives every node of a workflow its configured object.

    Returns:
        The bound workflow, or None if any node could not be bound; `found` says why.
    """
    binder = _Binder(workflow, catalog, connections, allow, found)
    bound = {each.name: binder.node(each) for each in workflow.nodes}
    if found.found or any(each is None for each in bound.values()):
        return None
    nodes = (bound[each.name] for each in in_order(workflow.nodes))
    return BoundWorkflow(workflow, tuple(each for each in nodes if each is not None))


class _Binder:
    """Binds the nodes of one workflow, each on its own."""

    def __init__(
        self,
        workflow: Workflow,
        catalog: Catalog,
        connections: Mapping[str, ConnectionDocument],
        allow: Allow,
        found: Diagnostics,
    ) -> None:
        self._workflow, self._catalog, self._connections = workflow, catalog, connections
        self._allow, self._found = allow, found

    def node(self, node: Declaration) -> BoundNode | None:
        """Binds one node; None if it cannot be."""
        if not node.kind:
            return None
        return self._processor(node) if node.role is Role.TRANSFORMATION else self._endpoint(node)

    def _processor(self, node: Declaration) -> BoundNode | None:
        kind = PROCESSORS.get(node.kind)
        if kind is None:
            self._found.add(
                node.kind_span,
                Code.UNKNOWN_KIND,
                f"no processor has the type {node.kind!r}",
                did_you_mean(node.kind, PROCESSORS),
            )
            return None
        if node.kind == "python" and not self._allow.python:
            self._found.add(
                node.kind_span,
                Code.DISABLED,
                "this deployment does not allow python nodes",
                "set HEADRACE_ALLOW_PYTHON=1 where workflows run, if you trust their authors",
            )
        self._count_inputs(node, kind.min_inputs, kind.max_inputs)
        reader = OptionReader(self._found, f"{node.kind} {node.name!r}", node.config_span)
        reader.unknown_keys(node.config, (each.name for each in spec_of(kind.options).options))
        values = reader.values(node.config, spec_of(kind.options))
        options = FAULTY if values is None else reader.construct(kind.options, values, span=node.config_span)
        return None if options is FAULTY else self._bound(node, options, reader)

    def _count_inputs(self, node: Declaration, least: int, most: int | None) -> None:
        count = len(node.inputs)
        if count < least or (most is not None and count > most):
            wanted = str(least) if least == most else f"{least} or more" if most is None else f"{least} to {most}"
            self._found.add(
                node.span, Code.INPUT_COUNT, f"{node.kind} takes {wanted} inputs, {node.name!r} has {count}"
            )

    def _endpoint(self, node: Declaration) -> BoundNode | None:
        kind = self._kind(node)
        if kind is None:
            return None
        cls = kind.source if node.role is Role.SOURCE else kind.destination
        if cls is None:
            code = Code.NO_SOURCE if node.role is Role.SOURCE else Code.NO_DESTINATION
            self._found.add(
                node.kind_span, code, f"{kind.title} cannot be a {node.role}", did_you_mean("", self._able(node.role))
            )
            return None
        reader = OptionReader(self._found, f"{node.kind} {node.role}", node.config_span)
        connection = self._connection(node, kind, spec_of(cls), reader)
        values = reader.values(node.config, spec_of(cls))
        if connection is FAULTY or values is None:
            return None
        options = reader.construct(cls, {**values, "connection": connection}, span=node.config_span)
        if options is FAULTY:
            return None
        self._check_capabilities(options, node, reader)
        return self._bound(node, options, reader)

    def _kind(self, node: Declaration) -> ConnectorKind | None:
        try:
            kind = self._catalog.get(node.kind)
        except HeadraceError as error:
            self._found.add(
                node.kind_span,
                Code.UNKNOWN_KIND,
                f"connector {node.kind!r} cannot be used: {error.message}",
                error.hint,
            )
            return None
        if kind is None:
            self._found.add(
                node.kind_span,
                Code.UNKNOWN_KIND,
                f"no connector has the type {node.kind!r}",
                did_you_mean(node.kind, self._catalog.kinds()),
            )
        return kind

    def _able(self, role: Role) -> list[str]:
        kinds = (self._catalog.get(each) for each in self._catalog.kinds())
        return [
            each.kind
            for each in kinds
            if each is not None and (each.source if role is Role.SOURCE else each.destination)
        ]

    def _connection(self, node: Declaration, kind: ConnectorKind, own: Spec, reader: OptionReader) -> Any:
        """Returns the node's connection: the shared one it names, or the one its own options describe."""
        own_names = [each.name for each in own.options]
        spec = spec_of(kind.connection)
        if node.connection is None:
            reader.unknown_keys(node.config, [*(each.name for each in spec.options), *own_names])
            values = reader.values(node.config, spec)
            return FAULTY if values is None else reader.construct(kind.connection, values, span=node.config_span)
        reader.unknown_keys(node.config, own_names)
        shared = self._connections.get(node.connection.name)
        if shared is None:
            self._found.add(
                node.connection.span,
                Code.UNKNOWN_CONNECTION,
                f"no connection is called {node.connection.name!r}",
                did_you_mean(node.connection.name, self._connections),
            )
            return FAULTY
        if shared.kind != kind.kind:
            self._found.add(
                node.connection.span,
                Code.CONNECTION_KIND,
                f"connection {shared.name!r} is a {shared.kind}, not a {kind.kind}",
            )
            return FAULTY
        return self._shared(shared, kind, spec)

    def _shared(self, shared: ConnectionDocument, kind: ConnectorKind, spec: Spec) -> Any:
        reader = OptionReader(self._found, f"connection {shared.name!r}", shared.span)
        reader.unknown_keys(shared.config, (each.name for each in spec.options))
        values = reader.values(shared.config, spec)
        return FAULTY if values is None else reader.construct(kind.connection, values, span=shared.span)

    def _check_capabilities(self, options: Source | Destination, node: Declaration, reader: OptionReader) -> None:
        if isinstance(options, Destination):
            able: frozenset[WriteMode] | frozenset[SyncMode] = options.capabilities.write_modes
            wanted, name = options.write_mode, "write_mode"
        else:
            able, name = options.capabilities.sync_modes, "sync_mode"
            wanted = getattr(options, "sync_mode", None)
        if wanted is not None and wanted not in able:
            self._found.add(
                reader.spans().at(name),
                Code.CAPABILITY,
                f"a {node.kind} {node.role} cannot do {name}: {wanted}",
                f"it can: {', '.join(sorted(able))}",
            )

    def _bound(self, node: Declaration, options: object, reader: OptionReader) -> BoundNode:
        return BoundNode(
            name=node.name,
            role=node.role,
            kind=node.kind,
            options=options,
            inputs=tuple(each.name for each in node.inputs),
            policies=node.policies,
            spans=reader.spans(),
            connection_name=self._resource(node),
            persist=node.persist,
            declared_schema=self._schema(node.schema),
        )

    def _resource(self, node: Declaration) -> str:
        if node.role is Role.TRANSFORMATION:
            return ""
        shared = node.connection.name if node.connection else f"{self._workflow.name}__{node.name}"
        return shared.replace("-", "_")

    def _schema(self, declared: Map | None) -> pa.Schema | None:
        if declared is None:
            return None
        fields = []
        for each in declared.entries:
            text = each.value.text if isinstance(each.value, Scalar) else ""
            try:
                fields.append(pa.field(each.key, parse_type(text)))
            except ExpressionError as error:
                self._found.add(each.value.span, Code.BAD_VALUE, f"{text!r} is not a type", error.hint)
        return pa.schema(fields)
