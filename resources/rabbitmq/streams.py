"""Reads a stream from the offset of its state on; acknowledgements only ask for more, nothing is taken or removed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

from dsl.contracts.capabilities import SyncMode
from dsl.contracts.connectors import BatchReader, ReadRequest
from dsl.contracts.errors import ErrorType, RegressionError, RetryableError, SchemaError
from dsl.contracts.rows import Batch, Rejection
from dsl.contracts.state import Json, State, advance, is_complete
from resources.queue_values import SAMPLED, Message, chosen
from resources.rabbitmq.client import Delivery, Tap, close_quietly, open_connection, place_of, ready_in
from resources.rabbitmq.messages import OFFSET, columns, layout_of, message_of, needs_sample, offset_of
from resources.rabbitmq.resource import OnLost, Start

if TYPE_CHECKING:
    from typing import Any

    from resources.rabbitmq.resource import RabbitMQSource

BEAT_SECONDS = 0.5
SETTLED_SECONDS = 0.1
_LOST: dict[str, pa.DataType] = {"stream": pa.string(), "first": pa.int64(), "last": pa.int64()}
_LOST_SCHEMA = pa.schema(_LOST)


def discover_schema(source: RabbitMQSource) -> pa.Schema:
    """Returns the columns that a source will yield: those declared, or what the first messages of a stream suggest.

    Raises:
        SchemaError: There is no such queue, or nothing tells its columns.
        UnavailableError: The broker cannot be reached.
    """
    where = place_of(source.connection, source.name)
    connection = open_connection(source.connection, where)
    try:
        ready_in(connection, source.name, where)
        return columns(source, _sample(source, where), where)[1]
    finally:
        close_quietly(connection)


def backlog(source: RabbitMQSource, state: State | None) -> int:
    """Returns how many messages wait behind a state."""
    where = place_of(source.connection, source.name)
    connection = open_connection(source.connection, where)
    try:
        ready = ready_in(connection, source.name, where)
        if source.queue:
            return ready
        end = _end(source, where)
        held = None if is_complete(state) else (state or {}).get("offset")
        if isinstance(held, int):
            return max(0, end - held)
        if source.start is Start.LATEST or not end:
            return 0
        return end - (_first(source, where) or 0)
    finally:
        close_quietly(connection)


class StreamReader(BatchReader):
    """The messages of a stream.

    Args:
        source: What to read.
        request: What the plan wants of it.
        state: Where to go on, or None.
    """

    def __init__(self, source: RabbitMQSource, request: ReadRequest, state: State | None) -> None:
        self._source, self._request, self._state = source, request, state
        self._where = place_of(source.connection, source.name)
        self._rejected: list[Rejection] = []
        self._connection = open_connection(source.connection, self._where)
        try:
            ready_in(self._connection, source.name, self._where)
            value, whole = columns(source, _sample(source, self._where), self._where)
            self._schema = chosen(whole, request.columns, self._where)
            self._layout = layout_of(source, value, self._schema)
            self._begin()
        except BaseException:
            self.close()
            raise

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    def __iter__(self) -> Iterator[Batch]:
        while self._request.follow or self._reads_on():
            messages = self._gather()
            if messages or self._request.follow or self._rejected:
                yield self._batch(messages)
        full = self._source.sync_mode is SyncMode.FULL_REFRESH
        yield self._batch([], **({"complete": True} if full else {}))

    def rejections(self) -> Sequence[Rejection]:
        found, self._rejected = self._rejected, []
        return found

    def close(self) -> None:
        close_quietly(self._connection)

    def _begin(self) -> None:
        self._end = _end(self._source, self._where)
        held = (self._state or {}).get("offset")
        self._at: int | None = held if isinstance(held, int) else None
        if self._at is None and self._source.start is Start.LATEST:
            self._at = self._end
        if self._at is not None and self._at > self._end:
            hint = "was the stream made anew? reset the state to read it from its beginning"
            said = f"the stream ends at {self._end}, before offset {self._at}"
            raise RegressionError(said, where=self._where, hint=hint)
        start: int | str = "first" if self._at is None else self._at
        self._tap = _tap(self._source, self._connection, start, self._where)

    def _reads_on(self) -> bool:
        return (self._at or 0) < self._end

    def _gather(self) -> list[Message]:
        """Returns messages for one batch; none where nothing came for a beat."""
        found: list[Message] = []
        size, began = 0, time.monotonic()
        while len(found) < self._request.batch_rows and size < self._request.batch_bytes:
            got = self._tap.take(self._request.batch_rows - len(found), BEAT_SECONDS / 5)
            for each in got:
                if self._take(each):
                    found.append(message_of(each))
                    size += len(each.body)
            if got:
                self._tap.acknowledge(got[-1].tag)
            elif not self._request.follow:
                self._check_silence(began)
            if self._request.follow and time.monotonic() - began > BEAT_SECONDS:
                break
            if not self._request.follow and not self._reads_on():
                break
        return found

    def _check_silence(self, since: float) -> None:
        seconds = self._source.connection.timeout.total_seconds()
        if time.monotonic() - since > seconds:
            said = f"nothing came for {seconds:g} s, although there is more to read"
            raise RetryableError(said, where=self._where, error_type=ErrorType.TIMEOUT)

    def _take(self, delivery: Delivery) -> bool:
        """Notes how far the stream is read; tells whether the message belongs to this read."""
        offset = _offset(delivery, self._where)
        if self._at is not None and offset > self._at:
            self._check_kept(self._at, min(offset, offset if self._request.follow else self._end))
        if offset < (self._at or 0) or (not self._request.follow and offset >= self._end):
            self._at = max(self._at or 0, min(offset, self._end))
            return False
        self._at = offset + 1
        return True

    def _check_kept(self, at: int, came: int) -> None:
        """Makes sure that retention removed nothing from here on; the broker's own marks have offsets too, and never come.

        Raises:
            RegressionError: It did.
        """
        kept = _first(self._source, self._where)
        first, last = at, min(came, came if kept is None else kept) - 1
        if last < first:
            return
        lost = f"what stood at offsets {first} to {last} was removed before it was read"
        if self._source.on_lost is OnLost.FAIL:
            hint = "lengthen the stream's retention; on_lost: reject notes the loss and goes on"
            raise RegressionError(lost, where=self._where, hint=hint)
        row = {"stream": self._source.name, "first": first, "last": last}
        self._rejected.append(Rejection(pa.RecordBatch.from_pylist([row], _LOST_SCHEMA), lost, "lost", ""))

    def _batch(self, messages: Sequence[Message], **fields: Json) -> Batch:
        rows, rejected = self._layout.rows(messages)
        self._rejected += rejected
        held = {} if self._at is None else {"offset": self._at}
        self._state = advance(self._state, rows.num_rows, rows.nbytes, **held, **fields)
        return Batch(rows, self._state)


def _tap(source: RabbitMQSource, connection: Any, start: int | str, where: str) -> Tap:
    return Tap(connection, source.name, source.prefetch, where, {OFFSET: start})


def _offset(delivery: Delivery, where: str) -> int:
    found = offset_of(delivery)
    if found is None:
        raise SchemaError("it is a queue, not a stream", where=where, hint="write `queue` instead of `stream`")
    return found


@contextmanager
def _looking(source: RabbitMQSource, start: str, where: str) -> Iterator[Tap]:
    """Opens a consumer on a connection of its own: leaving one before all has come breaks the connection of a stream."""
    connection = open_connection(source.connection, where)
    try:
        yield _tap(source, connection, start, where)
    finally:
        close_quietly(connection)


def _end(source: RabbitMQSource, where: str) -> int:
    """Returns the offset behind the last message: AMQP does not tell it, but sends the last messages to whoever asks."""
    end = 0
    with _looking(source, "last", where) as tap:
        ends = time.monotonic() + source.quiet.total_seconds()
        while (left := ends - time.monotonic()) > 0:
            got = tap.take(source.prefetch, left)
            if got:
                end = _offset(got[-1], where) + 1
                tap.acknowledge(got[-1].tag)
                # The broker sends all that it has at once.
                ends = time.monotonic() + min(SETTLED_SECONDS, source.quiet.total_seconds())
    return end


def _first(source: RabbitMQSource, where: str) -> int | None:
    with _looking(source, "first", where) as tap:
        got = tap.take(1, source.quiet.total_seconds())
    return _offset(got[0], where) if got else None


def _sample(source: RabbitMQSource, where: str) -> list[bytes] | None:
    """Returns the first messages that are kept; None where they need not, or may not, be looked at."""
    if not needs_sample(source) or source.queue:
        return None
    found: list[bytes] = []
    with _looking(source, "first", where) as tap:
        while len(found) < SAMPLED:
            got = tap.take(SAMPLED - len(found), SETTLED_SECONDS if found else source.quiet.total_seconds())
            if not got:
                break
            found += [each.body for each in got]
            tap.acknowledge(got[-1].tag)
    return found
