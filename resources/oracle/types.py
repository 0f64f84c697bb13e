"""Oracle's types and Arrow's, both ways; talks to no server.

NUMBER(1) is a boolean; a value other than 0 and 1 in it is rejected. A NUMBER without a precision is read as text, for it may have forty
digits. Times are read as the server's own text, so that nanoseconds, which Arrow's microseconds cannot hold, are rejected and not cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dsl.contracts.errors import RejectedRows, SchemaError
from resources.sql import quoted
from resources.sql_types import (
    DECIMAL,
    INSTANT,
    INTERVAL,
    JSON,
    TIMESTAMP,
    decimal_type,
    from_text,
    from_values,
    is_nested,
    mark_of,
    marked,
    plain,
)

MOMENT = 'SYYYY-MM-DD"T"HH24:MI:SS.FF9'
SECOND = 'SYYYY-MM-DD"T"HH24:MI:SS'
TIMES = frozenset({"DATE", "TIMESTAMP", "TIMESTAMP_TZ", "TIMESTAMP_LTZ"})
_ZONED = frozenset({"TIMESTAMP_TZ", "TIMESTAMP_LTZ"})
_TEXTS = frozenset(
    {"VARCHAR", "NVARCHAR", "CHAR", "NCHAR", "CLOB", "NCLOB", "LONG", "LONG_NVARCHAR", "ROWID", "UROWID"}
)
_BYTES = frozenset({"RAW", "BLOB", "LONG_RAW"})
_FLOATS = {"BINARY_FLOAT": pa.float32(), "BINARY_DOUBLE": pa.float64()}
_UNORDERED = frozenset({*_FLOATS, *_BYTES, "CLOB", "NCLOB", "LONG", "LONG_NVARCHAR", "JSON"})
_UNCONSTRAINED = -127
_NAMES: dict[pa.DataType, str] = {
    pa.bool_(): "NUMBER(1)", pa.int8(): "NUMBER(3)", pa.int16(): "NUMBER(5)", pa.int32(): "NUMBER(10)", pa.int64(): "NUMBER(19)",
    pa.float32(): "BINARY_FLOAT", pa.float64(): "BINARY_DOUBLE", pa.date32(): "DATE", TIMESTAMP: "TIMESTAMP(6)",
    INSTANT: "TIMESTAMP(6) WITH TIME ZONE", pa.binary(): "BLOB", pa.string(): "VARCHAR2(4000 BYTE)", pa.null(): "VARCHAR2(4000 BYTE)",
}  # fmt: skip


@dataclass(frozen=True)
class Described:
    """A column as the driver describes it.

    Attributes:
        name: Its name.
        base: The driver's name of its type, without `DB_TYPE_`.
        precision: Digits of a NUMBER; 0 if it has no limit.
        scale: Digits behind the point, or of the seconds.
        required: Whether it refuses NULL.
    """

    name: str
    base: str
    precision: int = 0
    scale: int = 0
    required: bool = False

    @property
    def words(self) -> str:
        """Its type, for people."""
        sizes = f"({self.precision},{self.scale})" if self.base == "NUMBER" and self.precision else ""
        return f"{self.base}{sizes}"

    @property
    def orderable(self) -> bool:
        """Whether a value of it survives as the text of a state."""
        return self.base in {"NUMBER", *TIMES, *_TEXTS} and self.base not in _UNORDERED


def described(description: Sequence[Any]) -> list[Described]:
    """Returns the columns of a result."""
    return [
        Described(
            each.name,
            each.type_code.name.removeprefix("DB_TYPE_"),
            each.precision or 0,
            each.scale or 0,
            required=not each.null_ok,
        )
        for each in description
    ]


def stored_type(column: Described) -> pa.DataType | None:
    """Returns the type whose values a column keeps exactly, or None where Arrow has none."""
    base = column.base
    if base == "NUMBER":
        if column.precision == 0 or column.scale == _UNCONSTRAINED:
            return pa.string()
        return (
            pa.bool_() if (column.precision, column.scale) == (1, 0) else decimal_type(column.precision, column.scale)
        )
    if base in TIMES:
        return INSTANT if base in _ZONED else pa.timestamp("s") if base == "DATE" else TIMESTAMP
    if base in _FLOATS:
        return _FLOATS[base]
    if base == "BOOLEAN":
        return pa.bool_()
    if base in _TEXTS or base in {"JSON", "INTERVAL_DS", "INTERVAL_YM"}:
        return pa.string()
    return pa.binary() if base in _BYTES else None


def field_of(column: Described, where: str) -> pa.Field[Any]:
    """Returns the field that a column's values are.

    Raises:
        SchemaError: There is none.
    """
    kind = stored_type(column)
    if kind is None:
        raise SchemaError(
            f"column '{column.name}' is {column.words}, which cannot be read exactly",
            where=where,
            hint="cast it in a query, or leave it out of columns",
        )
    marks = {"JSON": JSON, "INTERVAL_DS": INTERVAL, "INTERVAL_YM": INTERVAL, "NUMBER": DECIMAL}
    if pa.types.is_string(kind) and column.base in marks:
        return marked(column.name, marks[column.base])
    whole = pa.types.is_decimal(kind) and kind.scale == 0 and kind.precision <= 18
    return pa.field(column.name, pa.int64() if whole else plain(kind))


def expression(column: Described) -> str:
    """Returns what to select so that the driver gives a value exactly."""
    name = quoted(column.name)
    if column.base in _ZONED:
        return f"TO_CHAR(SYS_EXTRACT_UTC({name}), '{MOMENT}')"
    if column.base in {"TIMESTAMP", "DATE"}:
        return f"TO_CHAR({name}, '{SECOND if column.base == 'DATE' else MOMENT}')"
    if column.base in {"INTERVAL_DS", "INTERVAL_YM"}:
        return f"TO_CHAR({name})"
    return f"JSON_SERIALIZE({name} RETURNING CLOB)" if column.base == "JSON" else name


def text_expression(column: Described) -> str:
    """Returns what to select for the text of a value in a state."""
    return f"TO_CHAR({quoted(column.name)}, 'TM9')" if column.base == "NUMBER" else expression(column)


def comparable(column: Described) -> str:
    """Returns the place of a parameter that is compared with a column."""
    if column.base == "NUMBER":
        return "TO_NUMBER(?)"
    if column.base == "DATE":
        return f"TO_DATE(?, '{SECOND}')"
    if column.base == "TIMESTAMP":
        return f"TO_TIMESTAMP(?, '{MOMENT}')"
    return f"FROM_TZ(TO_TIMESTAMP(?, '{MOMENT}'), 'UTC')" if column.base in _ZONED else "?"


def decode(values: Sequence[Any], column: Described, kind: pa.DataType) -> tuple[pa.Array[Any], tuple[int, ...]]:
    """Reads a column of what `expression` selects; see `resources.sql_types.from_text`."""
    if column.base in TIMES:
        texts: Any = pa.array([None if each is None else str(each).strip() for each in values], pa.string())
        texts = pc.replace_substring_regex(texts, r"(\.\d{6})0+$", r"\1")
        made, failed = from_text(texts, TIMESTAMP)
        return made.cast(kind), failed
    if column.base == "NUMBER" and pa.types.is_string(kind):
        return pa.array([None if each is None else format(each, "f") for each in values], kind), ()
    if column.base == "NUMBER" and pa.types.is_boolean(kind):
        return from_values(values, kind, _boolean)
    return from_values(values, kind, int if pa.types.is_integer(kind) else lambda value: value)


def _boolean(value: Any) -> bool:
    if value not in {0, 1}:
        raise ValueError("neither 0 nor 1")
    return bool(value)


def type_name(field: pa.Field[Any], *, key: bool) -> str:
    """Returns the type of a column that holds the field; of limited length where it is part of a key.

    Raises:
        SchemaError: Oracle has none.
    """
    kind = plain(field.type)
    if mark_of(field) == JSON or is_nested(kind):
        return "CLOB"
    if pa.types.is_decimal128(kind):
        return f"NUMBER({kind.precision}, {kind.scale})"
    if kind not in _NAMES:
        raise SchemaError(f"column '{field.name}' is {kind}, for which Oracle has no type", hint="cast it in a mapping")
    if key and kind in {pa.string(), pa.binary()}:
        return "RAW(1000)" if kind == pa.binary() else "VARCHAR2(1000 BYTE)"
    return _NAMES[kind]


# ---- rows as parameters ---------------------------------------------------------------------------------------------


def place(kind: pa.DataType) -> str:
    """Returns the place of a value in an INSERT; an instant is sent without its zone, for the driver would drop it."""
    return "FROM_TZ(CAST(? AS TIMESTAMP(6)), 'UTC')" if kind == INSTANT else "?"


def parameters(values: Any, name: str, where: str, *, empty_is_null: bool) -> list[Any]:
    """Returns a column as the driver takes it.

    Raises:
        RejectedRows: Oracle cannot tell a value from NULL, or from another one; names the rows.
    """
    kind, held = values.type, values.to_pylist()
    if pa.types.is_boolean(kind):
        return [None if each is None else int(each) for each in held]
    if kind == INSTANT:
        return [None if each is None else each.replace(tzinfo=None) for each in held]
    if pa.types.is_floating(kind):
        wrong = [at for at, each in enumerate(held) if each == 0 and math.copysign(1, each) < 0]
        _refuse(wrong, f"column '{name}' is a negative zero, which Oracle would make a positive one", where)
    if (pa.types.is_string(kind) or pa.types.is_binary(kind)) and not empty_is_null:
        wrong = [at for at, each in enumerate(held) if each is not None and len(each) == 0]
        _refuse(wrong, f"column '{name}' is empty, which Oracle cannot tell from NULL; see empty_text", where)
    return list(held)


def _refuse(rows: list[int], reason: str, where: str) -> None:
    if rows:
        raise RejectedRows(reason, rows=rows, where=where)


def sizes(kind: pa.DataType, held: Sequence[Any]) -> Any:
    """Returns how the driver should send a column: the name of one of its types, or the most bytes of a text."""
    if pa.types.is_string(kind):
        longest = max((len(each.encode()) for each in held if each is not None), default=1)
        return "DB_TYPE_CLOB" if longest > 32_767 else max(1, longest)
    if pa.types.is_binary(kind):
        return "DB_TYPE_BLOB" if any(each is not None and len(each) > 2000 for each in held) else "DB_TYPE_RAW"
    if pa.types.is_floating(kind):
        return "DB_TYPE_BINARY_DOUBLE" if kind == pa.float64() else "DB_TYPE_BINARY_FLOAT"
    return "DB_TYPE_TIMESTAMP" if pa.types.is_timestamp(kind) else "DB_TYPE_NUMBER"
