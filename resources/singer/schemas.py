"""JSON Schema of a tap's streams as Arrow columns, and records held to it; a value that does not fit is refused, never bent."""

from __future__ import annotations

import decimal
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from dsl.contracts.errors import SchemaError
from dsl.contracts.rows import Rejection
from resources.formats.json_values import from_rows

_DIGITS: Final = 38
_SHOWN: Final = 1000
_FORMATS: Final[dict[str, pa.DataType]] = {
    "date-time": pa.timestamp("us", "UTC"),
    "date": pa.date32(),
    "time": pa.time64("us"),
}
_PLAIN: Final[dict[str, pa.DataType]] = {
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "string": pa.string(),
}
_NAMES: Final[dict[type, str]] = {str: "string", dict: "object", list: "array"}
_COLUMNS: Final[dict[str, pa.DataType]] = {"line": pa.int64(), "text": pa.string()}
_REJECTED: Final = pa.schema(_COLUMNS)


def columns_of(schema: Mapping[str, Any], where: str) -> pa.Schema:
    """Returns the columns of a stream.

    Numbers with `multipleOf: 0.01` are decimals, lists of plain values lists; objects, other lists and what may be of several types
    are JSON texts.

    Raises:
        SchemaError: It is no schema of an object with properties.
    """
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not properties:
        raise SchemaError("its schema has no properties", where=where, hint="declare `schema`")
    return pa.schema([pa.field(name, _type_of(each)) for name, each in properties.items()])


def _type_of(schema: Any) -> pa.DataType:
    kinds, schema = _kinds(schema)
    if kinds == {"integer", "number"}:
        kinds = {"number"}
    if len(kinds) != 1:
        return pa.string()
    (kind,) = kinds
    if kind == "number":
        return _number(schema.get("multipleOf"))
    if kind == "string":
        return _FORMATS.get(str(schema.get("format")), pa.string())
    if kind == "array":
        items = schema.get("items")
        inner = _kinds(items)[0] - {"null"} if isinstance(items, dict) else set()
        return pa.list_(_type_of(items)) if inner and inner <= set(_PLAIN) else pa.string()
    return _PLAIN.get(kind, pa.string())


def _number(multiple: Any) -> pa.DataType:
    """Returns a decimal type where numbers are multiples of 0.1, 0.01 and so on, which no float is."""
    if isinstance(multiple, decimal.Decimal | float | int) and 0 < multiple < 1:
        sign, digits, exponent = decimal.Decimal(str(multiple)).normalize().as_tuple()
        if not sign and digits == (1,) and isinstance(exponent, int) and -exponent < _DIGITS:
            return pa.decimal128(_DIGITS, -exponent)
    return pa.float64()


def _kinds(schema: Any) -> tuple[set[str], Mapping[str, Any]]:
    """Returns the types that a value may have, NULL apart, and the schema that says so; of `anyOf` the one that is not NULL."""
    if not isinstance(schema, dict):
        return set(), {}
    choices = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(choices, list):
        parts = [(kinds, each) for kinds, each in map(_kinds, choices) if kinds]
        return parts[0] if len(parts) == 1 else ({name for kinds, _ in parts for name in kinds} | {"several"}, {})
    held = schema.get("type")
    names = {held} if isinstance(held, str) else set(held) if isinstance(held, list) else set()
    return {str(each) for each in names} - {"null"}, schema


def _allowed(schema: Any) -> frozenset[str] | None:
    """Returns the JSON types that a schema allows, `null` among them; None for any."""
    if not isinstance(schema, dict):
        return None
    choices = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(choices, list):
        parts = [_allowed(each) for each in choices]
        known = [each for each in parts if each is not None]
        return frozenset().union(*known) if len(known) == len(parts) else None
    held = schema.get("type")
    if isinstance(held, str):
        return frozenset({held})
    return frozenset(map(str, held)) if isinstance(held, list) and held else None


def _types_of(value: Any) -> tuple[str, ...]:
    """Returns what JSON Schema calls a value."""
    if isinstance(value, bool):
        return ("boolean",)
    if isinstance(value, int | decimal.Decimal):
        whole = isinstance(value, int) or value == value.to_integral_value()
        return ("integer", "number") if whole else ("number",)
    return (_NAMES.get(type(value), "null"),)


