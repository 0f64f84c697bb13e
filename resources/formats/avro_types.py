"""What an Avro schema and raw Avro values become in Arrow; reads no file.

Values travel raw: a date is its days, a decimal its bytes, so that nothing passes through types with less range. What Avro has
no logical type for keeps its Arrow type in the attribute `arrow.type`, which other readers pass over.
"""

from __future__ import annotations

import decimal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dsl.contracts.errors import SchemaError

ATTRIBUTE = "arrow.type"
DEEPEST = 64
PLAIN: dict[str, pa.DataType] = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
}
LOGICAL: dict[tuple[str, str], pa.DataType] = {
    ("int", "date"): pa.date32(),
    ("int", "time-millis"): pa.time32("ms"),
    ("long", "time-micros"): pa.time64("us"),
    ("long", "timestamp-millis"): pa.timestamp("ms", "UTC"),
    ("long", "timestamp-micros"): pa.timestamp("us", "UTC"),
    ("long", "timestamp-nanos"): pa.timestamp("ns", "UTC"),
    ("long", "local-timestamp-millis"): pa.timestamp("ms"),
    ("long", "local-timestamp-micros"): pa.timestamp("us"),
    ("long", "local-timestamp-nanos"): pa.timestamp("ns"),
}
KEPT: dict[tuple[str, str], pa.DataType] = {
    ("int", "int8"): pa.int8(),
    ("int", "int16"): pa.int16(),
    ("int", "uint8"): pa.uint8(),
    ("int", "uint16"): pa.uint16(),
    ("long", "uint32"): pa.uint32(),
    ("int", "time32[s]"): pa.time32("s"),
    ("long", "time64[ns]"): pa.time64("ns"),
    ("long", "duration[s]"): pa.duration("s"),
    ("long", "duration[ms]"): pa.duration("ms"),
    ("long", "duration[us]"): pa.duration("us"),
    ("long", "duration[ns]"): pa.duration("ns"),
}


@dataclass(frozen=True)
class Shape:
    """An Avro type that is understood.

    Attributes:
        arrow: What it becomes.
        raw: The same schema without logical types, as the decoder takes it.
        parts: The shapes of its fields, its items or its values.
        sized: Whether a value takes any bytes: a list of nothings could claim any length.
    """

    arrow: pa.DataType
    raw: Any
    parts: tuple[Shape, ...] = ()
    sized: bool = True


