"""Byte streams around files: decompression with a limit on what comes out, compression, transcoding, hashing; no store.

A bomb is refused by how much comes out of how little (OWASP ASVS 5.2.3): gzip alone can make 1,000 bytes of one.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import hashlib
import io
import lzma
import re
import zlib
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

import pyarrow as pa

from dsl.contracts.errors import FatalError
from resources.formats.options import Compression, Limits

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

FREE_BYTES = 64 * 2**20
BLOCK = 1 << 20


class DecodeError(FatalError):
    """A file that is broken as a whole, or refused as hostile."""


class _Counted(io.RawIOBase):
    """Passes bytes on and counts them."""

    def __init__(self, inner: IO[bytes]) -> None:
        self._inner = inner
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer)
        data = self._inner.read(len(view))
        view[: len(data)] = data
        self.count += len(data)
        return len(data)

    def close(self) -> None:
        self._inner.close()
        super().close()


class _Limited(io.RawIOBase):
    """What comes out of a decompressor, within limits."""

    def __init__(self, inner: Any, source: _Counted, limits: Limits, where: str) -> None:
        self._inner, self._source, self._limits, self._where = inner, source, limits, where
        self._out = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer)
        try:
            data = self._inner.read(min(len(view), BLOCK))
        except (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
            raise DecodeError(
                f"it cannot be decompressed: {error}",
                where=self._where,
                hint="is it complete, and is its ending right?",
            ) from error
        view[: len(data)] = data
        self._out += len(data)
        self._check()
        return len(data)

    def _check(self) -> None:
        if self._limits.bytes is not None and self._out > self._limits.bytes:
            raise DecodeError(
                f"it holds more than {self._limits.bytes} bytes",
                where=self._where,
                hint="raise `limits.bytes` if it should",
            )
        if self._out > FREE_BYTES and self._out > self._limits.ratio * max(self._source.count, 1):
            raise DecodeError(
                f"one compressed byte becomes more than {self._limits.ratio}: refused as a decompression bomb",
                where=self._where,
                hint="raise `limits.ratio` if the file is meant",
            )

    def close(self) -> None:
        self._inner.close()
        self._source.close()
        super().close()


def decompressed(opened: BinaryIO, how: Compression, limits: Limits, where: str) -> BinaryIO:
    """Returns a stream of what a compressed file holds; reading it raises `DecodeError` past the limits."""
    counted = _Counted(opened)
    if how is Compression.NONE:
        return cast("BinaryIO", io.BufferedReader(_Limited(counted, counted, limits, where), BLOCK))
    inner: Any
    source = io.BufferedReader(counted, 1 << 16)
    if how is Compression.GZIP:
        inner = gzip.GzipFile(fileobj=source)
    elif how is Compression.BZ2:
        inner = bz2.BZ2File(source)
    elif how is Compression.XZ:
        inner = lzma.LZMAFile(source)  # noqa: SIM115 - closed with what is returned
    else:
        inner = pa.CompressedInputStream(pa.PythonFile(source, mode="r"), "zstd")
    return cast("BinaryIO", io.BufferedReader(_Limited(inner, counted, limits, where), BLOCK))


class Transcoded(io.RawIOBase):
    """A stream in another encoding, as UTF-8.

    Args:
        inner: Bytes in `encoding`.
        encoding: As Python's codecs name it.
        where: Names the file in errors.
    """

    def __init__(self, inner: BinaryIO, encoding: str, where: str) -> None:
        self._inner, self._where, self._encoding = inner, where, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("strict")
        self._ready = b""
        self._ended = False
        self._seen = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer)
        while not self._ready and not self._ended:
            data = self._inner.read(1 << 16)
            self._ended = not data
            try:
                self._ready = self._decoder.decode(data, final=self._ended).encode()
            except UnicodeError as error:
                raise DecodeError(
                    f"it is not {self._encoding} near byte {self._seen}: {error}",
                    where=self._where,
                    hint="set `csv.encoding` to what it is",
                ) from error
            self._seen += len(data)
        taken, self._ready = self._ready[: len(view)], self._ready[len(view) :]
        view[: len(taken)] = taken
        return len(taken)

    def close(self) -> None:
        self._inner.close()
        super().close()


class Marked(io.RawIOBase):
    """A stream that should be UTF-8, and is: a byte that fits nowhere becomes a sign of its own, which `marks` finds.

    Args:
        inner: The bytes.
    """

    def __init__(self, inner: BinaryIO) -> None:
        self._inner, self._ready, self._tail, self._ended = inner, b"", b"", False
        self.marked = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer)
        while not self._ready and not self._ended:
            data = self._inner.read(max(len(view), 1 << 16))
            self._ended = not data
            self._ready = self._checked(self._tail + data)
        taken, self._ready = self._ready[: len(view)], self._ready[len(view) :]
        view[: len(taken)] = taken
        return len(taken)

    def _checked(self, data: bytes) -> bytes:
        if data.isascii():
            self._tail = b""
            return data
        cut = len(data) if self._ended else len(data) - begun(data)
        block, self._tail = data[:cut], data[cut:]
        try:
            block.decode()
        except UnicodeDecodeError:
            self.marked = True
            text = block.decode(errors="surrogateescape")
            return _ESCAPED.sub(lambda found: chr(ord(found[0]) + _MOVED), text).encode()
        return block

    def close(self) -> None:
        self._inner.close()
        super().close()


_ESCAPED = re.compile("[\udc80-\udcff]")
_MOVED = 0xF700 - 0xDC00
_SIGNS = re.compile("[\uf780-\uf7ff]")
MARKS = (b"\xef\x9e", b"\xef\x9f")
"""What the bytes of every sign begin with, and of no other character."""


def unmarked(text: str) -> str:
    """Returns a text with the signs of `Marked` shown as the bytes they stand for."""
    return _SIGNS.sub(lambda found: f"\\x{ord(found[0]) - 0xF700:02x}", text)


def begun(data: bytes) -> int:
    """Returns how many bytes at the end are the beginning of a character that goes on."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if length > back else 0
        if byte < 0x80:
            return 0
    return 0


