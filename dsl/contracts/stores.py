"""What the engine needs kept for it: checkpoints, dead letters, events, breakers; where they are kept is decided elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from dsl.contracts.rows import Rejection
from dsl.contracts.state import Json, State


@dataclass(frozen=True)
class Checkpoint:
    """The copy of a stream's token that the operator sees; the token beside the data decides.

    Attributes:
        key: `Token.key` of the stream.
        epoch: The last committed epoch.
        state: The stage's state: `{"v": 1, "inputs": {node: state}, "operators": {node: state}}`.
        run_id: The run that committed it.
        committed_at: When, in UTC.
    """

    key: str
    epoch: int
    state: State
    run_id: str
    committed_at: datetime


class CheckpointStore(Protocol):
    """Keeps one checkpoint for each stream."""

    def get(self, key: str) -> Checkpoint | None:
        """The stream's checkpoint, or None."""

    def put(self, checkpoint: Checkpoint) -> None:
        """Replaces the stream's checkpoint."""

    def list(self, prefix: str) -> Sequence[Checkpoint]:
        """All checkpoints whose key begins so, sorted by key."""

    def delete(self, key: str) -> bool:
        """Forgets one; tells whether it was there."""


@dataclass(frozen=True)
class DeadLetter:
    """One rejected row, kept.

    Attributes:
        id: sha256 of stream, epoch-independent source state and row number: replaying a batch gives the same id.
        key: `Token.key` of the stream.
        epoch: The epoch it was rejected in.
        rejection: The row, the reason, the code and the node.
        rejected_at: When, in UTC.
        run_id: The run that rejected it.
        entry: The node that the row had come to: the first of those that were fused with the one that refused it.
        fingerprint: `PhysicalPlan.fingerprint` of the code that refused it, or "".
        anchor: Names the source's state before its batch; not kept.
        replay_of: The dead letter that was replayed and refused again as this one, or "".
    """

    id: str
    key: str
    epoch: int
    rejection: Rejection
    rejected_at: datetime
    run_id: str
    entry: str = ""
    fingerprint: str = ""
    anchor: str = field(default="", compare=False)
    replay_of: str = ""


class DeadLetterStore(Protocol):
    """Keeps rejected rows; adding the same id twice keeps one."""

    def add(self, letters: Iterable[DeadLetter]) -> int:
        """Keeps them durably before returning; tells how many were new.

        Raises:
            UnavailableError: They could not be kept; the epoch may not commit.
        """

    def known(self, key: str) -> Mapping[str, datetime]:
        """Run -> when it rejected its last row of a stream that is kept."""

    def discard(self, key: str, epoch: int, known: Mapping[str, datetime]) -> int:
        """Forgets what a stream rejected in an epoch that never committed: a replay brings it again. Tells how many.

        Args:
            key: The stream.
            epoch: The epoch.
            known: What `known` said before the caller fenced the stream. What came later may be of a run that has fenced
                the caller, and is kept.
        """

    def count(self, key: str) -> int:
        """How many are kept for a stream."""


class Deliveries(Protocol):
    """Dead letters on their way back into a workflow: in streams, each letter of a stream under a number that only grows."""

    def deliver(self, stream: str, after: int, count: int) -> Sequence[tuple[int, DeadLetter]]:
        """The next letters of a stream behind a number, at most so many, with theirs, in order."""

    def settle(self, stream: str, number: int, run_id: str) -> int:
        """Notes that everything up to a number is committed at the stream's target; tells how many letters are replayed by that."""


@dataclass(frozen=True)
class Event:
    """Something that happened in a run, for metrics, logs and the UI.

    Attributes:
        name: `stage_started`, `progress`, `committed`, `rejected`, `retrying`, `stage_finished` …
        workflow: The workflow's name.
        stage: The stage's id.
        at: When, in UTC.
        fields: Numbers and short texts; never rows, never secrets.
    """

    name: str
    workflow: str
    stage: str
    at: datetime
    fields: Mapping[str, Json] = field(default_factory=dict)


class EventSink(Protocol):
    """Where events go."""

    def emit(self, event: Event) -> None:
        """Takes one event; must not raise and must not wait long."""


@dataclass(frozen=True)
class Health:
    """What is known of one system.

    Attributes:
        failures: Failures in a row.
        open_until: No call before this time but one probe after it; None while closed.
        since: When the present pause began; None while closed.
        opening: How often it has been opened, a failed probe included: answers to calls of another opening say nothing.
        probe: The number of the last probe that was let through since then; 0 if none was.
    """

    failures: int = 0
    open_until: datetime | None = None
    since: datetime | None = None
    opening: int = 0
    probe: int = 0

    @property
    def closed(self) -> bool:
        """Whether every call is let through."""
        return self.open_until is None

    def paused(self, now: datetime, length: timedelta) -> Health:
        """The same with a pause that begins now."""
        return replace(self, since=now, open_until=now + length)

    def opened(self, now: datetime, length: timedelta) -> Health:
        """The same after one more failure, which opens it."""
        return Health(self.failures + 1, opening=self.opening + 1).paused(now, length)


class BreakerStore(Protocol):
    """Keeps the health of systems; shared by every process that should share a breaker. Its calls may wait for a database."""

    def get(self, key: str) -> Health:
        """What is known of a system; may be a little old."""

    def swap(self, key: str, before: Health, after: Health) -> bool:
        """Replaces `before` by `after` unless somebody was faster; tells whether it did. After a refusal, `get` is fresh."""

    def now(self) -> datetime | None:
        """The time by the clock of all who share it; None where the caller's own clock serves."""
