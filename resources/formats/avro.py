"""Avro files as chunks and back: block by block, each within limits before it is decompressed or decoded; no store.

The container is read here, so that a block's size is checked first; its records are decoded by fastavro from a block
without compression and without logical types. Of a block that is broken the records before the fault are kept.
"""

from __future__ import annotations

import bz2
import io
import json
import lzma
import os
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import IO, Any, BinaryIO

import pyarrow as pa

from dsl.contracts.errors import RejectedRows
from resources.formats.avro_rows import raw_values, to_avro
from resources.formats.avro_types import SchemaReader, Shape, to_arrow
from resources.formats.chunks import Chunk, Malformed, shortened
from resources.formats.columns import Wanted, batch_of, conformed
from resources.formats.options import AvroOptions, Limits
from resources.formats.streams import DecodeError

MAGIC = b"Obj\x01"
SYNC = 16
ROWS = 4096
LARGEST_HEADER = 16 * 2**20
MOST_EMPTY = 1_000_000
_CODECS = {"deflate": "deflate", "bzip2": "bzip2", "xz": "xz", "none": "null"}
_UNREADABLE = (ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, MemoryError)
_BROKEN_BLOCK = (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, pa.ArrowException)


def infer(opened: BinaryIO, limits: Limits, where: str) -> pa.Schema:
    """Returns the schema of a file, from its header.

    Raises:
        DecodeError: It is not Avro.
        SchemaError: Its schema cannot be carried.
    """
    kind: Any = _Container(opened, limits, where).shape.arrow
    return pa.schema([kind.field(each) for each in range(kind.num_fields)])


def decode(opened: BinaryIO, wanted: Wanted, limits: Limits, where: str) -> Iterator[Chunk]:
    """Reads a file in chunks.

    Raises:
        SchemaError: Its columns are not those wanted.
        DecodeError: It is broken outside of its blocks, or hostile.
    """
    container = _Container(opened, limits, where)
    kind: Any = container.shape.arrow
    wanted.check([kind.field(each).name for each in range(kind.num_fields)], where, absent=True)
    rows = _Rows(container, wanted, where)
    first = 0
    for number, (count, data) in enumerate(container.blocks(), 1):
        for chunk in rows.of_block(first, number, count, data):
            yield chunk
            first = chunk.end


def container(schema: str, records: Sequence[bytes]) -> bytes:
    """Returns a file of records that are encoded already, each in a block of its own, so that a broken one costs no other."""
    header = {b"avro.codec": b"null", b"avro.schema": schema.encode()}
    pairs = b"".join(_long(len(each)) + each for pair in header.items() for each in pair)
    blocks = (_long(1) + _long(len(each)) + each + bytes(SYNC) for each in records)
    return b"".join((MAGIC, _long(len(header)), pairs, _long(0), bytes(SYNC), *blocks))


