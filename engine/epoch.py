"""What lies between two commits: the books, when it is due, whether it balances; commits through the writer, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dsl.contracts.connectors import BatchWriter, Clock, Token
from dsl.contracts.errors import ReconciliationError
from dsl.contracts.failpoints import Failpoint
from dsl.contracts.policies import CheckpointPolicy
from dsl.contracts.rows import WriteStats
from dsl.contracts.state import State
from engine.deadletter import FLUSH_ROWS, LetterBox
from engine.flow import Counts, Flow, Ledger, same_place

_KEPT = Failpoint("epoch.letters_kept", "Q: the epoch's dead letters are kept; the epoch is not committed.")
_COMMITTED = Failpoint("epoch.committed", "C: the epoch is committed; nobody but the destination knows.")


@dataclass
class Epoch:
    """The open epoch.

    Attributes:
        number: Its number once it commits.
        began: When it was opened.
        before: The stage's state when it was opened.
        ledger: Its books.
        rows: Rows the writer accepted.
        size: Bytes of them.
        state: The stage's state at the last boundary, or None before the first.
        inside: Whether rows came after that boundary.
    """

    number: int
    began: datetime
    before: State | None = None
    ledger: Ledger = field(default_factory=Ledger)
    rows: int = 0
    size: int = 0
    state: State | None = None
    inside: bool = False

    def take(self, flow: Flow, accepted: int, size: int) -> None:
        """Books one batch that the writer has taken."""
        self.ledger.add(flow.ledger)
        self.rows += accepted
        self.size += size
        if flow.state is not None:
            self.state, self.inside = flow.state, False
        elif flow.rows.num_rows:
            self.inside = True

    @property
    def committable(self) -> bool:
        """Whether it ends at a batch boundary."""
        return self.state is not None and not self.inside

    @property
    def read(self) -> int:
        """Rows seen, filtered and refused ones included."""
        return max((each.rows_in for each in self.ledger.counts.values()), default=0)

    def due(self, policy: CheckpointPolicy, now: datetime, pending: int) -> bool:
        """Whether it has lasted long enough; many refused rows end it as well, so that a replay brings few."""
        if self.rows >= policy.rows or self.size >= policy.bytes or pending >= FLUSH_ROWS:
            return True
        # Rows that were read and filtered move the state as well: a long dry stretch must not be read again after a crash.
        if self.read >= 10 * policy.rows:
            return True
        if policy.period is None or now - self.began < policy.period:
            return False
        return not self.still

    @property
    def still(self) -> bool:
        """Whether nothing has come. A state that moves without rows is worth a commit too: nothing else frees a replication slot."""
        return self.read == 0 and same_place(self.state, self.before)


@dataclass(frozen=True)
class Edges:
    """Who feeds whom in a stage, for the books.

    Attributes:
        feeds: Node -> the nodes that feed it.
        folds: Nodes whose rows out do not follow from their rows in.
    """

    feeds: Mapping[str, tuple[str, ...]]
    folds: frozenset[str]

    def check(self, ledger: Ledger, where: str) -> None:
        """Checks that every row that left a node entered the next, and that every node's own rows add up.

        Raises:
            ReconciliationError: Rows were lost or doubled inside the stage; the epoch must not commit.
        """
        for node, sources in self.feeds.items():
            counts = ledger.counts.get(node, Counts())
            sent = sum(ledger.counts.get(each, Counts()).rows_out for each in dict.fromkeys(sources))
            if sources and sent != counts.rows_in:
                raise ReconciliationError(f"{sent} rows were sent to {node!r}, {counts.rows_in} arrived", where=where)
            if node not in self.folds and not counts.balanced:
                raise ReconciliationError(f"the rows of {node!r} do not add up: {_sentence(counts)}", where=where)


def _sentence(counts: Counts) -> str:
    return (
        f"{counts.rows_in} in + {counts.expanded} expanded, but {counts.rows_out} out + {counts.filtered} filtered "
        f"+ {counts.rejected} rejected"
    )


@dataclass(frozen=True)
class Committer:
    """Commits epochs: dead letters first, then rows and token in one act.

    Attributes:
        writer: The open writer.
        token: The stream.
        box: The open epoch's dead letters.
        edges: Who feeds whom.
        clock: Tells the time.
        exact: Whether the destination's own count must equal ours (it appends).
    """

    writer: BatchWriter
    token: Token
    box: LetterBox
    edges: Edges
    clock: Clock
    exact: bool

    def prepare(self, epoch: Epoch) -> None:
        """Balances the books of an epoch and has its dead letters kept; after it only the commit itself is missing.

        Raises:
            ReconciliationError: Its rows do not add up.
            UnavailableError: Its dead letters could not be kept.
        """
        self.edges.check(epoch.ledger, self.token.key)
        self.box.flush(epoch.number)
        _KEPT.reach()

    def commit(self, epoch: Epoch, state: State, *, final: bool) -> tuple[WriteStats, timedelta]:
        """Commits an epoch that was prepared.

        Raises:
            ReconciliationError: The destination counts other rows than we.
        """
        began = self.clock.now()
        stats = self.writer.commit(epoch.number, state, final=final)
        _COMMITTED.reach()
        self.box.committed()
        if self.exact and stats.rows >= 0 and stats.rows != epoch.rows:
            raise ReconciliationError(
                f"{epoch.rows} rows were written, the destination counts {stats.rows}",
                where=self.token.key,
                hint=f"look at the rows of epoch {epoch.number}: does a trigger or another writer change the target?",
            )
        return stats, self.clock.now() - began
