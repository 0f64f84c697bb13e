"""The stage loop: takes what the tree sends, writes it, commits epochs, heeds stop and pause; opens and closes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from dsl.contracts.connectors import BatchWriter, Token
from dsl.contracts.errors import FatalError, FencedError, HeadraceError
from dsl.contracts.failpoints import Failpoint
from dsl.contracts.policies import Policies
from dsl.contracts.rows import Rejection
from dsl.contracts.state import State
from dsl.plan.physical import Apply, ExchangeScan, PhysicalNode, Remember, Scan, Stage, inputs_of
from engine.channel import CancelledError, Channel, Crew, NothingYetError
from engine.checkpoint import Copies
from engine.context import RunContext
from engine.control import Wish
from engine.deadletter import LetterBox, Numbering, check_budget
from engine.epoch import Committer, Epoch
from engine.events import Teller, Watch
from engine.flow import Flow, combined, part, same_place
from engine.guard import Guard
from engine.identity import identity_of
from engine.isolate import isolate
from engine.opening import OpenTree
from engine.report import StageOutcome
from engine.retry import Pace
from engine.totals import Pending, Totals
from engine.tree import Aside, key_of

POLL_SECONDS = 0.2
PEEK_SECONDS = 0.02
_READ = Failpoint("loop.read", "R: a batch has been read and transformed; nothing of it is written.")
_WRITTEN = Failpoint("loop.written", "W: the writer has taken a batch; its epoch is not committed.")
_ACKNOWLEDGED = Failpoint("loop.acknowledged", "The source has been told that the epoch is committed.")


@dataclass
class StageLoop:
    """Moves the rows of one attempt from its tree to its writer.

    Attributes:
        stage: What to run.
        context: The run.
        totals: What the run has committed; added to.
        token: The stream.
        tree: Feeds the writer.
        writer: Where the rows go.
        box: Where refused rows go.
        committer: Commits epochs.
        crew: The attempt's threads.
        aside: Refused rows that must not wait.
        guard: Told that the systems answer.
        start: The stage's state when the attempt began.
    """

    stage: Stage
    context: RunContext
    totals: Totals
    token: Token
    tree: OpenTree
    writer: BatchWriter
    box: LetterBox
    committer: Committer
    crew: Crew
    aside: Aside
    guard: Guard
    start: State | None

    def __post_init__(self) -> None:
        node = self.stage.writer
        self._key, self._policies = writer_key(self.stage), node.policies
        self._teller = Teller(self.context, self.stage.id)
        self._numbering = Numbering(self.token.key, node.node, node.policies)
        limit = node.policies.rate_limit
        self._pace = Pace(limit, self.context.clock, self.crew.cancelled.is_set) if limit and limit.rows else None
        self._node_policies = dict(_policies_of(self.stage.root))
        self._watch = Watch(self._teller)
        self._copies = Copies(self.token, self.context, self._teller)
        self._identity = identity_of(self.stage)
        self._leave_by: datetime | None = None
        self._committed = 0

    def run(self, channel: Channel[Flow], number: int) -> StageOutcome:
        """Runs until the rows end or somebody wants the stage to end.

        Args:
            channel: What the tree sends.
            number: The last committed epoch.

        Raises:
            HeadraceError: What made it fail; the open epoch is not committed.
            CancelledError: The attempt was cancelled from outside.
        """
        try:
            return self._run(channel, number)
        except FencedError:
            raise
        except (HeadraceError, CancelledError):
            self._copies.write()
            raise

    def _run(self, channel: Channel[Flow], number: int) -> StageOutcome:
        epoch, following = self._new_epoch(number + 1), None
        while True:
            ended, flow = (False, following) if following else self._next(channel, POLL_SECONDS, epoch)
            following = None
            if ended:
                self._commit_last(epoch)
                return StageOutcome.FINISHED
            self._copies.keep_up()
            if flow is not None:
                self._take(epoch, flow)
            if self.tree.follows:
                self._watch.see(0 if flow is None else flow.rows.num_rows, **self._progress(epoch))
            wish = self.context.control.wish()
            if wish is not Wish.RUN and (outcome := self._leave(epoch, channel, wish)) is not None:
                self._copies.write()
                return outcome
            if epoch.committable and epoch.due(self._policies.checkpoint, self.context.clock.now(), self.box.pending):
                ended, following = self._commit_at_boundary(epoch, channel)
                if ended:
                    return StageOutcome.FINISHED
                epoch = self._new_epoch(epoch.number + 1)

    def complete(self, number: int) -> None:
        """Makes the final commit that the run before did not come to; reads nothing."""
        epoch = self._new_epoch(number + 1)
        epoch.state = self.start
        self._commit_last(epoch)

    def _new_epoch(self, number: int) -> Epoch:
        return Epoch(number, self.context.clock.now(), self.totals.state)

    def _next(self, channel: Channel[Flow], seconds: float, epoch: Epoch) -> tuple[bool, Flow | None]:
        for leaf in self.tree.leaves:
            leaf.check()
        self.box.take(self.aside.take(), epoch.number)
        try:
            flow = channel.get(seconds)
        except NothingYetError:
            return False, None
        return flow is None, flow

    def _take(self, epoch: Epoch, flow: Flow) -> None:
        began = time.perf_counter()
        _READ.reach()
        accepted = self._write(flow) if flow.rows.num_rows else 0
        _WRITTEN.reach()
        self.box.take(flow.ledger.rejected, epoch.number)
        flow.ledger.rejected = []
        counts = flow.ledger.count(self._key)
        counts.rows_in += flow.rows.num_rows
        counts.rows_out += accepted
        size = flow.rows.nbytes if accepted == flow.rows.num_rows else flow.rows.nbytes * accepted // flow.rows.num_rows
        counts.bytes_out += size
        counts.seconds += time.perf_counter() - began
        epoch.take(flow, accepted, size)
        self._check_budget(epoch, ended=False)
        self._teller.progress(lambda: self._progress(epoch))

    def _progress(self, epoch: Epoch) -> dict[str, int]:
        return {**self.totals.metrics(epoch.ledger), "epoch": epoch.number}

    def _write(self, flow: Flow) -> int:
        if self._pace is not None:
            self._pace.spend(rows=flow.rows.num_rows)
        told: list[Rejection] = []

        def put(piece: pa.RecordBatch) -> None:
            with self.guard.writing():
                told.extend(self.writer.write(piece))

        done = isolate(flow.rows, put, self._check)
        refused = done.rejections(self.stage.writer.node) + told
        self._numbering.refuse(flow.ledger, self._key, flow.anchor, refused)
        self.totals.look(flow.rows, self.context.preview_rows)
        return flow.rows.num_rows - len(refused)

    def _check(self) -> None:
        if self.crew.cancelled.is_set():
            raise CancelledError

    def _leave(self, epoch: Epoch, channel: Channel[Flow], wish: Wish) -> StageOutcome | None:
        outcome = StageOutcome.STOPPED if wish is Wish.STOP else StageOutcome.PAUSED
        if epoch.committable and not (self.tree.follows and epoch.still):
            ended, _ = self._commit_at_boundary(epoch, channel)
            return StageOutcome.FINISHED if ended else outcome
        now = self.context.clock.now()
        self._leave_by = self._leave_by or now + self.context.grace
        # A query over whole inputs has no boundary before its end: what it holds will be read again.
        if epoch.read == 0 or self.tree.whole or now >= self._leave_by:
            return outcome
        return None

    def _commit_at_boundary(self, epoch: Epoch, channel: Channel[Flow]) -> tuple[bool, Flow | None]:
        """Commits, as the last epoch if nothing more comes; returns whether it was, and what follows otherwise."""
        ended, flow = self._peek(epoch, channel)
        if flow is not None and flow.state is not None and not flow.rows.num_rows:
            # A state without rows, such as the last one of a full refresh, needs no epoch of its own.
            self._take(epoch, flow)
            ended, flow = self._peek(epoch, channel)
        if ended:
            self._commit_last(epoch)
        else:
            self._commit(epoch, final=False)
        return ended, flow

    def _peek(self, epoch: Epoch, channel: Channel[Flow]) -> tuple[bool, Flow | None]:
        try:
            return self._next(channel, PEEK_SECONDS, epoch)
        except HeadraceError:
            # What a reader fails at comes after this epoch, which is whole.
            self._commit(epoch, final=False)
            raise

    def _commit_last(self, epoch: Epoch) -> None:
        if epoch.inside:
            raise FatalError("the rows ended without a state to resume from", where=self.token.key)
        self.box.take(self.aside.take(), epoch.number)
        if epoch.state is None:
            epoch.state = self.totals.state or combined({}, {})
        was_final = self.start is not None and self.start.get("final") is True
        if epoch.read or self._committed or not was_final or not same_place(epoch.state, self.start):
            self._commit(epoch, final=True)
        else:
            self.guard.succeeded()

    def _commit(self, epoch: Epoch, *, final: bool) -> None:
        self._check_budget(epoch, ended=final)
        # The load's id tells a retry of it that nothing is left to do; a later load starts a refresh over.
        state: State = {**(epoch.state or {}), **self._identity, "final": final, "run": self.context.load}
        rejected = sum(each.rejected for each in epoch.ledger.counts.values())
        self.committer.prepare(epoch)
        self.tree.settle(state)
        self.totals.pending = Pending(epoch, state, self._key)
        with self.guard.writing():
            stats, took = self.committer.commit(epoch, state, final=final)
        self.totals.committed(epoch, state, stats, self._key, took)
        self._committed += 1
        self.guard.succeeded()
        self._copies.note(epoch.number, state)
        if final:
            self._copies.write()
        self.tree.collect(state)
        for leaf in self.tree.leaves:
            if (held := part(state, "inputs", leaf.key)) is not None:
                leaf.acknowledge(held)
        _ACKNOWLEDGED.reach()
        self._teller.tell(
            "committed",
            epoch=epoch.number,
            rows=epoch.rows,
            bytes=epoch.size,
            rejected=rejected,
            final=final,
            **self.totals.metrics(),
        )

    def _check_budget(self, epoch: Epoch, *, ended: bool) -> None:
        read = self.totals.read(epoch.ledger)
        total = self.totals.rejected + sum(each.rejected for each in epoch.ledger.counts.values())
        check_budget(self._policies.dead_letter, total, read, ended=ended, where=self.token.key)
        for key, policies in self._node_policies.items():
            if policies.dead_letter != self._policies.dead_letter:
                refused = self.totals.rejected_at(key) + epoch.ledger.count(key).rejected
                check_budget(policies.dead_letter, refused, read, ended=ended, where=f"{self.token.key}: {key}")


def writer_key(stage: Stage) -> str:
    """The name under which a stage's writer is counted."""
    return f"write {stage.writer.node}"


def _policies_of(node: PhysicalNode) -> Iterator[tuple[str, Policies]]:
    yield (
        key_of((node.node,) if isinstance(node, Scan | ExchangeScan | Remember | Apply) else node.nodes),
        node.policies,
    )
    for each in inputs_of(node):
        yield from _policies_of(each)