@dataclass(frozen=True)
class Record:
    """A record as it came.

    Attributes:
        line: The number of its line in what the tap said.
        value: What it holds, or None where it is no record.
        size: Bytes of its line.
        text: The line, where it could not be read.
        fault: Why it could not be read, or "".
    """

    line: int
    value: Any
    size: int
    text: str = ""
    fault: str = ""


@dataclass
class Records:
    """Makes rows of records.

    Attributes:
        schema: The columns that are wanted.
        names: All that the stream has.
        loose: Whether further fields are passed over, because the document declares the columns.
        required: Fields that must be there.
        allowed: The JSON types of each field; None for any.
    """

    schema: pa.Schema
    names: frozenset[str]
    loose: bool
    required: tuple[str, ...] = ()
    allowed: dict[str, frozenset[str] | None] = field(default_factory=dict)

    def hold_to(self, schema: Mapping[str, Any]) -> None:
        """Takes what a schema says beyond columns: which fields must be there, and of which types they may be."""
        required = schema.get("required")
        self.required = tuple(map(str, required)) if isinstance(required, list) else ()
        properties = schema.get("properties")
        known = properties if isinstance(properties, dict) else {}
        self.allowed = {} if self.loose else {name: _allowed(each) for name, each in known.items()}

    def of(self, records: Sequence[Record]) -> tuple[pa.RecordBatch, list[Rejection]]:
        """Returns the rows, and the records that are none with the reasons."""
        rejected: list[Rejection] = []
        good: list[Record] = []
        for each in records:
            reason = each.fault or self._fault(each.value)
            if reason:
                rejected.append(_rejection(each, reason))
            else:
                good.append(each)
        return self._built(good, rejected), rejected

    def _fault(self, value: Any) -> str:
        if not isinstance(value, dict):
            return "it is not an object"
        if not self.loose and not self.names.issuperset(value):
            return f"field '{min(set(value) - self.names)}' is not in the stream's schema: declare `schema`"
        missing = next((each for each in self.required if each not in value), None)
        if missing is not None:
            return f"field '{missing}' is missing"
        for name, each in value.items():
            allowed = self.allowed.get(name)
            if allowed is not None and allowed.isdisjoint(_types_of(each)):
                return f"field '{name}' is {_types_of(each)[-1]}, not {' or '.join(sorted(allowed))}"
        return ""

    def _built(self, good: list[Record], rejected: list[Rejection]) -> pa.RecordBatch:
        try:
            values = [{each.name: _fitted(row.value.get(each.name), each) for each in self.schema} for row in good]
            return from_rows(values, self.schema)
        except (ValueError, OverflowError, RecursionError) as error:
            if len(good) == 1:
                rejected.append(_rejection(good[0], (str(error).splitlines() or ["it does not fit"])[0]))
                return pa.RecordBatch.from_pylist([], self.schema)
        half = len(good) // 2
        parts = [self._built(part, rejected) for part in (good[:half], good[half:])]
        batches = pa.Table.from_batches(parts).combine_chunks().to_batches()
        return batches[0] if batches else parts[0]


def _fitted(value: Any, column: pa.Field[Any]) -> Any:
    """Returns a value for a column; a number with more digits than a float keeps is refused."""
    if isinstance(value, decimal.Decimal) and pa.types.is_floating(column.type) and not _keeps(value):
        raise ValueError(f"column '{column.name}': {value} has more digits than a float keeps")
    return value


def _keeps(value: decimal.Decimal) -> bool:
    found = float(value)
    return math.isfinite(found) and decimal.Decimal(repr(found)) == value


def _rejection(record: Record, reason: str) -> Rejection:
    text = record.text or json.dumps(record.value, default=str, ensure_ascii=False)
    row = {"line": record.line, "text": text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"}
    return Rejection(pa.RecordBatch.from_pylist([row], _REJECTED), f"message {record.line}: {reason}", "malformed", "")
