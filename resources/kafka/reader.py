"""Reads the committed messages of a topic, from the offsets of its state on; makes no topic and joins no group."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from dsl.contracts.capabilities import SyncMode
from dsl.contracts.connectors import BatchReader, ReadRequest
from dsl.contracts.errors import ErrorType, FatalError, RegressionError, RetryableError
from dsl.contracts.rows import Batch, Rejection
from dsl.contracts.state import Json, State, advance, is_complete
from resources.formats.columns import Wanted
from resources.kafka import codes
from resources.kafka.client import bounds_of, fault, open_consumer, partitions_of, place_of, worded
from resources.kafka.resource import FACTS, REGISTERED, MessageFormat, OnLost, Start
from resources.queue_values import (
    SAMPLED,
    Decoder,
    Layout,
    Message,
    PlainDecoder,
    Unreadable,
    ValueFormat,
    chosen,
    columns_of,
    declared_values,
    value_schema,
)

if TYPE_CHECKING:
    from resources.kafka.resource import KafkaSource

BEAT_SECONDS = 0.5
LOOK_SECONDS = 30.0
AT_ONCE = 200
_PLACE = ("topic", "partition", "offset", "key")
_LOST: dict[str, pa.DataType] = {
    "topic": pa.string(),
    "partition": pa.int64(),
    "first": pa.int64(),
    "last": pa.int64(),
}
_LOST_SCHEMA = pa.schema(_LOST)


def discover_schema(source: KafkaSource) -> pa.Schema:
    """Returns the columns that a source will yield: those declared, or what the first messages suggest.

    Raises:
        SchemaError: There is no such topic, or nothing tells its columns.
        UnavailableError: No broker answers.
    """
    where = place_of(source.connection, source.topic)
    with closing(open_consumer(source.connection)) as consumer:
        numbers = partitions_of(consumer, source.topic, where)
        return _columns(source, consumer, numbers, where)[1]


def backlog(source: KafkaSource, state: State | None) -> int:
    """Returns how many messages wait behind a state, about."""
    where = place_of(source.connection, source.topic)
    with closing(open_consumer(source.connection)) as consumer:
        bounds = bounds_of(consumer, source.topic, partitions_of(consumer, source.topic, where), where)
    if state is None or is_complete(state):
        return 0 if source.start is Start.LATEST else sum(high - low for low, high in bounds.values())
    at = offsets_of(state)
    return sum(max(0, high - max(low, at.get(each, 0))) for each, (low, high) in bounds.items())


def offsets_of(state: State | None) -> dict[int, int]:
    """Returns the offset to go on with of each partition that a state knows."""
    held = (state or {}).get("offsets")
    return {int(name): at for name, at in held.items() if isinstance(at, int)} if isinstance(held, dict) else {}


class KafkaReader(BatchReader):
    """The messages of a topic.

    Args:
        source: What to read.
        request: What the plan wants of it.
        state: Where to go on, or None.
    """

    def __init__(self, source: KafkaSource, request: ReadRequest, state: State | None) -> None:
        self._source, self._request, self._state = source, request, state
        self._where = place_of(source.connection, source.topic)
        self._rejected: list[Rejection] = []
        self._closed = False
        self._consumer = open_consumer(source.connection, source.group or "")
        try:
            numbers = partitions_of(self._consumer, source.topic, self._where)
            value, whole = _columns(source, self._consumer, numbers, self._where)
            self._schema = chosen(whole, request.columns, self._where)
            self._layout = _layout(source, value, self._schema)
            self._at: dict[int, int] = {}
            self._ends: dict[int, int] = {}
            self._begin(numbers)
        except BaseException:
            self.close()
            raise

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    def __iter__(self) -> Iterator[Batch]:
        yield from self._told()
        looked = time.monotonic()
        while self._ends or self._request.follow:
            messages = self._gather()
            if messages or self._request.follow:
                yield self._batch(messages)
            if self._request.follow and time.monotonic() - looked > LOOK_SECONDS:
                self._look()
                yield from self._told()
                looked = time.monotonic()
        full = self._source.sync_mode is SyncMode.FULL_REFRESH
        yield self._batch([], **({"complete": True} if full else {}))

    def acknowledge(self, state: State) -> None:
        if self._source.group is None or self._closed:
            return
        told = [TopicPartition(self._source.topic, each, at) for each, at in offsets_of(state).items()]
        # Only monitors read it: the state beside the rows is what counts.
        with suppress(KafkaException):
            self._consumer.commit(offsets=told, asynchronous=False)

    def rejections(self) -> Sequence[Rejection]:
        found, self._rejected = self._rejected, []
        return found

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._consumer.close()

    # ---- where it reads ---------------------------------------------------------------------------------------------

    def _begin(self, numbers: Sequence[int]) -> None:
        bounds = bounds_of(self._consumer, self._source.topic, numbers, self._where)
        known = offsets_of(self._state)
        gone = sorted(set(known) - set(numbers))
        if gone:
            hint = "was the topic made anew? reset the state to read it from its beginning"
            raise RegressionError(f"partition {gone[0]} is gone", where=self._where, hint=hint)
        first = self._state is None or "offsets" not in self._state
        late = self._source.start is Start.LATEST
        for each, (low, high) in bounds.items():
            at = known.get(each, (high if late else low) if first else 0)
            self._at[each] = self._kept(each, at, low, high)
        self._ends = {each: high for each, (_, high) in bounds.items() if high > self._at[each]}
        if self._request.follow:
            self._ends = {}
        going = self._at if self._request.follow else self._ends
        with worded(self._where):
            self._consumer.assign([TopicPartition(self._source.topic, each, self._at[each]) for each in going])

    def _look(self) -> None:
        """Adds partitions that are new."""
        new = [each for each in partitions_of(self._consumer, self._source.topic, self._where) if each not in self._at]
        for each, (low, high) in bounds_of(self._consumer, self._source.topic, new, self._where).items():
            self._at[each] = self._kept(each, 0, low, high)
            with worded(self._where):
                self._consumer.incremental_assign([TopicPartition(self._source.topic, each, self._at[each])])

    def _kept(self, partition: int, at: int, low: int, high: int) -> int:
        """Returns where to read on.

        Raises:
            RegressionError: What stands there is no longer kept, or the partition ends before it.
        """
        if at > high:
            hint = "was the topic made anew? reset the state to read it from its beginning"
            raise RegressionError(
                f"partition {partition} ends at {high}, before offset {at}", where=self._where, hint=hint
            )
        if at >= low:
            return at
        lost = f"partition {partition}: messages {at} to {low - 1} ({low - at}) were removed before they were read"
        if self._source.on_lost is OnLost.FAIL:
            hint = "lengthen the topic's retention; on_lost: reject notes the loss and goes on"
            raise RegressionError(lost, where=self._where, hint=hint)
        row = {"topic": self._source.topic, "partition": partition, "first": at, "last": low - 1}
        self._rejected.append(Rejection(pa.RecordBatch.from_pylist([row], _LOST_SCHEMA), lost, "lost", ""))
        return low

    # ---- what it reads ----------------------------------------------------------------------------------------------

    def _gather(self) -> list[Message]:
        """Returns messages for one batch; none where the partitions end, or nothing came for a beat."""
        found: list[Message] = []
        size, began = 0, time.monotonic()
        silent = began
        while len(found) < self._request.batch_rows and size < self._request.batch_bytes:
            got = self._consume(min(AT_ONCE, self._request.batch_rows - len(found)))
            for each in got:
                message = self._take(each)
                if message is not None:
                    found.append(message)
                    size += len(message.value or b"")
            now = time.monotonic()
            silent = now if got else silent
            if self._request.follow:
                if now - began > BEAT_SECONDS:
                    break
            elif not self._ends:
                break
            elif now - silent > self._source.timeout.total_seconds():
                said = f"nothing came for {self._source.timeout.total_seconds():g} s, although there is more to read"
                raise RetryableError(said, where=self._where, error_type=ErrorType.TIMEOUT)
        return found

    def _consume(self, count: int) -> list[Any]:
        with worded(self._where):
            first = self._consumer.poll(BEAT_SECONDS / 5)
            if first is None:
                return []
            return [first, *(self._consumer.consume(count - 1, 0) if count > 1 else ())]

    def _take(self, got: Any) -> Message | None:
        """Notes how far a partition is read; returns the message, if it is one and belongs to this read."""
        error, partition, offset = got.error(), got.partition(), got.offset()
        if error is not None and error.code() != codes.PARTITION_EOF:
            if error.code() in {codes.AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}:
                # Opened again, it compares its offsets with what is kept, and says what was lost.
                raise RetryableError("messages were removed while they were read", where=self._where)
            raise fault(error, self._where)
        if not self._request.follow and partition not in self._ends:
            return None
        end = self._ends.get(partition)
        message = None
        if error is not None:
            self._at[partition] = max(self._at[partition], offset)
        elif end is None or offset < end:
            self._at[partition], message = offset + 1, self._message(got)
        if end is not None and (offset >= end or self._at[partition] >= end):
            self._finish(partition, end)
        return message

    def _finish(self, partition: int, end: int) -> None:
        # Behind the last message there may be marks of transactions, which are never handed over.
        self._at[partition] = max(self._at[partition], end)
        del self._ends[partition]
        with worded(self._where):
            self._consumer.incremental_unassign([TopicPartition(self._source.topic, partition)])

    def _message(self, got: Any) -> Message:
        key = got.key()
        kind, at = got.timestamp()
        wanted = self._layout.facts.values()
        facts: dict[str, Any] = {
            "topic": got.topic(),
            "partition": got.partition(),
            "offset": got.offset(),
            "timestamp": None if kind == TIMESTAMP_NOT_AVAILABLE else datetime.fromtimestamp(at / 1000, UTC),
            "key": _text(key, strict="key" in wanted),
            "key_bytes": key,
        }
        if "headers" in wanted:
            facts["headers"] = [{"name": name, "value": value} for name, value in got.headers() or ()]
        return Message(got.value(), facts)

    def _batch(self, messages: Sequence[Message], **fields: Json) -> Batch:
        rows, rejected = self._layout.rows(messages)
        self._rejected += rejected
        offsets: dict[str, Json] = {str(each): at for each, at in sorted(self._at.items())}
        self._state = advance(self._state, rows.num_rows, rows.nbytes, offsets=offsets, **fields)
        return Batch(rows, self._state)

    def _told(self) -> Iterator[Batch]:
        """Yields a batch for what was lost, if anything was, so that it is kept before the reading goes on."""
        if self._rejected:
            yield self._batch([])


def _text(key: bytes | None, *, strict: bool) -> Any:
    if key is None:
        return None
    try:
        return key.decode()
    except UnicodeDecodeError:
        return (
            Unreadable("its key is not UTF-8: ask for key_bytes") if strict else key.decode(errors="backslashreplace")
        )


def _layout(source: KafkaSource, value: pa.Schema, schema: pa.Schema) -> Layout:
    facts = {column: fact for column, fact in source.metadata.items() if column in schema.names}
    read = pa.schema([each for each in schema if each.name not in facts])
    wanted = Wanted(read, tuple(value.names), strict=source.declared is None)
    decoder: Decoder
    if source.format in REGISTERED:
        from resources.kafka.registry import RegisteredDecoder, Registry

        where = place_of(source.connection, source.topic)
        decoder = RegisteredDecoder(Registry(source.connection), source.format, wanted, where)
    else:
        decoder = PlainDecoder(ValueFormat(source.format), wanted)
    return Layout(decoder, schema, facts, _PLACE)


def _columns(
    source: KafkaSource, consumer: Consumer, numbers: Sequence[int], where: str
) -> tuple[pa.Schema, pa.Schema]:
    """Returns the columns of the values, and all."""
    declared = declared_values(source.declared, source.metadata)
    if source.format in REGISTERED:
        from resources.kafka.registry import registered_schema

        value = registered_schema(source) if declared is None else declared
    else:
        wants = source.format is MessageFormat.JSON and declared is None
        sample = _sample(source, consumer, numbers, where) if wants else None
        value = value_schema(ValueFormat(source.format), declared, sample, where)
    return value, columns_of(value, source.metadata, FACTS, source.declared)


def _sample(source: KafkaSource, consumer: Consumer, numbers: Sequence[int], where: str) -> list[bytes]:
    """Returns the first messages that are kept; the consumer is assigned nothing afterwards."""
    bounds = bounds_of(consumer, source.topic, numbers, where)
    left: Mapping[int, int] = {each: high for each, (low, high) in bounds.items() if high > low}
    found: list[bytes] = []
    open_ = dict(left)
    ends = time.monotonic() + source.timeout.total_seconds()
    with worded(where):
        consumer.assign([TopicPartition(source.topic, each, OFFSET_BEGINNING) for each in left])
        while open_ and len(found) < SAMPLED and time.monotonic() < ends:
            got: list[Any] = consumer.consume(AT_ONCE, BEAT_SECONDS / 5)
            for each in got:
                error = each.error()
                if error is not None and error.code() != codes.PARTITION_EOF:
                    raise fault(error, where)
                if error is None and each.value() is not None:
                    found.append(each.value())
                if error is not None or each.offset() + 1 >= left[each.partition()]:
                    open_.pop(each.partition(), None)
        consumer.unassign()
    if not found and open_:
        raise FatalError("its first messages did not come", where=where, hint="declare `schema`, or raise `timeout`")
    return found
