"""One door to all formats: the schema of a file, its rows as chunks, rows as a file; picks by options, knows no store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO, BinaryIO, Protocol

import pyarrow as pa

from resources.formats import avro, csv, jsonl, parquet
from resources.formats.chunks import Chunk, after
from resources.formats.columns import Wanted
from resources.formats.options import Compression, FileOptions, Format
from resources.formats.streams import DecodeError, compressed, decompressed


class Encoder(Protocol):
    """Writes rows into a sink, which stays open."""

    def write(self, rows: pa.RecordBatch) -> None:
        """Adds rows; when it fails, the file is lost."""

    def close(self) -> None:
        """Ends the file."""


def infer(opened: BinaryIO, options: FileOptions, where: str) -> pa.Schema:
    """Returns the schema that a file has, or that its beginning suggests.

    Raises:
        SchemaError: It has none.
        DecodeError: It is not of that format.
    """
    if options.format is Format.PARQUET:
        _refuse_compressed(options, where)
        return parquet.infer(opened, where)
    stream = decompressed(opened, options.compression, options.limits, where)
    if options.format is Format.CSV:
        return csv.infer(stream, options.csv, where)
    if options.format is Format.AVRO:
        return avro.infer(stream, options.limits, where)
    infers = jsonl.infer_lines if options.format is Format.JSONL else jsonl.infer_array
    return infers(stream, options.limits, where)


def decode(opened: BinaryIO, wanted: Wanted, options: FileOptions, where: str, start: int = 0) -> Iterator[Chunk]:
    """Reads a file from a record on, in bounded memory.

    Raises:
        SchemaError: Its columns are not those wanted.
        DecodeError: It is broken as a whole, or hostile.
    """
    for chunk in _chunks(opened, wanted, options, where, start):
        if chunk.end > start:
            yield after(chunk, start)


def _chunks(opened: BinaryIO, wanted: Wanted, options: FileOptions, where: str, start: int) -> Iterator[Chunk]:
    if options.format is Format.PARQUET:
        _refuse_compressed(options, where)
        return parquet.decode(opened, wanted, options.limits, where, start)
    stream = decompressed(opened, options.compression, options.limits, where)
    if options.format is Format.CSV:
        return csv.decode(stream, wanted, options.csv, where)
    if options.format is Format.AVRO:
        return avro.decode(stream, wanted, options.limits, where)
    decodes = jsonl.decode_lines if options.format is Format.JSONL else jsonl.decode_array
    return decodes(stream, wanted, options.limits, where)


def _refuse_compressed(options: FileOptions, where: str) -> None:
    if options.compression is not Compression.NONE:
        raise DecodeError(
            f"a Parquet file inside {options.compression} cannot be read: its footer is at its end",
            where=where,
            hint="decompress it; Parquet compresses its own columns",
        )


def encoder(sink: IO[bytes], schema: pa.Schema, options: FileOptions) -> Encoder:
    """Returns the encoder of a new file.

    Raises:
        SchemaError: The format cannot hold a column's type.
    """
    if options.format is Format.PARQUET:
        return parquet.ParquetEncoder(sink, schema, options.parquet)
    if options.format is Format.AVRO:
        return avro.AvroEncoder(sink, schema, options.avro)
    if options.format is Format.CSV:
        return _Compressing(sink, options, lambda inner: csv.CsvEncoder(inner, schema, options.csv))
    array = options.format is Format.JSON
    return _Compressing(sink, options, lambda inner: jsonl.JsonEncoder(inner, array=array))


class _Compressing:
    """An encoder whose bytes are compressed on their way."""

    def __init__(self, sink: IO[bytes], options: FileOptions, make: Callable[[IO[bytes]], Encoder]) -> None:
        self._stream = compressed(sink, options.compression)
        self._inner = make(self._stream)

    def write(self, rows: pa.RecordBatch) -> None:
        """Adds rows."""
        self._inner.write(rows)

    def close(self) -> None:
        """Ends the compression; the sink stays open."""
        self._inner.close()
        self._stream.close()
