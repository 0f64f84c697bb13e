"""The logical plan to stages: cut where a node has two consumers or is persisted, fused everywhere else; runs nothing.

Row-local steps become one `ChunkQuery`, blocking ones one `StreamQuery`; row-local steps beside a blocking one join its query where no
value can make them fail (docs/adr/0003).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from dsl.plan.fingerprint import fingerprint
from dsl.plan.logical import Load, LogicalNode, LogicalPlan, Process, Read, Transform
from dsl.plan.physical import (
    INPUT_VIEW,
    Apply,
    ChunkQuery,
    ExchangeScan,
    ExchangeWrite,
    PhysicalNode,
    PhysicalPlan,
    Remember,
    Scan,
    Stage,
    StreamQuery,
    Write,
    leaves_of,
)
from dsl.plan.sql import filled, settled, settled_view, view_name
from dsl.processors.folders import ADDED


def lower(plan: LogicalPlan) -> PhysicalPlan:
    """Makes the stages of a plan, each after those whose exchanges it reads."""
    stages = _Lowering(plan).stages()
    return PhysicalPlan(plan.workflow, stages, fingerprint(stages))


def cut_nodes(plan: LogicalPlan) -> dict[str, str]:
    """Returns the nodes behind which the plan is cut, and why."""
    cuts = {}
    for node in plan.nodes:
        uses = sum(each.inputs.count(node.id) for each in plan.nodes)
        if isinstance(node, Load):
            continue
        if uses > 1:
            cuts[node.id] = f"{uses} consumers"
        elif node.id in plan.persisted:
            cuts[node.id] = "persist: true"
    return cuts


@dataclass
class _Query:
    """SQL under construction.

    Attributes:
        sql: What it selects.
        nodes: The workflow's nodes in it.
        views: Name of each view -> what feeds it.
        uses_now: Whether it mentions `$now`.
    """

    sql: str
    nodes: tuple[str, ...]
    views: tuple[tuple[str, PhysicalNode], ...]
    uses_now: bool = False


@dataclass
class _Lowering:
    """One plan on its way to stages.

    Attributes:
        plan: The logical plan.
        names: Node that ends a stage -> the stage's id.
    """

    plan: LogicalPlan
    names: dict[str, str] = field(default_factory=dict)

    def stages(self) -> tuple[Stage, ...]:
        cuts = cut_nodes(self.plan)
        ends = [each for each in self.plan.nodes if each.id in cuts or isinstance(each, Load)]
        for each in ends:
            self.names[each.id] = self._stage_id(each.id)
        stages = [self._stage(each) for each in ends]
        return tuple(_with_consumers(each, stages) for each in stages)

    def _stage_id(self, node_id: str) -> str:
        wanted = legal = node_id.replace("-", "_")
        number = 2
        while legal in self.names.values():
            legal, number = f"{wanted}_{number}", number + 1
        return legal

    def _stage(self, node: LogicalNode) -> Stage:
        if isinstance(node, Load):
            root = self._fed_by(node.inputs[0])
            writer = Write(node.node, self._input_node(node), node.destination, node.policies, node.resource)
            return Stage(self.names[node.id], root, writer, _after(root), node.schema)
        root = self._made(node)
        return Stage(self.names[node.id], root, ExchangeWrite(node.id, (), node.policies), _after(root), node.schema)

    def _input_node(self, node: Load) -> str:
        """A step that the plan put before a destination has no name in the workflow: its input has, or the destination."""
        feeder = node.inputs[0]
        if feeder == f"{node.id}{ADDED}":
            feeder = self.plan.node(feeder).inputs[0]
        if feeder == f"{node.id}__log":
            return self.plan.node(feeder).inputs[0]
        return node.node if feeder == f"{node.node}__union" else feeder

    def _fed_by(self, node_id: str) -> PhysicalNode:
        """What a consumer of a node reads: the node itself, or the exchange behind it."""
        node = self.plan.node(node_id)
        if node_id in self.names:
            return ExchangeScan(node_id, self.names[node_id], node.schema, node.policies)
        return self._made(node)

    def _made(self, node: LogicalNode) -> PhysicalNode:
        if isinstance(node, Read):
            return Scan(node.id, node.source, node.request, node.schema, node.policies, node.resource, node.poll)
        if isinstance(node, Process):
            return Apply(node.id, self._fed_by(node.inputs[0]), node.processor, node.schema, node.policies)
        assert isinstance(node, Transform)  # noqa: S101 - a Load feeds nothing
        return self._transformed(node)

    def _transformed(self, node: Transform) -> PhysicalNode:
        if node.memory is not None:
            feeder = self._fed_by(node.inputs[0])
            view = settled_view(INPUT_VIEW, feeder.schema)
            return Remember(node.id, feeder, view, settled(node.memory), node.schema, node.policies)
        if not node.row_local:
            return self._stream(node)
        chain, below = self._chain(node)
        blocking = self._blocking(below)
        if blocking is None:
            return self._chunk(chain, self._fed_by(below))
        total = 0
        while total < len(chain) and chain[total].total:
            total += 1
        query = self._stream(chain[total - 1]) if total else self._stream(blocking)
        return self._chunk(chain[total:], query) if chain[total:] else query

    def _chain(self, node: Transform) -> tuple[list[Transform], str]:
        """Returns the row-local steps that can share a statement with `node`, first one first, and the node below them."""
        chain = [node]
        while True:
            below = chain[0].inputs[0]
            found = self.plan.node(below)
            if below in self.names or not isinstance(found, Transform) or not found.row_local:
                return chain, below
            if not _share(found, chain):
                return chain, below
            chain.insert(0, found)

    def _blocking(self, node_id: str) -> Transform | None:
        found = self.plan.node(node_id)
        fusable = isinstance(found, Transform) and not (found.row_local or found.memory) and node_id not in self.names
        return found if fusable and isinstance(found, Transform) else None

    def _chunk(self, chain: list[Transform], below: PhysicalNode) -> ChunkQuery:
        sql = settled_view(INPUT_VIEW, below.schema)
        for each in chain:
            sql = filled(each.sql, [sql])
        last = chain[-1]
        return ChunkQuery(
            nodes=tuple(each.id for each in chain),
            input=below,
            sql=sql,
            schema=last.schema,
            policies=last.policies,
            expands=any(each.expands for each in chain),
            filters=any(each.filters for each in chain),
            uses_now=any(each.uses_now for each in chain),
        )

    def _stream(self, node: Transform) -> StreamQuery:
        query = self._query(node, ())
        return StreamQuery(query.nodes, query.views, query.sql, node.schema, node.policies, query.uses_now)

    def _query(self, node: Transform, taken: tuple[str, ...]) -> _Query:
        """Fuses a step with everything below it that may share its query.

        Args:
            node: The step.
            taken: Names of views that are used already.
        """
        parts: list[_Query] = []
        for name in node.inputs:
            names = (*taken, *(view for part in parts for view, _ in part.views))
            parts.append(self._part(name, names))
        nodes = dict.fromkeys(each for part in parts for each in part.nodes)
        return _Query(
            sql=filled(node.sql, [each.sql for each in parts]),
            nodes=(*nodes, node.id),
            views=tuple(view for part in parts for view in part.views),
            uses_now=node.uses_now or any(each.uses_now for each in parts),
        )

    def _part(self, node_id: str, taken: tuple[str, ...]) -> _Query:
        found = self.plan.node(node_id)
        fuses = isinstance(found, Transform) and (found.total or not found.row_local) and node_id not in self.names
        if fuses and isinstance(found, Transform) and found.memory is None and not self._better_in_a_chunk(found):
            return self._query(found, taken)
        feeder = self._fed_by(node_id)
        view = view_name(node_id, taken)
        return _Query(settled_view(view, feeder.schema), (), ((view, feeder),))

    def _better_in_a_chunk(self, node: Transform) -> bool:
        """Tells whether a step below this one runs by the batch anyway, so that this one goes with it."""
        if not node.row_local:
            return False
        chain, below = self._chain(node)
        return self._blocking(below) is None and not all(each.total for each in chain)


def _share(below: Transform, chain: list[Transform]) -> bool:
    """A statement has the policies of its last step, so a step that can fail under other ones stands alone."""
    return below.total or (_row_policy(below) == _row_policy(chain[-1]))


def _row_policy(node: Transform) -> tuple[object, ...]:
    return node.policies.on_error, node.policies.dead_letter


def _after(root: PhysicalNode) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.producer for each in leaves_of(root) if isinstance(each, ExchangeScan)))


def _with_consumers(stage: Stage, stages: list[Stage]) -> Stage:
    if not isinstance(stage.writer, ExchangeWrite):
        return stage
    readers = tuple(each.id for each in stages if stage.id in each.after)
    return replace(stage, writer=replace(stage.writer, consumers=readers))
