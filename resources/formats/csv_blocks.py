"""CSV bytes as blocks of whole rows, every value still bytes; types, headers and meaning are others' work; no store.

A window of bytes is parsed with something behind it that makes its last, perhaps incomplete row one of too many values:
so pyarrow itself says where that row begins, whatever quotes stand where, and the next window begins there. Nothing is read
ahead by a thread of pyarrow's, which could not be stopped and would hang the end of the process.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, cast

import pyarrow as pa
import pyarrow.csv as arrow_csv

from resources.formats.options import CsvOptions
from resources.formats.streams import DecodeError, begun

WINDOW = 4 * 2**20


@dataclass(frozen=True)
class BadRow:
    """A row that has another number of values.

    Attributes:
        at: Its number in the block, counted from 0 over good and bad ones.
        text: As it stands there.
        values: How many it has.
    """

    at: int
    text: str
    values: int


@dataclass(frozen=True)
class Block:
    """Consecutive rows.

    Attributes:
        rows: The good ones, as bytes.
        bad: The others.
        size: How many bytes they take.
        breaks: Line breaks among those bytes.
        blank: Whether there may be blank lines between them.
        unclosed: Whether the last row is inside of a quoted value when the file ends.
    """

    rows: pa.RecordBatch
    bad: tuple[BadRow, ...]
    size: int
    breaks: int
    blank: bool
    unclosed: bool = False

    @property
    def count(self) -> int:
        """How many rows there are, good and bad."""
        return self.rows.num_rows + len(self.bad)


class Blocks:
    """The blocks of one file.

    Args:
        stream: Its bytes, valid UTF-8.
        options: How it is written.
        where: Names it in errors.
    """

    def __init__(self, stream: BinaryIO, options: CsvOptions, where: str) -> None:
        self._stream, self._options, self._where = stream, options, where
        self._quote, self._comma = options.quote.encode(), options.delimiter.encode()
        self._data, self._ended, self._behind_return = b"", False, False
        self.blank_lines = 0

    def peek(self) -> bytes:
        """Returns the beginning of the file, at least its first row; blank lines before it are passed over."""
        size = 1 << 16
        while True:
            self._fill(size)
            start = self._data.lstrip(b"\r\n")
            self.blank_lines += self._data[: len(self._data) - len(start)].count(b"\n")
            self._data = start
            if self._ended or self._settled() or len(start) >= self._options.largest_row:
                return start
            size = len(start) * 2 + (1 << 16)

    def _settled(self) -> bool:
        """Tells whether there is a line break outside of what could be a quoted value."""
        end = self._data.find(b"\n")
        while end >= 0:
            if not self._quote or self._data.count(self._quote, 0, end) % 2 == 0:
                return True
            end = self._data.find(b"\n", end + 1)
        return False

    def next(self, names: Sequence[str], skip: int) -> Block | None:
        """Returns the next block; None at the end.

        Args:
            names: The columns.
            skip: Rows to pass over, at the beginning of the file.

        Raises:
            DecodeError: A row is longer than allowed.
        """
        size = min(WINDOW, self._options.largest_row)
        while True:
            self._fill(size)
            if self._ended:
                return self._rest(names, skip)
            block = self._whole_rows(names, skip)
            if block is not None and block.size:
                self._behind_return = self._data[block.size - 1 : block.size] == b"\r"
                self._data = self._data[block.size :]
                return block
            if len(self._data) > self._options.largest_row:
                raise DecodeError(
                    f"a row is longer than {self._options.largest_row} bytes, or a quote is never closed",
                    where=self._where,
                    hint="raise `csv.largest_row`, or set `csv.quote`",
                )
            size = len(self._data) * 2

    def _fill(self, size: int) -> None:
        parts = [self._data]
        held = len(self._data)
        while held < size and not self._ended:
            data = self._stream.read(size - held)
            self._ended = not data
            parts.append(data)
            held += len(data)
        self._data = b"".join(parts)
        if self._behind_return and self._data:
            self._data, self._behind_return = self._data.removeprefix(b"\n"), False

    def _whole_rows(self, names: Sequence[str], skip: int) -> Block | None:
        data = self._data
        if not self._quote or self._quote not in data:
            # A return at the very end may belong to a line feed that is still to come.
            end = data.rfind(b"\n") + 1 or data.rfind(b"\r", 0, len(data) - 1) + 1
            return self._block(data[:end], names, skip) if end else None
        data = data[: len(data) - begun(data)]
        mark = secrets.token_hex(8).encode()
        outside = self._comma * (len(names) + 1) + mark
        endings = [outside, self._quote + outside]
        for ending in endings if data.count(self._quote) % 2 == 0 else reversed(endings):
            parser = _Parser(names, self._options, skip)
            rows = parser.parse(data + ending)
            if parser.bad and parser.bad[-1].text.endswith(mark.decode()):
                last = parser.bad.pop().text.encode()
                size = len(data) + len(ending) - len(last)
                return _block_of(rows, parser.bad, data[:size])
        return None

    def _rest(self, names: Sequence[str], skip: int) -> Block | None:
        """Returns what is left when the file has ended."""
        data, self._data = self._data, b""
        if not data:
            return None
        block = self._block(data, names, skip)
        return Block(block.rows, block.bad, block.size, block.breaks, block.blank, self._unclosed(data, names, skip))

    def _unclosed(self, data: bytes, names: Sequence[str], skip: int) -> bool:
        """Tells whether bytes end inside of a quoted value: what follows does not begin a row then."""
        if not self._quote or self._quote not in data:
            return False
        parser = _Parser(names, self._options, skip)
        mark = secrets.token_hex(8).encode()
        parser.parse(data + b"\n" + self._comma * (len(names) + 1) + mark)
        found = parser.bad[-1].text if parser.bad else ""
        return found != (self._comma * (len(names) + 1) + mark).decode()

    def _block(self, data: bytes, names: Sequence[str], skip: int) -> Block:
        parser = _Parser(names, self._options, skip)
        return _block_of(parser.parse(data), parser.bad, data)


def _block_of(rows: pa.RecordBatch, bad: Sequence[BadRow], data: bytes) -> Block:
    blank = b"\n\n" in data or b"\n\r" in data
    return Block(rows, tuple(bad), len(data), data.count(b"\n"), blank)


class _Parser:
    """One call of pyarrow's parser."""

    def __init__(self, names: Sequence[str], options: CsvOptions, skip: int) -> None:
        self._names, self._options, self._skip = names, options, skip
        self.bad: list[BadRow] = []

    def parse(self, data: bytes) -> pa.RecordBatch:
        """Returns the rows that have as many values as there are names; the others are in `bad`."""
        options = self._options
        table = arrow_csv.read_csv(
            cast("Any", pa.BufferReader(data)),
            read_options=arrow_csv.ReadOptions(
                use_threads=False,
                block_size=len(data) + 1,
                column_names=list(self._names),
                skip_rows_after_names=self._skip,
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=options.delimiter,
                quote_char=options.quote or False,
                newlines_in_values=bool(options.quote),
                ignore_empty_lines=len(self._names) > 1,
                invalid_row_handler=self._invalid,
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types={name: pa.binary() for name in self._names},
                null_values=list(options.null_values),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        ).combine_chunks()
        batches = table.to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)

    def _invalid(self, row: Any) -> Literal["skip"]:
        self.bad.append(BadRow(row.number - 1 - self._skip, row.text, row.actual_columns))
        return "skip"