class SchemaReader:
    """Understands the schema of one file.

    Args:
        where: Names the file in errors.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._named: dict[str, Shape | None] = {}

    def read(self, schema: Any, depth: int = 0, space: str = "") -> Shape:
        """Returns the shape of a type.

        Raises:
            SchemaError: It cannot be carried.
        """
        if depth > DEEPEST:
            raise self._refusal("it is nested too deeply")
        if isinstance(schema, list):
            return self._union(schema, depth, space)
        if isinstance(schema, str):
            return self._name(schema, space)
        if not isinstance(schema, dict) or "type" not in schema:
            raise self._refusal(f"{str(schema)[:60]!r} is no type")
        kind = schema["type"]
        if not isinstance(kind, str):
            return self.read(kind, depth + 1, space)
        if kind in PLAIN:
            return self._primitive(kind, schema)
        if kind == "array":
            return self._items(schema, "items", depth, space)
        if kind == "map":
            return self._items(schema, "values", depth, space)
        return self._definition(kind, schema, depth, space)

    def _refusal(self, why: str) -> SchemaError:
        return SchemaError(f"its Avro schema cannot be read: {why}", where=self._where)

    def _name(self, name: str, space: str) -> Shape:
        if name in PLAIN:
            return Shape(PLAIN[name], name, sized=name != "null")
        full = name if "." in name or not space else f"{space}.{name}"
        found = self._named.get(full, self._named.get(name))
        if found is None:
            recursive = full in self._named or name in self._named
            raise self._refusal(f"type '{name}' " + ("contains itself" if recursive else "is not defined"))
        return Shape(found.arrow, full, found.parts, found.sized)

    def _primitive(self, kind: str, schema: Mapping[str, Any]) -> Shape:
        logical = schema.get("logicalType")
        if kind == "bytes" and logical == "decimal":
            return Shape(self._decimal(schema), kind)
        if isinstance(kept := schema.get(ATTRIBUTE), str) and (kind, kept) in KEPT:
            return Shape(KEPT[kind, kept], kind)
        return Shape(LOGICAL.get((kind, str(logical)), PLAIN[kind]), kind, sized=kind != "null")

    def _decimal(self, schema: Mapping[str, Any]) -> pa.DataType:
        precision, scale = schema.get("precision"), schema.get("scale", 0)
        if not isinstance(precision, int) or not isinstance(scale, int) or not 0 <= scale <= precision <= 76:
            raise self._refusal(f"decimal({precision}, {scale}) has more than 76 digits, or is none")
        return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)

    def _union(self, branches: Sequence[Any], depth: int, space: str) -> Shape:
        shapes = [self.read(each, depth + 1, space) for each in branches]
        given = [each for each in shapes if not pa.types.is_null(each.arrow)]
        raw = [each.raw for each in shapes]
        if not given:
            return Shape(pa.null(), raw)  # the number of the branch takes a byte
        if len(given) > 1:
            raise self._refusal(f"a union of {', '.join(str(each.arrow) for each in given)} has no one type")
        return Shape(given[0].arrow, raw, given[0].parts)

    def _items(self, schema: Mapping[str, Any], key: str, depth: int, space: str) -> Shape:
        inner = self.read(schema.get(key), depth + 1, space)
        if key == "values":
            return Shape(pa.map_(pa.string(), inner.arrow), {"type": "map", "values": inner.raw}, (inner,))
        if not inner.sized:
            raise self._refusal("items of an array take no bytes, so that it could claim any length")
        return Shape(pa.list_(inner.arrow), {"type": "array", "items": inner.raw}, (inner,))

    def _definition(self, kind: str, schema: Mapping[str, Any], depth: int, space: str) -> Shape:
        name = schema.get("name")
        if kind not in {"record", "error", "enum", "fixed"} or not isinstance(name, str):
            raise self._refusal(f"{kind!r} is no type")
        inner = name.rpartition(".")[0] or schema.get("namespace") or space
        full = name if "." in name or not inner else f"{inner}.{name}"
        if full in self._named:
            raise self._refusal(f"type '{full}' is defined twice")
        self._named[full] = None
        if kind == "enum":
            shape = Shape(pa.string(), {"type": "enum", "name": full, "symbols": schema.get("symbols", [])})
        elif kind == "fixed":
            shape = self._fixed(schema, full)
        else:
            shape = self._record(schema, full, depth, str(inner))
        self._named[full] = shape
        return shape

    def _fixed(self, schema: Mapping[str, Any], full: str) -> Shape:
        size = schema.get("size")
        if not isinstance(size, int) or not 0 < size <= 2**20:
            raise self._refusal(f"fixed '{full}' has the size {size}")
        decimal = schema.get("logicalType") == "decimal"
        kind = self._decimal(schema) if decimal else pa.binary(size)
        return Shape(kind, {"type": "fixed", "name": full, "size": size})

    def _record(self, schema: Mapping[str, Any], full: str, depth: int, space: str) -> Shape:
        fields = schema.get("fields")
        if not isinstance(fields, list) or not all(isinstance(each, dict) and "type" in each for each in fields):
            raise self._refusal(f"record '{full}' has no fields")
        names = [str(each.get("name")) for each in fields]
        if len(set(names)) < len(names):
            raise self._refusal(f"record '{full}' has two fields of one name")
        parts = tuple(self.read(each["type"], depth + 1, space) for each in fields)
        raw = [{"name": name, "type": part.raw} for name, part in zip(names, parts, strict=True)]
        arrow = pa.struct([pa.field(name, part.arrow) for name, part in zip(names, parts, strict=True)])
        return Shape(
            arrow, {"type": "record", "name": full, "fields": raw}, parts, sized=any(each.sized for each in parts)
        )


def to_arrow(values: Sequence[Any], kind: Any) -> Any:
    """Builds an array from raw Avro values.

    Raises:
        ValueError: A value does not fit the type (a decimal of more digits, a time past midnight).
    """
    if pa.types.is_struct(kind):
        return _structs(values, kind)
    if pa.types.is_map(kind):
        pairs = [None if each is None else list(each.items()) for each in values]
        return _map_array(pairs, kind)
    if pa.types.is_list(kind):
        flat = [item for each in values if each is not None for item in each]
        offsets = _offsets([None if each is None else len(each) for each in values])
        mask = pa.array([each is None for each in values], pa.bool_())
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), to_arrow(flat, kind.value_type), mask=mask)
    if pa.types.is_decimal(kind):
        whole = [None if each is None else _scaled(each, kind) for each in values]
        return pa.array(whole, kind)
    if pa.types.is_temporal(kind):
        width = pa.int32() if kind.bit_width == 32 else pa.int64()
        return pa.array(values, width).cast(kind)
    return pa.array(values, kind)


def _structs(values: Sequence[Any], kind: Any) -> Any:
    fields = [kind.field(each) for each in range(kind.num_fields)]
    mask = pa.array([each is None for each in values], pa.bool_())
    if not fields:
        return pa.array([None if each is None else {} for each in values], kind)
    parts = [to_arrow([None if each is None else each[field.name] for each in values], field.type) for field in fields]
    return pa.StructArray.from_arrays(parts, fields=fields, mask=mask)


def _map_array(pairs: Sequence[Any], kind: Any) -> Any:
    flat = [item for each in pairs if each is not None for item in each]
    ends = _offsets([None if each is None else len(each) for each in pairs])
    starts = [None if each is None else at for each, at in zip(pairs, ends[:-1], strict=True)]
    keys = pa.array([key for key, _ in flat], kind.key_type)
    items = to_arrow([value for _, value in flat], kind.item_type)
    build: Any = pa.MapArray.from_arrays  # its stub takes only 64-bit starts, which it refuses
    return build(pa.array([*starts, ends[-1]], pa.int32()), keys, items, kind)


def _offsets(lengths: Sequence[int | None]) -> list[int]:
    found = [0]
    for each in lengths:
        found.append(found[-1] + (each or 0))
    return found


def _scaled(raw: bytes, kind: Any) -> Any:
    whole = int.from_bytes(raw, "big", signed=True)
    if abs(whole) >= 10**kind.precision:
        raise ValueError(f"a decimal has more than {kind.precision} digits")
    return decimal.Decimal(whole).scaleb(-kind.scale, decimal.Context(prec=80))