class HashedSink(io.RawIOBase):
    """Passes bytes to a sink, counts them and computes their sha256."""

    def __init__(self, inner: IO[bytes]) -> None:
        self._inner = inner
        self._hash = hashlib.sha256()
        self.count = 0

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        view = memoryview(data).cast("B")
        self._inner.write(view)
        self._hash.update(view)
        self.count += len(view)
        return len(view)

    def tell(self) -> int:
        return self.count

    @property
    def sha256(self) -> str:
        """The digest of everything written, in hexadecimal."""
        return self._hash.hexdigest()


def compressed(sink: IO[bytes], how: Compression) -> IO[bytes]:
    """Returns a stream that compresses into a sink; closing it ends the compression, not the sink."""
    if how is Compression.GZIP:
        return cast("IO[bytes]", gzip.GzipFile(filename="", fileobj=sink, mode="wb", mtime=0))
    if how is Compression.BZ2:
        return bz2.BZ2File(sink, "wb")
    if how is Compression.XZ:
        return lzma.LZMAFile(sink, "wb")
    if how is Compression.ZSTD:
        return cast("IO[bytes]", _Zstd(sink))
    return cast("IO[bytes]", _Uncompressed(sink))


class _Uncompressed(io.RawIOBase):
    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        return self._sink.write(data)


class _Zstd(io.RawIOBase):
    def __init__(self, sink: IO[bytes]) -> None:
        self._file = pa.PythonFile(_Uncompressed(sink), mode="w")
        self._stream = pa.CompressedOutputStream(self._file, "zstd")

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        view = memoryview(data).cast("B")
        self._stream.write(pa.py_buffer(view))
        return len(view)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()
