"""Sends rows as confirmed messages, each with an id that a repetition has too, then moves the token; holds no row back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pika
import pyarrow as pa

from dsl.contracts.connectors import BatchWriter, Committed, Token
from dsl.contracts.errors import FatalError, FencedError, SchemaError
from dsl.contracts.failpoints import Failpoint
from dsl.contracts.rows import Rejection, WriteStats
from dsl.contracts.state import State
from resources.formats.json_values import to_json, to_lines
from resources.rabbitmq.client import close_quietly, open_connection, parameters, place_of, properties, worded
from resources.rabbitmq.publisher import Outgoing, Publisher
from resources.rabbitmq.resource import COLUMN, SHORT, QueueType
from resources.rabbitmq.token import TokenLog

if TYPE_CHECKING:
    from resources.rabbitmq.resource import RabbitMQDestination

_FENCED = Failpoint("rabbitmq.fenced", "The load belongs to this writer.")
_SENT = Failpoint("rabbitmq.sent", "The messages of a batch are confirmed; the epoch is not committed.")
_COMMITTED = Failpoint("rabbitmq.committed", "The token has moved; nobody but the broker knows.")


def open_writer(to: RabbitMQDestination, schema: pa.Schema, token: Token) -> RabbitMQWriter:
    """Makes the queue if it is to, fences the load and reads its token.

    Raises:
        SchemaError: The rows lack a column that the destination names, or there is no such queue.
        UnavailableError: The broker cannot be reached.
    """
    where = place_of(to.connection, to.exchange or to.routing_key)
    _check_columns(to, schema, where)
    seconds = to.connection.timeout.total_seconds()
    connection = open_connection(to.connection, where)
    try:
        with worded(where):
            _make_queue(connection, to)
        log = TokenLog(connection, token, f"{to.exchange}\0{to.routing_key}", where, seconds)
        _FENCED.reach()
        publisher = Publisher(parameters(to.connection), to.exchange, where, seconds)
    except BaseException:
        close_quietly(connection)
        raise
    return RabbitMQWriter(to, connection, log, publisher)


def _check_columns(to: RabbitMQDestination, schema: pa.Schema, where: str) -> None:
    raw = (*to.header_fields, *([to.value_field] if to.value_field else []))
    missing = [each for each in (*to.columns, *raw) if each not in schema.names]
    if missing:
        hint = f"there are: {', '.join(schema.names[:10])}"
        raise SchemaError(f"column '{missing[0]}' is missing", where=where, hint=hint)
    for each in raw:
        kind = schema.field(each).type
        if not _is_text(kind) and not (each == to.value_field and _is_bytes(kind)):
            raise SchemaError(f"column '{each}' has type {kind}", where=where, hint="cast it to a text in a mapping")


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _make_queue(connection: Any, to: RabbitMQDestination) -> None:
    """Makes the queue unless there is one; one of another type is left as it is."""
    if to.queue_type is None:
        return
    channel = connection.channel()
    try:
        channel.queue_declare(to.routing_key, passive=True)
        channel.close()
    except pika.exceptions.ChannelClosedByBroker as error:
        if error.reply_code != 404:
            raise
        facts = {"x-queue-type": str(to.queue_type or QueueType.QUORUM)}
        made = connection.channel()
        made.queue_declare(to.routing_key, durable=True, arguments=facts)
        made.close()


@dataclass(frozen=True)
class _Row:
    """A row on its way.

    Attributes:
        at: Its place in the batch.
        key: Its routing key.
        body: Its value.
        headers: What goes beside it.
    """

    at: int
    key: str
    body: bytes
    headers: dict[str, str]


class RabbitMQWriter(BatchWriter):
    """One load's writer.

    Args:
        to: Where.
        connection: That of the token, which the writer closes.
        log: The token, which this writer has fenced.
        publisher: Sends messages; the writer closes it.
    """

    def __init__(self, to: RabbitMQDestination, connection: Any, log: TokenLog, publisher: Publisher) -> None:
        self._to, self._connection, self._log, self._publisher = to, connection, log, publisher
        self._where = place_of(to.connection, to.exchange or to.routing_key)
        self._committed = log.standing.committed
        self._load, self._number = log.standing.load, log.standing.rows
        self._rows = self._bytes = 0
        self._closed = False

    def get_state(self) -> Committed | None:
        return self._committed

    def write(self, rows: pa.RecordBatch) -> Sequence[Rejection]:
        self._check_owner(owns=self._log.owns())
        sending, refused = self._encode(rows)
        messages = [self._message(each, self._number + at) for at, each in enumerate(sending)]
        returned = self._publisher.send(messages)
        # Rows that no queue takes are counted too: repeated, the same rows have the same numbers.
        self._number += len(sending)
        refused |= {sending[at].at: f"no queue takes routing key '{sending[at].key}'" for at in returned}
        self._rows += len(sending) - len(returned)
        self._bytes += sum(len(each.body) for each in sending)
        _SENT.reach()
        return [Rejection(rows.slice(at, 1), refused[at], "refused", "") for at in sorted(refused)]

    def commit(self, epoch: int, state: State, *, final: bool = False) -> WriteStats:
        del final
        expected = 1 if self._committed is None else self._committed.epoch + 1
        if epoch != expected:
            raise FatalError(f"epoch {epoch} was to be committed, but {expected} is next", where=self._where)
        self._check_owner(owns=self._log.commit(epoch, state, self._number))
        _COMMITTED.reach()
        self._committed = Committed(epoch, dict(state))
        stats = WriteStats(self._rows, self._bytes)
        self._rows = self._bytes = 0
        return stats

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._publisher.close()
            close_quietly(self._connection)

    def _check_owner(self, *, owns: bool) -> None:
        if not owns:
            raise FencedError("a newer run writes this load", where=self._where)

    def _message(self, row: _Row, number: int) -> Outgoing:
        told = f"{self._load}\0{number}\0{row.key}\0".encode() + row.body
        told_of = properties(
            message_id=hashlib.sha256(told).hexdigest()[:32],
            content_type=None if self._to.value_field else "application/json",
            app_id="headrace",
            headers=row.headers or None,
        )
        return Outgoing(row.key, row.body, told_of)

    def _encode(self, rows: pa.RecordBatch) -> tuple[list[_Row], dict[int, str]]:
        """Returns the rows that can be sent, and by place the reasons of those that cannot."""
        apart = set(self._to.header_fields)
        bodies = self._bodies(rows, [each for each in rows.schema.names if each not in apart])
        keys = self._keys(rows)
        headers = [(each, rows.column(each).to_pylist()) for each in self._to.header_fields]
        good, refused = [], dict[int, str]()
        for at, (key, body) in enumerate(zip(keys, bodies, strict=True)):
            reason = _fault(key, body)
            if reason:
                refused[at] = reason
            else:
                beside = {name: str(column[at]) for name, column in headers if column[at] is not None}
                good.append(_Row(at, str(key), body or b"", beside))
        return good, refused

    def _bodies(self, rows: pa.RecordBatch, names: Sequence[str]) -> list[bytes | None]:
        if self._to.value_field is None:
            return [each.encode() for each in to_lines(rows.select(names))]
        return [
            each.encode() if isinstance(each, str) else each for each in rows.column(self._to.value_field).to_pylist()
        ]

    def _keys(self, rows: pa.RecordBatch) -> list[str | None]:
        values = {each: to_json(rows.column(each)) for each in self._to.columns}
        if not values:
            return [self._to.routing_key] * rows.num_rows
        return [self._key({name: held[at] for name, held in values.items()}) for at in range(rows.num_rows)]

    def _key(self, values: dict[str, Any]) -> str | None:
        if None in values.values():
            return None
        return COLUMN.sub(lambda found: str(values[found.group(1)]), self._to.routing_key)


def _fault(key: str | None, body: bytes | None) -> str:
    if key is None:
        return "its routing key is NULL"
    if len(key.encode()) > SHORT:
        return f"its routing key is longer than {SHORT} bytes"
    return "its value is NULL, and a message has one" if body is None else ""
