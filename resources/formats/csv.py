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
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Literal, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from dsl.contracts.errors import SchemaError
from resources.formats.chunks import Chunk, Malformed, shortened
from resources.formats.columns import Wanted
from resources.formats.json_values import to_json
from resources.formats.options import CsvOptions
from resources.formats.streams import DecodeError, Transcoded
from resources.formats.texts import guess, typed

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

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
        self._stream = _Rest(_in_utf8(opened, options, where), ord(options.quote) if options.quote else None)
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
        self._bad: list[Malformed] = []

    def _first_row(self) -> list[str]:
        peeked = self._stream.peek(self._options.largest_row)
        text = io.StringIO(peeked.decode(errors="replace"), newline="")
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
        first, line = 0, 1 + self._skip
        try:
            for rows, last in _with_last(self._open()):
                bad = self._take(first + rows.num_rows)
                found = _Found(first, line, rows, bad, unclosed=last and self._stream.unclosed)
                yield found.chunk(schema)
                first += rows.num_rows + len(bad)
                line += rows.num_rows + found.breaks + sum(1 + each.text.count("\n") for each in bad)
        except pa.ArrowInvalid as error:
            if "straddling" in str(error) or "out of sync" in str(error):
                raise DecodeError(
                    f"after row {first}: a row is longer than {self._options.largest_row} bytes, or a quote is never closed",
                    where=self._where,
                    hint="raise `csv.largest_row`, or set `csv.quote`",
                ) from error
            raise DecodeError(f"it is not CSV: {error}", where=self._where, hint="set `csv` options") from error
        if self._bad:
            rows = pa.RecordBatch.from_pylist([], pa.schema([(name, pa.binary()) for name in self.names]))
            yield _Found(first, line, rows, self._take(self._bad[-1].record), unclosed=False).chunk(schema)

    def _take(self, end: int) -> list[Malformed]:
        taken: list[Malformed] = []
        while self._bad and self._bad[0].record <= end + len(taken):
            taken.append(self._bad.pop(0))
        return taken

    def _open(self) -> Any:
        options = self._options
        return arrow_csv.open_csv(
            cast("Any", self._stream),
            read_options=arrow_csv.ReadOptions(
                use_threads=False,
                block_size=options.largest_row,
                column_names=self.names,
                skip_rows_after_names=self._skip,
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=options.delimiter,
                quote_char=options.quote or False,
                newlines_in_values=bool(options.quote),
                ignore_empty_lines=False,
                invalid_row_handler=self._invalid,
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types={name: pa.binary() for name in self.names},
                null_values=list(options.null_values),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )

    def _invalid(self, row: Any) -> Literal["skip"]:
        blank = not row.text.strip()
        reason = "" if blank else f"it has {row.actual_columns} values, not {row.expected_columns}"
        self._bad.append(Malformed(row.number - 1 - self._skip, 0, shortened(row.text), reason))
        return "skip"


def _with_last(reader: Any) -> Iterator[tuple[pa.RecordBatch, bool]]:
    """Yields batches, and with each whether it is the last."""
    held: pa.RecordBatch | None = None
    for rows in reader:
        if held is not None:
            yield held, False
        held = rows
    if held is not None:
        yield held, True


class _Found:
    """One block of a file: rows of bytes, and the records between them that are no rows."""

    def __init__(self, first: int, line: int, rows: pa.RecordBatch, bad: list[Malformed], *, unclosed: bool) -> None:
        self._first, self._line, self._rows, self._bad, self._unclosed = first, line, rows, bad, unclosed
        self._breaks = _breaks(rows)
        self.breaks: int = pc.sum(self._breaks).as_py() or 0

    def chunk(self, schema: pa.Schema) -> Chunk:
        """Returns it as rows of a schema; rows with a value that does not fit become malformed."""
        columns, faults = [], dict[int, str]()
        for field in schema:
            column, found = typed(self._rows.column(field.name), field.type)
            columns.append(column)
            for row, reason in found:
                faults.setdefault(row, f"column '{field.name}': {reason}")
        rows = pa.RecordBatch.from_arrays(columns, schema=schema)
        if self._unclosed and self._swallowed():
            faults[rows.num_rows - 1] = "a quote is opened and never closed"
        if not faults and not self._bad:
            return Chunk(self._first, rows)
        kept = rows.filter(pa.array([row not in faults for row in range(rows.num_rows)], pa.bool_()))
        return Chunk(self._first, kept, tuple(self._malformed(faults)))

    def _swallowed(self) -> bool:
        """Tells whether the last value runs over lines, as it does when its quote was never closed."""
        rows = self._rows.num_rows
        return bool(rows) and b"\n" in (self._rows.column(self._rows.num_columns - 1)[rows - 1].as_py() or b"")

    def _malformed(self, faults: dict[int, str]) -> Iterator[Malformed]:
        """Yields what is no row in the order of the file, each with its line."""
        pending = list(self._bad)
        record, line = self._first, self._line
        for row, breaks in enumerate([*self._breaks.to_pylist(), None]):
            while pending and (pending[0].record == record or breaks is None):
                bad = pending.pop(0)
                yield Malformed(bad.record, line, bad.text, bad.reason)
                record, line = record + 1, line + 1 + bad.text.count("\n")
            if row in faults:
                text = shortened(repr(self._rows.slice(row, 1).to_pylist()[0]))
                yield Malformed(record, line, text, faults[row])
            record, line = record + 1, line + 1 + (breaks or 0)


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


class _Rest(io.RawIOBase):
    """A stream whose beginning can be looked at first, and which counts quotes until it has ended."""

    def __init__(self, inner: BinaryIO, quote: int | None) -> None:
        self._inner, self._ahead, self._quote = inner, b"", bytes([quote]) if quote is not None else b""
        self._quotes = 0
        self._ended = False

    @property
    def unclosed(self) -> bool:
        """Whether the whole stream was read and holds an odd number of quotes."""
        return self._ended and self._quotes % 2 == 1

    def peek(self, size: int) -> bytes:
        """Returns the first bytes, up to the first line break outside of what could be a quoted value."""
        while len(self._ahead) < size and not self._settled():
            more = self._inner.read(1 << 16)
            if not more:
                break
            self._ahead = (self._ahead + more).lstrip(b"\r\n")
        return self._ahead

    def _settled(self) -> bool:
        end = self._ahead.find(b"\n")
        while end >= 0:
            if not self._quote or self._ahead.count(self._quote, 0, end) % 2 == 0:
                return True
            end = self._ahead.find(b"\n", end + 1)
        return False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer)
        if self._ahead:
            data, self._ahead = self._ahead[: len(view)], self._ahead[len(view) :]
        else:
            data = self._inner.read(len(view))
        self._ended = not data
        if self._quote:
            self._quotes += data.count(self._quote)
        view[: len(data)] = data
        return len(data)


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
