"""Writes rows as messages of one transaction an epoch, the token among them; a newer writer of the stream fences this one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Producer

from dsl.contracts.connectors import BatchWriter, Committed, Token
from dsl.contracts.errors import FatalError, FencedError, HeadraceError, RetryableError
from dsl.contracts.failpoints import Failpoint
from dsl.contracts.rows import Rejection, WriteStats
from dsl.contracts.state import State
from resources.kafka import codes
from resources.kafka.client import SECONDS, Worded, fault, make_topic, place_of, settings, worded
from resources.kafka.messages import MessageEncoder, Outgoing
from resources.kafka.token import key_of, make_token_topic, read_token, value_of

if TYPE_CHECKING:
    from resources.kafka.resource import KafkaDestination

INIT_SECONDS = 60.0
COMMIT_SECONDS = 60.0
_FENCED = Failpoint("kafka.fenced", "The stream belongs to this writer; the transaction that was open is given up.")
_SENT = Failpoint("kafka.sent", "The messages of a batch are in an open transaction.")
_TOKEN = Failpoint("kafka.token", "The token is in the transaction too; it is not committed.")
_COMMITTED = Failpoint("kafka.committed", "The transaction is committed; nobody but the brokers knows.")


def open_writer(to: KafkaDestination, schema: pa.Schema, token: Token) -> KafkaWriter:
    """Creates the topics if they are absent, fences the stream and reads its token.

    Raises:
        SchemaError: The rows lack a column that the destination names.
        UnavailableError: No broker answers.
    """
    where = place_of(to.connection, to.topic)
    encoder = MessageEncoder(to, schema, where)
    compacted = {"cleanup.policy": "compact"} if to.write_mode != "append" else {}
    make_topic(to.connection, to.topic, compacted, to.partitions, to.replication)
    make_token_topic(to.connection, to.token_topic, to.replication)
    key = key_of(token, to.topic)
    name = f"headrace-{hashlib.sha256(key).hexdigest()[:32]}"
    timeout = int(to.transaction_timeout.total_seconds() * 1000)
    with worded(where):
        producer = Producer(
            settings(
                to.connection,
                transactional_id=name,
                transaction_timeout_ms=timeout,
                partitioner="murmur2_random",
                linger_ms=20,
                message_timeout_ms=min(timeout, 120_000),
            )
        )
        producer.init_transactions(INIT_SECONDS)
    _FENCED.reach()
    committed = read_token(to.connection, to.token_topic, key, SECONDS)
    return KafkaWriter(to, encoder, token, producer, committed)


class KafkaWriter(BatchWriter):
    """One stream's writer of a topic.

    No message has a callback of its own: a commit fails if one was lost, and out of callbacks the driver raises what
    cannot be caught.

    Args:
        to: Where.
        encoder: Makes messages of rows.
        token: The stream.
        producer: Its transactions are begun.
        committed: The token as it stood when the stream was fenced.
    """

    def __init__(
        self, to: KafkaDestination, encoder: MessageEncoder, token: Token, producer: Any, committed: Committed | None
    ) -> None:
        self._to, self._encoder, self._token = to, encoder, token
        self._producer, self._committed = producer, committed
        self._where = place_of(to.connection, to.topic)
        self._open = False
        self._rows = self._bytes = 0

    def get_state(self) -> Committed | None:
        return self._committed

    def write(self, rows: pa.RecordBatch) -> Sequence[Rejection]:
        self._begin()
        refused = []
        for each in self._encoder.encode(rows):
            with self._worded():
                reason = each.fault or self._send(each)
            if reason:
                code = "not_null" if reason == "its key is NULL" else "refused"
                refused.append(Rejection(rows.slice(each.row, 1), reason, code, ""))
        self._rows += rows.num_rows - len(refused)
        _SENT.reach()
        return refused

    def commit(self, epoch: int, state: State, *, final: bool = False) -> WriteStats:
        del final
        expected = 1 if self._committed is None else self._committed.epoch + 1
        if epoch != expected:
            raise FatalError(f"epoch {epoch} was to be committed, but {expected} is next", where=self._where)
        self._begin()
        key, value = key_of(self._token, self._to.topic), value_of(self._token, epoch, state)
        with self._worded():
            self._put(lambda: self._producer.produce(self._to.token_topic, value, key, 0))
            self._producer.flush(COMMIT_SECONDS)
            _TOKEN.reach()
            self._producer.commit_transaction(COMMIT_SECONDS)
        _COMMITTED.reach()
        self._open = False
        self._committed = Committed(epoch, dict(state))
        stats = WriteStats(self._rows, self._bytes)
        self._rows = self._bytes = 0
        return stats

    def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is None or not self._open:
            return
        # Whoever opens the stream next gives it up too, if this cannot.
        with suppress(KafkaException):
            producer.purge()
            producer.abort_transaction(SECONDS)

    # ---- sending ----------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._producer is None:
            raise FatalError("the writer is closed", where=self._where)
        if not self._open:
            with self._worded():
                self._producer.begin_transaction()
            self._open = True

    def _send(self, message: Outgoing) -> str:
        """Hands a message to the driver; returns why that cannot be one, or ""."""
        try:
            self._put(
                lambda: self._producer.produce(
                    self._to.topic,
                    message.value,
                    message.key,
                    message.partition,
                    headers=message.headers or None,
                )
            )
        except KafkaException as error:
            if error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                return "it is larger than a message may be"
            if error.args[0].code() == codes.UNKNOWN_PARTITION:
                return f"there is no partition {message.partition}"
            raise
        self._bytes += len(message.value or b"") + len(message.key or b"")
        return ""

    def _put(self, produce: Callable[[], None]) -> None:
        while True:
            try:
                produce()
            except BufferError:
                # The driver's own queue is full: its callbacks make room.
                self._producer.poll(0.1)
            else:
                self._producer.poll(0)
                return

    def _worded(self) -> Worded:
        return Worded(self._fault)

    def _fault(self, error: KafkaError) -> HeadraceError:
        """Returns what an error means here: an epoch that failed is lost, and a new writer replays it."""
        if error.code() in {codes.FATAL, codes.STATE}:
            # Only ending the transaction tells who was fenced from whose message was lost.
            try:
                self._producer.abort_transaction(SECONDS)
            except KafkaException as told:
                error = told.args[0]
        found = fault(error, self._where)
        if isinstance(found, FencedError | RetryableError) or error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return found
        if error.code() in {codes.STATE, codes.PURGE_QUEUE} or error.txn_requires_abort():
            return RetryableError(f"the transaction failed: {error.str()}", where=self._where)
        return found
