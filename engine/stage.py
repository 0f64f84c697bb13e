"""One attempt at a stage: asks the breakers, fences, resumes, runs the loop, and ends every thread; tries nothing twice."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import BatchWriter, Committed, Destination, Token
from dsl.contracts.errors import HeadraceError, UnavailableError
from dsl.contracts.failpoints import Failpoint
from dsl.contracts.policies import RetryPolicy
from dsl.contracts.state import State
from dsl.plan.physical import Stage, Write
from engine import checkpoint
from engine.channel import Crew
from engine.context import RunContext
from engine.deadletter import LetterBox, Letters, letters_for
from engine.epoch import Committer
from engine.events import Teller
from engine.exchange import ExchangeDestination
from engine.guard import Guard
from engine.identity import carried_over, copy_of_here
from engine.loop import StageLoop, writer_key
from engine.opening import Opener, OpenReader, OpenTree
from engine.operators.relational import Limits, Session
from engine.operators.tools import OperatorTools
from engine.report import StageOutcome
from engine.totals import Totals
from engine.tree import Aside, Workshop

JOIN_SECONDS = 5.0
_FENCED = Failpoint("stage.fenced", "F1: the stream belongs to this attempt; its token is not compared with the copy.")
_COMPARED = Failpoint("stage.compared", "F2: token and copy agree; nothing has been read.")


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

    def __post_init__(self) -> None:
        retain = {"fingerprint": self.context.fingerprint} if self.context.fingerprint else {}
        self.token = Token(self.context.workflow, self.stage.id, 0, self.context.run_id, retain)
        self._teller = Teller(self.context, self.stage.id)
        self._guard = Guard(self.stage, self.destination, self.context)
        self._aside = Aside(self.crew)
        self._opener: Opener | None = None
        self._tree: OpenTree | None = None
        self._box: LetterBox | None = None

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
                self._guard.admit()
                return self._open_and_run(stack, self._session(stack))
            except UnavailableError as error:
                self._guard.failed(error, self._node_at_fault())
                raise
            finally:
                # Threads first: a session must not be closed under a thread that works with it.
                self._end_threads()

    def more(self) -> bool:
        """Whether a finished attempt leaves something to read: an exchange has a further generation."""
        return self._tree is not None and self._tree.waiting(self.totals.state)

    def retry_policy(self) -> RetryPolicy:
        """The policy of the node whose fault ended the attempt: the reader at fault, else the writer."""
        failed = self._failed_leaf()
        return (self.stage.writer if failed is None else failed.reading).policies.retry

    def _session(self, stack: ExitStack) -> Session:
        context, name = self.context, f"{self.context.run_id}-{self.stage.id}"
        limits = Limits(context.memory_limit, context.threads, context.home / "spill", context.spill_limit, name)
        session = Session(limits, context.logical_time)
        self.crew.on_cancel(session.interrupt)
        stack.callback(session.close)
        return session

    def _open_and_run(self, stack: ExitStack, session: Session) -> StageOutcome:
        tools = OperatorTools(session, self.context, self.crew.cancelled.is_set)
        self._opener = Opener(Workshop(self.crew, tools, self._aside, self.token.key), self.context)
        tree = self._tree = self._opener.open(self.stage)
        stack.callback(tree.close)
        # Before the fence: who is overtaken behind it must not take what the other run has left since for its own.
        copy = copy_of_here(self.stage, self.context.checkpoints.get(self.token.key), self._teller)
        letters = letters_for(self.context.dead_letters, self.context.dead_letter_destination, self.token)
        stack.callback(letters.close)
        with self._guard.writing():
            writer = stack.enter_context(self.destination.open_writer(tree.root.schema, self.token))
            committed = writer.get_state()
        _FENCED.reach()
        policies = self.stage.writer.policies
        checkpoint.reconcile(self.token, copy, committed, self.context, policies.on_regression)
        _COMPARED.reach()
        committed = carried_over(self.stage, committed, self.token.key, self._teller)
        state, epoch = (None, 0) if committed is None else (committed.state, committed.epoch)
        tree.resume(state)
        self._note_start(tree, committed)
        if tree.restarted and self._ended_before(tree, state):
            return StageOutcome.FINISHED
        letters.resume(epoch)
        loop = self._loop(letters, tree, writer, committed)
        if tree.complete and state is not None and state.get("final") is False:
            loop.complete(epoch)
            return StageOutcome.FINISHED
        return loop.run(tree.root.channel(), epoch)

    def _note_start(self, tree: OpenTree, committed: Committed | None) -> None:
        node, kind = self.stage.writer, "write" if isinstance(self.stage.writer, Write) else "exchange_write"
        self.totals.edges, self.totals.schema = tree.edges(writer_key(self.stage)), tree.root.schema
        self.totals.kinds = {**tree.kinds, writer_key(self.stage): ((node.node,), kind)}
        self.totals.recall(committed)
        state, epoch = (None, 0) if committed is None else (committed.state, committed.epoch)
        resumed = state is not None and not tree.restarted
        if self.totals.epochs == 0:
            self.totals.resumed, self.totals.epoch, self.totals.state = resumed, epoch, state
        self._teller.tell("stage_started", epoch=epoch, resumed=resumed, nodes=len(tree.kinds))

    def _ended_before(self, tree: OpenTree, state: State | None) -> bool:
        """Whether this very load made the final commit already and its run died, or lost the answer, before it could say so."""
        run = (state or {}).get("run")
        return bool(run) and run == self.context.load and not tree.waiting(state)

    def _loop(self, letters: Letters, tree: OpenTree, writer: BatchWriter, committed: Committed | None) -> StageLoop:
        box = self._box = LetterBox(letters, self.token, self.context.clock)
        exact = self.destination.write_mode is WriteMode.APPEND
        edges = tree.edges(writer_key(self.stage))
        return StageLoop(
            stage=self.stage,
            context=self.context,
            totals=self.totals,
            token=self.token,
            tree=tree,
            writer=writer,
            box=box,
            committer=Committer(writer, self.token, box, edges, self.context.clock, exact),
            crew=self.crew,
            aside=self._aside,
            guard=self._guard,
            start=None if committed is None else committed.state,
        )

    def _leaves(self) -> tuple[OpenReader, ...]:
        return () if self._tree is None else self._tree.leaves

    def _failed_leaf(self) -> OpenReader | None:
        return next((each for each in self._leaves() if isinstance(each.error, HeadraceError)), None)

    def _node_at_fault(self) -> str:
        failed = self._failed_leaf()
        if failed is not None:
            return failed.key
        return self._opener.asked if self._opener is not None else ""

    def _end_threads(self) -> None:
        self.crew.cancel()
        for leaf in self._leaves():
            if leaf.late:
                leaf.abandon()
        alive = self.crew.join(JOIN_SECONDS)
        if alive:
            # A query that started just when it was interrupted is interrupted again; a driver that hangs loses its reader.
            self.crew.cancel()
            for leaf in self._leaves():
                leaf.abandon()
            alive = self.crew.join(1.0)
        if alive:
            self._teller.tell("thread_left", threads=", ".join(alive))
