"""Schemas at run time: what the plan promised against what arrived, and batches brought into the promised form; loses no value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from dsl.contracts.errors import SchemaError


def resolved(planned: pa.Schema | None, actual: pa.Schema, where: str) -> pa.Schema:
    """The schema to carry on: the planned one, with actual types where the plan did not know them.

    Raises:
        SchemaError: The columns are not those of the plan.
    """
    if planned is None:
        return actual.remove_metadata()
    missing = [each for each in planned.names if each not in actual.names]
    if missing:
        raise SchemaError(
            f"columns are missing: {', '.join(missing)}",
            where=where,
            hint="was a column dropped or renamed? validate the workflow again",
        )
    fields = [actual.field(each.name) if _unknown(each.type) else each.remove_metadata() for each in planned]
    return pa.schema([each.with_nullable(True) if _unknown(each.type) else each for each in fields])


def check_names(schema: pa.Schema, where: str) -> None:
    """Refuses columns or fields that differ in case only, which SQL cannot tell apart: it would give the one for the other.

    Raises:
        SchemaError: There are such.
    """
    _check_fields(list(schema), "columns", where)


def _check_fields(fields: Sequence[Any], what: str, where: str) -> None:
    seen: dict[str, str] = {}
    for each in fields:
        twin = seen.pop(each.name.lower(), None)
        seen[each.name.lower()] = each.name
        if twin is not None:
            raise SchemaError(
                f"the {what} {twin!r} and {each.name!r} differ in case only, and SQL cannot tell them apart",
                where=where,
                hint="leave one of them out at the source, or name it otherwise there",
            )
        kind = each.type
        inner = [kind.field(at) for at in range(kind.num_fields)]
        _check_fields(inner, f"fields of {each.name!r}:", where)


def in_utc(schema: pa.Schema) -> pa.Schema:
    """The same schema with the zone UTC under its usual name; DuckDB calls it Etc/UTC."""
    return pa.schema([_renamed(each) for each in schema])


def _renamed(field: Any) -> Any:
    return field.with_type(_zoned(field.type))


def _zoned(kind: Any) -> Any:
    if pa.types.is_timestamp(kind):
        return pa.timestamp(kind.unit, "UTC") if kind.tz == "Etc/UTC" else kind
    if pa.types.is_struct(kind):
        return pa.struct([_renamed(each) for each in kind])
    if pa.types.is_map(kind):
        return pa.map_(_renamed(kind.key_field), _renamed(kind.item_field))
    if pa.types.is_list(kind):
        return pa.list_(_renamed(kind.value_field))
    return kind


def conform(rows: pa.RecordBatch | pa.Table, schema: pa.Schema, where: str) -> list[pa.RecordBatch]:
    """Brings rows into a schema: columns by name, types by checked casts.

    Raises:
        SchemaError: A column is missing, or a value does not fit its type.
    """
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
    if not table.schema.equals(schema):
        table = _cast(table, schema, where)
    if table.num_rows == 0:
        return [empty(schema)]
    return table.combine_chunks().to_batches()


def conform_one(rows: pa.RecordBatch, schema: pa.Schema, where: str) -> pa.RecordBatch:
    """The same for one batch, which stays one."""
    if rows.schema.equals(schema):
        return rows
    if not schema.names:
        return rows.select([])
    return _joined(conform(rows, schema, where), schema)


def empty(schema: pa.Schema) -> pa.RecordBatch:
    """A batch without rows."""
    return pa.RecordBatch.from_arrays([pa.array([], each.type) for each in schema], schema=schema)


def joined(pieces: list[pa.RecordBatch], schema: pa.Schema) -> list[pa.RecordBatch]:
    """Pieces of one schema as one batch, or as few as its offsets allow."""
    if not schema.names:
        return pieces
    return pa.Table.from_batches(pieces, schema).combine_chunks().to_batches()


def _joined(batches: list[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    arrays = [pa.concat_arrays([each.column(index) for each in batches]) for index in range(len(schema))]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _cast(table: pa.Table, schema: pa.Schema, where: str) -> pa.Table:
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            raise SchemaError(f"column {field.name!r} is missing", where=where, hint="was it dropped or renamed?")
        column = table.column(field.name)
        try:
            columns.append(column if column.type.equals(field.type) else column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise SchemaError(
                f"column {field.name!r} is {column.type}, not {field.type}: {error}", where=where
            ) from error
    return pa.Table.from_arrays(columns, schema=schema)


def _unknown(kind: pa.DataType) -> bool:
    if pa.types.is_null(kind):
        return True
    return any(_unknown(kind.field(each).type) for each in range(kind.num_fields))
