"""SQLite's declared types and Arrow's, both ways, and the values between them; talks to no file.

A declared type is a promise that SQLite does not keep by itself, so every value is looked at. Decimals: an integer or a
text is exact; a floating-point value counts as the decimal it was written as where 15 digits tell which (SQLite turns
`1.50` into 1.5 in a column declared `DECIMAL(10,2)`), and rejects its row otherwise. What is made here declares
`DECIMAL_TEXT(p, s)`, which keeps every digit because of the word TEXT; whole numbers of up to 18 digits stay integers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from dsl.contracts.errors import RejectedRows, SchemaError
from resources.sql_refusals import refuse, refuse_beyond_calendar, refuse_minus_zero
from resources.sql_types import (
    DECIMAL,
    INSTANT,
    INTERVAL,
    JSON,
    TIMESTAMP,
    UUID,
    decimal_type,
    from_text,
    from_values,
    is_bytes,
    is_nested,
    is_text,
    mark_of,
    marked,
    plain,
)

DOUBLE_DIGITS, INTEGER_DIGITS = 15, 18
TIME = pa.time64("us")
_DECLARED: dict[str, pa.DataType] = {
    "BOOL": pa.bool_(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "TIME": TIME,
    "DATETIME": TIMESTAMP,
    "TIMESTAMP": TIMESTAMP,
    "TIMESTAMP WITHOUT TIME ZONE": TIMESTAMP,
    "TIMESTAMPTZ": INSTANT,
    "TIMESTAMP WITH TIME ZONE": INSTANT,
}
_MARKED = {
    "JSON": JSON, "JSON_TEXT": JSON, "UUID": UUID, "UUID_TEXT": UUID, "DURATION_TEXT": INTERVAL, "DECIMAL_TEXT": DECIMAL,
}  # fmt: skip
_MARK_NAMES = {JSON: "JSON_TEXT", UUID: "UUID_TEXT", INTERVAL: "DURATION_TEXT", DECIMAL: "DECIMAL_TEXT"}
_NAMES: dict[pa.DataType, str] = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "INTEGER",
    pa.int16(): "INTEGER",
    pa.int32(): "INTEGER",
    pa.int64(): "INTEGER",
    pa.float32(): "REAL",
    pa.float64(): "REAL",
    pa.date32(): "DATE",
    TIME: "TIME",
    TIMESTAMP: "TIMESTAMP",
    INSTANT: "TIMESTAMPTZ",
    pa.binary(): "BLOB",
    pa.string(): "TEXT",
    pa.null(): "TEXT",
}
_WIDTHS = {pa.date32(): 10, TIME: 15, TIMESTAMP: 26, INSTANT: 27}
_SIZED = re.compile(r"(?:DECIMAL|NUMERIC|DECIMAL_TEXT)\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_ZONE: Final = re.compile(r"(Z|[+-]\d\d(:?\d\d)?)$", re.ASCII)


def affinity(declared: str) -> str:
    """Returns the class that SQLite prefers for a column's values; https://www.sqlite.org/datatype3.html, 3.1."""
    words = declared.upper()
    for affinity, signs in (("INTEGER", ("INT",)), ("TEXT", ("CHAR", "CLOB", "TEXT")), ("BLOB", ("BLOB",))):
        if any(each in words for each in signs):
            return affinity
    if not words:
        return "BLOB"
    return "REAL" if any(each in words for each in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


def field_of(name: str, declared: str) -> pa.Field[Any] | None:
    """Returns the field that reading a column yields, or None where its declared type promises nothing."""
    words = " ".join(declared.upper().split())
    bare = words.partition("(")[0].strip()
    if bare in _DECLARED:
        return pa.field(name, _DECLARED[bare])
    if sized := _SIZED.fullmatch(words):
        made = decimal_type(int(sized[1]), int(sized[2] or 0))
        return marked(name, DECIMAL) if made is None else pa.field(name, made)
    if words in _MARKED:
        return marked(name, _MARKED[words])
    kinds = {"INTEGER": pa.int64(), "TEXT": pa.string(), "REAL": pa.float64(), "BLOB": pa.binary() if words else None}
    kind = kinds.get(affinity(words))
    return None if kind is None else pa.field(name, kind)


def field_for(name: str, classes: Iterable[str]) -> pa.Field[Any]:
    """Returns the field of a column whose values, not its declaration, say what it is.

    Args:
        name: The column.
        classes: The storage classes of its values, as `typeof` names them.
    """
    found = set(classes) - {"null"}
    if found == {"blob"}:
        return pa.field(name, pa.binary())
    if found == {"integer"}:
        return pa.field(name, pa.int64())
    return pa.field(name, pa.float64() if found and found <= {"integer", "real"} else pa.string())


def zoned(field: pa.Field[Any], value: Any) -> pa.Field[Any]:
    """Returns the field of a column whose declared type says nothing of zones, by the first of its values."""
    if field.type == TIMESTAMP and isinstance(value, str) and _ZONE.search(value[10:]):
        return field.with_type(INSTANT)
    return field


def stored_type(declared: str) -> pa.DataType:
    """Returns the type whose values a column keeps exactly; null for a column that keeps anything as it is.

    Numeric affinity turns a decimal into a floating-point number, which tells 15 digits apart.
    """
    field = field_of("", declared)
    numeric = affinity(declared) == "NUMERIC"
    if field is None:
        return pa.float64() if numeric else pa.null()
    if numeric and pa.types.is_decimal(field.type):
        most = INTEGER_DIGITS if field.type.scale == 0 else DOUBLE_DIGITS
        return pa.decimal128(min(field.type.precision, most), min(field.type.scale, most))
    kind: pa.DataType = field.type
    return kind


def type_name(field: pa.Field[Any]) -> str:
    """Returns the declared type of a column that holds the field.

    Raises:
        SchemaError: SQLite has none.
    """
    kind = plain(field.type)
    if mark_of(field) in _MARK_NAMES:
        return _MARK_NAMES[mark_of(field)]
    if is_nested(kind):
        return "JSON_TEXT"
    if pa.types.is_decimal128(kind):
        whole = kind.scale == 0 and kind.precision <= INTEGER_DIGITS
        return f"DECIMAL{'' if whole else '_TEXT'}({kind.precision}, {kind.scale})"
    if kind not in _NAMES:
        raise SchemaError(f"column '{field.name}' is {kind}, for which SQLite has no type", hint="cast it in a mapping")
    return _NAMES[kind]


def decode(values: Sequence[Any], field: pa.Field[Any]) -> tuple[pa.Array[Any], tuple[int, ...]]:
    """Reads a column of SQLite's values; one that its Arrow type cannot hold exactly becomes null and is named."""
    kind, classes = field.type, set(map(type, values)) - {type(None)}
    if kind in _WIDTHS:
        return _moments(values, kind)
    if mark_of(field) == JSON:
        return from_values(values, kind, _json)
    if pa.types.is_boolean(kind):
        return from_values(values, kind, _boolean)
    if pa.types.is_decimal(kind):
        return from_values(values, kind, _decimal)
    takes = {pa.int64(): (int,), pa.float64(): (int, float), pa.binary(): (bytes,)}.get(kind, (str,))
    if classes <= set(takes):
        return from_values(values, kind, _same)
    return from_values(values, kind, lambda value: _only(value, takes))


def _same(value: Any) -> Any:
    return value


def _only(value: Any, takes: tuple[type, ...]) -> Any:
    if not isinstance(value, takes):
        raise TypeError
    return value


def _boolean(value: Any) -> bool:
    if value not in {0, 1} or not isinstance(value, int):
        raise ValueError
    return bool(value)


def _json(value: Any) -> str:
    """Numbers are JSON too, and a column declared JSON has numeric affinity."""
    return value if isinstance(value, str) else repr(_only(value, (int, float)))


def _decimal(value: Any) -> Decimal:
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            raise ValueError
        return Decimal(value)
    made = Decimal(repr(_only(value, (float,))))
    if not made.is_finite() or len(made.normalize().as_tuple().digits) > DOUBLE_DIGITS:
        raise ValueError
    return made


def _moments(values: Sequence[Any], kind: pa.DataType) -> tuple[pa.Array[Any], tuple[int, ...]]:
    texts, strangers = from_values(values, pa.string(), lambda value: _only(value, (str,)))
    if kind == INSTANT:  # SQLite's own functions give UTC without a zone
        zoned = [None if each is None or _ZONE.search(each[10:]) else f"{each}Z" for each in texts.to_pylist()]
        texts = pc.coalesce(pa.array(zoned, pa.string()), texts)
    column, failed = from_text(texts, kind)
    return column, tuple(sorted({*strangers, *failed}))


def encode(column: pa.Array[Any], name: str, where: str) -> list[Any]:
    """Returns a column's values as SQLite stores them.

    Raises:
        RejectedRows: Names the rows that would not be stored as they are.
    """
    kind = column.type
    if pa.types.is_floating(kind):
        refuse(pc.is_nan(column), f"column '{name}' is NaN, which SQLite turns into NULL", where)
    refuse_minus_zero(column, name, where, "SQLite turns into 0.0")
    if pa.types.is_decimal(kind):
        return [None if each is None else format(each, "f") for each in column.to_pylist()]
    if is_text(kind) or is_bytes(kind) or not pa.types.is_temporal(kind):
        return column.to_pylist()
    wanted = plain(kind)
    if wanted not in _WIDTHS:
        raise RejectedRows(f"column '{name}' is {kind}, which SQLite cannot hold", where=where)
    refuse_beyond_calendar(column, name, where)
    try:
        texts: Any = pc.cast(pc.cast(column, wanted, safe=True), pa.string())
    except pa.ArrowInvalid as error:
        raise RejectedRows(f"column '{name}': {error}", where=where) from error
    strange: Any = pc.not_equal(pc.utf8_length(texts), pa.scalar(_WIDTHS[wanted], pa.int32()))
    strange = pc.or_(strange, pc.starts_with(texts, "0000-"))
    refuse(strange, f"column '{name}' lies outside of the years 1 to 9999", where)
    return list(texts.to_pylist())
