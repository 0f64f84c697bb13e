"""What deliveries are as messages, and the columns they make; asks the broker for nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dsl.contracts.errors import SchemaError
from resources.formats.columns import Wanted
from resources.queue_values import (
    Layout,
    Message,
    PlainDecoder,
    Unreadable,
    ValueFormat,
    columns_of,
    declared_values,
    value_schema,
)
from resources.rabbitmq.client import Delivery
from resources.rabbitmq.resource import FACTS

if TYPE_CHECKING:
    from resources.rabbitmq.resource import RabbitMQSource

OFFSET = "x-stream-offset"
DELIVERIES = "x-delivery-count"
_PLAIN = ("message_id", "correlation_id", "type", "app_id", "content_type")


def message_of(delivery: Delivery, fault: str = "") -> Message:
    """Returns a delivery as a message."""
    told, properties = delivery.method, delivery.properties
    facts: dict[str, Any] = {each: getattr(properties, each) for each in _PLAIN}
    facts |= {"exchange": told.exchange, "routing_key": told.routing_key, "redelivered": bool(told.redelivered)}
    facts["timestamp"] = _moment(properties.timestamp)
    facts["headers"] = json.dumps(delivery.headers, default=str, ensure_ascii=False) if properties.headers else None
    facts["offset"] = offset_of(delivery)
    facts["delivery_count"] = deliveries_of(delivery)
    return Message(delivery.body, facts, fault)


def offset_of(delivery: Delivery) -> int | None:
    """Returns where a message stands in its stream; None if it came from none."""
    return _whole(delivery.headers.get(OFFSET))


def deliveries_of(delivery: Delivery) -> int | None:
    """Returns how often a message was delivered before; None where the queue does not count."""
    return _whole(delivery.headers.get(DELIVERIES))


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int) else None


def _moment(seconds: int | None) -> Any:
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return Unreadable("its timestamp is no date", str(seconds))


def columns(source: RabbitMQSource, sample: Sequence[bytes] | None, where: str) -> tuple[pa.Schema, pa.Schema]:
    """Returns the columns of the values, and all.

    Args:
        source: What is read.
        sample: Some of its values, where nothing is declared; None where nobody may look at them.
        where: Names the queue in errors.

    Raises:
        SchemaError: Nothing tells them.
    """
    declared = declared_values(source.declared, source.metadata)
    if sample is None and needs_sample(source):
        hint = "declare `schema`"
        raise SchemaError(
            "its columns cannot be told: looking at a queue's messages delivers them", where=where, hint=hint
        )
    value = value_schema(source.format, declared, sample, where)
    return value, columns_of(value, source.metadata, FACTS, source.declared)


def needs_sample(source: RabbitMQSource) -> bool:
    """Tells whether only messages can say what columns there are."""
    return source.format is ValueFormat.JSON and source.declared is None


def layout_of(source: RabbitMQSource, value: pa.Schema, schema: pa.Schema) -> Layout:
    """Returns how messages become rows."""
    facts = {column: fact for column, fact in source.metadata.items() if column in schema.names}
    read = pa.schema([each for each in schema if each.name not in facts])
    wanted = Wanted(read, tuple(value.names), strict=source.declared is None)
    place = ("offset",) if source.stream else ("routing_key", "message_id")
    return Layout(PlainDecoder(source.format, wanted), schema, facts, place)
