"""A bound workflow to a logical plan: a schema and a lineage on every edge, every fault of an expression or a column; asks no source.

A source that nobody asked and that declares no columns leaves an Unknown schema (None), which every check lets pass.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import pyarrow as pa

from dsl.bound import BoundNode, BoundWorkflow
from dsl.codes import Code
from dsl.contracts.capabilities import SeveralInputs, WriteMode
from dsl.contracts.connectors import Destination, ReadRequest, Source
from dsl.diagnostics import Diagnostics, did_you_mean
from dsl.plan.logical import Lineage, Load, LogicalNode, LogicalPlan, Process, Read, Transform
from dsl.processors import PROCESSORS
from dsl.processors.columns import arriving_schema, field_at, split
from dsl.processors.step import Planned, Relation, Step
from dsl.processors.union import union_of


def check(bound: BoundWorkflow, schemas: Mapping[str, pa.Schema], found: Diagnostics) -> LogicalPlan:
    """Gives every edge of a workflow its schema.

    Args:
        bound: The workflow.
        schemas: Source -> its schema, as its system says now.
        found: Told of every fault.
    """
    checker = _Checker(bound, schemas, found)
    nodes = tuple(each for node in bound.nodes for each in checker.planned(node))
    persisted = frozenset(each.name for each in bound.nodes if each.persist)
    return LogicalPlan(bound.workflow.name, nodes, persisted)


class _Checker:
    """Checks the nodes of one workflow in topological order."""

    def __init__(self, bound: BoundWorkflow, schemas: Mapping[str, pa.Schema], found: Diagnostics) -> None:
        self._bound, self._schemas, self._found = bound, schemas, found
        self._relations: dict[str, Relation] = {}
        self._targets: dict[tuple[str, ...], str] = {}

    def planned(self, node: BoundNode) -> Iterator[LogicalNode]:
        """Yields what a node becomes: one node, or one for each input of a destination."""
        if isinstance(node.options, Source):
            yield self._remembered(self._read(node, node.options))
        elif isinstance(node.options, Destination):
            yield from self._loads(node, node.options)
        else:
            yield self._remembered(self._step(node))

    def _remembered(self, node: LogicalNode) -> LogicalNode:
        self._relations[node.id] = Relation(node.id, node.schema, node.lineage)
        return node

    def _read(self, node: BoundNode, source: Source) -> Read:
        said = self._schemas.get(node.name, node.declared_schema)
        schema = None if said is None else arriving_schema(said)
        policies = node.policies
        return Read(
            id=node.name,
            inputs=(),
            schema=schema,
            lineage={} if schema is None else {each: ((node.name, each),) for each in schema.names},
            policies=policies,
            source=source,
            request=ReadRequest(batch_rows=policies.batch.rows, batch_bytes=policies.batch.bytes),
            resource=node.connection_name,
        )

    def _step(self, node: BoundNode) -> LogicalNode:
        inputs = tuple(self._relations[each] for each in node.inputs)
        done = PROCESSORS[node.kind].plan(Step(node, inputs, self._found))
        return _transform(node, done) if done.processor is None else _process(node, done)

    def _loads(self, node: BoundNode, destination: Destination) -> Iterator[LogicalNode]:
        if len(node.inputs) == 1:
            target = destination.for_input(node.inputs[0]) if _names_inputs(destination) else destination
            yield self._load(node, node.name, node.inputs[0], target)
            return
        parts = {each: destination.for_input(each) for each in node.inputs}
        if destination.capabilities.several_inputs is SeveralInputs.PREFIX or any(
            part != destination for part in parts.values()
        ):
            for each, part in parts.items():
                yield self._load(node, f"{node.name}__{each}", each, part)
            return
        union = self._union(node)
        yield self._remembered(union)
        yield self._load(node, node.name, union.id, destination)

    def _union(self, node: BoundNode) -> Transform:
        inputs = tuple(self._relations[each] for each in node.inputs)
        done = union_of(inputs, self._found, node.spans.node)
        return dataclasses.replace(_transform(node, done), id=f"{node.name}__union", kind="union")

    def _load(self, node: BoundNode, load_id: str, input_name: str, destination: Destination) -> Load:
        relation = self._relations[input_name]
        self._check_target(node, destination)
        self._check_keys(node, destination, relation)
        return Load(
            id=load_id,
            inputs=(input_name,),
            schema=relation.schema,
            lineage=relation.lineage,
            policies=node.policies,
            node=node.name,
            destination=destination,
            resource=node.connection_name,
        )

    def _check_target(self, node: BoundNode, destination: Destination) -> None:
        place = destination.physical_name
        other = self._targets.setdefault(place, node.name)
        if other != node.name:
            self._found.add(
                node.spans.node,
                Code.COLLIDING_TARGETS,
                f"{node.name!r} and {other!r} write the same place: {'/'.join(place)}",
                "give one of them another target, or both one node with several inputs",
            )

    def _check_keys(self, node: BoundNode, destination: Destination, relation: Relation) -> None:
        option, keys = _keys_of(destination)
        if destination.write_mode in {WriteMode.UPSERT, WriteMode.MERGE} and not keys:
            self._found.add(
                node.spans.at("write_mode"),
                Code.OPTIONS,
                f"write_mode {destination.write_mode} of {node.name!r} needs a key",
                "name its key columns",
            )
        for index, key in enumerate(keys):
            if relation.schema is not None and field_at(relation.schema, split(key)) is None:
                self._found.add(
                    node.spans.at(option, index),
                    Code.UNKNOWN_COLUMN,
                    f"the key {key!r} of {node.name!r} is no column of {relation.name!r}",
                    did_you_mean(key, relation.names),
                )


def _keys_of(destination: Destination) -> tuple[str, tuple[str, ...]]:
    """Returns the option that names a destination's key, and the columns it names."""
    for option in ("key", "id_field"):
        value = getattr(destination, option, None)
        if value:
            return option, (value,) if isinstance(value, str) else tuple(value)
    return "write_mode", ()


def _names_inputs(destination: Destination) -> bool:
    """Tells whether the target's name asks for the input's even where there is one (`table: "{input}"`)."""
    return destination.capabilities.several_inputs is not SeveralInputs.PREFIX


def _transform(node: BoundNode, done: Planned) -> Transform:
    return Transform(
        id=node.name,
        inputs=node.inputs,
        schema=done.schema,
        lineage=_known(done.lineage),
        policies=done.policies or node.policies,
        kind=node.kind,
        sql=done.sql,
        row_local=done.row_local,
        filters=done.filters,
        expands=done.expands,
        total=done.total,
        uses_now=done.uses_now,
        reads=done.reads,
    )


def _process(node: BoundNode, done: Planned) -> Process:
    return Process(
        id=node.name,
        inputs=node.inputs,
        schema=done.schema,
        lineage=_known(done.lineage),
        policies=done.policies or node.policies,
        kind=node.kind,
        processor=done.processor,
        reads=done.reads,
    )


def _known(lineage: Lineage) -> Lineage:
    return {column: tuple(dict.fromkeys(origins)) for column, origins in lineage.items()}
