"""PostgreSQL's types and Arrow's, both ways; talks to no server.

What Arrow has no type for is read as the server's own text: ranges, network addresses, geometry, enums, `timetz`,
`numeric` of more than 38 digits. `numeric` without precision is decimal128(38, 9): a value with more digits is
rejected, never rounded.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from dsl.contracts.errors import SchemaError
from resources.sql_types import (
    DECIMAL,
    INSTANT,
    INTERVAL,
    JSON,
    TIMESTAMP,
    UNBOUNDED,
    UUID,
    decimal_type,
    is_nested,
    mark_of,
    marked,
    plain,
)

NUMERIC, MONEY = 1700, 790
_SCALARS: dict[int, pa.DataType] = {
    16: pa.bool_(),
    17: pa.binary(),
    20: pa.int64(),
    21: pa.int16(),
    23: pa.int32(),
    26: pa.int64(),
    700: pa.float32(),
    701: pa.float64(),
    MONEY: pa.decimal128(21, 2),
    1082: pa.date32(),
    1083: pa.time64("us"),
    1114: TIMESTAMP,
    1184: INSTANT,
}
_MARKED: dict[int, bytes] = {114: JSON, 3802: JSON, 2950: UUID, 1186: INTERVAL}
_ELEMENTS: dict[int, int] = {
    1000: 16, 1001: 17, 1005: 21, 1007: 23, 1016: 20, 1028: 26, 1021: 700, 1022: 701, 1182: 1082, 1183: 1083,
    1115: 1114, 1185: 1184, 1009: 25, 1015: 1043, 1014: 1042, 1003: 19, 2951: 2950, 1231: NUMERIC, 199: 114,
    3807: 3802, 1041: 869, 651: 650, 1187: 1186, 791: MONEY,
}  # fmt: skip
_NAMES: dict[pa.DataType, str] = {
    pa.bool_(): "boolean",
    pa.int8(): "smallint",
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float32(): "real",
    pa.float64(): "double precision",
    pa.date32(): "date",
    pa.time64("us"): "time",
    TIMESTAMP: "timestamp",
    INSTANT: "timestamptz",
    pa.binary(): "bytea",
    pa.string(): "text",
    pa.null(): "text",
}
_MARKS = {JSON: "jsonb", UUID: "uuid", INTERVAL: "interval", DECIMAL: "numeric"}


def field_of(  # noqa: PLR0913, PLR0917 - the columns of pg_type that decide
    name: str,
    oid: int,
    modifier: int,
    kind: str = "b",
    category: str = "",
    base: int = 0,
    base_modifier: int = -1,
    element: int = 0,
) -> pa.Field[Any]:
    """Returns the Arrow field of a column, by its type's object id and modifier."""
    if kind == "d" and base:
        return field_of(name, base, base_modifier)
    if kind == "c":
        return marked(name, JSON)
    if oid in _MARKED:
        return marked(name, _MARKED[oid])
    if oid == NUMERIC:
        return _numeric(name, modifier)
    if oid in _ELEMENTS or category == "A":
        inner = field_of("item", _ELEMENTS.get(oid, element), modifier)
        return pa.field(name, pa.list_(inner))
    return pa.field(name, _SCALARS.get(oid, pa.string()))


def _numeric(name: str, modifier: int) -> pa.Field[Any]:
    if modifier < 4:
        return pa.field(name, UNBOUNDED)
    precision, scale = ((modifier - 4) >> 16) & 0xFFFF, (modifier - 4) & 0x7FF
    made = decimal_type(precision, scale - 2048 if scale > 1023 else scale)
    return marked(name, DECIMAL) if made is None else pa.field(name, made)


def expression(field: pa.Field[Any], name: str, declared: str = "") -> str:
    """Returns what to select so that the server's text of it can be read as the field's type.

    Args:
        field: The Arrow field.
        name: The column, quoted.
        declared: The server's words for its type.
    """
    if pa.types.is_list(field.type):
        return f"array_to_json({name}::text[])"
    if declared == "money":
        return f"{name}::numeric"
    if mark_of(field) == JSON and declared not in {"json", "jsonb", ""}:
        return f"to_json({name})"
    return name


def type_name(field: pa.Field[Any]) -> str:
    """Returns the type of a column that holds the field.

    Raises:
        SchemaError: PostgreSQL has none.
    """
    kind = plain(field.type)
    if mark_of(field) in _MARKS:
        return _MARKS[mark_of(field)]
    if pa.types.is_decimal(kind):
        return f"numeric({kind.precision}, {kind.scale})"
    if is_nested(kind):
        return "jsonb"
    if kind not in _NAMES:
        raise SchemaError(
            f"column '{field.name}' is {kind}, for which PostgreSQL has no type", hint="cast it in a mapping"
        )
    return _NAMES[kind]
