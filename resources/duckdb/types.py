"""DuckDB types and Arrow types, both ways; talks to no file."""

from __future__ import annotations

import re
from typing import Any, Final

import pyarrow as pa

from dsl.contracts.errors import SchemaError
from dsl.expressions.types import duckdb_name
from resources.sql_types import DECIMAL, INSTANT, INTERVAL, JSON, UUID, mark_of, marked

_MARKS = {"JSON": JSON, "UUID": UUID, "INTERVAL": INTERVAL, "HUGEINT": DECIMAL, "UHUGEINT": DECIMAL}
_DECLARED = {JSON: "JSON", UUID: "UUID", INTERVAL: "INTERVAL", DECIMAL: "VARCHAR"}
_AS_TEXT = frozenset({"INTERVAL", "BIT", "VARINT", "BIGNUM", "HUGEINT", "UHUGEINT", "TIME WITH TIME ZONE"})


def as_text(declared: str) -> bool:
    """Tells whether values of a type are read as texts: Arrow has no type that holds them all."""
    return declared in _AS_TEXT or declared.startswith("ENUM")


def arriving(field: pa.Field[Any], declared: str) -> pa.Field[Any]:
    """Returns the field that reading a column yields."""
    if declared in _MARKS:
        return marked(field.name, _MARKS[declared])
    if as_text(declared):
        return pa.field(field.name, pa.string())
    if pa.types.is_timestamp(field.type) and field.type.tz is not None:
        return pa.field(field.name, INSTANT)
    return pa.field(field.name, field.type)


_ISO_INTERVAL: Final = re.compile(
    r"P(?:(-?\d+)Y)?(?:(-?\d+)M)?(?:(-?\d+)W)?(?:(-?\d+)D)?(?:T(?:(-?\d+)H)?(?:(-?\d+)M)?(?:(-?\d*)(?:\.(\d{1,6}))?S)?)?", re.ASCII
)  # fmt: skip


def interval_text(text: str) -> str:
    """Returns an interval in ISO 8601 as DuckDB reads one; any other text as it is."""
    found = _ISO_INTERVAL.fullmatch(text)
    if found is None:
        return text
    years, months, weeks, days, hours, minutes = (int(each or 0) for each in found.groups()[:6])
    whole, fraction = found[7] or "0", int((found[8] or "").ljust(6, "0"))
    seconds = int(whole.removesuffix("-") or 0) * 10**6 + (-fraction if whole.startswith("-") else fraction)
    microseconds = (hours * 60 + minutes) * 60 * 10**6 + seconds
    return f"{years * 12 + months} months {weeks * 7 + days} days {microseconds} microseconds"


def type_name(field: pa.Field[Any]) -> str:
    """Returns DuckDB's type for a field.

    Raises:
        SchemaError: There is none.
    """
    if mark_of(field) in _DECLARED:
        return _DECLARED[mark_of(field)]
    if pa.types.is_null(field.type):
        return "VARCHAR"
    if pa.types.is_dictionary(field.type):
        return type_name(pa.field(field.name, field.type.value_type))
    try:
        return duckdb_name(field.type)
    except (KeyError, ValueError, TypeError) as error:
        raise SchemaError(
            f"column '{field.name}' is {field.type}, which DuckDB cannot hold", hint="cast it in a mapping"
        ) from error
