"""A stage's tree opened: each physical node becomes an iterator of flows over those of its inputs; writes nothing and commits nothing."""

from __future__ import annotations

import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa

from dsl.contracts.connectors import Operator
from dsl.contracts.errors import ReconciliationError
from dsl.contracts.policies import Policies
from dsl.contracts.rows import Outcome
from dsl.contracts.state import State
from dsl.plan.physical import Apply, ChunkQuery, StreamQuery
from engine.channel import CancelledError, Channel, Crew
from engine.deadletter import FLUSH_ROWS, Numbering
from engine.flow import Counts, Flow, Ledger, Rejected, combined, cut, digest, merged, part
from engine.isolate import Isolated, isolate
from engine.operators.relational import Chunk, Inputs, StreamRun
from engine.operators.tools import OperatorTools, open_operator
from engine.shape import conform, conform_one, empty, joined, resolved

ROWS_UNDER_WAY = 262_144
BYTES_UNDER_WAY = 8 * 2**20


@dataclass
class Aside:
    """Refused rows that a query over whole inputs would hold for too long, on their way to the writer's thread."""

    crew: Crew
    waiting: queue.Queue[list[Rejected]] = field(default_factory=lambda: queue.Queue(maxsize=8))

    def put(self, refused: list[Rejected]) -> None:
        """Hands them over, waiting until there is room.

        Raises:
            CancelledError: The attempt is ending.
        """
        while True:
            if self.crew.cancelled.is_set():
                raise CancelledError
            with suppress(queue.Full):
                self.waiting.put(refused, timeout=0.2)
                return

    def take(self) -> list[Rejected]:
        """Everything handed over so far."""
        found: list[Rejected] = []
        with suppress(queue.Empty):
            while True:
                found += self.waiting.get_nowait()
        return found


@dataclass(frozen=True)
class Workshop:
    """What open nodes share within one attempt.

    Attributes:
        crew: Its threads.
        tools: What operators need.
        aside: Refused rows that must not wait.
        key: `Token.key` of the stream.
    """

    crew: Crew
    tools: OperatorTools
    aside: Aside
    key: str

    def check(self) -> None:
        """Raises when the attempt is ending.

        Raises:
            CancelledError: It is.
        """
        if self.crew.cancelled.is_set():
            raise CancelledError


def key_of(nodes: tuple[str, ...]) -> str:
    """The name under which a physical node's rows are counted."""
    return "+".join(nodes)


class OpenNode(ABC):
    """A node of the tree, open.

    Attributes:
        key: The name under which its rows are counted.
        schema: What leaves it.
        inputs: The nodes that feed it.
        folds: Whether its rows out do not follow from its rows in.
    """

    key: str
    schema: pa.Schema
    inputs: tuple[OpenNode, ...] = ()
    folds: bool = False

    @abstractmethod
    def channel(self) -> Channel[Flow]:
        """Starts it in a thread of its own and returns what it sends; called once."""


class OpenStep(OpenNode):
    """A node that makes flows out of flows."""

    def __init__(self, shop: Workshop, key: str, schema: pa.Schema, inputs: tuple[OpenNode, ...]) -> None:
        self._shop, self.key, self.schema, self.inputs = shop, key, schema, inputs
        self._start: State | None = None

    def resume(self, state: State | None) -> None:
        """Says what the stage's state was; before anything is started."""
        self._start = state

    @abstractmethod
    def flows(self) -> Generator[Flow, None, None]:
        """Yields what leaves; called once, in the thread that works."""

    def channel(self) -> Channel[Flow]:
        """Starts the node, and those below it that need no thread of their own."""
        channel: Channel[Flow] = new_channel(self._shop.crew)
        self._shop.crew.start(f"headrace-{self.key}", lambda: pump(self.flows(), channel))
        return channel

    def _input(self, index: int = 0) -> Iterator[Flow]:
        source = self.inputs[index]
        return source.flows() if isinstance(source, OpenStep) else iter(source.channel())


def new_channel(crew: Crew) -> Channel[Flow]:
    """A channel that ends with its attempt."""
    channel: Channel[Flow] = Channel(rows=ROWS_UNDER_WAY, size=BYTES_UNDER_WAY)
    crew.on_cancel(channel.cancel)
    return channel


def pump(flows: Generator[Flow, None, None], channel: Channel[Flow]) -> None:
    """Sends everything, then the end or the error; the whole work of a thread, so it lets nothing escape."""
    try:
        # Closed here and not whenever the collector comes to it: by then the session that a query belongs to is gone.
        with closing(flows):
            for flow in flows:
                channel.put(flow, rows=flow.rows.num_rows, size=flow.size)
    except BaseException as error:  # noqa: BLE001 - carried to the thread that waits for it
        channel.end(error)
    else:
        channel.end()


