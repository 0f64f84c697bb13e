"""CSV as chunks and back (RFC 4180): all values are read as bytes first, so that each one's fault is its own; no store.

NULL is an unquoted empty value, '' a quoted one. A row with too few or too many values, with bytes that are not UTF-8 or
with a value that does not fit its column is malformed, with its line; nothing is dropped silently.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator
from typing import IO, Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from dsl.contracts.errors import SchemaError
from resources.formats.chunks import Chunk, Malformed, shortened
from resources.formats.columns import Wanted, batch_of
from resources.formats.csv_blocks import Block, Blocks
from resources.formats.json_values import to_json
from resources.formats.options import CsvOptions
from resources.formats.streams import MARKS, DecodeError, Marked, Transcoded, unmarked
from resources.formats.texts import guess, typed

SAMPLE_ROWS = 10_000


def infer(opened: BinaryIO, options: CsvOptions, where: str) -> pa.Schema:
    """Returns the schema that the first block of a file suggests.

    Raises:
        SchemaError: It has no header where one is expected.
        DecodeError: It is not CSV.
    """
    source = _Source(opened, options, where)
    if not source.names:
        raise SchemaError("it is empty: no header tells its columns", where=where, hint="declare `schema`")
    texts = pa.schema([(name, pa.string()) for name in source.names])
    for chunk in source.chunks(texts):
        if chunk.rows.num_rows:
            sample = chunk.rows.slice(0, SAMPLE_ROWS)
            return pa.schema([(name, guess(sample.column(name).to_pylist())) for name in source.names])
    return texts


def decode(opened: BinaryIO, wanted: Wanted, options: CsvOptions, where: str) -> Iterator[Chunk]:
    """Reads a file in chunks, by the names in its header; without one by the order of all columns.

    Args:
        opened: The file, decompressed.
        wanted: The columns.
        options: How it is written.
        where: Names the file in errors.

    Raises:
        SchemaError: A column is missing, or one too many.
        DecodeError: The file is not CSV.
    """
    source = _Source(opened, options, where, None if options.header else list(wanted.names))
    if source.names:
        wanted.check(source.names, where, absent=False)
        yield from source.chunks(wanted.schema)


class _Source:
    """One opened file: its names, then its chunks, once."""

    def __init__(self, opened: BinaryIO, options: CsvOptions, where: str, names: list[str] | None = None) -> None:
        self._options, self._where = options, where
        self._bytes = Marked(_in_utf8(opened, options, where))
        self._blocks = Blocks(cast("BinaryIO", self._bytes), options, where)
        first = self._first_row()
        self._skip = 1 if options.header else 0
        if options.header:
            self.names = [name or f"column_{at}" for at, name in enumerate(first, 1)]
        else:
            self.names = names or [f"column_{at}" for at in range(1, len(first) + 1)]
        if first and len(set(self.names)) < len(self.names):
            doubled = next(each for each in self.names if self.names.count(each) > 1)
            raise SchemaError(f"column '{doubled}' stands twice in the header", where=where, hint="rename one")
        if not first:
            self.names = []

    def _first_row(self) -> list[str]:
        text = io.StringIO(self._blocks.peek().decode(errors="replace"), newline="")
        quote = self._options.quote
        rows = (
            csv.reader(text, delimiter=self._options.delimiter, quotechar=quote)
            if quote
            else csv.reader(text, delimiter=self._options.delimiter, quoting=csv.QUOTE_NONE)
        )
        csv.field_size_limit(max(csv.field_size_limit(), self._options.largest_row))
        try:
            return next(rows, [])
        except csv.Error as error:
            raise DecodeError(
                f"its first row is not CSV: {error}", where=self._where, hint="set `csv` options"
            ) from error

    def chunks(self, schema: pa.Schema) -> Iterator[Chunk]:
        """Yields the records in order, as rows of the schema."""
        first, line, skip = 0, 1 + self._blocks.blank_lines, self._skip
        while (block := self._next(skip)) is not None:
            yield _Found(first, line + skip, block, marked=self._bytes.marked).chunk(schema)
            first, line, skip = first + block.count, line + block.breaks, 0

    def _next(self, skip: int) -> Block | None:
        try:
            return self._blocks.next(self.names, skip)
        except pa.ArrowInvalid as error:
            raise DecodeError(f"it is not CSV: {error}", where=self._where, hint="set `csv` options") from error


class _Found:
    """One block of a file: rows of bytes, and the records between them that are no rows.

    Args:
        first: The number of its first record.
        line: The line of its first record.
        block: The rows.
        marked: Whether the file holds bytes that are not UTF-8.
    """

    def __init__(self, first: int, line: int, block: Block, *, marked: bool) -> None:
        self._first, self._line, self._block, self._rows = first, line, block, block.rows
        self._faults = self._not_utf8() if marked else {}

    def chunk(self, schema: pa.Schema) -> Chunk:
        """Returns it as rows of a schema; rows with a value that does not fit become malformed."""
        columns = []
        faults = self._faults
        for field in schema:
            column, found = typed(self._rows.column(field.name), field.type)
            columns.append(column)
            for row, reason in found:
                faults.setdefault(row, f"column '{field.name}': {reason}")
        rows = batch_of(columns, schema, self._rows.num_rows)
        if self._block.unclosed and (not self._block.bad or self._block.bad[-1].at < self._block.count - 1):
            faults[rows.num_rows - 1] = "a quote is opened and never closed"
        if not faults and not self._block.bad:
            return Chunk(self._first, rows)
        if faults:
            rows = rows.filter(pa.array([row not in faults for row in range(rows.num_rows)], pa.bool_()))
        return Chunk(self._first, rows, tuple(self._malformed(faults)))

    def _not_utf8(self) -> dict[int, str]:
        faults: dict[int, str] = {}
        for name, column in zip(self._rows.schema.names, self._rows.columns, strict=True):
            any_column: Any = column
            marked = [pc.fill_null(pc.match_substring(any_column, cast("Any", each)), False) for each in MARKS]
            for row in pc.indices_nonzero(pc.or_(*marked)).to_pylist():
                faults.setdefault(row, f"column '{name}': it is not UTF-8")
        return faults

    def _malformed(self, faults: dict[int, str]) -> Iterator[Malformed]:
        """Yields what is no row in the order of the file, each with its line."""
        bad = {each.at: each for each in self._block.bad}
        breaks = _breaks(self._rows).to_pylist()
        row, line = 0, self._line
        for at in range(self._block.count):
            record, told = self._first + at, 0 if self._block.blank else line
            if at in bad:
                found = bad[at]
                reason = f"it has {found.values} values, not {self._rows.num_columns}"
                yield Malformed(record, told, shortened(unmarked(found.text)), reason)
                line += 1 + found.text.count("\n")
                continue
            if row in faults:
                yield Malformed(record, told, self._text(row), faults[row])
            line += 1 + breaks[row]
            row += 1

    def _text(self, row: int) -> str:
        values = self._rows.slice(row, 1).to_pylist()[0]
        shown = {name: None if each is None else each.decode(errors="replace") for name, each in values.items()}
        return shortened(unmarked(json.dumps(shown, ensure_ascii=False)))


def _breaks(rows: pa.RecordBatch) -> Any:
    """Returns how many line breaks the values of each row hold."""
    columns: list[Any] = list(rows.columns)
    total: Any = pa.array([0] * rows.num_rows, pa.int32())
    for each in columns:
        total = pc.add(total, pc.fill_null(pc.count_substring(each, "\n"), 0))
    return total


def _in_utf8(opened: BinaryIO, options: CsvOptions, where: str) -> BinaryIO:
    stream: Any = opened if hasattr(opened, "peek") else io.BufferedReader(cast("Any", opened))
    start = stream.peek(4)[:4]
    encoding = options.encoding
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        plain = codecs.lookup(encoding).name in {"utf-8", "ascii"}
    except LookupError as error:
        raise DecodeError(f"no encoding '{encoding}'", where=where, hint="name one that Python knows") from error
    if start.startswith(codecs.BOM_UTF8):
        stream.read(3)
    if plain:
        return cast("BinaryIO", stream)
    return cast("BinaryIO", io.BufferedReader(Transcoded(stream, encoding, where), 1 << 16))


class CsvEncoder:
    """Writes batches as CSV in UTF-8 with a header; what CSV has no form for is written as JSON text.

    Args:
        sink: Takes the bytes; stays open.
        schema: The columns.
        options: Delimiter and header.
    """

    def __init__(self, sink: IO[bytes], schema: pa.Schema, options: CsvOptions) -> None:
        self._flat = [not _is_plain(each.type) for each in schema]
        self._schema = pa.schema(
            [
                pa.field(field.name, pa.string() if flat else field.type)
                for field, flat in zip(schema, self._flat, strict=True)
            ]
        )
        self._writer = arrow_csv.CSVWriter(
            cast("Any", sink),
            self._schema,
            write_options=arrow_csv.WriteOptions(include_header=options.header, delimiter=options.delimiter),
        )

    def write(self, rows: pa.RecordBatch) -> None:
        """Adds rows."""
        columns = [_texts(column) if flat else column for column, flat in zip(rows.columns, self._flat, strict=True)]
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))

    def close(self) -> None:
        """Ends the file; the sink stays open."""
        self._writer.close()


def _is_plain(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_date(kind)
        or pa.types.is_null(kind)
        or pa.types.is_floating(kind)
        or (pa.types.is_timestamp(kind) and not cast("Any", kind).tz)
    )


def _texts(column: Any) -> Any:
    values = to_json(column)
    texts = [each if each is None or isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in values]
    return pa.array(texts, pa.string())
