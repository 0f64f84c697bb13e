"""Sets fields of nested structs in Arrow batches and keeps their siblings; decides no types: the schema after is given."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dsl.processors.columns import Field, Path


def value_at(rows: pa.RecordBatch, path: Path) -> Any:
    """The values at a path, NULL where a struct on the way is."""
    held: Any = rows.column(path[0])
    for name in path[1:]:
        held = _children(held)[name]
    return held


def with_values(rows: pa.RecordBatch, schema: pa.Schema, values: Mapping[Path, Any]) -> pa.RecordBatch:
    """Returns the rows with the values at some paths set.

    A struct that was NULL, or that was not there, is there where one of its new values is; else it stays NULL.

    Args:
        rows: The rows before.
        schema: Theirs afterwards, as `dsl.processors.columns.with_paths` makes it.
        values: Path -> an array as long as the rows.
    """
    before = dict(zip(rows.schema.names, rows.columns, strict=True))
    arrays = [_set(each, before.get(each.name), _below(values, each.name), rows.num_rows) for each in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _below(values: Mapping[Path, Any], name: str) -> dict[Path, Any]:
    return {path[1:]: array for path, array in values.items() if path[0] == name}


def _set(field: Field, before: Any, values: Mapping[Path, Any], rows: int) -> Any:
    if not values:
        return before
    if () in values:
        return values[()]
    held = _children(before) if before is not None and pa.types.is_struct(before.type) else {}
    fields = tuple(_fields(field.type))
    children = [_set(each, held.get(each.name), _below(values, each.name), rows) for each in fields]
    set_here = {path[0] for path in values}
    new = [child.is_valid() for each, child in zip(fields, children, strict=True) if each.name in set_here]
    there = before.is_valid() if before is not None else pa.array([False] * rows, pa.bool_())
    absent = pc.invert(reduce(pc.or_, new, there))
    return pa.StructArray.from_arrays(children, fields=list(fields), mask=absent)


def _fields(kind: Any) -> tuple[Field, ...]:
    return tuple(kind)


def _children(column: Any) -> dict[str, Any]:
    """A struct's columns by name, NULL where the struct is."""
    names = [each.name for each in _fields(column.type)]
    return dict(zip(names, column.flatten(), strict=True))
