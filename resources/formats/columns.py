"""The columns that are read of a file, and typed batches brought into them; a value that does not fit is named, never changed; no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dsl.contracts.errors import SchemaError
from resources.formats.chunks import Chunk, Malformed, shortened
from resources.formats.json_values import to_lines

MARK = b"headrace.type"


@dataclass(frozen=True)
class Wanted:
    """The columns to read.

    Attributes:
        schema: Those that are decoded, in order.
        names: All columns that the source has, in order.
        strict: Whether a file may have no others; else those are passed over.
    """

    schema: pa.Schema
    names: tuple[str, ...]
    strict: bool = True

    def check(self, names: list[str], where: str, *, absent: bool) -> None:
        """Compares the columns that a file has with those it may or must have.

        Args:
            names: The file's columns.
            where: Names the file in errors.
            absent: Whether a column may be missing, and is NULL then.

        Raises:
            SchemaError: A column is missing, stands twice, or is unexpected.
        """
        doubled = [each for each in names if names.count(each) > 1] if len(set(names)) < len(names) else []
        if doubled:
            raise SchemaError(f"column '{doubled[0]}' stands twice", where=where, hint="rename one")
        missing = [each for each in self.schema.names if each not in names]
        if missing and not absent:
            raise SchemaError(f"column '{missing[0]}' is missing", where=where, hint="was it renamed or dropped?")
        extra = [each for each in names if each not in self.names] if self.strict else []
        if extra:
            raise SchemaError(
                f"column '{extra[0]}' is not in the first file", where=where, hint="declare `schema` to choose columns"
            )


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Returns the schema that a typed file's rows are read with: no dictionaries or views, no metadata of its format."""
    return pa.schema([_plain_field(each) for each in schema])


def _plain_field(field: pa.Field[Any]) -> pa.Field[Any]:
    mark = (field.metadata or {}).get(MARK)
    return pa.field(field.name, _plain(field.type), metadata=None if mark is None else {MARK: mark})


def _plain(kind: Any) -> pa.DataType:
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _plain(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    return kind  # type: ignore[no-any-return]


def conformed(rows: pa.RecordBatch, schema: pa.Schema, first: int, where: str) -> Chunk:
    """Brings a batch into a schema by checked casts; rows with a value that does not fit become malformed.

    Raises:
        SchemaError: No value of a column's type can become one of the type wanted.
    """
    columns: list[Any] = []
    faults: dict[int, str] = {}
    for field in schema:
        at = rows.schema.get_field_index(field.name)
        if at < 0:
            columns.append(_nulls(rows.num_rows, field.type))
            continue
        column, found = _cast(rows.column(at), field, where)
        columns.append(column)
        for row in found:
            faults.setdefault(row, f"column '{field.name}': it is not {field.type}")
    whole = batch_of(columns, schema, rows.num_rows)
    if not faults:
        return Chunk(first, whole)
    bad = tuple(
        Malformed(first + row, 0, shortened(to_lines(rows.slice(row, 1))[0]), faults[row]) for row in sorted(faults)
    )
    kept = whole.filter(pa.array([row not in faults for row in range(rows.num_rows)], pa.bool_()))
    return Chunk(first, kept, bad)


def _nulls(count: int, kind: Any) -> Any:
    return pa.nulls(count, kind)


def batch_of(columns: list[Any], schema: pa.Schema, rows: int) -> pa.RecordBatch:
    """Returns a batch of columns; one of no columns has its rows all the same."""
    if columns:
        return pa.RecordBatch.from_arrays(columns, schema=schema)
    empty: Any = pa.array([{}] * rows, pa.struct([]))
    return pa.RecordBatch.from_struct_array(empty)


def _cast(column: Any, field: pa.Field[Any], where: str) -> tuple[Any, list[int]]:
    kind: Any = field.type
    if column.type.equals(kind):
        return column, []
    if pa.types.is_dictionary(column.type):
        return _cast(column.dictionary_decode(), field, where)
    try:
        return pc.cast(column, kind, safe=True), []
    except pa.ArrowNotImplementedError as error:
        raise SchemaError(
            f"column '{field.name}' is {column.type}, which cannot become {kind}",
            where=where,
            hint="declare `schema` with the type it has",
        ) from error
    except pa.ArrowInvalid:
        if len(column) == 1:
            return _nulls(1, kind), [0]
    half = len(column) // 2
    before, bad = _cast(column.slice(0, half), field, where)
    rest, more = _cast(column.slice(half), field, where)
    return pa.concat_arrays([before, rest]), [*bad, *(half + each for each in more)]
