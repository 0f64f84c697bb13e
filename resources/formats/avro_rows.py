"""What an Arrow schema and Arrow columns become in Avro, every value exact or refused; writes no file."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dsl.contracts.errors import SchemaError
from resources.formats.avro_types import ATTRIBUTE, KEPT, LOGICAL, PLAIN

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def to_avro(schema: pa.Schema, where: str) -> dict[str, Any]:
    """Returns the Avro schema of rows; every field may be null.

    Raises:
        SchemaError: A name or a type has no form in Avro.
    """
    return {"type": "record", "name": "row", "fields": _fields(schema, "row", where)}


def _fields(fields: Any, path: str, where: str) -> list[dict[str, Any]]:
    found = []
    for field in fields:
        if not _NAME.fullmatch(field.name):
            raise SchemaError(
                f"column '{field.name}' has a name that Avro does not allow",
                where=where,
                hint="rename it with a mapping: letters, digits and _ only",
            )
        inner = _type(field.type, f"{path}_{field.name}", where)
        found.append({"name": field.name, "type": ["null", inner] if inner != "null" else "null", "default": None})
    return found


def _type(kind: Any, path: str, where: str) -> Any:
    if pa.types.is_struct(kind):
        inner = [kind.field(each) for each in range(kind.num_fields)]
        return {"type": "record", "name": path, "fields": _fields(inner, path, where)}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return {"type": "array", "items": ["null", _type(kind.value_type, f"{path}_item", where)]}
    if pa.types.is_map(kind) and pa.types.is_string(kind.key_type):
        return {"type": "map", "values": ["null", _type(kind.item_type, f"{path}_value", where)]}
    if pa.types.is_decimal(kind):
        return {"type": "bytes", "logicalType": "decimal", "precision": kind.precision, "scale": kind.scale}
    if pa.types.is_uint64(kind):
        return {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 0}
    if pa.types.is_fixed_size_binary(kind):
        return {"type": "fixed", "name": f"{path}_fixed", "size": kind.byte_width}
    return _scalar(kind, path, where)


def _scalar(kind: Any, path: str, where: str) -> Any:
    for (plain, logical), arrow in LOGICAL.items():
        if kind.equals(arrow):
            return {"type": plain, "logicalType": logical}
    for (plain, kept), arrow in KEPT.items():
        if kind.equals(arrow):
            return {"type": plain, ATTRIBUTE: kept}
    if pa.types.is_timestamp(kind):
        unit = "ms" if kind.unit == "s" else kind.unit
        return _scalar(pa.timestamp(unit, "UTC" if kind.tz else None), path, where)
    for plain, arrow in PLAIN.items():
        if kind.equals(_narrowed(arrow, kind)):
            return plain
    raise SchemaError(f"column '{path.partition('_')[2]}' is {kind}, which Avro has no type for", where=where)


def _narrowed(arrow: Any, kind: Any) -> Any:
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return kind if arrow.equals(pa.string()) else arrow
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return kind if arrow.equals(pa.binary()) else arrow
    if pa.types.is_date64(kind):
        return kind if arrow.equals(pa.date32()) else arrow
    return kind if pa.types.is_float16(kind) and arrow.equals(pa.float32()) else arrow


def raw_values(column: Any) -> list[Any]:
    """Returns a column's values as the Avro encoder takes them, for the type that `to_avro` gave it."""
    kind: Any = column.type
    if isinstance(column, pa.ExtensionArray):
        return raw_values(column.storage)
    if pa.types.is_struct(kind):
        names = [kind.field(each).name for each in range(kind.num_fields)]
        parts = [raw_values(each) for each in column.flatten()]
        rows = zip(*parts, strict=True) if parts else ((),) * len(column)
        valid = column.is_valid().to_pylist()
        return [dict(zip(names, row, strict=True)) if there else None for row, there in zip(rows, valid, strict=True)]
    if pa.types.is_map(kind):
        return _raw_maps(column)
    if pa.types.is_nested(kind):
        return _grouped(raw_values(pc.list_flatten(column)), pc.list_value_length(column).to_pylist())
    return _raw_scalars(column, kind)


def _raw_scalars(column: Any, kind: Any) -> list[Any]:
    if pa.types.is_decimal(kind):
        return [None if each is None else _bytes_of(_unscaled(each, kind.scale)) for each in column.to_pylist()]
    if pa.types.is_uint64(kind):
        return [None if each is None else _bytes_of(each) for each in column.to_pylist()]
    if pa.types.is_date64(kind):
        return _raw_scalars(pc.cast(column, pa.date32(), safe=True), pa.date32())
    if pa.types.is_timestamp(kind) and kind.unit == "s":
        return _raw_scalars(pc.cast(column, pa.timestamp("ms", kind.tz), safe=True), pa.timestamp("ms", kind.tz))
    if pa.types.is_temporal(kind):
        return list(column.cast(pa.int32() if kind.bit_width == 32 else pa.int64()).to_pylist())
    return list(column.to_pylist())


def _raw_maps(column: Any) -> list[Any]:
    entry = pa.struct([pa.field("key", column.type.key_type), pa.field("value", column.type.item_type)])
    pairs = raw_values(column.cast(pa.list_(entry)))
    found = []
    for each in pairs:
        named = None if each is None else {pair["key"]: pair["value"] for pair in each}
        if named is not None and len(named) < len(each):
            raise pa.ArrowInvalid("a map has a key twice, which Avro cannot hold")
        found.append(named)
    return found


def _grouped(items: list[Any], lengths: list[int | None]) -> list[Any]:
    found: list[Any] = []
    at = 0
    for length in lengths:
        found.append(None if length is None else items[at : at + length])
        at += length or 0
    return found


def _unscaled(value: Any, scale: int) -> int:
    sign, digits, exponent = value.as_tuple()
    whole = int("".join(map(str, digits))) * 10 ** (exponent + scale)
    return int(-whole if sign else whole)


def _bytes_of(whole: int) -> bytes:
    return whole.to_bytes((whole.bit_length() // 8) + 1, "big", signed=True)
