"""The types of the expression language and which of them fit together; knows Arrow and DuckDB's names, evaluates nothing.

Internally a type is the Arrow type of the column. `pa.null()` is "unknown": it fits everything. JSON is a type of its own here
(`pa.json_()`); in what leaves DuckDB it is text (`exported`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import lru_cache
from typing import Any

import pyarrow as pa

JSON = pa.json_(pa.string())
TIMESTAMP = pa.timestamp("us")
TIMESTAMPTZ = pa.timestamp("us", tz="UTC")
MAX_DIGITS = 38
_INT64_DIGITS = 18


class Family(StrEnum):
    """What a type is, without its size."""

    UNKNOWN = "unknown"
    BOOLEAN = "boolean"
    INTEGER = "integer"
    DECIMAL = "decimal"
    FLOAT = "float"
    STRING = "string"
    BINARY = "binary"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp"
    TIMESTAMPTZ = "timestamptz"
    INTERVAL = "interval"
    JSON = "json"
    UUID = "uuid"
    LIST = "list"
    STRUCT = "struct"
    MAP = "map"


def item_of(t: Any) -> pa.DataType:
    """The type of a list's items."""
    found: pa.DataType = t.value_type
    return found


def key_of(t: Any) -> pa.DataType:
    """The type of a map's keys."""
    found: pa.DataType = t.key_type
    return found


def value_of(t: Any) -> pa.DataType:
    """The type of a map's values."""
    found: pa.DataType = t.item_type
    return found


def fields_of(t: Any) -> tuple[pa.Field[Any], ...]:
    """The fields of a struct, in order."""
    return tuple(t)


def decimal_of(t: Any) -> tuple[int, int]:
    """Precision and scale of a decimal."""
    return t.precision, t.scale


def _is_binary(t: pa.DataType) -> bool:
    return (
        pa.types.is_binary(t)
        or pa.types.is_large_binary(t)
        or pa.types.is_fixed_size_binary(t)
        or pa.types.is_binary_view(t)
    )


def _is_list(t: pa.DataType) -> bool:
    views = pa.types.is_list_view(t) or pa.types.is_large_list_view(t)
    return pa.types.is_list(t) or pa.types.is_large_list(t) or pa.types.is_fixed_size_list(t) or views


_FAMILIES: tuple[tuple[Callable[[pa.DataType], bool], Family], ...] = (
    (pa.types.is_null, Family.UNKNOWN),
    (pa.types.is_boolean, Family.BOOLEAN),
    (pa.types.is_integer, Family.INTEGER),
    (pa.types.is_decimal, Family.DECIMAL),
    (pa.types.is_floating, Family.FLOAT),
    (lambda t: pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_string_view(t), Family.STRING),
    (_is_binary, Family.BINARY),
    (pa.types.is_date, Family.DATE),
    (pa.types.is_time, Family.TIME),
    (lambda t: pa.types.is_timestamp(t) and t.tz is None, Family.TIMESTAMP),
    (pa.types.is_timestamp, Family.TIMESTAMPTZ),
    (lambda t: pa.types.is_duration(t) or pa.types.is_interval(t), Family.INTERVAL),
    (lambda t: isinstance(t, pa.JsonType), Family.JSON),
    (lambda t: isinstance(t, pa.UuidType), Family.UUID),
    (_is_list, Family.LIST),
    (pa.types.is_struct, Family.STRUCT),
    (pa.types.is_map, Family.MAP),
)

NUMBERS = frozenset({Family.INTEGER, Family.DECIMAL, Family.FLOAT})
MOMENTS = frozenset({Family.DATE, Family.TIMESTAMP, Family.TIMESTAMPTZ})
NESTED = frozenset({Family.LIST, Family.STRUCT, Family.MAP})
SCALARS = frozenset(Family) - NESTED - {Family.UNKNOWN}


@lru_cache(maxsize=1024)
def family(t: pa.DataType) -> Family:
    """Returns the family of a type; one that the language does not know is unknown."""
    if pa.types.is_dictionary(t):
        return family(item_of(t))
    return next((found for matches, found in _FAMILIES if matches(t)), Family.UNKNOWN)


