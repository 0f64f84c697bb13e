"""Which columns travel how in COPY's binary form, both ways; talks to no server."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa

from resources.postgres.binary import Kind, Wire
from resources.postgres.types import expression
from resources.sql_types import INSTANT, JSON, TIMESTAMP, UUID, mark_of

_MODIFIER = re.compile(r"\(\d+(,-?\d+)?\)")
_PLAIN: dict[pa.DataType, tuple[Kind, str]] = {
    pa.bool_(): (Kind.BOOL, "boolean"),
    pa.int16(): (Kind.INT2, "smallint"),
    pa.int32(): (Kind.INT4, "integer"),
    pa.int64(): (Kind.INT8, "bigint"),
    pa.float32(): (Kind.FLOAT4, "real"),
    pa.float64(): (Kind.FLOAT8, "double precision"),
    pa.binary(): (Kind.BYTES, "bytea"),
    pa.date32(): (Kind.DATE, "date"),
    pa.time64("us"): (Kind.TIME, "time without time zone"),
    TIMESTAMP: (Kind.TIMESTAMP, "timestamp without time zone"),
    INSTANT: (Kind.TIMESTAMP, "timestamp with time zone"),
}
"""Arrow type -> the form, and the one type of the server whose form it is."""
_TEXTS = {"text", "character varying", "character", "bpchar", "xml"}
"""Types whose binary form is their text."""


def arriving(field: pa.Field[Any], name: str, declared: str) -> tuple[Wire, str]:
    """Returns how a column is read, and what to select for it.

    Args:
        field: Its Arrow field.
        name: The column, quoted.
        declared: The server's words for its type.
    """
    base, mark = _MODIFIER.sub("", declared), mark_of(field)
    if mark == UUID and base == "uuid":
        return Wire(Kind.UUID, pa.string()), name
    if mark == JSON or pa.types.is_list(field.type):
        selected = expression(field, name, declared)
        return Wire(Kind.JSONB if base == "jsonb" else Kind.TEXT, pa.string()), selected
    if pa.types.is_decimal(field.type):
        return Wire(Kind.NUMERIC, field.type), name if base == "numeric" else f"{name}::numeric"
    if field.type == pa.int64() and base == "oid":
        return Wire(Kind.OID, field.type), name
    if field.type in _PLAIN:
        kind, wanted = _PLAIN[field.type]
        return Wire(kind, field.type), name if base == wanted else f"{name}::{wanted}"
    return Wire(Kind.TEXT, pa.string()), name if base in _TEXTS and not mark else text_of(name)


def text_of(name: str) -> str:
    """Returns what to select for the server's own text of a column: a cast says something else of some types, such as `inet`."""
    return f"CASE WHEN {name} IS DISTINCT FROM NULL THEN concat({name}) END"


def leaving(kind: pa.DataType, declared: str) -> Wire | None:
    """Returns how a column of an Arrow type is sent to one of the server's; None where only its text will do.

    Args:
        kind: The Arrow type.
        declared: The server's words for the target's type.
    """
    base = _MODIFIER.sub("", declared)
    if kind in _PLAIN:
        form, wanted = _PLAIN[kind]
        return Wire(form, kind) if base == wanted else None
    if pa.types.is_decimal128(kind) and base == "numeric" and 0 <= kind.scale <= kind.precision:
        return Wire(Kind.NUMERIC, kind)
    if kind == pa.string():
        if base == "jsonb":
            return Wire(Kind.JSONB, kind)
        if base == "uuid":
            return Wire(Kind.UUID, kind)
        return Wire(Kind.TEXT, kind) if base in _TEXTS | {"json"} else None
    return None