class OpenChunk(OpenStep):
    """A `ChunkQuery`, open."""

    def __init__(self, shop: Workshop, node: ChunkQuery, source: OpenNode) -> None:
        where = ", ".join(node.nodes)
        self._node, self._where = node, where
        self._chunk: Chunk = shop.tools.session.chunk(node.sql, uses_now=node.uses_now, where=where)
        schema = resolved(node.schema, self._chunk.output_schema(source.schema), where)
        super().__init__(shop, key_of(node.nodes), schema, (source,))
        self._numbering = Numbering(shop.key, self.key, node.policies)

    def flows(self) -> Generator[Flow, None, None]:
        """Runs the query over each batch."""
        for flow in self._input():
            began = time.perf_counter()
            done = (
                isolate(flow.rows, self._run, self._shop.check)
                if flow.rows.num_rows
                else Isolated[list[pa.RecordBatch]]()
            )
            self._numbering.refuse(flow.ledger, self.key, flow.anchor, done.rejections(self._node.nodes[-1]))
            pieces = [piece for result in done.results for piece in result if piece.num_rows]
            counts = flow.ledger.count(self.key)
            self._book(counts, flow.rows.num_rows, sum(each.num_rows for each in pieces), len(done.faults))
            counts.bytes_out += sum(each.nbytes for each in pieces)
            counts.seconds += time.perf_counter() - began
            yield from spread(flow, pieces, self.schema, self._node.policies)

    def _run(self, rows: pa.RecordBatch) -> list[pa.RecordBatch]:
        return conform(self._chunk.run(rows), self.schema, self._where)

    def _book(self, counts: Counts, rows_in: int, rows_out: int, rejected: int) -> None:
        grown = rows_out - (rows_in - rejected)
        if (grown > 0 and not self._node.expands) or (grown < 0 and not (self._node.filters or self._node.expands)):
            raise ReconciliationError(
                f"{rows_in} rows went in, {rows_out} came out, {rejected} were refused", where=self._where
            )
        counts.rows_in += rows_in
        counts.rows_out += rows_out
        counts.expanded += max(grown, 0)
        counts.filtered += max(-grown, 0)


def spread(flow: Flow, pieces: list[pa.RecordBatch], schema: pa.Schema, policies: Policies) -> Iterator[Flow]:
    """Sends what came of one batch: put together again or cut to size, with the state and the books on the last piece."""
    if len(pieces) > 1 and sum(each.nbytes for each in pieces) <= policies.batch.bytes:
        # Poison rows cut a batch into crumbs, and each would be a call of its own to the destination.
        pieces = joined(pieces, schema)
    for each in pieces[:-1]:
        yield from cut(Flow(each, None, flow.anchor, Ledger()), policies.batch.rows, policies.batch.bytes)
    yield from cut(flow.with_rows(pieces[-1] if pieces else empty(schema)), policies.batch.rows, policies.batch.bytes)


class OpenApply(OpenStep):
    """An `Apply`, open."""

    def __init__(self, shop: Workshop, node: Apply, source: OpenNode) -> None:
        self._node = node
        self._tools = shop.tools.for_node(node.node, node.policies)
        schema = resolved(node.schema, self._tools.output_schema(node.processor, source.schema), node.node)
        super().__init__(shop, node.node, schema, (source,))
        self._numbering = Numbering(shop.key, node.node, node.policies)

    def flows(self) -> Generator[Flow, None, None]:
        """Gives each batch to the operator."""
        operators: dict[str, State] = {}
        kept_before = part(self._start, "operators", self._node.node)
        with open_operator(self._node.processor, self.inputs[0].schema, kept_before, self._tools) as operator:
            for flow in self._input():
                began = time.perf_counter()
                pieces = self._apply(operator, flow)
                kept = operator.get_state()
                state = flow.state
                if state is not None and kept is not None:
                    operators[self._node.node] = kept
                    state = merged([state, combined({}, operators)])
                flow.ledger.count(self.key).seconds += time.perf_counter() - began
                yield from spread(
                    Flow(flow.rows, state, flow.anchor, flow.ledger), pieces, self.schema, self._node.policies
                )

    def _apply(self, operator: Operator, flow: Flow) -> list[pa.RecordBatch]:
        if not flow.rows.num_rows:
            return []
        done: Isolated[Outcome] = isolate(flow.rows, operator.process, self._shop.check)
        refused = done.rejections(self._node.node) + [each for result in done.results for each in result.failed]
        self._numbering.refuse(flow.ledger, self.key, flow.anchor, refused)
        for each in done.results:
            flow.ledger.stand_in(self._node.node, each.fallbacks)
        counts = flow.ledger.count(self.key)
        pieces = [
            conform_one(each.passed, self.schema, self._node.node) for each in done.results if each.passed.num_rows
        ]
        before = (counts.rows_in, counts.rejected)
        counts.rows_in += flow.rows.num_rows
        counts.rows_out += sum(each.num_rows for each in pieces)
        counts.filtered += sum(each.filtered for each in done.results)
        counts.expanded += sum(each.expanded for each in done.results)
        counts.bytes_out += sum(each.nbytes for each in pieces)
        if not counts.balanced:
            raise ReconciliationError(
                f"{counts.rows_in - before[0]} rows went in, {sum(each.num_rows for each in pieces)} came out, "
                f"{len(refused)} were refused: the processor lost or doubled rows",
                where=self._node.node,
            )
        return pieces


