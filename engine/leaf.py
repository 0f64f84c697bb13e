"""A stage's readers: each is opened, read, acknowledged and closed in one thread of its own; decides nothing about commits."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import pyarrow as pa

from dsl.contracts.connectors import Batch, BatchReader
from dsl.contracts.errors import ErrorType, FatalError, HeadraceError, RetryableError
from dsl.contracts.policies import Policies
from dsl.contracts.state import State, is_complete
from engine.channel import Channel, Crew
from engine.deadletter import Numbering
from engine.flow import Flow, Ledger, combined, cut, digest
from engine.retry import Pace
from engine.shape import conform_one, empty
from engine.tree import OpenNode, new_channel

T = TypeVar("T")


@dataclass(frozen=True)
class Reading:
    """What a leaf reads.

    Attributes:
        key: Names its state and its counts: the source's name in the workflow, with a number where it is read again.
        open: Opens a reader at a state.
        schema: What the rest of the stage expects of it.
        policies: The node's policies.
        restarts: Whether a complete refresh begins anew.
        waiting: Whether there is more after a state (an exchange's further generation).
        poll: How long to wait before it is read on, for ever; None if it is read once.
        again: Whether each such reading is a pass that ends by itself.
    """

    key: str
    open: Callable[[State | None], BatchReader]
    schema: pa.Schema
    policies: Policies
    restarts: bool = True
    waiting: Callable[[State | None], bool] = lambda _: False
    poll: timedelta | None = None
    again: bool = False


@dataclass
class _Desk:
    """What the writer's thread leaves for the reader's thread."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    acknowledged: deque[State] = field(default_factory=deque)
    released: bool = False


class OpenLeaf(OpenNode):
    """A reader of a stage.

    Args:
        crew: The attempt's threads.
        reading: What it reads.
        numbering: Names the rows that cannot be decoded.
        pace: Holds it to its rate limit, if it has one.
    """

    def __init__(self, crew: Crew, reading: Reading, numbering: Numbering, pace: Pace | None) -> None:
        self.key, self.schema = reading.key, reading.schema
        self.reading = reading
        self._crew, self._numbering, self._pace = crew, numbering, pace
        self._desk = _Desk()
        self._closed = threading.Event()
        self._reader: BatchReader | None = None
        self._waiting_since: float | None = None
        self.error: BaseException | None = None
        self.state: State | None = None
        self._sent: State | None = None
        self.complete = self.restarted = self.late = False

    def resume(self, state: State | None) -> None:
        """Says where the reader begins: after the source's committed state, or at the beginning once that is complete."""
        self.complete = is_complete(state)
        self.restarted = self.reading.restarts and self.complete
        self.state = self._sent = None if self.restarted else state

    def channel(self) -> Channel[Flow]:
        """Starts reading."""
        channel = new_channel(self._crew)
        self._crew.on_cancel(self.release)
        self._crew.start(f"headrace-{self.key}", lambda: self._work(channel))
        return channel

    def acknowledge(self, state: State) -> None:
        """Leaves word that everything up to `state` is committed; the reader's own thread tells the system."""
        with self._desk.changed:
            self._desk.acknowledged.append(state)
            self._desk.changed.notify_all()

    def finish(self) -> None:
        """Lets the reader close, and waits until it has."""
        self.release()
        self._closed.wait()

    def release(self) -> None:
        """Lets the reader close once it has told the system what it was left."""
        with self._desk.changed:
            self._desk.released = True
            self._desk.changed.notify_all()

    def check(self) -> None:
        """Watches the node's timeout.

        Raises:
            RetryableError: The system has been silent for too long.
        """
        since, limit = self._waiting_since, self.reading.policies.timeout
        if since is None or limit is None or time.monotonic() - since < limit.total_seconds():
            return
        late = RetryableError(
            f"nothing came for {limit.total_seconds():g} s",
            where=self.key,
            hint="raise its `timeout`",
            error_type=ErrorType.TIMEOUT,
        )
        self.error, self.late = late, True
        raise late

    def abandon(self) -> None:
        """Closes the reader from outside, to free a thread that hangs in a call to its system."""
        reader = self._reader
        if reader is not None:
            # The driver may object to being closed by another thread; the attempt is over in any case.
            with suppress(Exception):
                reader.close()

    def _work(self, channel: Channel[Flow]) -> None:
        try:
            self._read(channel)
        except BaseException as error:  # noqa: BLE001 - carried to the thread that waits for it
            self.error = error
            channel.end(error)
        else:
            channel.end()
        finally:
            self._closed.set()

    def _read(self, channel: Channel[Flow]) -> None:
        poll = self.reading.poll
        while True:
            self._read_once(channel)
            self._beat(channel)
            # Nothing is held open while it rests: an open transaction would keep its system from cleaning up.
            if poll is None or self._wait_for_release(poll):
                return

    def _beat(self, channel: Channel[Flow]) -> None:
        """Lets those behind it hear that nothing has come: by that windows close by the clock."""
        if self.reading.poll is not None and self._sent is not None:
            state = combined({self.key: self._sent}, {})
            channel.put(Flow(empty(self.schema), state, digest(self._sent), Ledger()), rows=0, size=0)

    def _read_once(self, channel: Channel[Flow]) -> None:
        with self._timed(lambda: self.reading.open(self.state)) as reader:
            self._reader = reader
            try:
                self._send_all(reader, channel)
                if self.reading.poll is None:
                    channel.end()
                    self._wait_for_release()
            finally:
                # What was committed is told even when the attempt ends early; a refusal cannot undo the commit.
                with suppress(HeadraceError):
                    self._tell(reader)

    def _send_all(self, reader: BatchReader, channel: Channel[Flow]) -> None:
        last, inside, dry, batch = self.state, False, self.reading.again, self.reading.policies.batch
        for flow, state in self._flows(reader):
            dry = dry and not flow.ledger.counts[self.key].rows_in
            # A pass that brings nothing may move its bounds: worth knowing for the next one, and no commit.
            self._sent = self._sent if dry or state is None else state
            for piece in () if dry else cut(flow, batch.rows * 2, batch.bytes * 2):
                channel.put(piece, rows=piece.rows.num_rows, size=piece.size)
            last = last if state is None else state
            inside = state is None and (inside or flow.rows.num_rows > 0)
            self._tell(reader)
        if inside:
            raise FatalError("the reader ended inside a page: its last batch has no state", where=self.key)
        self._send_rest(reader, last, channel)
        self.state = last

    def _flows(self, reader: BatchReader) -> Iterator[tuple[Flow, State | None]]:
        anchor = digest(self.state)
        batches = iter(reader)
        while True:
            began = time.perf_counter()
            batch = self._timed(lambda: next(batches, None))
            if batch is None:
                return
            if self._pace is not None:
                self._pace.spend(rows=batch.rows.num_rows)
            ledger = self._booked(reader, batch, anchor, time.perf_counter() - began)
            rows = conform_one(batch.rows, self.schema, self.key)
            state = None if batch.state is None else combined({self.key: batch.state}, {})
            yield Flow(rows, state, anchor, ledger), batch.state
            if batch.state is not None:
                anchor = digest(batch.state)

    def _booked(self, reader: BatchReader, batch: Batch, anchor: str, seconds: float) -> Ledger:
        ledger = Ledger()
        refused = reader.rejections()
        self._numbering.refuse(ledger, self.key, anchor, refused)
        counts = ledger.count(self.key)
        counts.rows_in += batch.rows.num_rows + len(refused)
        counts.rows_out += batch.rows.num_rows
        counts.bytes_out += batch.rows.nbytes
        counts.seconds += seconds
        return ledger

    def _send_rest(self, reader: BatchReader, last: State | None, channel: Channel[Flow]) -> None:
        refused = reader.rejections()
        if not refused:
            return
        ledger = Ledger()
        self._numbering.refuse(ledger, self.key, digest(last), refused)
        ledger.count(self.key).rows_in += len(refused)
        self._sent = last
        state = None if last is None else combined({self.key: last}, {})
        channel.put(Flow(empty(self.schema), state, digest(last), ledger), rows=0, size=0)

    def _timed(self, work: Callable[[], T]) -> T:
        self._waiting_since = time.monotonic()
        try:
            return work()
        finally:
            self._waiting_since = None

    def _tell(self, reader: BatchReader) -> None:
        while self._desk.acknowledged:
            reader.acknowledge(self._desk.acknowledged.popleft())

    def _wait_for_release(self, pause: timedelta | None = None) -> bool:
        seconds = None if pause is None else pause.total_seconds()
        with self._desk.changed:
            return self._desk.changed.wait_for(lambda: self._desk.released, seconds)
