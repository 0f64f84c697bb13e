"""XML Schema as Arrow's types, and zeep's values as JSON that fits them; calls nothing."""

from __future__ import annotations

import base64
import datetime as dt
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import isodate  # type: ignore[import-untyped]
import pyarrow as pa

from dsl.contracts.errors import SchemaError

_NAMES: Final = re.compile(r"\$((?:\.[A-Za-z_][A-Za-z0-9_]*)*)(\[\*\])?")
_DEEPEST: Final = 12
_KINDS: Final[dict[str, pa.DataType]] = {
    "Boolean": pa.bool_(),
    "Byte": pa.int8(),
    "Short": pa.int16(),
    "Int": pa.int32(),
    "Long": pa.int64(),
    "UnsignedByte": pa.uint8(),
    "UnsignedShort": pa.uint16(),
    "UnsignedInt": pa.uint32(),
    "UnsignedLong": pa.uint64(),
    "Integer": pa.decimal128(38, 0),
    "Decimal": pa.decimal128(38, 10),
    "Float": pa.float32(),
    "Double": pa.float64(),
    "Date": pa.date32(),
    "Time": pa.time64("us"),
    "DateTime": pa.timestamp("us", "UTC"),
    "Base64Binary": pa.binary(),
    "HexBinary": pa.binary(),
}


def schema_of(message: Any, path: str, where: str) -> pa.Schema:
    """Returns the columns of the records in an operation's result.

    Args:
        message: The type of its result message.
        path: Where the records are.
        where: Names the operation in errors.

    Raises:
        SchemaError: The XML Schema does not tell.
    """
    found = _NAMES.fullmatch(path)
    kind = None if message is None or found is None else _unwrapped(message)
    for name in found[1].split(".")[1:] if found is not None else ():
        kind = dict(_parts(kind)).get(name)
    if kind is None or not _parts(kind):
        told = f"the WSDL does not tell what the records at '{path}' hold"
        raise SchemaError(told, where=where, hint="declare `schema`, or check `records`")
    return pa.schema([pa.field(name, _arrow(each, 0)) for name, each in _parts(kind)])


def _unwrapped(message: Any) -> Any:
    """Returns what zeep gives for a message: the only part of it, and of that the only part again."""
    for _ in range(2):
        parts = _parts(message)
        if len(parts) != 1:
            return message
        message = parts[0][1]
    return message


def _parts(kind: Any) -> list[tuple[str, Any]]:
    """Returns the elements and attributes of a type, or of an element's type."""
    held = getattr(kind, "type", kind)
    pairs = [*getattr(held, "elements", ()), *getattr(held, "attributes", ())]
    return [(str(name), each) for name, each in pairs if name and not str(name).startswith("_")]


def _arrow(element: Any, depth: int) -> Any:
    parts = _parts(element)
    if depth >= _DEEPEST:
        return pa.string()  # a type that holds itself
    kind: Any = (
        pa.struct([pa.field(name, _arrow(each, depth + 1)) for name, each in parts]) if parts else _plain(element)
    )
    return pa.list_(kind) if getattr(element, "accepts_multiple", False) else kind


def _plain(element: Any) -> pa.DataType:
    for each in type(getattr(element, "type", element)).__mro__:
        if each.__name__ in _KINDS:
            return _KINDS[each.__name__]
    return pa.string()


def plain(value: Any) -> Any:
    """Returns a value of zeep's as JSON that `from_json` takes, nothing lost."""
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(each) for each in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta | isodate.Duration):
        return isodate.duration_isoformat(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value if value is None or isinstance(value, str | int | float | Decimal) else str(value)