class OpenStream(OpenStep):
    """A `StreamQuery`, open."""

    folds = True

    def __init__(self, shop: Workshop, node: StreamQuery, sources: tuple[OpenNode, ...]) -> None:
        where = ", ".join(node.nodes)
        self._node = node
        self._run: StreamRun = shop.tools.session.stream(node.sql, uses_now=node.uses_now, where=where)
        self._names = tuple(name for name, _ in node.inputs)
        actual = self._run.output_schema({name: each.schema for name, each in zip(self._names, sources, strict=True)})
        super().__init__(shop, key_of(node.nodes), resolved(node.schema, actual, where), sources)
        self._where = where
        self._lock = threading.Lock()
        self._ledger = Ledger()
        self._states: dict[str, State] = {}
        self._waited = 0.0
        self._error: BaseException | None = None

    def flows(self) -> Generator[Flow, None, None]:
        """Runs the query, then reads on what it left unread, so that the states are those of whole inputs."""
        channels = {name: each.channel() for name, each in zip(self._names, self.inputs, strict=True)}
        inputs = {
            name: (each.schema, partial(self._rows_of, channels[name]))
            for name, each in zip(self._names, self.inputs, strict=True)
        }
        anchor = digest(self._start)
        try:
            yield from self._results(inputs, anchor)
        except GeneratorExit:
            raise
        except BaseException:
            if self._error is not None:
                # What made an input fail says more than DuckDB's account of it.
                raise self._error from None
            raise
        for channel in channels.values():
            for _ in self._rows_of(channel):
                self._shop.check()
        yield Flow(empty(self.schema), merged([*self._parts(), *self._states.values()]), anchor, self._books(0, 0, 0.0))

    def _results(self, inputs: Inputs, anchor: str) -> Iterator[Flow]:
        began, waited = time.perf_counter(), self._waited
        for rows in self._run.run(inputs):
            for piece in conform(rows, self.schema, self._where):
                worked = max(0.0, time.perf_counter() - began - (self._waited - waited))
                flow = Flow(piece, None, anchor, self._books(piece.num_rows, piece.nbytes, worked))
                yield from cut(flow, self._node.policies.batch.rows, self._node.policies.batch.bytes)
                began, waited = time.perf_counter(), self._waited

    def _rows_of(self, channel: Channel[Flow]) -> Iterator[pa.RecordBatch]:
        try:
            while (flow := self._next(channel)) is not None:
                if flow.rows.num_rows:
                    yield flow.rows
        except GeneratorExit:
            raise
        except BaseException as error:
            self._error = self._error or error
            raise

    def _next(self, channel: Channel[Flow]) -> Flow | None:
        began = time.perf_counter()
        flow = channel.get()
        with self._lock:
            self._waited += time.perf_counter() - began
            if flow is None:
                return None
            self._ledger.add(flow.ledger)
            self._ledger.count(self.key).rows_in += flow.rows.num_rows
            if flow.state is not None:
                self._states[str(id(channel))] = flow.state
            held = self._ledger.rejected
            if len(held) < FLUSH_ROWS:
                return flow
            self._ledger.rejected = []
        self._shop.aside.put(held)
        return flow

    def _books(self, rows: int, size: int, seconds: float) -> Ledger:
        with self._lock:
            ledger, self._ledger = self._ledger, Ledger()
        counts = ledger.count(self.key)
        counts.rows_out += rows
        counts.bytes_out += size
        counts.seconds += seconds
        return ledger

    def _parts(self) -> list[State]:
        return [] if self._start is None else [self._start]
