"""Opens a stage's tree for one attempt: which class stands for which node of the plan, and at what state each reader begins."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

import pyarrow as pa

from dsl.contracts.changes import Deletes
from dsl.contracts.connectors import ReadRequest, Source
from dsl.contracts.state import Json, State
from dsl.plan.physical import (
    Apply,
    ChunkQuery,
    ExchangeScan,
    PhysicalNode,
    Remember,
    Scan,
    Stage,
    StreamQuery,
    leaves_of,
)
from engine.context import RunContext
from engine.deadletter import Numbering
from engine.epoch import Edges
from engine.exchange import ExchangeSource
from engine.flow import part
from engine.leaf import OpenLeaf, Reading
from engine.remember import OpenRemember
from engine.retry import Pace
from engine.shape import resolved
from engine.splits import Division, OpenSplits
from engine.state_files import FOLDER
from engine.tree import OpenApply, OpenChunk, OpenNode, OpenStep, OpenStream, Workshop

OpenReader: TypeAlias = OpenLeaf | OpenSplits


@dataclass
class OpenTree:
    """A stage's tree, open but not started.

    Attributes:
        root: What feeds the writer.
        leaves: The readers, left to right.
        kinds: Node key -> (workflow nodes, kind), readers first.
    """

    root: OpenNode
    leaves: tuple[OpenReader, ...]
    kinds: dict[str, tuple[tuple[str, ...], str]]

    def resume(self, state: State | None) -> None:
        """Tells every node where to go on; before anything is started."""
        for each in self.leaves:
            each.resume(part(state, "inputs", each.key))
        for node in _all(self.root):
            if isinstance(node, OpenRemember):
                # What it remembers belongs to what it reads, and not to another reader that begins again.
                node.resume(None if _restarted(node) else state)
            elif isinstance(node, OpenStep):
                node.resume(None if self.restarted else state)

    @property
    def restarted(self) -> bool:
        """Whether some reader begins at the beginning although it has a state."""
        return any(each.restarted for each in self.leaves)

    @property
    def complete(self) -> bool:
        """Whether a reader's refresh is complete at the state it was given: so the whole stage's rows are committed."""
        return any(each.complete for each in self.leaves)

    @property
    def follows(self) -> bool:
        """Whether some reader goes on for ever."""
        return any(each.reading.poll is not None for each in self.leaves)

    @property
    def whole(self) -> bool:
        """Whether some query needs its whole inputs, so that there is no boundary before their end."""
        return any(isinstance(each, OpenStream) for each in _all(self.root))

    def settle(self, state: State) -> None:
        """Makes durable what the steps remember at a state, before it is committed."""
        for each in self._remembering():
            each.log.settle(part(state, "operators", each.key))

    def collect(self, state: State) -> None:
        """Removes what the steps no longer remember, once a state is committed."""
        for each in self._remembering():
            # What cannot be removed now is removed by the next attempt.
            with suppress(OSError):
                each.log.collect(part(state, "operators", each.key))

    def close(self) -> None:
        """Closes what the steps write; what was not committed is not read again."""
        for each in self._remembering():
            each.log.close()

    def _remembering(self) -> Iterator[OpenRemember]:
        return (each for each in _all(self.root) if isinstance(each, OpenRemember))

    def waiting(self, state: State | None) -> bool:
        """Whether an exchange has a further generation after a state of the stage."""
        return any(each.reading.waiting(part(state, "inputs", each.key)) for each in self.leaves)

    def edges(self, writer: str) -> Edges:
        """Who feeds whom, the writer included."""
        feeds = {each.key: tuple(source.key for source in each.inputs) for each in _all(self.root)}
        folds = frozenset(each.key for each in _all(self.root) if each.folds)
        return Edges({**feeds, writer: (self.root.key,)}, folds)


@dataclass
class Opener:
    """Opens the nodes of one stage.

    Attributes:
        shop: What open nodes share.
        context: The run.
        asked: The source that is being asked for its schema, or "".
    """

    shop: Workshop
    context: RunContext
    asked: str = ""
    _leaves: list[OpenReader] = field(default_factory=list)
    _kinds: dict[str, tuple[tuple[str, ...], str]] = field(default_factory=dict)
    _keys: Iterator[str] = field(default_factory=lambda: iter(()))

    def open(self, stage: Stage) -> OpenTree:
        """Opens a stage's tree.

        Raises:
            SchemaError: What arrives is not what the plan was made for.
        """
        self._keys = iter(leaf_keys(stage.root))
        root = self._open(stage.root)
        return OpenTree(root, tuple(self._leaves), self._kinds)

    def _open(self, node: PhysicalNode) -> OpenNode:
        match node:
            case Scan():
                return self._leaf(node, node.source, node.request)
            case ExchangeScan():
                exchange = exchange_source(self.context, node.producer)
                return self._leaf(node, exchange, ReadRequest(), exchange.waiting)
            case ChunkQuery():
                return self._noted(OpenChunk(self.shop, node, self._open(node.input)), node.nodes, "chunk_query")
            case Remember():
                folder = self.context.home / FOLDER / self.shop.key / node.node
                opened = OpenRemember(self.shop, node, self._open(node.input), folder, self.context.clock)
                return self._noted(opened, (node.node,), "remember")
            case Apply():
                return self._noted(OpenApply(self.shop, node, self._open(node.input)), (node.node,), "apply")
            case StreamQuery():
                sources = tuple(self._open(each) for _, each in node.inputs)
                return self._noted(OpenStream(self.shop, node, sources), node.nodes, "stream_query")

    def _noted(self, opened: OpenStep, nodes: tuple[str, ...], kind: str) -> OpenNode:
        self._kinds[opened.key] = (nodes, kind)
        return opened

    def _leaf(
        self,
        node: Scan | ExchangeScan,
        source: Source,
        request: ReadRequest,
        waiting: Callable[[State | None], bool] | None = None,
    ) -> OpenReader:
        key, full = next(self._keys), replace(request, logical_time=self.context.logical_time)
        self.asked = node.node
        schema = known_schema(source, full, node.schema, node.node)
        self.asked = ""
        poll = node.poll if isinstance(node, Scan) else None
        reading = Reading(key, partial(source.read, full), schema, node.policies, poll=poll)
        reading = replace(reading, again=poll is not None and not request.follow)
        if waiting is not None:
            # An exchange knows by itself which generation comes next; a source's complete refresh starts over.
            reading = replace(reading, restarts=False, waiting=waiting)
        limit = node.policies.rate_limit
        pace = Pace(limit, self.context.clock, self.shop.tools.ended) if limit is not None and limit.rows else None
        leaf: OpenReader
        if isinstance(node, Scan) and node.poll is None and _divides(source):
            leaf = OpenSplits(self.shop.crew, reading, self._division(node, full, reading, pace))
        else:
            leaf = OpenLeaf(self.shop.crew, reading, Numbering(self.shop.key, key, node.policies), pace)
        self._leaves.append(leaf)
        self._kinds[key] = ((node.node,), "scan" if isinstance(node, Scan) else "exchange_scan")
        return leaf

    def _division(self, node: Scan, request: ReadRequest, reading: Reading, pace: Pace | None) -> Division:
        count = node.policies.partitions or node.policies.parallelism

        def parts() -> Sequence[Json]:
            self.asked = node.node
            found = node.source.splits(count) if count > 1 else ()
            self.asked = ""
            return found

        shared = [node.source]

        @contextmanager
        def together() -> Iterator[None]:
            with node.source.together() as shared[0]:
                yield

        def leaf(split: Json) -> OpenLeaf:
            if split is None:
                return OpenLeaf(self.shop.crew, reading, Numbering(self.shop.key, reading.key, node.policies), pace)
            key = f"{self.shop.key}#{json.dumps(split, sort_keys=True)}"
            # What the parts share is there by the time that the first of them is read.
            own = replace(reading, open=lambda state: shared[0].part(split).read(request, state))
            return OpenLeaf(self.shop.crew, own, Numbering(key, reading.key, node.policies), pace)

        return Division(parts, leaf, together, node.policies.parallelism)


def leaf_keys(root: PhysicalNode) -> dict[str, Scan | ExchangeScan]:
    """The readers under a node by the name of their state and counts: the node's, and a number where it is read again."""
    found: dict[str, Scan | ExchangeScan] = {}
    times: Counter[str] = Counter()
    for leaf in leaves_of(root):
        times[leaf.node] += 1
        found[leaf.node if times[leaf.node] == 1 else f"{leaf.node}#{times[leaf.node]}"] = leaf
    return found


def exchange_source(context: RunContext, producer: str) -> ExchangeSource:
    """The exchange that a stage wrote, as a source."""
    return ExchangeSource.at(context.home, context.workflow, producer)


def known_schema(source: Source, request: ReadRequest, planned: pa.Schema | None, where: str) -> pa.Schema:
    """What a source's reader will yield: the plan's schema, or what the source says where the plan did not ask.

    Raises:
        SchemaError: The source has no such columns, or does not exist.
    """
    if planned is not None and not any(pa.types.is_null(each.type) for each in planned):
        return planned.remove_metadata()
    found = source.discover_schema()
    if request.columns is not None:
        found = pa.schema([found.field(each) for each in request.columns if each in found.names])
    return resolved(planned, found, where)


def _divides(source: Source) -> bool:
    """Whether a source may be read in parts; changes keep their order."""
    return source.capabilities.divides and source.tells is Deletes.IGNORED


def _restarted(node: OpenNode) -> bool:
    return any(isinstance(each, OpenLeaf | OpenSplits) and each.restarted for each in _all(node))


def _all(node: OpenNode) -> Iterator[OpenNode]:
    yield node
    for each in node.inputs:
        yield from _all(each)
