"""How Snowflake's columns are asked for and what its Arrow batches say, exactly or refused; talks to no server.

Instants are asked for as microseconds since 1970, because the driver's own batches change their unit, and lose digits, with the
values in them; where a column keeps nanoseconds, a second column says whether a value has any.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dsl.contracts.rows import Rejection
from resources.snowflake.types import Described, field_of, is_json
from resources.sql import quoted
from resources.sql_types import from_values

_CODES = {
    0: "NUMBER", 1: "FLOAT", 2: "VARCHAR", 3: "DATE", 4: "TIMESTAMP_NTZ", 5: "VARIANT", 6: "TIMESTAMP_LTZ",
    7: "TIMESTAMP_TZ", 8: "TIMESTAMP_NTZ", 9: "OBJECT", 10: "ARRAY", 11: "BINARY", 12: "TIME", 13: "BOOLEAN",
}  # fmt: skip
_EXACT = frozenset({*_CODES.values(), "TEXT", "STRING", "CHAR", "CHARACTER", "NVARCHAR", "VARBINARY", "DOUBLE", "REAL"})
_INSTANTS = frozenset({"TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ"})
_UNORDERED = frozenset({"FLOAT", "DOUBLE", "REAL", "BINARY", "VARBINARY", "VARIANT", "OBJECT", "ARRAY"})
_MICROSECONDS = 6


def described(description: Sequence[Any]) -> list[Described]:
    """Returns the columns of a query's result in the words of DESCRIBE TABLE."""
    return [Described(each.name, _type_of(each), required=not each.is_nullable) for each in description]


def _type_of(column: Any) -> str:
    base = _CODES.get(column.type_code, f"a type of number {column.type_code}")
    if base == "NUMBER":
        return f"NUMBER({column.precision},{column.scale})"
    return f"{base}({column.scale})" if base in _INSTANTS or base == "TIME" else base


def is_exact(column: Described) -> bool:
    """Tells whether a column's values can be read as what they are."""
    return column.base in _EXACT


def orderable(column: Described) -> bool:
    """Tells whether a value of the column survives as the text of a state."""
    return column.base not in _UNORDERED


def _may_cut(column: Described) -> bool:
    return column.base in _INSTANTS and (not column.sizes or column.sizes[0] > _MICROSECONDS)


def selected(columns: Sequence[Described]) -> list[str]:
    """Returns what to select for some columns; behind them, what says whether an instant has nanoseconds."""
    checks = [each for each in columns if _may_cut(each)]
    return [
        *(f"{_rendered(each)} AS c{place}" for place, each in enumerate(columns)),
        *(f"DATE_TRUNC('MICROSECOND', {quoted(each.name)}) = {quoted(each.name)}" for each in checks),
    ]


def _rendered(column: Described) -> str:
    name = quoted(column.name)
    if column.base in _INSTANTS:
        return f"DATE_PART(EPOCH_MICROSECOND, {name})"
    return f"TO_JSON({name})" if column.semistructured else name


def decoded(
    arrays: Sequence[Any], columns: Sequence[Described], schema: pa.Schema
) -> tuple[list[pa.Array[Any]], dict[int, str]]:
    """Reads the arrays of what `selected` asks for.

    Returns:
        The columns, and why each row that cannot be read exactly cannot.
    """
    failed: dict[int, str] = {}
    checks = iter(arrays[len(columns) :])
    values = []
    for array, column, field in zip(arrays, columns, schema, strict=False):
        made, bad = _exactly(array, column, field.type)
        if _may_cut(column):
            bad = (*bad, *_false(next(checks)))
        for row in bad:
            failed.setdefault(row, f"column '{field.name}' has a value that {_said(column, field)} cannot hold exactly")
        values.append(made)
    return values, failed


def _said(column: Described, field: pa.Field[Any]) -> str:
    return "JSON" if column.semistructured else str(field.type)


def _exactly(array: Any, column: Described, kind: Any) -> tuple[pa.Array[Any], tuple[int, ...]]:
    if column.base in _INSTANTS:
        return array.cast(pa.int64()).cast(kind), ()
    if column.semistructured:
        bad = tuple(at for at, each in enumerate(array.to_pylist()) if each is not None and not is_json(each))
        return array.cast(kind), bad
    if column.base == "TIME":
        return _times(array, kind)
    try:
        return pc.cast(array, kind, safe=True), ()
    except pa.ArrowInvalid:
        return from_values(array.to_pylist(), kind, lambda value: value)


def _times(array: Any, kind: Any) -> tuple[pa.Array[Any], tuple[int, ...]]:
    counts = array.cast(pa.time64("ns")).cast(pa.int64()).to_pylist()
    bad = tuple(at for at, each in enumerate(counts) if each is not None and each % 1000)
    return pa.array([None if each is None else each // 1000 for each in counts], pa.int64()).cast(kind), bad


def _false(exact: Any) -> list[int]:
    return [at for at, each in enumerate(exact.to_pylist()) if each is False]


def rejections(rows: pa.RecordBatch, columns: Sequence[Described], failed: dict[int, str]) -> tuple[Rejection, ...]:
    """Returns the rows that could not be read, as texts, with their reasons."""
    made = []
    for at, reason in sorted(failed.items()):
        texts = [_text(rows.column(place)[at].as_py()) for place in range(len(columns))]
        schema = pa.schema([pa.field(field_of(each).name, pa.string()) for each in columns])
        arrays = [pa.array([each], pa.string()) for each in texts]
        made.append(Rejection(pa.RecordBatch.from_arrays(arrays, schema=schema), reason, "decode", ""))
    return tuple(made)


def _text(value: Any) -> str | None:
    return value.hex() if isinstance(value, bytes) else None if value is None else str(value)
