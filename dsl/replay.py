"""The rest of a workflow from the node that refused a row, compiled anew for rows as they were kept; refuses what would do harm.

Dead letters enter where they were refused, whatever the sources do now. A plan leads to one target: so each letter arrives at each
target once, and which targets have it is known one by one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import pyarrow as pa

from dsl.bound import BoundNode, BoundWorkflow
from dsl.check import check
from dsl.compile import CompiledWorkflow
from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Source
from dsl.contracts.errors import FatalError
from dsl.contracts.policies import DeadLetterPolicy, OnError
from dsl.diagnostics import Diagnostics
from dsl.plan.logical import Load, LogicalNode, LogicalPlan, Process, Read, Transform
from dsl.plan.lower import lower
from dsl.plan.physical import PhysicalPlan
from dsl.processors.step import Relation
from dsl.processors.union import arm_of
from dsl.workflow import Role

FEED = "_dead_letters"
"""The source's name in the plan: no node of a document can be called so, and a state is found under it whatever nodes are called later."""
REPLAY = ".replay."
AGAIN = "run the workflow again instead, or discard them"


@dataclass(frozen=True)
class Refused:
    """Rows that were refused together: by one stream, at one node, by one version of the code, with the same columns.

    Attributes:
        stage: The stage that refused them.
        entry: The node that they had come to.
        schema: Their columns.
        name: Tells this group apart from others of the stage; the same in every replay.
    """

    stage: str
    entry: str
    schema: pa.Schema
    name: str


@dataclass(frozen=True)
class Rest:
    """The way from the refusing node to one target.

    Attributes:
        stream: Name of the one stage, and of the stream of letters that it reads.
        load: The target.
        logical: What happens on the way; the letters are the node `FEED`.
        physical: What a run executes.
    """

    stream: str
    load: Load
    logical: LogicalPlan
    physical: PhysicalPlan

    @property
    def may_overwrite(self) -> bool:
        """Whether a row that was refused long ago takes the place of a newer one with the same key."""
        return self.load.destination.write_mode in {WriteMode.UPSERT, WriteMode.MERGE}


def name_of(*facts: str) -> str:
    """A short name for a group of letters."""
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:12]


def stage_of(stream: str) -> str:
    """The stage whose letters a stream replays; a stage that is no stream is its own."""
    return stream.partition(REPLAY)[0]


def rest_of(
    compiled: CompiledWorkflow, refused: Refused, feed: Callable[[str], Source], nothing: Callable[[pa.Schema], Source]
) -> tuple[Rest, ...]:
    """Plans the rest of a workflow for rows that one of its nodes refused.

    Args:
        compiled: The workflow; typed, where other inputs of a union are to be known.
        refused: The rows.
        feed: Name of a stream -> the source that reads it.
        nothing: A source of some columns and no rows.

    Raises:
        FatalError: The rows cannot take this way; says why and what to do instead.
    """
    if any(each.id == refused.entry and _adds_folders(each) for each in compiled.logical.nodes):
        plan = _through_folders(compiled.logical, refused, feed(""))
        return _each(plan, refused, feed)
    node = next((each for each in compiled.bound.nodes if each.name == refused.entry), None)
    if node is None:
        raise _refusal(
            refused,
            f"the workflow has no node {refused.entry!r} any more",
            "replay with the code that refused them (--pinned), or discard them",
        )
    if node.role is Role.DESTINATION:
        plan = _into(compiled.logical, refused, feed(""))
    else:
        plan = _checked(compiled, node, refused, feed(""), nothing)
        _refuse_blocking(plan, refused)
    return _each(plan, refused, feed)


def _adds_folders(node: LogicalNode) -> bool:
    return isinstance(node, Transform) and node.kind == "folders"


def _each(plan: LogicalPlan, refused: Refused, feed: Callable[[str], Source]) -> tuple[Rest, ...]:
    loads = _targets(plan, refused)
    for each in loads:
        _refuse_overwrite(each, refused)
    return tuple(_one(plan, each, refused, feed) for each in loads)


