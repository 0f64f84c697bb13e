"""Columns as a plan sees them: quoted names, paths into structs, types as DuckDB hands them out, marks; talks to no database.

A text column that stands for something else says so in its field's metadata: `headrace.type` is `json`, `uuid` … Destinations
render it accordingly. The mark goes with a column as long as it is passed on unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa

from dsl.expressions import parse_type
from dsl.expressions.types import JSON, Family, exported, family, fields_of, item_of, key_of, value_of
from dsl.plan.logical import Lineage

Field: TypeAlias = "pa.Field[Any]"
Path: TypeAlias = tuple[str, ...]

MARK = b"headrace.type"
_MARKS = {Family.JSON: b"json", Family.UUID: b"uuid"}


def quoted(name: str) -> str:
    """Returns a name as an SQL identifier, safe inside the placeholders of a plan's SQL."""
    return braced('"' + name.replace('"', '""') + '"')


def text(value: str) -> str:
    """Returns a text as an SQL literal, safe inside the placeholders of a plan's SQL."""
    return braced("'" + value.replace("'", "''") + "'")


def braced(sql: str) -> str:
    """Returns SQL for a template with placeholders: braces that are not placeholders are doubled."""
    return sql.replace("{", "{{").replace("}", "}}")


def at(path: Path, relation: str = "") -> str:
    """Returns the SQL of a path into structs, of a relation where several are in sight; NULL where one of them is."""
    sql = f"{relation}.{quoted(path[0])}" if relation else quoted(path[0])
    for each in path[1:]:
        sql = f"struct_extract({sql}, {text(each)})"
    return sql


def split(path: str) -> Path:
    """Splits a dotted path."""
    return tuple(path.split("."))


def type_of(name: str) -> Field:
    """Returns a field without a name for a type as the document writes it; `json` is a marked text.

    Raises:
        ExpressionError: There is no such type.
    """
    return arriving(pa.field("", parse_type(name)))


def arriving(field: Field) -> Field:
    """Returns a field as it leaves DuckDB: its type exported, its marks kept, JSON and UUID marked."""
    kind = _arriving(field.type)
    marks = {key: value for key, value in (field.metadata or {}).items() if key == MARK}
    if family(field.type) in _MARKS:
        marks = {MARK: _MARKS[family(field.type)]}
    return pa.field(field.name, kind, metadata=marks or None)


def _arriving(kind: pa.DataType) -> pa.DataType:
    plain = exported(kind)
    if family(plain) is Family.STRUCT:
        return pa.struct([arriving(each) for each in fields_of(kind)])
    if family(plain) is Family.LIST and not pa.types.is_fixed_size_list(plain):
        return pa.list_(arriving(pa.field("item", item_of(kind))))
    if family(plain) is Family.MAP:
        return pa.map_(_arriving(key_of(kind)), _arriving(value_of(kind)))
    return plain


def arriving_schema(schema: pa.Schema) -> pa.Schema:
    """Returns a schema as it leaves DuckDB."""
    return pa.schema([arriving(each) for each in schema])


def needs_text(kind: pa.DataType) -> bool:
    """Tells whether a column holds JSON or UUID anywhere: it is brought to text before SQL sees it."""
    if family(kind) in _MARKS:
        return True
    if family(kind) in {Family.STRUCT, Family.LIST, Family.MAP}:
        return any(needs_text(each) for each in _children(kind))
    return False


def _children(kind: pa.DataType) -> tuple[pa.DataType, ...]:
    if family(kind) is Family.STRUCT:
        return tuple(each.type for each in fields_of(kind))
    return (key_of(kind), value_of(kind)) if family(kind) is Family.MAP else (item_of(kind),)


def field_at(schema: pa.Schema, path: Path) -> Field | None:
    """Returns the field at a path into structs, or None if there is none."""
    fields: Iterable[Field] = schema
    found: Field | None = None
    for name in path:
        found = next((each for each in fields if each.name == name), None)
        if found is None:
            return None
        fields = fields_of(found.type) if family(found.type) is Family.STRUCT else ()
    return found


def with_paths(schema: pa.Schema, changes: Mapping[Path, Field]) -> pa.Schema:
    """Returns a schema in which the fields at some paths are set: replaced in place, or added at the end of their struct.

    Args:
        schema: The schema before.
        changes: Path -> what stands there afterwards; the field's own name does not count.

    Raises:
        ValueError: A path leads through a column that is no struct.
    """
    return pa.schema(_with_paths(tuple(schema), changes, ()))


def _with_paths(fields: Sequence[Field], changes: Mapping[Path, Field], above: Path) -> list[Field]:
    heads = list(dict.fromkeys(path[0] for path in changes))
    done = [_changed(each, _below(changes, each.name), above) for each in fields]
    known = {each.name for each in fields}
    added = [_changed(pa.field(name, pa.null()), _below(changes, name), above) for name in heads if name not in known]
    return [*done, *added]


def _below(changes: Mapping[Path, Field], name: str) -> dict[Path, Field]:
    return {path[1:]: field for path, field in changes.items() if path[0] == name}


def _changed(field: Field, changes: Mapping[Path, Field], above: Path) -> Field:
    if not changes:
        return field
    if () in changes:
        return changes[()].with_name(field.name)
    if family(field.type) not in {Family.STRUCT, Family.UNKNOWN}:
        raise ValueError(f"{'.'.join((*above, field.name))!r} is no struct")
    inner = fields_of(field.type) if family(field.type) is Family.STRUCT else ()
    return pa.field(field.name, pa.struct(_with_paths(inner, changes, (*above, field.name))))


def union(*lineages: Lineage) -> tuple[tuple[str, str], ...]:
    """Returns everything that any column of some lineages comes from, sorted."""
    return tuple(sorted({pair for lineage in lineages for pairs in lineage.values() for pair in pairs}))


def of_columns(lineage: Lineage, names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Returns everything that some columns come from, sorted."""
    return tuple(sorted({pair for name in names for pair in lineage.get(name, ())}))


def marked_json(name: str) -> Field:
    """Returns a text field whose text is JSON."""
    return pa.field(name, pa.string(), metadata={MARK: b"json"})


def is_marked_json(field: Field) -> bool:
    """Tells whether a text field holds JSON."""
    return (field.metadata or {}).get(MARK) == b"json"


__all__ = [
    "JSON",
    "MARK",
    "Field",
    "Path",
    "arriving",
    "arriving_schema",
    "at",
    "braced",
    "field_at",
    "quoted",
    "split",
    "text",
    "with_paths",
]
