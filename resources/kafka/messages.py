"""Rows as messages: value, key, headers and partition of each; what cannot be one is refused with its reason; sends nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dsl.contracts.changes import OPERATION, WHOLE, Operation
from dsl.contracts.errors import SchemaError
from resources.formats.json_values import to_json, to_lines

if TYPE_CHECKING:
    from resources.kafka.resource import KafkaDestination


@dataclass(frozen=True)
class Outgoing:
    """One row as a message.

    Attributes:
        row: Its place in the batch.
        value: The value; None for a tombstone.
        key: The key.
        headers: Name and value of each header.
        partition: Where it goes; -1 for where its key goes.
        fault: Why the row cannot be a message, or "".
    """

    row: int
    value: bytes | None
    key: bytes | None
    headers: list[tuple[str, bytes | None]]
    partition: int
    fault: str = ""


@dataclass(frozen=True)
class MessageEncoder:
    """Makes messages of batches.

    Attributes:
        to: The destination.
        schema: The columns that arrive.
        where: Names the topic in errors.

    Raises:
        SchemaError: A column that the destination names is not among them, or of no use.
    """

    to: KafkaDestination
    schema: pa.Schema
    where: str

    def __post_init__(self) -> None:
        to = self.to
        named = (*to.primary_key, *to.header_fields, *(each for each in (to.value_field, to.partition_field) if each))
        missing = [each for each in named if each not in self.schema.names]
        if missing:
            hint = f"there are: {', '.join(self.schema.names[:10])}"
            raise SchemaError(f"column '{missing[0]}' is missing", where=self.where, hint=hint)
        for each in (*to.header_fields, *([to.value_field] if to.value_field else [])):
            if not _is_raw(self.schema.field(each).type):
                raise SchemaError(
                    f"column '{each}' is no text and no bytes", where=self.where, hint="cast it in a mapping"
                )
        if to.partition_field and not pa.types.is_integer(self.schema.field(to.partition_field).type):
            raise SchemaError(f"column '{to.partition_field}' is no number of a partition", where=self.where)

    def encode(self, rows: pa.RecordBatch) -> list[Outgoing]:
        """Returns a message for each row."""
        apart = {OPERATION, *self.to.header_fields, *([self.to.partition_field] if self.to.partition_field else [])}
        values = self._values(rows, [each for each in rows.schema.names if each not in apart])
        keys = _keys([rows.column(each) for each in self.to.primary_key], rows.num_rows)
        headers = [(each, _raw(rows.column(each))) for each in self.to.header_fields]
        places = rows.column(self.to.partition_field).to_pylist() if self.to.partition_field else None
        told = rows.column(OPERATION).to_pylist() if OPERATION in rows.schema.names else None
        found = []
        for at in range(rows.num_rows):
            value = None if told is not None and told[at] == Operation.DELETE else values[at]
            place = -1 if places is None else places[at]
            fault = self._fault(keys[at], place, None if told is None else told[at])
            head = [(name, column[at]) for name, column in headers]
            found.append(Outgoing(at, value, keys[at], head, place if isinstance(place, int) else -1, fault))
        return found

    def _values(self, rows: pa.RecordBatch, names: Sequence[str]) -> list[bytes | None]:
        if self.to.value_field:
            return _raw(rows.column(self.to.value_field))
        return [each.encode() for each in to_lines(rows.select(names))]

    def _fault(self, key: bytes | None, place: Any, operation: str | None) -> str:
        if operation in WHOLE:
            return f"a topic cannot be told of '{operation}': it has no rows that could be taken away together"
        if self.to.primary_key and key is None:
            return "its key is NULL"
        if place is None or (self.to.partition_field and place < 0):
            return "it names no partition"
        return ""


def _is_raw(kind: pa.DataType) -> bool:
    return any(
        check(kind)
        for check in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    )


def _raw(column: Any) -> list[bytes | None]:
    return [each.encode() if isinstance(each, str) else each for each in column.to_pylist()]


def _keys(columns: Sequence[Any], rows: int) -> list[bytes | None]:
    """Returns the text of one column's values, or JSON lists of several; None where one is NULL."""
    if not columns:
        return [None] * rows
    parts = [to_json(each) for each in columns]
    if len(parts) == 1:
        return [
            None if each is None else (each if isinstance(each, str) else json.dumps(each)).encode()
            for each in parts[0]
        ]
    lists = [list(each) for each in zip(*parts, strict=True)]
    return [
        None if None in each else json.dumps(each, ensure_ascii=False, separators=(",", ":")).encode() for each in lists
    ]
