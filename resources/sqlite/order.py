"""In what order rows of SQLite can be read and resumed: which columns have one, and the values a state remembers; reads no row."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import pyarrow as pa

from dsl.contracts.errors import SchemaError
from resources.sql import quoted
from resources.sqlite.client import Declared, query
from resources.sqlite.types import affinity, field_of

_CLASS = "CASE typeof({0}) WHEN 'integer' THEN 'number' WHEN 'real' THEN 'number' ELSE typeof({0}) END"
_ZONE = "ltrim(substr({0}, 20), '.0123456789')"
_SHAPE = f"substr({{0}}, 11, 1) || {_ZONE} || CASE {_ZONE} WHEN '' THEN '' ELSE length({{0}}) END"
_ROWID_ALIAS = "SELECT count(*) FROM pragma_index_list(?, ?) WHERE origin = 'pk'"


class Ordered(StrEnum):
    """What a column's values are compared as, all of them: SQLite puts every number before every text."""

    NUMBER = "number"
    TEXT = "text"


def is_counted(opened: sqlite3.Connection, table: tuple[str, str], declared: Sequence[Declared]) -> bool:
    """Tells whether a table's key is its row number, which SQLite itself keeps an integer."""
    key = [each for each in declared if each.key]
    if len(key) != 1 or key[0].type.upper() != "INTEGER":
        return False
    return bool(opened.execute(_ROWID_ALIAS, table).fetchone()[0] == 0)


def key_order(
    opened: sqlite3.Connection, relation: str, key: Sequence[str], where: str, known: Mapping[str, Declared]
) -> dict[str, Ordered] | None:
    """Returns how each column of a key is ordered, or None where one holds NULL, bytes, or numbers and texts."""
    classes = ", ".join(_CLASS.format(quoted(each)) for each in key)
    found = query(opened, where, f"SELECT DISTINCT {classes} FROM {relation} LIMIT 2")
    if not found:
        return {each: _expected(known[each]) for each in key}
    if len(found) > 1 or not set(found[0]) <= set(Ordered):
        return None
    return {name: Ordered(kind) for name, kind in zip(key, found[0], strict=True)}


def cursor_order(opened: sqlite3.Connection, relation: str, column: Declared, where: str) -> Ordered:
    """Returns how an incremental column is ordered.

    Raises:
        SchemaError: The order of its values is not the order in which they come about, so that rows would be lost.
    """
    name, field = quoted(column.name), field_of(column.name, column.type)
    timely = field is not None and pa.types.is_temporal(field.type)
    seen = f"{_CLASS.format(name)}, {_SHAPE.format(name) if timely else 0}"
    found = query(opened, where, f"SELECT DISTINCT {seen} FROM {relation} WHERE {name} IS NOT NULL LIMIT 9")
    classes = {str(each[0]) for each in found}
    if len(classes) > 1 or not classes <= set(Ordered):
        raise SchemaError(
            f"incremental_column '{column.name}' holds {' and '.join(sorted(classes))} values, which have no common order",
            where=where,
            hint="change those values, or read a query that leaves them out",
        )
    if timely and len(found) > 1:
        raise SchemaError(
            f"the times in '{column.name}' are not all written alike, so that their order as text is not that of time",
            where=where,
            hint=f"UPDATE them to strftime('%Y-%m-%d %H:%M:%f', {name}), or read a query that does so",
        )
    if field is not None and pa.types.is_decimal(field.type) and classes == {Ordered.TEXT}:
        raise SchemaError(
            f"incremental_column '{column.name}' holds decimals as text, whose order is not that of numbers",
            where=where,
            hint="use a column of integers or times",
        )
    return Ordered(classes.pop()) if classes else _expected(column)


def _expected(column: Declared) -> Ordered:
    field = field_of(column.name, column.type)
    timely = field is not None and pa.types.is_temporal(field.type)
    return Ordered.TEXT if timely or affinity(column.type) == "TEXT" else Ordered.NUMBER


def place_for(kind: Ordered) -> str:
    """Returns the place of a parameter that is compared with such values."""
    return "CAST(? AS TEXT)" if kind is Ordered.TEXT else "?"


def parameter_of(kind: Ordered, text: str) -> int | float | bytes:
    """Returns what the driver takes for a text of the state: bytes for text, which need not be UTF-8.

    Raises:
        SchemaError: It is no number where numbers are.
    """
    if kind is Ordered.TEXT:
        return text.encode("utf-8", "surrogateescape")
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError as error:
        raise SchemaError(f"'{text}' is no number", hint="check initial_value; times are read as text") from error


def text_of(value: Any) -> str:
    """Returns a value as the state remembers it."""
    return value if isinstance(value, str) else repr(value)
