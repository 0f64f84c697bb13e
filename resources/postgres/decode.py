"""Turns what COPY … (FORMAT csv) sends into Arrow rows; a value that Arrow cannot hold rejects its row. Talks to no server."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc_csv

from dsl.contracts.errors import RetryableError
from dsl.contracts.rows import Rejection
from resources.sql_types import from_text, is_bytes


def decode(schema: pa.Schema, block: bytes, count: int) -> tuple[pa.RecordBatch, tuple[Rejection, ...]]:
    """Decodes whole lines of PostgreSQL's CSV (NULL unquoted and empty, text quoted where needed).

    Args:
        schema: The fields of the lines, in order.
        block: The lines.
        count: How many rows they are.

    Returns:
        The rows that could be decoded exactly, and the others.

    Raises:
        RetryableError: The block does not hold that many rows; the connection sent something else.
    """
    typed = {each.name: each.type for each in schema if _direct(each.type)}
    try:
        table = _read(schema, block, typed)
    except pa.ArrowInvalid:
        table = _read(schema, block, {})
    if table.num_rows != count:
        raise RetryableError(f"{count} rows were sent but {table.num_rows} arrived", hint="run it again")
    columns: list[pa.Array[Any]] = []
    failed: dict[int, str] = {}
    for name, kind in zip(schema.names, schema.types, strict=True):
        column = _one(table.column(name))
        if column.type != kind:
            column, bad = from_text(column, kind)
            for index in bad:
                failed.setdefault(index, f"column '{name}' has a value that {kind} cannot hold exactly")
        columns.append(column)
    rows = pa.RecordBatch.from_arrays(columns, schema=schema)
    if not failed:
        return rows, ()
    texts = _read(schema, block, {})
    rejections = tuple(_rejection(texts, index, reason) for index, reason in sorted(failed.items()))
    keep = pa.array([index not in failed for index in range(count)], pa.bool_())
    return rows.filter(keep), rejections


csv.field_size_limit(
    2**31 - 1
)  # a field is as long as the server's values are: the limit is the whole process's, and it stops at 128 KiB


def last_texts(line: bytes, places: Sequence[int]) -> tuple[str, ...]:
    """Returns the server's own texts of some columns of one line."""
    cells = next(csv.reader(io.StringIO(line.decode(), newline="")))
    return tuple(cells[each] for each in places)


def _direct(kind: pa.DataType) -> bool:
    """Tells whether Arrow's CSV reader reads PostgreSQL's text of the type as it is."""
    return not (is_bytes(kind) or pa.types.is_nested(kind) or pa.types.is_time(kind))


def _read(schema: pa.Schema, block: bytes, types: dict[str, pa.DataType]) -> pa.Table:
    return pc_csv.read_csv(
        io.BytesIO(block),
        pc_csv.ReadOptions(column_names=schema.names, block_size=len(block) + 1),
        pc_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        pc_csv.ConvertOptions(
            column_types={name: types.get(name, pa.string()) for name in schema.names},
            null_values=[""],
            true_values=["t"],
            false_values=["f"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _one(column: pa.ChunkedArray[Any]) -> pa.Array[Any]:
    return pa.concat_arrays(column.chunks)


def _rejection(texts: pa.Table, index: int, reason: str) -> Rejection:
    row = texts.slice(index, 1).combine_chunks().to_batches()[0]
    return Rejection(row, reason, "decode", "")