_EXPORTED: dict[Family, pa.DataType] = {
    Family.STRING: pa.string(),
    Family.BINARY: pa.binary(),
    Family.DATE: pa.date32(),
    Family.TIMESTAMPTZ: TIMESTAMPTZ,
    Family.INTERVAL: pa.month_day_nano_interval(),
    Family.JSON: pa.string(),
    Family.UUID: pa.string(),
}


def exported(t: pa.DataType) -> pa.DataType:
    """Returns the type that DuckDB hands out in Arrow for a column of type `t`, its session being in UTC."""
    if pa.types.is_dictionary(t):
        return exported(item_of(t))
    kind = family(t)
    if kind is Family.LIST and not pa.types.is_fixed_size_list(t):
        return pa.list_(exported(item_of(t)))
    if kind is Family.STRUCT:
        return pa.struct([(each.name, exported(each.type)) for each in fields_of(t)])
    if kind is Family.MAP:
        return pa.map_(exported(key_of(t)), exported(value_of(t)))
    if kind is Family.DECIMAL:
        return pa.decimal128(*decimal_of(t))
    if kind is Family.TIME:
        return t if t == pa.time64("ns") else pa.time64("us")
    if pa.types.is_float16(t):
        return pa.float32()
    return _EXPORTED.get(kind, t)


def settled(t: pa.DataType) -> pa.DataType:
    """Returns the type that a column is brought to before anything is computed with it.

    Timestamps count microseconds (DuckDB ends the whole session, not the query, when it widens an extreme second or
    millisecond inside a function), a UUID is its text, and a list has no fixed size.
    """
    kind = family(t)
    if kind is Family.UUID:
        return pa.string()
    if kind is Family.TIMESTAMP:
        return TIMESTAMP
    if pa.types.is_fixed_size_list(t):
        return pa.list_(exported(item_of(t)))
    return JSON if kind is Family.JSON else exported(t)


# ---- names ------------------------------------------------------------------------------------------------------------

_NAMES: dict[str, pa.DataType] = {
    "string": pa.string(), "text": pa.string(), "varchar": pa.string(),
    "boolean": pa.bool_(), "bool": pa.bool_(),
    "int8": pa.int8(), "int16": pa.int16(), "int32": pa.int32(), "int64": pa.int64(),
    "tinyint": pa.int8(), "smallint": pa.int16(), "bigint": pa.int64(), "integer": pa.int64(), "int": pa.int64(),
    "uint8": pa.uint8(), "uint16": pa.uint16(), "uint32": pa.uint32(), "uint64": pa.uint64(),
    "float": pa.float32(), "float32": pa.float32(), "double": pa.float64(), "float64": pa.float64(),
    "decimal": pa.decimal128(18, 3),
    "date": pa.date32(), "time": pa.time64("us"), "timestamp": TIMESTAMP, "timestamptz": TIMESTAMPTZ,
    "binary": pa.binary(), "json": JSON,
}  # fmt: skip
TYPE_NAMES: tuple[str, ...] = tuple(_NAMES)
_DECIMAL = re.compile(r"decimal\s*\(\s*(\d{1,2})\s*(?:,\s*(\d{1,2})\s*)?\)")


def parse_type(text: str) -> pa.DataType:
    """Reads a type as the language writes it: `int64`, `decimal(10, 2)`, `string[]`.

    Raises:
        ValueError: There is no such type.
    """
    name = text.strip().lower()
    if name.endswith("[]"):
        return pa.list_(parse_type(name[:-2]))
    if found := _DECIMAL.fullmatch(name):
        precision, scale = int(found[1]), int(found[2] or 0)
        if not 1 <= precision <= MAX_DIGITS or scale > precision:
            raise ValueError(
                f"decimal({precision},{scale}): 1 to {MAX_DIGITS} digits, of which at most all after the point"
            )
        return pa.decimal128(precision, scale)
    if name not in _NAMES:
        raise ValueError(f"no type {text.strip()!r}")
    return _NAMES[name]


