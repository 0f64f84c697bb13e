"""The tokens of streams, messages of a compacted topic: reads the last one of a stream; writes none itself."""

from __future__ import annotations

import json
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, TopicPartition

from dsl.contracts.connectors import Committed, Token
from dsl.contracts.errors import FatalError, RetryableError
from dsl.contracts.state import State
from resources.kafka import codes
from resources.kafka.client import SECONDS, bounds_of, fault, make_topic, open_consumer, place_of, settings, worded

if TYPE_CHECKING:
    from resources.kafka.resource import KafkaConnection

_FACTS = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1", "segment.bytes": str(16 * 2**20)}


def key_of(token: Token, topic: str) -> bytes:
    """Returns the key of a stream's tokens for one topic."""
    return json.dumps([token.key, topic], ensure_ascii=False).encode()


def value_of(token: Token, epoch: int, state: State) -> bytes:
    """Returns a token as a message's value."""
    return json.dumps({"epoch": epoch, "state": dict(state), "run": token.run_id}, allow_nan=False).encode()


def make_token_topic(connection: KafkaConnection, topic: str, copies: int) -> None:
    """Creates the topic unless there is one."""
    make_topic(connection, topic, _FACTS, 1, copies)


def read_token(connection: KafkaConnection, topic: str, key: bytes, patience: float) -> Committed | None:
    """Returns the last committed token of a stream that its reader has already fenced.

    What stands behind an open transaction of another stream cannot be told apart from it, so that is waited for.

    Raises:
        RetryableError: Such a transaction stays open.
        FatalError: A token is none.
    """
    where = place_of(connection, topic)
    found: bytes | None = None
    with closing(open_consumer(connection)) as consumer, worded(where):
        end = _end(connection, topic)
        low, _ = bounds_of(consumer, topic, [0], where)[0]
        consumer.assign([TopicPartition(topic, 0, low)])
        at, gives_up = low, time.monotonic() + patience
        while at < end:
            got: list[Any] = consumer.consume(500, 0.1)
            for each in got:
                error = each.error()
                if error is not None and error.code() != codes.PARTITION_EOF:
                    raise fault(error, where)
                at = max(at, each.offset() + (error is None))
                if error is None and each.key() == key:
                    found = each.value()
            if at < end and time.monotonic() > gives_up:
                hint = "another stream's transaction is open: the brokers give it up after its timeout"
                raise RetryableError("the last token cannot be told yet", where=where, hint=hint)
    return None if found is None else _parsed(found, where)


def _end(connection: KafkaConnection, topic: str) -> int:
    """Returns the offset behind the last token, one of an open transaction included."""
    told = settings(connection, group_id="headrace", isolation_level="read_uncommitted")
    with closing(Consumer(told)) as consumer:
        _, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=SECONDS)
    return int(high)


def _parsed(text: bytes, where: str) -> Committed:
    try:
        held = json.loads(text)
        return Committed(int(held["epoch"]), dict(held["state"]))
    except (ValueError, KeyError, TypeError) as error:
        raise FatalError("a token cannot be read", where=where, hint="does something else write this topic?") from error
