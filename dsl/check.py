"""Schemas along every edge, lineage, and what does not fit: a bound workflow in, a logical plan out; opens and asks nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa

from dsl.bound import BoundNode, BoundWorkflow
from dsl.codes import Code
from dsl.contracts.capabilities import SeveralInputs, WriteMode
from dsl.contracts.changes import Deletes, with_operation
from dsl.contracts.connectors import Destination, ReadRequest, Source
from dsl.contracts.spec import spec_of
from dsl.diagnostics import Diagnostics
from dsl.plan.logical import Lineage, Load, LogicalNode, LogicalPlan, Process, Read, Transform
from dsl.processors import PROCESSORS
from dsl.processors.changes import admit, carried, hidden, log_of
from dsl.processors.columns import arriving_schema, split
from dsl.processors.folders import ADDED, folders_of
from dsl.processors.kind import ProcessorKind
from dsl.processors.ordering import check_path
from dsl.processors.step import Planned, Relation, Step
from dsl.processors.union import union_of
from dsl.streams import goes_on, grows
from dsl.workflow import Mode, Role


def check(bound: BoundWorkflow, schemas: Mapping[str, pa.Schema], diagnostics: Diagnostics) -> LogicalPlan:
    """Plans every node, noting everything that does not fit.

    Args:
        bound: The workflow.
        schemas: Source node -> its schema, as its system says now; what is missing is Unknown unless the document declares it.
        diagnostics: Told of every fault. The plan is of use only if there was none.
    """
    walk = _Walk(schemas, diagnostics, endless=bound.workflow.mode is Mode.STREAM)
    for node in bound.nodes:
        walk.node(node)
    persisted = frozenset(each.name for each in bound.nodes if each.persist)
    return LogicalPlan(bound.workflow.name, tuple(walk.planned.values()), persisted)


@dataclass
class _Walk:
    """The plan as far as it is made.

    Attributes:
        schemas: What sources said.
        found: Told of every fault.
        planned: Node id -> its plan, in order.
        targets: Physical name -> the destination that writes it.
        tells: Node id -> how its rows tell of deletions, for those that do.
        endless: Whether the workflow never ends.
        growing: Sources that read only what is new, and what they feed.
    """

    schemas: Mapping[str, pa.Schema]
    found: Diagnostics
    planned: dict[str, LogicalNode] = field(default_factory=dict)
    targets: dict[tuple[str, ...], str] = field(default_factory=dict)
    tells: dict[str, Deletes] = field(default_factory=dict)
    endless: bool = False
    growing: set[str] = field(default_factory=set)

    def node(self, node: BoundNode) -> None:
        """Plans a node whose inputs are planned."""
        if node.role is Role.SOURCE:
            self._read(node)
        elif node.role is Role.TRANSFORMATION:
            self._transform(node)
        else:
            self._load(node)

    def _read(self, node: BoundNode) -> None:
        source = node.options
        assert isinstance(source, Source)  # noqa: S101 - binding says so
        schema = self.schemas.get(node.name, node.declared_schema)
        if source.tells is not Deletes.IGNORED:
            self.tells[node.name] = source.tells
            schema = None if schema is None else with_operation(schema)
        relation = hidden(Relation(node.name, schema))
        step = Step(node, (relation,), self.found)
        for name in node.declared_schema.names if node.declared_schema is not None else ():
            step.has_column(relation, name, "schema", name)
        if not step.distinct(tuple((name, ()) for name in relation.names)):
            schema = None
        lineage = {name: ((node.name, name),) for name in relation.names}
        if grows(source):
            self.growing.add(node.name)
        batch, on = node.policies.batch, self.endless and grows(source)
        request = ReadRequest(batch_rows=batch.rows, batch_bytes=batch.bytes, follow=on and goes_on(source))
        self.planned[node.name] = Read(
            node.name, (), schema, lineage, node.policies, source=source, request=request, resource=node.connection_name,
            poll=node.policies.poll if on else None,
        )  # fmt: skip

    def _transform(self, node: BoundNode) -> None:
        kind = PROCESSORS[node.kind]
        known = all(each in self.planned for each in node.inputs)
        if not known or not kind.min_inputs <= len(node.inputs) <= (kind.max_inputs or len(node.inputs)):
            # Reading has noted the fault; what leaves is unknown, so that no second one follows.
            self.planned[node.name] = Transform(node.name, node.inputs, None, kind=node.kind)
            return
        relations = tuple(self._relation(each, sql=kind.relational) for each in node.inputs)
        growing = all(each in self.growing for each in node.inputs)
        if growing:
            self.growing.add(node.name)
        step = Step(node, relations, self.found, endless=self.endless, growing=growing)
        done = self._planned(step, kind)
        policies = done.policies or node.policies
        if kind.relational:
            self.planned[node.name] = Transform(
                node.name,
                node.inputs,
                done.schema,
                done.lineage,
                policies,
                kind=node.kind,
                sql=done.sql,
                row_local=done.row_local,
                filters=done.filters,
                expands=done.expands,
                total=done.total,
                uses_now=done.uses_now,
                reads=done.reads,
                memory=done.memory,
            )
        else:
            self.planned[node.name] = Process(
                node.name,
                node.inputs,
                done.schema,
                done.lineage,
                policies,
                kind=node.kind,
                processor=node.options,
                reads=done.reads,
            )

    def _planned(self, step: Step, kind: ProcessorKind) -> Planned:
        tells = next((self.tells[each] for each in step.node.inputs if each in self.tells), Deletes.IGNORED)
        if tells is Deletes.IGNORED:
            return kind.plan(step)
        step = replace(step, inputs=tuple(map(hidden, step.inputs)))
        count = len(self.found.found)
        done = carried(step, kind.plan(step), tells)
        if len(self.found.found) == count:
            self.tells[step.node.name] = tells
        return done

    def _load(self, node: BoundNode) -> None:
        destination = node.options
        assert isinstance(destination, Destination)  # noqa: S101 - binding says so
        if not node.inputs or not all(each in self.planned for each in node.inputs):
            return
        several = len(node.inputs) > 1
        parted = [destination.for_input(each) for each in node.inputs]
        apart = several and destination.capabilities.several_inputs is SeveralInputs.PREFIX
        named = destination.capabilities.several_inputs is SeveralInputs.UNION and parted[0] != destination
        if several and (apart or named):
            for name, part in zip(node.inputs, parted, strict=True):
                self._load_one(node, f"{node.name}__{name}", name, part)
        elif several:
            self._load_one(node, node.name, self._union(node), destination)
        else:
            self._load_one(node, node.name, node.inputs[0], parted[0] if named else destination)

    def _union(self, node: BoundNode) -> str:
        relations = tuple(self._relation(each, sql=True) for each in node.inputs)
        done = union_of(relations, self.found, node.spans.at())
        if telling := [each for each in node.inputs if each in self.tells]:
            told = f"{node.name!r} takes several inputs, and {telling[0]!r} tells of deletions: whose rows they are is unknown"
            self.found.add(node.spans.at(), Code.CHANGES, told, "give each input a table: {input}")
        union_id = f"{node.name}__union"
        self.planned[union_id] = Transform(
            union_id,
            node.inputs,
            done.schema,
            done.lineage,
            node.policies,
            kind="union",
            sql=done.sql,
            row_local=False,
            total=True,
            reads=done.reads,
        )
        return union_id

    def _load_one(self, node: BoundNode, load_id: str, feeder: str, destination: Destination) -> None:
        self._check_keys(node, hidden(Relation(feeder, self.planned[feeder].schema)), destination)
        self._check_target(node, destination)
        if feeder in self.tells:
            feeder = self._changes(node, load_id, feeder, destination)
        feeder = self._folders(node, load_id, feeder, destination)
        before = self.planned[feeder]
        self.planned[load_id] = Load(
            load_id,
            (feeder,),
            before.schema,
            before.lineage,
            node.policies,
            node=node.name,
            destination=destination,
            resource=node.connection_name,
        )

    def _changes(self, node: BoundNode, load_id: str, feeder: str, destination: Destination) -> str:
        """Checks that a destination can take changes; returns what feeds it: a log of them where they are appended."""
        before, relation = self.planned[feeder], self._relation(feeder, sql=False)
        can = admit(Step(node, (relation,), self.found), relation, destination, self.tells[feeder])
        if not can or destination.write_mode is not WriteMode.APPEND:
            return feeder
        done, log_id = log_of(relation), f"{load_id}__log"
        self.planned[log_id] = Transform(
            log_id, (feeder,), done.schema, before.lineage, node.policies, kind="log", sql=done.sql, total=True,
            reads=done.reads,
        )  # fmt: skip
        return log_id

    def _folders(self, node: BoundNode, load_id: str, feeder: str, destination: Destination) -> str:
        """Returns what feeds a destination: its rows with their folder, where values choose it."""
        step = Step(node, (self._relation(feeder, sql=True),), self.found)
        done = folders_of(step, destination)
        if done is None:
            return feeder
        added = f"{load_id}{ADDED}"
        self.planned[added] = Transform(
            added, (feeder,), done.schema, done.lineage, node.policies, kind="folders", sql=done.sql, total=done.total,
            uses_now=done.uses_now, reads=done.reads,
        )  # fmt: skip
        return added

    def _check_keys(self, node: BoundNode, relation: Relation, destination: Destination) -> None:
        step = Step(node, (relation,), self.found)
        keys = _keys_of(destination)
        if destination.write_mode in {WriteMode.UPSERT, WriteMode.MERGE} and not keys:
            told = f"write_mode {destination.write_mode} of {node.name!r} needs a key"
            step.fault(Code.OPTIONS, told, "name its key columns", "write_mode")
        for column in keys:
            whole = column in relation.names
            if not whole and len(split(column)) == 1:
                step.has_column(relation, column, *_place_of(destination, column))
            elif not whole:
                check_path(step, relation, column, *_place_of(destination, column))

    def _check_target(self, node: BoundNode, destination: Destination) -> None:
        first = self.targets.setdefault(destination.physical_name, node.name)
        if first != node.name:
            told = f"{node.name!r} and {first!r} write the same place: {'/'.join(destination.physical_name)}"
            hint = "give one of them another target, or both one node with several inputs"
            self.found.add(node.spans.at(), Code.COLLIDING_TARGETS, told, hint)

    def _relation(self, node_id: str, *, sql: bool) -> Relation:
        node = self.planned[node_id]
        lineage: Lineage = node.lineage
        schema = arriving_schema(node.schema) if sql and node.schema is not None else node.schema
        return Relation(node_id, schema, lineage)


def _keys_of(destination: Destination) -> tuple[str, ...]:
    """Returns the columns of a destination's key: what it says itself, or what its usual options name."""
    named = (getattr(destination, each, None) for each in ("key_columns", "primary_key", "key", "id_field"))
    found = next((each for each in named if each), ())
    return (found,) if isinstance(found, str) else tuple(found)


def _place_of(destination: Destination, column: str) -> tuple[str | int, ...]:
    """Returns the option that names a column."""
    for each in spec_of(type(destination)).options:
        value = getattr(destination, each.name)
        if value == column:
            return (each.name,)
        if isinstance(value, tuple) and column in value:
            return (each.name, value.index(column))
    return ()
