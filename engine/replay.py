"""Dead letters as a source, for a plan that begins where they were refused; one letter a batch, so that each outcome is that letter's.

A letter's number in its stream is the state, so the target commits with the rows how far the stream has come. What is refused again
becomes a letter of its own that names the one it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import ClassVar

import pyarrow as pa

from dsl.contracts.capabilities import SourceCapabilities, SyncMode
from dsl.contracts.connectors import Batch, BatchReader, CheckResult, Connection, ReadRequest, Source
from dsl.contracts.failpoints import Failpoint
from dsl.contracts.state import State, advance
from dsl.contracts.stores import DeadLetter, DeadLetterStore, Deliveries
from engine.flow import digest
from engine.shape import conform_one

PAGE = 500
NUMBER = "number"
RUN = "run"
_COMMITTED = Failpoint("replay.committed", "the target has committed letters; the store does not know yet")


@dataclass(frozen=True, kw_only=True)
class LetterConnection(Connection):
    """The store of the dead letters that are replayed.

    Attributes:
        deliveries: Their streams.
        run_id: The run that replays.
        origins: Anchor of a batch -> the letter in it; filled while the stream is read.
    """

    deliveries: Deliveries
    run_id: str
    origins: dict[str, str] = field(default_factory=dict)

    def check(self) -> CheckResult:
        """The store is this deployment's own."""
        return CheckResult(healthy=True, details="dead letters of this deployment")


@dataclass(frozen=True, kw_only=True)
class LetterSource(Source):
    """One stream of dead letters.

    Attributes:
        workflow: The workflow.
        stream: The stream's name.
        columns: The columns of its rows.
    """

    capabilities: ClassVar[SourceCapabilities] = SourceCapabilities(sync_modes=frozenset({SyncMode.INCREMENTAL}))

    connection: LetterConnection
    workflow: str
    stream: str
    columns: pa.Schema

    @property
    def physical_name(self) -> tuple[str, ...]:
        """The stream's name."""
        return ("dead_letters", self.workflow, self.stream)

    def discover_schema(self) -> pa.Schema:
        """The columns of its rows."""
        return self.columns

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        """Opens a reader behind a letter's number."""
        del request
        return LetterReader(self, state)


class LetterReader(BatchReader):
    """Reads the rest of a stream.

    Args:
        source: The stream.
        state: Where the target says that it is.
    """

    def __init__(self, source: LetterSource, state: State | None) -> None:
        self._source, self._held, self._state = source, source.connection, state
        if state is not None:
            # Whoever committed this may have died before it could say so.
            self._settle(state)

    @property
    def schema(self) -> pa.Schema:
        """The columns of its rows."""
        return self._source.columns

    def __iter__(self) -> Iterator[Batch]:
        """Yields one letter a batch."""
        state = self._state
        while page := self._held.deliveries.deliver(self._source.stream, _number(state), PAGE):
            for number, letter in page:
                rows = conform_one(letter.rejection.row, self.schema, f"dead letter '{letter.id}'")
                self._held.origins[digest(state)] = letter.id
                state = advance(state, 1, rows.nbytes, number=number, run=self._held.run_id)
                yield Batch(rows, state)

    def acknowledge(self, state: State) -> None:
        """Notes what the target has committed."""
        _COMMITTED.reach()
        self._settle(state)

    def close(self) -> None:
        """Owns nothing."""

    def _settle(self, state: State) -> None:
        self._held.deliveries.settle(self._source.stream, _number(state), str(state.get(RUN, "")))


def _number(state: State | None) -> int:
    number = (state or {}).get(NUMBER, 0)
    return number if isinstance(number, int) else 0


@dataclass(frozen=True)
class ReplayedLetters:
    """A store of dead letters in which what a replay refuses names the letter that it came from.

    Attributes:
        store: Keeps them.
        origins: Anchor of a batch -> the letter in it.
    """

    store: DeadLetterStore
    origins: dict[str, str]

    def add(self, letters: Iterable[DeadLetter]) -> int:
        """Keeps them, with their origin."""
        return self.store.add([replace(each, replay_of=self.origins.get(each.anchor, "")) for each in letters])

    def known(self, key: str) -> Mapping[str, datetime]:
        """When each run refused its last row of a stream."""
        return self.store.known(key)

    def discard(self, key: str, epoch: int, known: Mapping[str, datetime]) -> int:
        """Forgets what an epoch refused that never committed."""
        return self.store.discard(key, epoch, known)

    def count(self, key: str) -> int:
        """How many are kept for a stream."""
        return self.store.count(key)
