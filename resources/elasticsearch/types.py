"""How Arrow types are mapped in an index, and which existing mappings their values fit; talks to no server.

What the index cannot compute with exactly is kept as text: decimals of more than 15 digits are keywords. `_source` always
holds every digit; dates finer than milliseconds are sorted and filtered by the millisecond (`ns` columns by the nanosecond).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa

from dsl.contracts.errors import SchemaError
from resources.sql_types import DECIMAL, INTERVAL, JSON, UUID, is_bytes, is_text, mark_of

Properties: TypeAlias = dict[str, Any]

EXACT_DIGITS = 15
"""Decimals of so many digits survive being read as a double."""
LONGEST_KEYWORD = 8191
"""Characters; four bytes each stay below Lucene's 32,766 bytes for a term."""
RESERVED = frozenset(
    {"_id", "_index", "_source", "_routing", "_type", "_field_names", "_ignored", "_tier", "_doc_count", "_size"}
)
_KEYWORD: Properties = {"type": "keyword", "ignore_above": LONGEST_KEYWORD}
_TEXT: Properties = {"type": "text", "fields": {"keyword": _KEYWORD}}
_INSIDE_JSON: dict[str, Properties] = {
    "long": {"type": "double"},
    "double": {"type": "double"},
    "object": {"type": "flattened"},
    "string": _TEXT,
}
_INTEGERS = {"int8": "byte", "int16": "short", "int32": "integer", "int64": "long"} | {
    "uint8": "short",
    "uint16": "integer",
    "uint32": "long",
    "uint64": "unsigned_long",
}
_FLOATS = {"halffloat": "half_float", "float": "float", "double": "double"}
_PLAIN = {**_INTEGERS, **_FLOATS, "bool": "boolean"}
_WHOLE = frozenset({*_INTEGERS.values(), "integer_range", "long_range"})
_OBJECTS = frozenset({"object", "nested"})


def is_json(field: pa.Field[Any]) -> bool:
    """Tells whether a field's text is JSON."""
    return isinstance(field.type, pa.JsonType) or (is_text(field.type) and mark_of(field) == JSON)


def is_list(kind: pa.DataType) -> bool:
    """Tells whether it is any of Arrow's list types."""
    views = pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind)
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind) or views


def is_number(kind: Any) -> bool:
    """Tells whether a decimal is written as a number: one that survives being read as a double."""
    return bool(pa.types.is_decimal(kind) and kind.precision <= EXACT_DIGITS and kind.scale >= 0)


def children(kind: Any) -> list[pa.Field[Any]]:
    """Returns the fields of a struct, in order."""
    return [kind.field(each) for each in range(kind.num_fields)]


def mappings_of(schema: pa.Schema, given: Mapping[str, Any]) -> Properties:
    """Returns the mappings of an index made for a schema: unknown fields are refused, except where JSON may bring some.

    Args:
        schema: The schema of the rows.
        given: Mappings to use instead, by path.

    Raises:
        SchemaError: A name cannot be a field's.
    """
    mapped = _object(list(schema), (), given)
    mapped.setdefault("dynamic", "strict")
    templates = dynamic_templates(schema)
    return {**mapped, "date_detection": False, **({"dynamic_templates": templates} if templates else {})}


def dynamic_templates(schema: pa.Schema) -> list[Properties]:
    """Returns how values inside JSON columns are mapped: whole numbers so that fractions may follow, objects as one field."""
    found: list[Properties] = []
    for path in _json_paths(list(schema), ()):
        for kind, mapping in _INSIDE_JSON.items():
            rule = {"path_match": path, "match_mapping_type": kind, "mapping": mapping}
            found.append({f"headrace {path} {kind}": rule})
    return found


def missing(wanted: Properties, existing: Properties, where: str, path: str = "") -> Properties:
    """Returns the properties that an index does not have yet.

    Args:
        wanted: The properties wanted.
        existing: Those that it has.
        where: Names the index in errors.
        path: Leads here from the root.

    Raises:
        SchemaError: It maps a field so that values would be cut, or that none would fit.
    """
    found: Properties = {}
    for name, mapping in wanted.items():
        place = f"{path}.{name}" if path else name
        if name not in existing:
            found[name] = mapping
            continue
        there = existing[name]
        _check_fit(mapping, there, place, where)
        if "properties" in mapping and (
            inner := missing(mapping["properties"], there.get("properties", {}), where, place)
        ):
            found[name] = {"properties": inner} | ({"type": "nested"} if there.get("type") == "nested" else {})
    return found


