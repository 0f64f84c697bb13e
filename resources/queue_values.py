"""What the values of messages are as rows, for every messaging system; a message that is no row is rejected whole; no I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import pyarrow as pa

from dsl.contracts.errors import SchemaError
from dsl.contracts.rows import Rejection
from dsl.contracts.spec import OptionError
from resources.formats.chunks import Chunk, Malformed
from resources.formats.columns import Wanted, batch_of, conformed
from resources.formats.jsonl import decode_values, infer_values

VALUE = "value"
SAMPLED = 1_000


class ValueFormat(StrEnum):
    """What a message holds."""

    JSON = "json"
    TEXT = "text"
    BYTES = "bytes"


@dataclass(frozen=True)
class Unreadable:
    """A fact about a message that cannot be told as asked; the message is rejected where the fact is a column.

    Attributes:
        reason: Why.
        text: What it is, as far as that can be said.
    """

    reason: str
    text: str | None = None


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        value: What it holds; None for a tombstone.
        facts: What the system says of it, by the names that options use.
        fault: Why it cannot be a row, where that is known already, or "".
    """

    value: bytes | None
    facts: Mapping[str, Any]
    fault: str = ""


class Decoder(Protocol):
    """Makes rows of the values of messages."""

    @property
    def wanted(self) -> Wanted:
        """The columns."""

    def decode(self, values: Sequence[bytes | None]) -> Chunk:
        """Returns the rows, and by their index those values that are none."""


@dataclass(frozen=True)
class PlainDecoder:
    """Values that need nothing but themselves to be read: JSON objects, texts, bytes.

    Attributes:
        format: What they are.
        wanted: The columns.
    """

    format: ValueFormat
    wanted: Wanted

    def decode(self, values: Sequence[bytes | None]) -> Chunk:
        """Returns the rows, and by their index those values that are none."""
        if self.format is ValueFormat.JSON:
            return decode_values(values, self.wanted)
        good: list[bytes | str | None] = []
        bad: list[Malformed] = []
        for at, each in enumerate(values):
            try:
                good.append(each.decode() if each is not None and self.format is ValueFormat.TEXT else each)
            except UnicodeDecodeError:
                bad.append(Malformed(at, 0, "", "it is not UTF-8"))
        columns = [pa.array(good, each.type) for each in self.wanted.schema]
        return Chunk(0, batch_of(columns, self.wanted.schema, len(good)), tuple(bad))


@dataclass(frozen=True)
class FieldsDecoder:
    """Values that are JSON objects of texts: each field a column, whose type its text must fit.

    Attributes:
        wanted: The columns.
        where: Names the place in errors.
    """

    wanted: Wanted
    where: str

    def decode(self, values: Sequence[bytes | None]) -> Chunk:
        """Returns the rows, and by their index those values that are none."""
        rows = [json.loads(each or b"{}") for each in values]
        unknown = {
            at: next(name for name in row if name not in self.wanted.names)
            for at, row in enumerate(rows)
            if self.wanted.strict and not row.keys() <= set(self.wanted.names)
        }
        rest = [at for at in range(len(rows)) if at not in unknown]
        texts = pa.schema([pa.field(each, pa.string()) for each in self.wanted.schema.names])
        columns = [pa.array([rows[at].get(each) for at in rest], pa.string()) for each in texts.names]
        chunk = conformed(batch_of(columns, texts, len(rest)), self.wanted.schema, 0, self.where)
        bad = [Malformed(rest[each.record], 0, "", each.reason) for each in chunk.malformed]
        bad += [
            Malformed(at, 0, "", f"field '{name}' is in none of the first messages: declare `schema`")
            for at, name in unknown.items()
        ]
        return Chunk(0, chunk.rows, tuple(sorted(bad, key=lambda each: each.record)))


def check_facts(asked: Mapping[str, str], known: Mapping[str, pa.DataType]) -> None:
    """Refuses an option `metadata` that asks for what the system does not tell.

    Raises:
        OptionError: Names it.
    """
    for column, fact in asked.items():
        if fact not in known:
            raise OptionError("metadata", f"'{fact}', for column '{column}', is unknown", f"use {', '.join(known)}")


def value_schema(
    kind: ValueFormat, declared: pa.Schema | None, sample: Sequence[bytes] | None, where: str
) -> pa.Schema:
    """Returns the columns of the values.

    Args:
        kind: What they are.
        declared: The columns that the document declares beside the facts, or None.
        sample: Some of them, for JSON that is not declared.
        where: Names the place in errors.

    Raises:
        SchemaError: Nothing tells them, or they are not what such values can be.
    """
    if kind is ValueFormat.JSON:
        return infer_values(sample or (), where) if declared is None else declared
    type_ = pa.string() if kind is ValueFormat.TEXT else pa.binary()
    if declared is None:
        return pa.schema([pa.field(VALUE, type_)])
    if len(declared) > 1 or any(each.type != type_ for each in declared):
        hint = f"declare one column of type {type_}, beside those of `metadata`"
        raise SchemaError(f"`schema` does not fit `format: {kind}`", where=where, hint=hint)
    return declared