def _into(typed: LogicalPlan, refused: Refused, source: Source) -> LogicalPlan:
    """The plan for rows that their writer refused: they have the form in which they are written."""
    loads = [each for each in typed.nodes if isinstance(each, Load) and each.node == refused.entry]
    read = Read(FEED, (), refused.schema, _own_lineage(refused.schema), source=source)
    fed = [replace(each, schema=refused.schema, lineage=read.lineage) for each in loads]
    return LogicalPlan(typed.workflow, (read, *(replace(each, inputs=(FEED,)) for each in fed)))


def _through_folders(typed: LogicalPlan, refused: Refused, source: Source) -> LogicalPlan:
    """The plan for rows whose folder could not be computed: they have the form in which they came to that step."""
    read = Read(FEED, (), refused.schema, _own_lineage(refused.schema), source=source)
    step = typed.node(refused.entry)
    loads = [each for each in typed.nodes if isinstance(each, Load) and each.inputs == (step.id,)]
    return LogicalPlan(typed.workflow, (read, replace(step, inputs=(FEED,)), *loads))


def _own_lineage(schema: pa.Schema) -> dict[str, tuple[tuple[str, str], ...]]:
    return {name: ((FEED, name),) for name in schema.names}


def _checked(
    compiled: CompiledWorkflow,
    node: BoundNode,
    refused: Refused,
    source: Source,
    nothing: Callable[[pa.Schema], Source],
) -> LogicalPlan:
    """The plan of everything behind a node, which knows of its rows only what was kept."""
    if len(node.inputs) > 1:
        raise _refusal(refused, f"{node.name!r} needs its whole inputs, not single rows", AGAIN)
    fed = node.name if node.role is Role.SOURCE else f"{node.name}{FEED}"
    behind = _behind(compiled.bound, node)
    entered = [replace(each, inputs=(fed,)) if each is node else each for each in behind]
    others = [name for each in entered for name in each.inputs if name not in {fed, *(one.name for one in entered)}]
    known = {name: _schema_of(compiled.logical, name) for name in dict.fromkeys(others)}
    starts = [replace(node, name=fed, role=Role.SOURCE, inputs=(), options=source, declared_schema=None)]
    starts += [
        replace(
            node, name=name, role=Role.SOURCE, inputs=(), options=nothing(schema or pa.schema([])), declared_schema=None
        )
        for name, schema in known.items()
    ]
    found = Diagnostics()
    schemas = {fed: refused.schema} | {name: schema for name, schema in known.items() if schema is not None}
    plan = check(replace(compiled.bound, nodes=(*starts, *entered)), schemas, found)
    if found.found:
        faults = "; ".join(dict.fromkeys(f"{each.message} ({each.code})" for each in sorted(found.found)))
        raise _refusal(
            refused,
            f"they do not fit the workflow as it is now: {faults}",
            "replay with the code that refused them (--pinned), or " + AGAIN,
        )
    return _renamed(_without_others(plan, frozenset(known)), fed)


def _behind(bound: BoundWorkflow, node: BoundNode) -> list[BoundNode]:
    """The node and everything that it feeds, in order; a source itself has done its work already."""
    reached = {node.name}
    for each in bound.nodes:
        if reached.intersection(each.inputs):
            reached.add(each.name)
    return [each for each in bound.nodes if each.name in reached and each.role is not Role.SOURCE]


def _schema_of(typed: LogicalPlan, name: str) -> pa.Schema | None:
    return next((each.schema for each in typed.nodes if each.id == name), None)


def _without_others(plan: LogicalPlan, others: frozenset[str]) -> LogicalPlan:
    """The plan without inputs that bring no rows: of a union stays the arm by which the letters come."""
    gone = set(others)
    kept: dict[str, LogicalNode] = {}
    for each in plan.nodes:
        fed = [name for name in each.inputs if name not in gone]
        if each.id in gone or (each.inputs and not fed):
            gone.add(each.id)
        elif isinstance(each, Transform) and each.kind == "union" and len(each.inputs) > 1 and len(fed) == 1:
            before = kept[fed[0]]
            sql = arm_of(Relation(fed[0], before.schema), each.schema)
            kept[each.id] = replace(each, inputs=(fed[0],), sql=sql, row_local=True, total=True, reads=(None,))
        else:
            kept[each.id] = each
    return replace(plan, nodes=tuple(kept.values()), persisted=frozenset())