def _check_fit(wanted: Properties, there: Properties, path: str, where: str) -> None:
    bring, have = (each.get("type", "object") for each in (wanted, there))
    hint = "write to another index, or cast the field in a mapping"
    if have in _WHOLE and (bring in {*_FLOATS.values()} or (bring == "scaled_float" and wanted["scaling_factor"] != 1)):
        raise SchemaError(f"field '{path}' is mapped as {have}, which would cut {bring} values", where=where, hint=hint)
    if "type" not in wanted and "properties" not in wanted:
        return
    if (bring in _OBJECTS) != (have in {*_OBJECTS, "flattened"}) and bring != "flattened":
        raise SchemaError(f"field '{path}' is mapped as {have}, rows bring {bring}", where=where, hint=hint)


def _object(fields: Sequence[pa.Field[Any]], path: tuple[str, ...], given: Mapping[str, Any]) -> Properties:
    properties: Properties = {}
    for field in fields:
        _check_field_name(field.name, path)
        if (mapping := _property(field, path, given)) is not None:
            properties[field.name] = mapping
    return {"properties": properties} | ({"dynamic": True} if any(map(_may_be_json, fields)) else {})


def _property(field: pa.Field[Any], path: tuple[str, ...], given: Mapping[str, Any]) -> Properties | None:
    """Returns the mapping of a field; None where the values will show."""
    here = (*path, field.name)
    if ".".join(here) in given:
        return dict(given[".".join(here)])
    kind: Any = field.type
    while is_list(kind) or pa.types.is_dictionary(kind):
        field = kind.value_field if is_list(kind) else pa.field(field.name, kind.value_type)
        kind = field.type
    if is_json(field) or pa.types.is_null(kind):
        return None
    if pa.types.is_struct(kind):
        return _object(children(kind), here, given)
    if pa.types.is_map(kind):
        if is_text(kind.key_type):
            return {"type": "flattened"}
        return _object([pa.field("key", kind.key_type), kind.item_field.with_name("value")], here, given)
    return _scalar(field)


def _scalar(field: pa.Field[Any]) -> Properties:
    kind: Any = field.type
    plain = "long" if pa.types.is_duration(kind) else _PLAIN.get(str(kind))
    if plain:
        return {"type": plain}
    if is_number(kind):
        return {"type": "scaled_float", "scaling_factor": 10**kind.scale}
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return {"type": "date_nanos" if getattr(kind, "unit", "") == "ns" else "date"}
    if is_bytes(kind):
        return {"type": "binary"}
    if is_text(kind) and mark_of(field) not in {UUID, INTERVAL, DECIMAL}:
        return _TEXT
    return _KEYWORD


def _may_be_json(field: pa.Field[Any]) -> bool:
    kind: Any = field.type
    while is_list(kind):
        field, kind = kind.value_field, kind.value_field.type
    return is_json(field) or pa.types.is_null(kind)


def _json_paths(fields: Sequence[pa.Field[Any]], path: tuple[str, ...]) -> list[str]:
    found = []
    for field in fields:
        kind: Any = field.type
        while is_list(kind):
            kind = kind.value_field.type
        here = (*path, field.name)
        if _may_be_json(field):
            found.append(".".join(here))
        elif pa.types.is_struct(kind):
            found += _json_paths(children(kind), here)
    return found


def _check_field_name(name: str, path: tuple[str, ...]) -> None:
    shown = ".".join((*path, name))
    hint = "rename it in a mapping"
    if not all(each.strip() for each in name.split(".")):
        raise SchemaError(f"'{shown}' cannot be the name of a field: a part of it is empty", hint=hint)
    if not path and name in RESERVED:
        raise SchemaError(f"'{name}' is a name that the index keeps for itself", hint=hint)
