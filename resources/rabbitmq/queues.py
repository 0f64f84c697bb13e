"""Takes messages from a queue; acknowledges none before its row is committed, and none at all where somebody only looks."""

from __future__ import annotations

import hashlib
import time
from base64 import b64encode
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from dsl.contracts.connectors import BatchReader, ReadRequest
from dsl.contracts.errors import SchemaError
from dsl.contracts.rows import Batch, Rejection
from dsl.contracts.state import State, advance
from resources.queue_values import Message, chosen
from resources.rabbitmq.client import Delivery, Tap, close_quietly, open_connection, place_of, ready_in
from resources.rabbitmq.messages import columns, deliveries_of, layout_of, message_of, offset_of

if TYPE_CHECKING:
    from resources.rabbitmq.resource import RabbitMQSource

BEAT_SECONDS = 0.5
DIGEST = 16
_BYTES = DIGEST * 3 // 4


class QueueReader(BatchReader):
    """The messages of a queue, as many as are ready when it opens, or for ever.

    Args:
        source: What to read.
        request: What the plan wants of it.
        state: What was committed before, or None.
    """

    def __init__(self, source: RabbitMQSource, request: ReadRequest, state: State | None) -> None:
        self._source, self._request = source, request
        self._where = place_of(source.connection, source.name)
        held = dict(state or {})
        self._state: State | None = state
        self._taken, self._again, self._dropped = (
            _count(held.get(each)) for each in ("delivered", "redelivered", "repeated")
        )
        self._known = _Remembered(str(held.get("ids", "")))
        self._unacknowledged: deque[tuple[int, int, int]] = deque()
        self._rejected: list[Rejection] = []
        self._closed = False
        value, whole = columns(source, None, self._where)
        self._schema = chosen(whole, request.columns, self._where)
        self._layout = layout_of(source, value, self._schema)
        self._connection = open_connection(source.connection, self._where)
        try:
            self._left = ready_in(self._connection, source.name, self._where)
            self._sent = self._turn = 0
            self._heard = time.monotonic()
            self._tap = Tap(self._connection, source.name, source.prefetch, self._where)
        except BaseException:
            self.close()
            raise

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    def __iter__(self) -> Iterator[Batch]:
        while self._request.follow or self._left > 0:
            messages = self._gather()
            yield self._batch(messages)

    def acknowledge(self, state: State) -> None:
        if self._closed or self._request.dry:
            return
        upto, tag = _count(state.get("delivered")), 0
        while self._unacknowledged and self._unacknowledged[0][0] <= upto:
            _, tag, turn = self._unacknowledged.popleft()
            self._sent -= turn == self._turn
        if tag:
            self._tap.acknowledge(tag)

    def rejections(self) -> Sequence[Rejection]:
        found, self._rejected = self._rejected, []
        return found

    def close(self) -> None:
        self._closed = True
        close_quietly(self._connection)

    def _gather(self) -> list[Message]:
        """Returns messages for one batch; none where the queue ends, or nothing came for a beat."""
        found: list[Message] = []
        size, began = 0, time.monotonic()
        while len(found) < self._request.batch_rows and size < self._request.batch_bytes:
            wanted = self._request.batch_rows - len(found)
            got = self._tap.take(wanted if self._request.follow else min(wanted, self._left), BEAT_SECONDS / 5)
            for each in got:
                message = self._take(each)
                if message is not None:
                    found.append(message)
                    size += len(each.body)
            if self._ends(began, came=bool(got)):
                break
        return found

    def _ends(self, began: float, *, came: bool) -> bool:
        """Tells whether the batch is over."""
        if not came and self._sent >= self._source.prefetch:
            # All that may be under way waits for the commit of an epoch that is not full yet.
            self._tap.renew()
            self._sent = 0
            self._turn += 1
        if self._request.follow:
            return time.monotonic() - began > BEAT_SECONDS
        silent = not came and time.monotonic() - self._heard > self._source.quiet.total_seconds()
        if silent and not ready_in(self._connection, self._source.name, self._where):
            # Somebody else took the rest.
            self._left = 0
        return self._left <= 0

    def _take(self, delivery: Delivery) -> Message | None:
        """Notes a delivery; returns the message unless it was committed before."""
        if offset_of(delivery) is not None:
            raise SchemaError(
                "it is a stream, not a queue", where=self._where, hint="write `stream` instead of `queue`"
            )
        self._taken += 1
        self._left -= 1
        self._sent += 1
        self._again += bool(delivery.method.redelivered)
        self._unacknowledged.append((self._taken, delivery.tag, self._turn))
        self._heard = time.monotonic()
        fault = self._fault(delivery)
        if self._source.id is None or fault:
            return message_of(delivery, fault)
        if not self._known.add(delivery.properties.message_id):
            self._dropped += 1
            return None
        return message_of(delivery)

    def _fault(self, delivery: Delivery) -> str:
        before = deliveries_of(delivery) or 0
        if before >= self._source.max_deliveries:
            return f"it was delivered {before} times before, and its rows were never committed"
        if self._source.id is not None and not delivery.properties.message_id:
            return "it has no message_id, by which a repetition of it could be told"
        return ""

    def _batch(self, messages: Sequence[Message]) -> Batch:
        rows, rejected = self._layout.rows(messages)
        self._rejected += rejected
        told = {"delivered": self._taken, "redelivered": self._again, "repeated": self._dropped}
        if self._source.id is not None:
            # Whatever is not acknowledged may come again, however much that is.
            self._known.forget(max(self._source.remember, len(self._unacknowledged)))
            told_ids = {"ids": self._known.text()}
        else:
            told_ids = {}
        self._state = advance(self._state, rows.num_rows, rows.nbytes, **told, **told_ids)
        return Batch(rows, self._state)


class _Remembered:
    """The ids that came last, each as a digest of 96 bits, oldest first.

    Args:
        text: What `text` gave.
    """

    def __init__(self, text: str) -> None:
        self._held = dict.fromkeys(text[at : at + DIGEST] for at in range(0, len(text), DIGEST))

    def add(self, name: str) -> bool:
        """Remembers an id; tells whether it is new."""
        digest = b64encode(hashlib.blake2b(name.encode(), digest_size=_BYTES).digest()).decode()
        known = digest in self._held
        self._held[digest] = None
        return not known

    def forget(self, keep: int) -> None:
        """Forgets the oldest, but for so many."""
        for each in list(self._held)[: max(0, len(self._held) - keep)]:
            del self._held[each]

    def text(self) -> str:
        """Returns all of them as a text."""
        return "".join(self._held)


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
