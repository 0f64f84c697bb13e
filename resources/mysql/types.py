"""MySQL's types and Arrow's, both ways; talks to no server.

`tinyint(1)` is a boolean; a value other than 0 and 1 in it is rejected. What Arrow has no type for is read as text:
enum, set, decimals of more than 38 digits. FLOAT is read through DOUBLE, because its own text is rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from dsl.contracts.errors import SchemaError
from resources.mysql.client import MARK
from resources.sql import quoted
from resources.sql_types import (
    DECIMAL,
    INSTANT,
    JSON,
    TIMESTAMP,
    UUID,
    decimal_type,
    from_text,
    is_bytes,
    is_nested,
    mark_of,
    marked,
    plain,
)

_UNSIGNED, _BINARY_SET = 32, 63
_INTEGERS = {1: (pa.int8(), pa.int16()), 2: (pa.int16(), pa.int32()), 3: (pa.int32(), pa.int64())}
_INTEGERS |= {9: (pa.int32(), pa.int32()), 8: (pa.int64(), pa.uint64())}
_FIXED = {
    4: pa.float32(), 5: pa.float64(), 7: INSTANT, 10: pa.date32(), 14: pa.date32(), 11: pa.time64("us"),
    12: TIMESTAMP, 13: pa.int16(),
}  # fmt: skip
_FLOAT, _BIT, _JSON, _OLD_DECIMAL, _DECIMAL = 4, 16, 245, 0, 246
TIMES = frozenset({7, 10, 12, 14})
_NAMES: dict[pa.DataType, str] = {
    pa.bool_(): "TINYINT(1)",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INT",
    pa.int64(): "BIGINT",
    pa.uint64(): "BIGINT UNSIGNED",
    pa.float32(): "DOUBLE",
    pa.float64(): "DOUBLE",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME(6)",
    TIMESTAMP: "DATETIME(6)",
    INSTANT: "TIMESTAMP(6) NULL DEFAULT NULL",
    pa.binary(): "LONGBLOB",
    pa.string(): "LONGTEXT",
    pa.null(): "LONGTEXT",
}


def field_of(name: str, packet: Any) -> pa.Field[Any]:
    """Returns the Arrow field of a result's column, by its description on the wire."""
    code, unsigned, binary = packet.type_code, bool(packet.flags & _UNSIGNED), packet.charsetnr == _BINARY_SET
    if code in _INTEGERS:
        boolean = code == 1 and packet.length == 1
        return pa.field(name, pa.bool_() if boolean else _INTEGERS[code][unsigned])
    if code in {_OLD_DECIMAL, _DECIMAL}:
        precision = packet.length - (packet.scale > 0) - (not unsigned)
        made = decimal_type(precision, packet.scale)
        return marked(name, DECIMAL) if made is None else pa.field(name, made)
    if code == _JSON:
        return marked(name, JSON)
    if code == _BIT:
        return pa.field(name, pa.bool_() if packet.length == 1 else pa.uint64())
    if code in _FIXED:
        return pa.field(name, _FIXED[code])
    return pa.field(name, pa.binary() if binary and code not in {247, 248} else pa.string())


def expression(name: str, packet: Any) -> str:
    """Returns what to select so that the server's text of it is exact."""
    column = quoted(name, MARK)
    if packet.type_code == _FLOAT:
        return f"({column} + 0e0)"
    return f"({column} + 0)" if packet.type_code == _BIT else column


def comparable(packet: Any) -> str:
    """Returns the place of a parameter that is compared with a column, exactly: never as floating point."""
    code = packet.type_code
    if code in _INTEGERS or code in {13, _BIT}:
        return f"CAST(%s AS {'UNSIGNED' if packet.flags & _UNSIGNED else 'SIGNED'})"
    if code in {_OLD_DECIMAL, _DECIMAL}:
        return f"CAST(%s AS DECIMAL(65, {packet.scale}))"
    return "%s"


def decode(texts: Sequence[Any], kind: pa.DataType) -> tuple[pa.Array[Any], tuple[int, ...]]:
    """Reads a column of the server's texts (or bytes); see `resources.sql_types.from_text`."""
    if is_bytes(kind):
        return pa.array([each.encode() if isinstance(each, str) else each for each in texts], kind), ()
    column = pa.array([each.decode() if isinstance(each, bytes) else each for each in texts], pa.string())
    if kind == INSTANT:  # the session's zone is UTC
        moments, failed = from_text(column, TIMESTAMP)
        return moments.cast(INSTANT), failed
    return from_text(column, kind)


def type_name(field: pa.Field[Any], *, key: bool) -> str:
    """Returns the type of a column that holds the field; of limited length where it is part of a key.

    Raises:
        SchemaError: MySQL has none.
    """
    kind = field.type if field.type in _NAMES else plain(field.type)
    if mark_of(field) == JSON or is_nested(kind):
        return "JSON"
    if mark_of(field) == UUID:
        return "CHAR(36)"
    if pa.types.is_decimal(kind) and kind.scale <= 30:
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if kind not in _NAMES:
        raise SchemaError(f"column '{field.name}' is {kind}, for which MySQL has no type", hint="cast it in a mapping")
    if key and _NAMES[kind].startswith("LONG"):
        return "VARBINARY(255)" if is_bytes(kind) else "VARCHAR(255)"
    return _NAMES[kind]