class _Container:
    """An opened file: its header, then its blocks, once."""

    def __init__(self, opened: BinaryIO, limits: Limits, where: str) -> None:
        self._opened, self._limits, self._where = opened, limits, where
        self._seen = 0
        if self._opened.read(4) != MAGIC:
            raise self._error("it is not Avro")
        found = self._metadata()
        self._sync = self._exactly(SYNC, "its header")
        self._codec = found.get("avro.codec", b"null").decode(errors="replace")
        if self._codec not in {"null", "deflate", "bzip2", "xz", "snappy", "zstandard"}:
            raise self._error(f"its codec '{self._codec[:40]}' is unknown")
        try:
            schema = json.loads(found.get("avro.schema", b"").decode())
        except (ValueError, RecursionError) as error:
            raise self._error(f"its schema is not JSON: {error}") from error
        if not isinstance(schema, dict) or schema.get("type") not in {"record", "error"}:
            raise self._error("its rows are no records")
        self.shape: Shape = SchemaReader(where).read(schema)

    def _error(self, message: str) -> DecodeError:
        return DecodeError(message, where=self._where, hint="is it complete, and is it Avro?")

    def _exactly(self, size: int, what: str) -> bytes:
        data = self._opened.read(size)
        if len(data) < size:
            raise self._error(f"it ends inside {what}")
        return data

    def _long(self, what: str, *, may_end: bool = False) -> int | None:
        value = shift = 0
        while True:
            data = self._opened.read(1)
            if not data and may_end and not shift:
                return None
            if not data or shift > 63:
                raise self._error(f"it ends inside {what}" if not data else f"{what} has no length")
            value |= (data[0] & 0x7F) << shift
            shift += 7
            if data[0] < 0x80:
                return (value >> 1) ^ -(value & 1)

    def _number(self, what: str) -> int:
        return self._long(what) or 0

    def _metadata(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        while count := self._number("its header"):
            if count < 0:
                self._number("its header")
            for _ in range(min(abs(count), LARGEST_HEADER)):
                key = self._piece().decode(errors="replace")
                found[key] = self._piece()
        return found

    def _piece(self) -> bytes:
        size = self._number("its header")
        self._seen += size
        if size < 0 or self._seen > LARGEST_HEADER:
            raise self._error("its header is too large")
        return self._exactly(size, "its header")

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """Yields the number of records and the bytes of each block, as they stand in the file."""
        number = 0
        while (count := self._long(f"block {number + 1}", may_end=True)) is not None:
            number += 1
            what = f"block {number}"
            size = self._number(what)
            if count < 0 or not 0 <= size <= self._limits.value_bytes:
                raise self._error(f"{what} claims {count} records in {size} bytes, more than `limits.value_bytes`")
            data = self._exactly(size, what)
            if self._exactly(SYNC, what) != self._sync:
                raise self._error(f"{what} does not end where it says")
            yield count, data

    def unpacked(self, data: bytes) -> bytes:
        """Decompresses a block.

        Raises:
            ValueError: It is broken, or becomes larger than `limits.value_bytes`.
        """
        most = self._limits.value_bytes
        unpacked = data if self._codec == "null" else _decompress(self._codec, data, most + 1)
        if len(unpacked) > most:
            raise ValueError(f"it becomes more than {most} bytes: refused as a decompression bomb")
        return unpacked


def _decompress(codec: str, data: bytes, most: int) -> bytes:
    if codec == "deflate":
        return zlib.decompressobj(-15).decompress(data, most)
    if codec == "bzip2":
        return bz2.BZ2Decompressor().decompress(data, most)
    if codec == "xz":
        return lzma.LZMADecompressor().decompress(data, most)
    if codec == "zstandard":
        return bytes(pa.CompressedInputStream(pa.BufferReader(data), "zstd").read(most))
    size = shift = 0
    for byte in data[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if size > most:
        return bytes(most)
    found: bytes = pa.Codec("snappy").decompress(data[:-4], size, asbytes=True)
    return found


class _Rows:
    """Decodes blocks into rows of a schema."""

    def __init__(self, container: _Container, wanted: Wanted, where: str) -> None:
        self._container, self._schema, self._where = container, wanted.schema, where
        kind: Any = container.shape.arrow
        fields = [kind.field(each) for each in range(kind.num_fields)]
        self._fields = pa.schema([each for each in fields if each.name in wanted.schema.names])
        schema = json.dumps(container.shape.raw).encode()
        self._header = b"".join((
            MAGIC,
            _long(2),
            *(_long(len(each)) + each for each in (b"avro.codec", b"null", b"avro.schema", schema)),
            _long(0),
            bytes(SYNC),
        ))  # fmt: skip
        self._check()

    def _check(self) -> None:
        import fastavro

        try:
            fastavro.parse_schema(json.loads(json.dumps(self._container.shape.raw)))
        except Exception as error:  # whatever fastavro finds wrong with a schema, the file is at fault
            raise DecodeError(f"its schema is not Avro: {error}", where=self._where) from error

    def of_block(self, first: int, number: int, count: int, data: bytes) -> Iterator[Chunk]:
        """Yields the records of a block; what cannot be read of it as malformed."""
        where = f"block {number}"
        try:
            unpacked = self._container.unpacked(data)
        except _BROKEN_BLOCK as error:
            yield from self._lost(first, min(count, MOST_EMPTY), f"{where} cannot be decompressed: {error}")
            return
        if count > max(len(unpacked), MOST_EMPTY):
            raise DecodeError(f"{where} claims {count} records in {len(unpacked)} bytes", where=self._where)
        end = first + count
        fault = ""
        records = self._records(count, unpacked)
        while not fault and first < end:
            part: list[dict[str, Any]] = []
            try:
                part.extend(islice(records, ROWS))
            except _UNREADABLE as error:
                fault = f"{where} is broken here: {type(error).__name__}: {error}"
            if not part and not fault:
                fault = f"{where} ends here"
            if part:
                yield (chunk := self._chunk(first, part))
                first = chunk.end
        yield from self._lost(first, end - first, fault)

    def _records(self, count: int, data: bytes) -> Iterator[dict[str, Any]]:
        import fastavro

        block = _long(count) + _long(len(data)) + data + bytes(SYNC)
        return iter(fastavro.reader(io.BytesIO(self._header + block)))  # type: ignore[arg-type]

    def _chunk(self, first: int, records: list[dict[str, Any]]) -> Chunk:
        bad: list[Malformed] = []
        good = self._batch(list(enumerate(records, first)), bad)
        if not bad:
            return conformed(good, self._schema, first, self._where)
        rest = conformed(good, self._schema, first, self._where)
        numbers = [each for each in range(first, first + len(records)) if each not in {bad.record for bad in bad}]
        moved = [Malformed(numbers[each.record - first], 0, each.text, each.reason) for each in rest.malformed]
        return Chunk(first, rest.rows, tuple(sorted([*bad, *moved], key=lambda each: each.record)))

    def _batch(self, records: list[tuple[int, dict[str, Any]]], bad: list[Malformed]) -> pa.RecordBatch:
        """Builds a batch, halving it until the records at fault are alone."""
        columns = []
        for field in self._fields:
            try:
                columns.append(to_arrow([each[field.name] for _, each in records], field.type))
            except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
                if len(records) == 1:
                    number, record = records[0]
                    bad.append(Malformed(number, 0, shortened(repr(record)), f"column '{field.name}': {error}"))
                    return pa.RecordBatch.from_pylist([], self._fields)
                half = len(records) // 2
                parts = [self._batch(part, bad) for part in (records[:half], records[half:])]
                whole = pa.Table.from_batches(parts, self._fields).combine_chunks().to_batches()
                return whole[0] if whole else parts[0]
        return batch_of(columns, self._fields, len(records))

    def _lost(self, first: int, count: int, reason: str) -> Iterator[Chunk]:
        empty = pa.RecordBatch.from_arrays([pa.array([], each.type) for each in self._schema], schema=self._schema)
        for at in range(first, first + count, ROWS):
            lost = range(at, min(at + ROWS, first + count))
            yield Chunk(at, empty, tuple(Malformed(each, 0, "", reason) for each in lost))


def _long(value: int) -> bytes:
    """Encodes a number as Avro does: zigzag, seven bits a byte."""
    left, found = (value << 1) ^ (value >> 63), bytearray()
    while left > 0x7F:
        found.append((left & 0x7F) | 0x80)
        left >>= 7
    found.append(left)
    return bytes(found)


class AvroEncoder:
    """Writes batches as Avro, a block at a time.

    Args:
        sink: Takes the bytes; stays open.
        schema: The columns.
        options: The codec.
    """

    def __init__(self, sink: IO[bytes], schema: pa.Schema, options: AvroOptions) -> None:
        self._sink, self._names = sink, schema.names
        self._schema = to_avro(schema, "avro")
        self._codec = _CODECS[options.codec]
        self._marker = os.urandom(SYNC)
        self._header = self._encoded([])
        self._started = False

    def write(self, rows: pa.RecordBatch) -> None:
        """Adds rows.

        Raises:
            RejectedRows: A value has no form in Avro; nothing was added.
        """
        try:
            columns = [raw_values(each) for each in rows.columns]
        except (ValueError, OverflowError, pa.ArrowException) as error:
            raise RejectedRows(f"a value has no form in Avro: {error}", where="avro") from error
        records = [dict(zip(self._names, each, strict=True)) for each in zip(*columns, strict=True)]
        encoded = self._encoded(records)
        self._sink.write(encoded if not self._started else encoded[len(self._header) :])
        self._started = True

    def close(self) -> None:
        """Ends the file; the sink stays open."""
        if not self._started:
            self._sink.write(self._header)
            self._started = True

    def _encoded(self, records: list[dict[str, Any]]) -> bytes:
        import fastavro

        out = io.BytesIO()
        fastavro.writer(out, self._schema, records, codec=self._codec, sync_interval=1 << 18, sync_marker=self._marker)
        return out.getvalue()