def show(t: pa.DataType) -> str:
    """Returns a type as the language writes it, for messages."""
    kind = family(t)
    if kind is Family.LIST:
        return f"{show(item_of(t))}[]"
    if kind is Family.STRUCT:
        return f"struct({', '.join(f'{each.name} {show(each.type)}' for each in fields_of(t))})"
    if kind is Family.DECIMAL:
        return "decimal({},{})".format(*decimal_of(t))
    if kind in {Family.INTEGER, Family.FLOAT}:
        return {"halffloat": "float", "float": "float"}.get(str(t), str(t))
    return str(kind)


_DUCKDB: dict[pa.DataType, str] = {
    pa.bool_(): "BOOLEAN", pa.int8(): "TINYINT", pa.int16(): "SMALLINT", pa.int32(): "INTEGER", pa.int64(): "BIGINT",
    pa.uint8(): "UTINYINT", pa.uint16(): "USMALLINT", pa.uint32(): "UINTEGER", pa.uint64(): "UBIGINT",
    pa.float32(): "FLOAT", pa.float64(): "DOUBLE", pa.string(): "VARCHAR", pa.binary(): "BLOB", pa.date32(): "DATE",
    pa.time64("us"): "TIME", pa.time64("ns"): "TIME_NS", pa.month_day_nano_interval(): "INTERVAL",
    TIMESTAMP: "TIMESTAMP", TIMESTAMPTZ: "TIMESTAMPTZ", JSON: "JSON",
    pa.timestamp("s"): "TIMESTAMP_S", pa.timestamp("ms"): "TIMESTAMP_MS", pa.timestamp("ns"): "TIMESTAMP_NS",
}  # fmt: skip


def duckdb_name(t: pa.DataType) -> str:
    """Returns the type's name in DuckDB's SQL.

    Raises:
        ValueError: The type has none.
    """
    kind = family(t)
    if kind is Family.LIST:
        return f"{duckdb_name(item_of(t))}[]"
    if kind is Family.DECIMAL:
        return "DECIMAL({}, {})".format(*decimal_of(t))
    if kind is Family.STRUCT:
        return (
            "STRUCT("
            + ", ".join(
                f'"{each.name.replace(chr(34), chr(34) * 2)}" {duckdb_name(each.type)}' for each in fields_of(t)
            )
            + ")"
        )
    if kind is Family.MAP:
        return f"MAP({duckdb_name(key_of(t))}, {duckdb_name(value_of(t))})"
    name = _DUCKDB.get(t) or _DUCKDB.get(exported(t))
    if name is None:
        raise ValueError(f"no DuckDB type for {t}")
    return name


# ---- numbers ----------------------------------------------------------------------------------------------------------

_DIGITS: dict[pa.DataType, int] = {
    pa.int8(): 3,
    pa.int16(): 5,
    pa.int32(): 10,
    pa.int64(): 19,
    pa.uint8(): 3,
    pa.uint16(): 5,
    pa.uint32(): 10,
    pa.uint64(): 20,
}
_SIGNED = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}


def digits(t: pa.DataType) -> tuple[int, int]:
    """Returns precision and scale of a decimal, or those that DuckDB gives an integer."""
    return decimal_of(t) if pa.types.is_decimal(t) else (_DIGITS[t], 0)


def holds(t: Any, value: int) -> bool:
    """Tells whether an integer type holds a value."""
    bits: int = t.bit_width
    half: int = 1 << (bits - 1)
    return 0 <= value < 2 * half if pa.types.is_unsigned_integer(t) else -half <= value < half