def _renamed(plan: LogicalPlan, fed: str) -> LogicalPlan:
    def named(name: str) -> str:
        return FEED if name == fed else name

    def lineage_of(node: LogicalNode) -> Mapping[str, tuple[tuple[str, str], ...]]:
        return {
            column: tuple((named(origin), name) for origin, name in pairs) for column, pairs in node.lineage.items()
        }

    return replace(
        plan,
        nodes=tuple(
            replace(each, id=named(each.id), inputs=tuple(map(named, each.inputs)), lineage=lineage_of(each))
            for each in plan.nodes
        ),
    )


def _refuse_blocking(plan: LogicalPlan, refused: Refused) -> None:
    for each in plan.nodes:
        if isinstance(each, Transform) and not each.row_local:
            said = f"{each.kind} {each.id!r} behind it needs its whole inputs: a row alone would give another result"
            raise _refusal(refused, said, AGAIN)
        if isinstance(each, Process) and getattr(type(each.processor), "stateful", False):
            said = f"{each.kind} {each.id!r} behind it remembers earlier rows: rows that come late would change what it remembers"
            raise _refusal(refused, said, AGAIN)


def _targets(plan: LogicalPlan, refused: Refused) -> list[Load]:
    """The targets that are missing the rows: the one of the stage that refused them, or all of them behind an exchange."""
    loads = [each for each in plan.nodes if isinstance(each, Load)]
    own = [each for each in loads if _stage_id(each) == stage_of(refused.stage)]
    return own or loads


def _stage_id(load: Load) -> str:
    return load.id.replace("-", "_")


def _refuse_overwrite(load: Load, refused: Refused) -> None:
    if load.destination.write_mode is WriteMode.OVERWRITE:
        said = f"{load.node!r} is overwritten as a whole: a replay would leave nothing in it but these rows"
        raise _refusal(refused, said, "mend the source or the workflow and run it again: it reads every row anew")


def _one(plan: LogicalPlan, load: Load, refused: Refused, feed: Callable[[str], Source]) -> Rest:
    """The way to one target, as one stage with a token of its own."""
    stream = f"{_stage_id(load)}{REPLAY}{refused.name}"
    nodes = [_patient(each) for each in plan.nodes if each.id in _leading_to(plan, load)]
    named = [_named(each, load, stream, feed) for each in nodes]
    logical = replace(plan, nodes=tuple(named))
    return Rest(stream, load, logical, lower(logical))


def _leading_to(plan: LogicalPlan, load: Load) -> set[str]:
    needed = {load.id}
    for each in reversed(plan.nodes):
        if each.id in needed:
            needed.update(each.inputs)
    return needed


def _patient(node: LogicalNode) -> LogicalNode:
    """What fails again is kept again, however many they are: that is no reason to keep the others."""
    policies = replace(node.policies, on_error=OnError.DLQ, dead_letter=DeadLetterPolicy())
    return replace(node, policies=policies)


def _named(node: LogicalNode, load: Load, stream: str, feed: Callable[[str], Source]) -> LogicalNode:
    if node.id == load.id:
        return replace(node, id=stream)
    return replace(node, source=feed(stream)) if isinstance(node, Read) else node


def _refusal(refused: Refused, said: str, hint: str) -> FatalError:
    return FatalError(said, where=f"dead letters of {refused.entry!r}", hint=hint)


def warnings(rests: Iterable[Rest]) -> list[str]:
    """What a person should know before these letters are replayed."""
    return [
        f"{each.load.node!r} is written by key: a row that was refused long ago takes the place of a newer one with the same key"
        for each in rests
        if each.may_overwrite
    ]
