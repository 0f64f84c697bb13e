"""Python values, Arrow tables and data frames as batches of fixed columns; what does not fit is refused with a reason, never bent."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from dsl.contracts.errors import SchemaError
from dsl.contracts.rows import Rejection
from resources.formats.json_values import from_json

_SHOWN: Final = 1000
_SCALE: Final = 9
_COLUMNS: Final[dict[str, pa.DataType]] = {"row": pa.int64(), "text": pa.string()}
_REJECTED: Final = pa.schema(_COLUMNS)
_KINDS: Final[Mapping[type, str]] = {
    bool: "boolean",
    int: "integer",
    float: "float",
    decimal.Decimal: "decimal",
    str: "text",
    bytes: "bytes",
    dt.date: "date",
    dt.time: "time",
    uuid.UUID: "uuid",
    dict: "json",
    list: "json",
    tuple: "json",
}
_TYPES: Final[Mapping[str, pa.DataType]] = {
    "boolean": pa.bool_(),
    "integer": pa.int64(),
    "float": pa.float64(),
    "bytes": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "instant": pa.timestamp("us", "UTC"),
}


def kind_of(value: Any) -> str:
    """Returns what a value is, in words for errors; its class where it is nothing that a row can hold."""
    if isinstance(value, dt.datetime):
        return "timestamp" if value.tzinfo is None else "instant"
    known = _KINDS.get(type(value))
    if known is not None:
        return known
    return next((kind for cls, kind in _KINDS.items() if isinstance(value, cls)), type(value).__name__)


def inferred(rows: Sequence[Mapping[str, Any]]) -> pa.Schema:
    """Returns the columns that some rows suggest: texts where values differ in kind, or where all are NULL."""
    values: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            values.setdefault(name, []).append(value)
    return pa.schema([pa.field(str(name), _inferred(held)) for name, held in values.items()])


def _inferred(values: Sequence[Any]) -> pa.DataType:
    given = [each for each in values if each is not None]
    kinds = {kind_of(each) for each in given}
    if kinds == {"integer"} and any(not -(2**63) <= each < 2**63 for each in given):
        return pa.decimal128(38, 0)
    if kinds == {"integer", "float"} and all(isinstance(each, float) or abs(each) <= 2**53 for each in given):
        return pa.float64()
    if kinds in ({"decimal"}, {"decimal", "integer"}):
        return pa.decimal128(38, max(_SCALE, *(_scale(each) for each in given)))
    return _TYPES.get(next(iter(kinds)), pa.string()) if len(kinds) == 1 else pa.string()


def _scale(value: Any) -> int:
    exponent = value.as_tuple().exponent if isinstance(value, decimal.Decimal) else 0
    return -exponent if isinstance(exponent, int) and exponent < 0 else 0


@dataclass(frozen=True)
class Rows:
    """Makes batches.

    Attributes:
        schema: The columns that are wanted.
        names: All that the resource has.
        loose: Whether further columns are passed over, because the document declares them.
        where: Names the resource in errors.
    """

    schema: pa.Schema
    names: frozenset[str]
    loose: bool
    where: str

    def of(self, rows: Sequence[Any], first: int) -> tuple[pa.RecordBatch, list[Rejection]]:
        """Returns a batch of dictionaries, and those that are refused with the reasons.

        Args:
            rows: As the resource yielded them.
            first: The number of the first of them.
        """
        rejected: list[Rejection] = []
        good: list[tuple[int, Any]] = []
        for at, each in enumerate(rows, first):
            reason = self._fault(each)
            if reason:
                rejected.append(_rejection(at, each, reason))
            else:
                good.append((at, each))
        return self._built(good, rejected), rejected

    def _fault(self, row: Any) -> str:
        if not isinstance(row, dict):
            return f"it is {kind_of(row)}, not a dictionary"
        unknown = set() if self.loose else set(row) - self.names
        return f"column '{min(map(str, unknown))}' is not in the first rows: declare `schema`" if unknown else ""

    def _built(self, good: list[tuple[int, Any]], rejected: list[Rejection]) -> pa.RecordBatch:
        try:
            columns = [_column([row.get(each.name) for _, row in good], each) for each in self.schema]
            return _batch(columns, self.schema, len(good))
        except (ValueError, TypeError, OverflowError, RecursionError, pa.ArrowException) as error:
            if len(good) == 1:
                rejected.append(_rejection(*good[0], (str(error).splitlines() or ["it does not fit"])[0]))
                return pa.RecordBatch.from_pylist([], self.schema)
        half = len(good) // 2
        parts = [self._built(part, rejected) for part in (good[:half], good[half:])]
        batches = pa.Table.from_batches(parts).combine_chunks().to_batches()
        return batches[0] if batches else parts[0]

    def table(self, found: pa.Table) -> pa.Table:
        """Returns an Arrow table in the wanted columns; types may be widened, values never change.

        Raises:
            SchemaError: It has other columns, or one whose values do not fit.
        """
        unknown = [] if self.loose else sorted(set(found.schema.names) - self.names)
        if unknown:
            hint = "declare `schema`"
            raise SchemaError(f"column '{unknown[0]}' is not in the first rows", where=self.where, hint=hint)
        columns = [self._cast(found, each) for each in self.schema]
        return pa.Table.from_arrays(columns, schema=self.schema) if columns else found.select([])

    def _cast(self, found: pa.Table, field: pa.Field[Any]) -> Any:
        if field.name not in found.schema.names:
            return pa.nulls(found.num_rows, field.type)
        try:
            return found.column(field.name).cast(field.type)
        except (ValueError, pa.ArrowException) as error:
            told = f"column '{field.name}' does not fit {field.type}: {(str(error).splitlines() or [''])[0]}"
            raise SchemaError(told, where=self.where, hint="declare `schema`") from error


def _batch(columns: list[Any], schema: pa.Schema, count: int) -> pa.RecordBatch:
    if columns:
        return pa.RecordBatch.from_arrays(columns, schema=schema)
    empty: Any = pa.array([{}] * count, pa.struct([]))
    return pa.RecordBatch.from_struct_array(empty)


def _column(values: list[Any], field: pa.Field[Any]) -> Any:
    """Builds a column.

    Raises:
        ValueError: A value is of another kind; names the column.
    """
    kind = field.type
    try:
        if pa.types.is_nested(kind):
            return from_json(values, kind)
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return pa.array([None if each is None else _text(each) for each in values], kind)
        _check_kinds(values, kind)
        return pa.array(values, kind)
    except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
        raise ValueError(f"column '{field.name}': {(str(error).splitlines() or [''])[0]}") from error


def _check_kinds(values: list[Any], kind: Any) -> None:
    allowed = _allowed(kind)
    for each in values:
        if each is not None and kind_of(each) not in allowed:
            raise ValueError(f"{kind_of(each)} is not {kind}")


def _allowed(kind: Any) -> frozenset[str]:
    """Returns the kinds of values that a type takes without changing them; Arrow checks their ranges."""
    if pa.types.is_boolean(kind):
        return frozenset({"boolean"})
    if pa.types.is_integer(kind):
        return frozenset({"integer"})
    if pa.types.is_floating(kind):
        return frozenset({"float", "integer"})
    if pa.types.is_decimal(kind):
        return frozenset({"decimal", "integer"})
    if pa.types.is_timestamp(kind):
        return frozenset({"instant" if kind.tz else "timestamp"})
    if pa.types.is_date(kind):
        return frozenset({"date"})
    if pa.types.is_time(kind):
        return frozenset({"time"})
    return frozenset({"bytes"})


def _text(value: Any) -> str:
    """Returns a text, or the JSON of what is none.

    Raises:
        ValueError: It has no such form.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, uuid.UUID):
        return str(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain, allow_nan=False)


def _plain(value: Any) -> str:
    kind = kind_of(value)
    if kind in {"timestamp", "instant", "date", "time"}:
        return str(value.isoformat())
    if kind in {"decimal", "uuid"}:
        return str(value)
    raise ValueError(f"{kind} has no form in JSON")


def _rejection(number: int, row: Any, reason: str) -> Rejection:
    text = json.dumps(row, default=str, ensure_ascii=False)
    held = {"row": number, "text": text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"}
    return Rejection(pa.RecordBatch.from_pylist([held], _REJECTED), f"row {number}: {reason}", "malformed", "")
