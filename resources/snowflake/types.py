"""Snowflake's types and Arrow's, and what a column can hold; talks to no server.

Whole numbers are NUMBER, instants TIMESTAMP_TZ in UTC, nested values and JSON VARIANT. What a column would refuse or
cut (NULL, a text too long, a text that is no JSON) is found before it is sent, so that its row can be named.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dsl.contracts.errors import RejectedRows, SchemaError
from resources.sql_types import INSTANT, JSON, TIMESTAMP, is_nested, mark_of, marked, plain

LARGEST_BYTES = 16 * 2**20
_SIZED = re.compile(r"(\w+)\s*(?:\((\d+)(?:\s*,\s*(\d+))?\))?")
_SEMI = frozenset({"VARIANT", "OBJECT", "ARRAY"})
_TEXTS = frozenset({"VARCHAR", "TEXT", "STRING", "CHAR", "CHARACTER", "NVARCHAR"})
_BYTES = frozenset({"BINARY", "VARBINARY"})
_FIXED: dict[str, pa.DataType] = {
    "FLOAT": pa.float64(),
    "DOUBLE": pa.float64(),
    "REAL": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
}
_NAMES: dict[pa.DataType, str] = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "NUMBER(3, 0)",
    pa.int16(): "NUMBER(5, 0)",
    pa.int32(): "NUMBER(10, 0)",
    pa.int64(): "NUMBER(19, 0)",
    pa.float32(): "FLOAT",
    pa.float64(): "FLOAT",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME(6)",
    TIMESTAMP: "TIMESTAMP_NTZ(6)",
    INSTANT: "TIMESTAMP_TZ(6)",
    pa.binary(): "BINARY",
    pa.string(): "VARCHAR",
    pa.null(): "VARCHAR",
}


@dataclass(frozen=True)
class Described:
    """A column as DESCRIBE TABLE tells it.

    Attributes:
        name: Its name.
        type: The words of its type, such as `NUMBER(38,0)`.
        required: Whether it refuses NULL.
    """

    name: str
    type: str
    required: bool = False

    @property
    def base(self) -> str:
        """The type without its sizes."""
        found = _SIZED.match(self.type)
        return found[1].upper() if found else self.type

    @property
    def sizes(self) -> tuple[int, ...]:
        """The type's sizes, as many as are written."""
        found = _SIZED.match(self.type)
        return tuple(int(each) for each in found.groups()[1:] if each) if found else ()

    @property
    def semistructured(self) -> bool:
        """Whether it holds what JSON can say."""
        return self.base in _SEMI


def stored_type(column: Described) -> pa.DataType:
    """Returns the type whose values a column keeps exactly."""
    if column.base == "NUMBER":
        precision, scale = (*column.sizes, 38, 0)[:2] if len(column.sizes) == 2 else (38, 0)
        return pa.decimal128(precision, scale)
    unit = _unit(column.sizes[0] if column.sizes else 9)
    if column.base == "TIME":
        return pa.time64("us") if unit == "us" else pa.time32(unit)
    if column.base == "TIMESTAMP_NTZ":
        return pa.timestamp(unit)
    if column.base in {"TIMESTAMP_TZ", "TIMESTAMP_LTZ"}:
        return pa.timestamp(unit, "UTC")
    if column.base in _FIXED:
        return _FIXED[column.base]
    return pa.binary() if column.base in _BYTES else pa.string()


def _unit(digits: int) -> Any:
    return "us" if digits >= 6 else "ms" if digits >= 3 else "s"


def field_of(column: Described) -> pa.Field[Any]:
    """Returns the field that a column's values are."""
    if column.semistructured:
        return marked(column.name, JSON)
    kind = stored_type(column)
    whole = pa.types.is_decimal(kind) and kind.scale == 0 and kind.precision <= 18
    return pa.field(column.name, pa.int64() if whole else plain(kind))


def type_name(field: pa.Field[Any]) -> str:
    """Returns the type of a column that holds the field.

    Raises:
        SchemaError: Snowflake has none.
    """
    kind = plain(field.type)
    if mark_of(field) == JSON or is_nested(kind):
        return "VARIANT"
    if pa.types.is_decimal128(kind):
        return f"NUMBER({kind.precision}, {kind.scale})"
    if kind not in _NAMES:
        raise SchemaError(
            f"column '{field.name}' is {kind}, for which Snowflake has no type", hint="cast it in a mapping"
        )
    return _NAMES[kind]


def arriving(column: Described, field: str) -> str:
    """Returns what turns a field of a Parquet file into a column's value."""
    value = f"$1:{field}"
    if column.semistructured:
        return f"PARSE_JSON({value}::VARCHAR)" + ("" if column.base == "VARIANT" else f"::{column.base}")
    if column.base in _TEXTS or column.base in _BYTES:  # without a size: a cast would cut
        return f"{value}::{'BINARY' if column.base in _BYTES else 'VARCHAR'}"
    return f"{value}::{column.type}"


def check(column: Described, values: Any, where: str) -> None:
    """Looks whether a column can hold its values.

    Raises:
        RejectedRows: Names the rows that it cannot.
    """
    if column.required:
        _refuse(values.is_null(), f"column '{column.name}' may not be NULL", where)
    if pa.types.is_string(values.type):
        size = column.sizes[0] if column.base in _TEXTS and column.sizes else LARGEST_BYTES
        long = pc.greater(pc.utf8_length(values), pa.scalar(size, pa.int32()))
        _refuse(long, f"column '{column.name}' holds no more than {size} characters", where)
    if pa.types.is_string(values.type) or pa.types.is_binary(values.type):
        most = column.sizes[0] if column.base in _BYTES and column.sizes else LARGEST_BYTES
        large = pc.greater(pc.binary_length(values), pa.scalar(max(most, _chars(column)), pa.int32()))
        _refuse(large, f"column '{column.name}' holds no more than {most} bytes", where)
    if column.semistructured:
        wrong = pa.array([each is not None and not is_json(each) for each in values.to_pylist()], pa.bool_())
        _refuse(wrong, f"column '{column.name}' is {column.base}, and the text is not JSON", where)


def _chars(column: Described) -> int:
    return column.sizes[0] if column.base in _TEXTS and column.sizes and column.sizes[0] > LARGEST_BYTES else 0


def is_json(text: str) -> bool:
    """Tells whether a text is JSON; NaN and infinities are none."""
    try:
        json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return False
    return True


def _no_number(word: str) -> float:
    raise ValueError(word)


def _refuse(wrong: Any, reason: str, where: str) -> None:
    rows = [index for index, each in enumerate(wrong.to_pylist()) if each]
    if rows:
        raise RejectedRows(reason, rows=rows, where=where)