def _common_integer(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    if pa.types.is_unsigned_integer(a) == pa.types.is_unsigned_integer(b):
        return a if a.bit_width >= b.bit_width else b
    signed, unsigned = (b, a) if pa.types.is_unsigned_integer(a) else (a, b)
    return _SIGNED.get(max(signed.bit_width, unsigned.bit_width * 2))


def common_decimal(a: pa.DataType, b: pa.DataType) -> tuple[pa.DataType, bool]:
    """Returns the decimal that holds both, and whether it holds every value of both (its digits were not capped)."""
    (p1, s1), (p2, s2) = digits(a), digits(b)
    scale = max(s1, s2)
    wanted = max(p1 - s1, p2 - s2) + scale
    return pa.decimal128(min(wanted, MAX_DIGITS), scale), wanted <= MAX_DIGITS


def sum_decimal(a: pa.DataType, b: pa.DataType) -> tuple[pa.DataType, bool]:
    """Returns the type of `a + b` and `a - b`, and whether no sum overflows it."""
    held, whole = common_decimal(a, b)
    precision, scale = decimal_of(held)
    return pa.decimal128(min(precision + 1, MAX_DIGITS), scale), whole and precision < MAX_DIGITS


def product_decimal(a: pa.DataType, b: pa.DataType) -> tuple[pa.DataType, bool] | None:
    """Returns the type of `a * b` and whether no product overflows it, or None where the scale has no room."""
    (p1, s1), (p2, s2) = digits(a), digits(b)
    wanted, scale = p1 + p2, s1 + s2
    if scale > MAX_DIGITS:
        return None
    narrow = max(p1, p2) <= _INT64_DIGITS < wanted and scale < _INT64_DIGITS
    given = _INT64_DIGITS if narrow else min(wanted, MAX_DIGITS)
    return pa.decimal128(given, scale), given == wanted


# ---- what fits together -----------------------------------------------------------------------------------------------


def common(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """Returns the one type for the arms of `case`, `coalesce` and the like, or None if there is none."""
    if a == b:
        return a
    kinds = {family(a), family(b)}
    if Family.UNKNOWN in kinds:
        return pa.null()
    if kinds == {Family.INTEGER}:
        return _common_integer(a, b)
    if kinds <= NUMBERS:
        if Family.FLOAT not in kinds:
            return common_decimal(a, b)[0]
        return pa.float64() if pa.float64() in {a, b} else pa.float32()
    if kinds == {Family.DATE, Family.TIMESTAMP}:
        return TIMESTAMP
    if kinds == {Family.LIST}:
        inner = common(item_of(a), item_of(b))
        return None if inner is None else pa.list_(inner)
    return exported(a) if exported(a) == exported(b) and Family.JSON not in kinds else None


def common_of(types: Iterable[pa.DataType]) -> pa.DataType | None:
    """Returns the one type for all, or None; unknown for none at all."""
    target: pa.DataType | None = None
    for number, each in enumerate(types):
        target = each if not number else common(target, each) if target is not None else None
        if target is None:
            return None
    return target or pa.null()


def comparable(a: pa.DataType, b: pa.DataType, *, order: bool) -> bool:
    """Tells whether `=` (or with `order` also `<`) means something between two types."""
    kinds = {family(a), family(b)}
    if Family.UNKNOWN in kinds or kinds <= NUMBERS or kinds == {Family.DATE, Family.TIMESTAMP}:
        return True
    if len(kinds) > 1 or kinds & {Family.JSON, Family.MAP}:
        return False
    if kinds == {Family.LIST}:
        return comparable(item_of(a), item_of(b), order=order)
    if kinds == {Family.STRUCT}:
        return not order and exported(a) == exported(b)
    return True


def compares_totally(a: pa.DataType, b: pa.DataType) -> bool:
    """Tells whether comparing never fails: bringing both to one type may overflow for wide decimals and far dates."""
    kinds = {family(a), family(b)}
    if Family.UNKNOWN in kinds or kinds == {Family.DATE, Family.TIMESTAMP}:
        return False
    if kinds == {Family.LIST}:
        return compares_totally(item_of(a), item_of(b))
    if Family.DECIMAL in kinds and Family.FLOAT not in kinds:
        return common_decimal(a, b)[1]
    return True
