"""One attempt at a stage: fence, resume, read and transform in threads, write and commit epochs, end cleanly; tries nothing twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import BatchWriter, Destination, Token
from dsl.contracts.errors import FatalError, HeadraceError, UnavailableError
from dsl.contracts.policies import Policies, RetryPolicy
from dsl.contracts.rows import Rejection
from dsl.contracts.state import State
from dsl.plan.physical import Apply, ExchangeScan, PhysicalNode, Scan, Stage, Write, inputs_of
from engine import checkpoint
from engine.breaker import Breaker
from engine.channel import CancelledError, Channel, Crew, NothingYetError
from engine.context import RunContext
from engine.control import Wish
from engine.deadletter import LetterBox, Numbering, check_budget, letters_for
from engine.epoch import Committer, Epoch
from engine.events import Teller
from engine.exchange import ExchangeDestination
from engine.flow import Flow, combined, part
from engine.isolate import isolate
from engine.leaf import OpenLeaf
from engine.opening import Opener, OpenTree
from engine.operators.relational import Limits, Session
from engine.operators.tools import OperatorTools
from engine.report import StageOutcome
from engine.retry import Pace
from engine.totals import Totals
from engine.tree import Aside, Workshop, key_of

POLL_SECONDS = 0.2
PEEK_SECONDS = 0.02
JOIN_SECONDS = 5.0


@dataclass
class Attempt:
    """One opening of a stage, from the fence to the last commit.

    Attributes:
        stage: What to run.
        context: The run.
        totals: What the run has committed; added to.
        crew: The attempt's threads.
    """

    stage: Stage
    context: RunContext
    totals: Totals
    crew: Crew = field(default_factory=Crew)
    finishing: bool = False

    def __post_init__(self) -> None:
        writer = self.stage.writer
        self._writer_key = f"write {writer.node}"
        self._teller = Teller(self.context, self.stage.id)
        retain = {"fingerprint": self.context.fingerprint} if self.context.fingerprint else {}
        self.token = Token(self.context.workflow, self.stage.id, 0, self.context.run_id, retain)
        self._policies = writer.policies
        self._numbering = Numbering(self.token.key, writer.node, writer.policies)
        limit = writer.policies.rate_limit
        self._pace = Pace(limit, self.context.clock, self.crew.cancelled.is_set) if limit and limit.rows else None
        self._aside = Aside(self.crew)
        self._tree: OpenTree | None = None
        self._start: State | None = None
        self._leave_by: datetime | None = None
        self._committed_here = 0
        self._node_policies = dict(_policies_of(self.stage.root))

    @property
    def destination(self) -> Destination:
        """Where the stage writes."""
        writer = self.stage.writer
        if isinstance(writer, Write):
            return writer.destination
        return ExchangeDestination.at(self.context.home, self.context.workflow, self.stage.id)

    def run(self) -> StageOutcome:
        """Opens everything, moves the rows, commits, closes everything.

        Raises:
            RetryableError: Another attempt may go on from the last committed epoch.
            HeadraceError: Anything that another attempt cannot cure.
            CancelledError: The attempt was cancelled from outside.
        """
        with ExitStack() as stack:
            try:
                return self._open_and_loop(stack, self._session(stack))
            except UnavailableError:
                self._note_unavailable()
                raise
            finally:
                # Threads first: a session must not be closed under a thread that works with it.
                self._end_threads()

    def _open_and_loop(self, stack: ExitStack, session: Session) -> StageOutcome:
        tools = OperatorTools(session, self.context, self.crew.cancelled.is_set)
        shop = Workshop(self.crew, tools, self._aside, self.token.key)
        tree = self._tree = Opener(shop, self.context).open(self.stage)
        for breaker, _ in self._breakers():
            breaker.admit()
        writer = stack.enter_context(self.destination.open_writer(tree.root.schema, self.token))
        committed = writer.get_state()
        checkpoint.reconcile(self.token, committed, self.context)
        state = None if committed is None else committed.state
        tree.resume(state)
        self.finishing = tree.finishing
        letters = letters_for(self.context.dead_letters, self.context.dead_letter_destination, self.token)
        stack.callback(letters.close)
        self._ready(tree, writer, LetterBox(letters, self.token, self.context.clock))
        epoch = 0 if committed is None else committed.epoch
        self._note_start(tree, epoch, state)
        return self._loop(tree.root.channel(), epoch)

    def _session(self, stack: ExitStack) -> Session:
        spill = self.context.home / "spill" / f"{self.context.run_id}-{self.stage.id}"
        limits = Limits(self.context.memory_limit, self.context.threads, spill, self.context.spill_limit)
        session = Session(limits, self.context.logical_time)
        self.crew.on_cancel(session.interrupt)
        stack.callback(session.close)
        return session

    def _ready(self, tree: OpenTree, writer: BatchWriter, box: LetterBox) -> None:
        self._writer, self._box = writer, box
        edges = tree.edges(self._writer_key)
        exact = self.destination.write_mode is WriteMode.APPEND
        self._committer = Committer(writer, self.token, box, edges, self.context.clock, exact)
        node, kind = self.stage.writer, "write" if isinstance(self.stage.writer, Write) else "exchange_write"
        self.totals.edges, self.totals.schema = edges, tree.root.schema
        self.totals.kinds = {**tree.kinds, self._writer_key: ((node.node,), kind)}

    def _note_start(self, tree: OpenTree, epoch: int, state: State | None) -> None:
        resumed = state is not None and not tree.restarted
        if self.totals.epochs == 0:
            self.totals.resumed, self.totals.epoch, self.totals.state = resumed, epoch, state
        self._start = state
        self._teller.tell("stage_started", epoch=epoch, resumed=resumed, nodes=len(tree.kinds))

    def _loop(self, channel: Channel[Flow], number: int) -> StageOutcome:
        epoch = self._new_epoch(number + 1)
        while True:
            ended, flow = self._next(channel, POLL_SECONDS)
            if ended:
                self._commit_last(epoch)
                return StageOutcome.FINISHED
            if flow is not None:
                self._take(epoch, flow)
            wish = self.context.control.wish()
            if wish is not Wish.RUN and (outcome := self._leave(epoch, wish)) is not None:
                return outcome
            if epoch.committable and epoch.due(self._policies.checkpoint, self.context.clock.now(), self._box.pending):
                following = self._commit_unless_last(epoch, channel)
                if following is None:
                    return StageOutcome.FINISHED
                epoch = following

    def _next(self, channel: Channel[Flow], seconds: float) -> tuple[bool, Flow | None]:
        for leaf in self._leaves():
            leaf.check()
        self._box.take(self._aside.take(), 0)
        try:
            flow = channel.get(seconds)
        except NothingYetError:
            return False, None
        return flow is None, flow

    def _new_epoch(self, number: int) -> Epoch:
        return Epoch(number, self.context.clock.now())

    def _take(self, epoch: Epoch, flow: Flow) -> None:
        began = time.perf_counter()
        accepted = self._write(flow) if flow.rows.num_rows else 0
        self._box.take(flow.ledger.rejected, epoch.number)
        flow.ledger.rejected = []
        counts = flow.ledger.count(self._writer_key)
        counts.rows_in += flow.rows.num_rows
        counts.rows_out += accepted
        size = flow.rows.nbytes if accepted == flow.rows.num_rows else flow.rows.nbytes * accepted // flow.rows.num_rows
        counts.bytes_out += size
        counts.seconds += time.perf_counter() - began
        epoch.take(flow, accepted, size)
        self._check_budget(epoch, ended=False)
        self._teller.progress(
            rows_read=self.totals.read(epoch.ledger), rows_written=self.totals.written + epoch.rows, epoch=epoch.number
        )

    def _write(self, flow: Flow) -> int:
        if self._pace is not None:
            self._pace.spend(rows=flow.rows.num_rows)
        told: list[Rejection] = []

        def put(part_: pa.RecordBatch) -> None:
            told.extend(self._writer.write(part_))

        done = isolate(flow.rows, put, self._check)
        refused = done.rejections(self.stage.writer.node) + told
        self._numbering.refuse(flow.ledger, self._writer_key, flow.anchor, refused)
        self.totals.look(flow.rows, self.context.preview_rows)
        return flow.rows.num_rows - len(refused)

    def _check(self) -> None:
        if self.crew.cancelled.is_set():
            raise CancelledError

    def _leave(self, epoch: Epoch, wish: Wish) -> StageOutcome | None:
        outcome = StageOutcome.STOPPED if wish is Wish.STOP else StageOutcome.PAUSED
        if epoch.committable:
            self._commit(epoch, final=False)
            return outcome
        now = self.context.clock.now()
        self._leave_by = self._leave_by or now + self.context.grace
        # A query over whole inputs has no boundary before its end: what it holds will be read again.
        if epoch.read == 0 or self._committer.edges.folds or now >= self._leave_by:
            return outcome
        return None

    def _commit_unless_last(self, epoch: Epoch, channel: Channel[Flow]) -> Epoch | None:
        ended, flow = self._next(channel, PEEK_SECONDS)
        while flow is not None and flow.state is not None and not flow.rows.num_rows:
            # A state without rows, such as the last one of a full refresh, needs no epoch of its own.
            self._take(epoch, flow)
            ended, flow = self._next(channel, PEEK_SECONDS)
        if ended:
            self._commit_last(epoch)
            return None
        self._commit(epoch, final=False)
        fresh = self._new_epoch(epoch.number + 1)
        if flow is not None:
            self._take(fresh, flow)
        return fresh

    def _commit_last(self, epoch: Epoch) -> None:
        if epoch.inside:
            raise FatalError("the rows ended without a state to resume from", where=self.token.key)
        self._box.take(self._aside.take(), epoch.number)
        if epoch.state is None:
            epoch.state = self.totals.state or combined({}, {})
        done = epoch.read == 0 and self._committed_here == 0 and {**epoch.state, "final": True} == self._start
        if not done:
            self._commit(epoch, final=True)

    def _commit(self, epoch: Epoch, *, final: bool) -> None:
        self._check_budget(epoch, ended=final)
        state: State = {**(epoch.state or {}), "final": final}
        rejected = sum(each.rejected for each in epoch.ledger.counts.values())
        stats, took = self._committer.commit(epoch, state, final=final)
        self.totals.committed(epoch, state, stats, self._writer_key, took)
        self._committed_here += 1
        for breaker, _ in self._breakers():
            breaker.succeeded()
        self._copy(epoch.number, state)
        for leaf in self._leaves():
            if (held := part(state, "inputs", leaf.key)) is not None:
                leaf.acknowledge(held)
        self._teller.tell(
            "committed",
            epoch=epoch.number,
            rows=epoch.rows,
            bytes=epoch.size,
            rejected=rejected,
            final=final,
            rows_read=self.totals.read(),
            rows_written=self.totals.written,
        )

    def _copy(self, epoch: int, state: State) -> None:
        try:
            checkpoint.put(self.token, epoch, state, self.context)
        except Exception as error:  # noqa: BLE001 - the token beside the data decides; the next start mends the copy
            self._teller.tell("checkpoint_late", epoch=epoch, reason=str(error))

    def _check_budget(self, epoch: Epoch, *, ended: bool) -> None:
        read = self.totals.read(epoch.ledger)
        total = self.totals.rejected + sum(each.rejected for each in epoch.ledger.counts.values())
        check_budget(self._policies.dead_letter, total, read, ended=ended, where=self.token.key)
        for key, policies in self._node_policies.items():
            if policies.dead_letter != self._policies.dead_letter:
                refused = self.totals.rejected_at(key) + epoch.ledger.count(key).rejected
                check_budget(policies.dead_letter, refused, read, ended=ended, where=f"{self.token.key}: {key}")

    def _breakers(self) -> list[tuple[Breaker, OpenLeaf | None]]:
        parts: list[tuple[Breaker, OpenLeaf | None]] = []
        for leaf in self._leaves():
            parts += [(each, leaf) for each in self._breaker(leaf.reading.system, leaf.reading.policies)]
        return parts + [(each, None) for each in self._breaker(self.destination.physical_name, self._policies)]

    def _breaker(self, system: tuple[str, ...], policies: Policies) -> list[Breaker]:
        policy = policies.circuit_breaker
        return (
            [] if policy is None else [Breaker("/".join(system[:2]), policy, self.context.breakers, self.context.clock)]
        )

    def retry_policy(self) -> RetryPolicy:
        """The policy of the node whose fault ended the attempt: the reader at fault, else the writer."""
        failed = self._failed_leaf()
        return self._policies.retry if failed is None else failed.reading.policies.retry

    def _leaves(self) -> tuple[OpenLeaf, ...]:
        return () if self._tree is None else self._tree.leaves

    def _failed_leaf(self) -> OpenLeaf | None:
        return next((each for each in self._leaves() if isinstance(each.error, HeadraceError)), None)

    def _note_unavailable(self) -> None:
        failed = self._failed_leaf()
        for breaker, leaf in self._breakers():
            if leaf is failed:
                breaker.failed()

    def _end_threads(self) -> None:
        self.crew.cancel()
        alive = self.crew.join(JOIN_SECONDS)
        if alive:
            for leaf in self._leaves():
                leaf.abandon()
            alive = self.crew.join(1.0)
        if alive:
            self._teller.tell("thread_left", threads=", ".join(alive))


def _policies_of(node: PhysicalNode) -> Iterator[tuple[str, Policies]]:
    yield key_of((node.node,) if isinstance(node, Scan | ExchangeScan | Apply) else node.nodes), node.policies
    for each in inputs_of(node):
        yield from _policies_of(each)
