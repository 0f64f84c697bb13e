"""Arrow columns as Iceberg stores them; a value that would change is refused with its batch."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

from dsl.contracts.errors import RejectedRows, SchemaError

_WIDER: Final[dict[Any, pa.DataType]] = {
    pa.int8(): pa.int32(),
    pa.int16(): pa.int32(),
    pa.uint8(): pa.int32(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
    pa.date64(): pa.date32(),
    pa.null(): pa.string(),
    pa.large_string(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.string_view(): pa.string(),
    pa.binary_view(): pa.binary(),
}
_PLAIN: Final = frozenset(
    {pa.bool_(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.date32(), pa.string(), pa.binary()}
)


def stored(field: pa.Field[Any], where: str) -> pa.Field[Any]:
    """Returns the column that holds a column's values without changing one.

    Raises:
        SchemaError: Iceberg has no such type.
    """
    found = _stored(field.type)
    if found is None:
        told = f"column '{field.name}' is {field.type}, which Iceberg has no type for"
        raise SchemaError(told, where=where, hint=f"cast it: CAST({field.name} AS VARCHAR)")
    return pa.field(field.name, found, nullable=True)


def _stored(kind: Any) -> pa.DataType | None:
    if isinstance(kind, pa.BaseExtensionType):
        return _stored(kind.storage_type)
    if kind in _PLAIN:
        return kind  # type: ignore[no-any-return] # one of the set
    if kind in _WIDER:
        return _WIDER[kind]
    if pa.types.is_dictionary(kind):
        return _stored(kind.value_type)
    return _measured(kind) or _nested(kind)


def _measured(kind: Any) -> pa.DataType | None:
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if pa.types.is_time(kind):
        return pa.time64("us")
    if pa.types.is_decimal(kind) and kind.precision <= 38 and kind.scale >= 0:
        return pa.decimal128(kind.precision, kind.scale)
    return pa.binary() if pa.types.is_fixed_size_binary(kind) else None


def _nested(kind: Any) -> pa.DataType | None:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = _stored(kind.value_type)
        return None if inner is None else pa.list_(pa.field("element", inner))
    if pa.types.is_struct(kind) and kind.num_fields:
        parts = [(kind.field(each).name, _stored(kind.field(each).type)) for each in range(kind.num_fields)]
        fields = [pa.field(name, part) for name, part in parts if part is not None]
        return pa.struct(fields) if len(fields) == len(parts) else None
    if pa.types.is_map(kind):
        key, item = _stored(kind.key_type), _stored(kind.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    return None


def plain(kind: Any) -> Any:
    """Returns a type of the table without the ids and the large offsets that the driver gives it."""
    found = _stored(kind)
    return kind if found is None else found


def fitted(rows: pa.RecordBatch, schema: pa.Schema, where: str) -> pa.RecordBatch:
    """Returns a batch in the columns of the table; one that it has not is NULL.

    Raises:
        RejectedRows: A value does not fit; the rows at fault are alone once the batch has been halved often enough.
    """
    columns = []
    for each in schema:
        if each.name not in rows.schema.names:
            columns.append(pa.nulls(rows.num_rows, each.type))
            continue
        column: Any = rows.column(each.name)
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        try:
            columns.append(column.cast(each.type))
        except (pa.ArrowException, ValueError) as error:
            reason = (str(error).splitlines() or ["it does not fit"])[0]
            raise RejectedRows(f"column '{each.name}' does not fit {each.type}: {reason}", where=where) from error
    return pa.RecordBatch.from_arrays(columns, schema=schema)