@dataclass(frozen=True)
class Layout:
    """The rows that messages become.

    Attributes:
        decoder: Reads the values.
        schema: The columns, in order.
        facts: Of those, the ones that hold a fact: which.
        place: The facts that say where a message is, for rejections.
    """

    decoder: Decoder
    schema: pa.Schema
    facts: Mapping[str, str]
    place: tuple[str, ...]

    def rows(self, messages: Sequence[Message]) -> tuple[pa.RecordBatch, list[Rejection]]:
        """Returns the rows, and the messages that are none, in order."""
        reasons = {at: reason for at, each in enumerate(messages) if (reason := self._unreadable(each))}
        rest = [at for at in range(len(messages)) if at not in reasons]
        chunk = self.decoder.decode([messages[at].value for at in rest])
        reasons.update({rest[each.record]: each.reason for each in chunk.malformed})
        good = [each for at, each in enumerate(messages) if at not in reasons]
        columns = [self._column(each, chunk.rows, good) for each in self.schema]
        rejected = [self._rejection(messages[at], reasons[at]) for at in sorted(reasons)]
        return batch_of(columns, self.schema, len(good)), rejected

    def _unreadable(self, message: Message) -> str:
        told = (message.facts[each] for each in self.facts.values())
        return message.fault or next((each.reason for each in told if isinstance(each, Unreadable)), "")

    def _column(self, column: pa.Field[Any], rows: pa.RecordBatch, good: Sequence[Message]) -> Any:
        fact = self.facts.get(column.name)
        if fact is None:
            return rows.column(rows.schema.get_field_index(column.name))
        return pa.array([each.facts[fact] for each in good], column.type)

    def _rejection(self, message: Message, reason: str) -> Rejection:
        """Returns a message that is no row as a row of its own: where it stands, and all that it holds."""
        told = {each: _shown(message.facts[each]) for each in self.place}
        raw = message.value
        text = None if raw is None else _decoded(raw)
        row = {**told, "text": text, "bytes": raw if text is None else None}
        types = {each: pa.int64() if isinstance(told[each], int) else pa.string() for each in told}
        schema = pa.schema({**types, "text": pa.string(), "bytes": pa.binary()})
        where = " ".join(f"{name} {value}" for name, value in told.items())
        return Rejection(pa.RecordBatch.from_pylist([row], schema), f"{where}: {reason}", "malformed", "")


def _shown(fact: Any) -> Any:
    return fact.text if isinstance(fact, Unreadable) else fact


def _decoded(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def columns_of(
    value: pa.Schema, asked: Mapping[str, str], known: Mapping[str, pa.DataType], declared: pa.Schema | None
) -> pa.Schema:
    """Returns all columns of a source: those of the values, then the facts, or all as they are declared.

    Raises:
        SchemaError: A fact is not declared, has another type, or the name of a value's column.
    """
    facts = {column: pa.field(column, known[fact]) for column, fact in asked.items()}
    if declared is None:
        twice = [each for each in facts if each in value.names]
        if twice:
            raise SchemaError(f"column '{twice[0]}' is in the messages too", hint="give it another name in `metadata`")
        return pa.schema([*value, *facts.values()])
    absent = [each for each in facts if each not in declared.names]
    if absent:
        raise SchemaError(f"column '{absent[0]}' of `metadata` is not declared", hint="add it to `schema`")
    wrong = [each for each in declared if each.name in facts and not _holds(each.type, facts[each.name].type)]
    if wrong:
        raise SchemaError(f"column '{wrong[0].name}' is {facts[wrong[0].name].type}", hint="declare it so in `schema`")
    return declared


def _holds(declared: Any, fact: Any) -> bool:
    """Whether every value of a fact is one of the declared type."""
    if pa.types.is_integer(declared) and pa.types.is_integer(fact):
        return bool(pa.types.is_signed_integer(declared) and declared.bit_width >= fact.bit_width)
    if pa.types.is_timestamp(declared) and pa.types.is_timestamp(fact):
        return bool(declared.tz == fact.tz and declared.unit != "s")
    return bool(declared == fact)


def declared_values(declared: pa.Schema | None, asked: Mapping[str, str]) -> pa.Schema | None:
    """Returns the declared columns that are not facts, or None where nothing is declared."""
    return None if declared is None else pa.schema([each for each in declared if each.name not in asked])


def chosen(schema: pa.Schema, columns: Sequence[str] | None, where: str) -> pa.Schema:
    """Returns the columns that a request asks for, in its order.

    Raises:
        SchemaError: One is not there.
    """
    if columns is None:
        return schema
    missing = [each for each in columns if each not in schema.names]
    if missing:
        hint = f"there are: {', '.join(schema.names[:10])}"
        raise SchemaError(f"column '{missing[0]}' is gone", where=where, hint=hint)
    return pa.schema([schema.field(each) for each in columns])
