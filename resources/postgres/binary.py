"""The compiled half of COPY: finds the library beside it and wraps its buffers as Arrow's; where there is none, COPY's text is read."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from dsl.contracts.errors import RetryableError

LIBRARY = Path(__file__).with_name("copy_binary.so")
HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER = b"\xff\xff"
WAIT_MILLISECONDS = 200


class Kind(IntEnum):
    """How a value travels; the numbers are those of copy_binary.c."""

    BOOL = 1
    INT2 = 2
    INT4 = 3
    INT8 = 4
    OID = 5
    FLOAT4 = 6
    FLOAT8 = 7
    NUMERIC = 8
    TEXT = 9
    JSONB = 10
    UUID = 11
    BYTES = 12
    DATE = 13
    TIME = 14
    TIMESTAMP = 15


class Outcome(IntEnum):
    """What a call of the library came to."""

    FULL = 1
    WAITING = 0
    ENDED = -1
    BROKEN = -2
    MALFORMED = -3
    NO_MEMORY = -4


@dataclass(frozen=True)
class Wire:
    """A column as it travels.

    Attributes:
        kind: The form.
        type: The Arrow type that holds it.
    """

    kind: Kind
    type: pa.DataType

    @property
    def varies(self) -> bool:
        """Whether values have lengths of their own."""
        return self.kind in {Kind.TEXT, Kind.JSONB, Kind.UUID, Kind.BYTES}

    @property
    def precision(self) -> int:
        """The digits of a decimal number, or 0."""
        return self.type.precision if pa.types.is_decimal128(self.type) else 0

    @property
    def scale(self) -> int:
        """Its digits behind the point, or 0."""
        return self.type.scale if pa.types.is_decimal128(self.type) else 0


class _Source(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_int32),
        ("scale", ctypes.c_int32),
        ("valid", ctypes.c_void_p),
        ("data", ctypes.c_void_p),
        ("offsets", ctypes.c_void_p),
        ("offset", ctypes.c_int64),
    )


class _Output(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("used", ctypes.c_int64), ("room", ctypes.c_int64))


@cache
def library() -> Any:
    """Returns the compiled library, or None where it was not built."""
    if not LIBRARY.exists():
        return None
    found = ctypes.CDLL(str(LIBRARY))
    found.headrace_new.restype = ctypes.c_void_p
    found.headrace_write.restype = ctypes.c_int64
    return found


class Rows:
    """Rows while they are read, in buffers of the library; what `arrays` returns keeps them alive.

    Args:
        wires: The columns.
        most_rows: When it is full.
        most_bytes: The same, of what the server sends.
        began: Whether the stream's header has been read before.
    """

    def __init__(self, wires: Sequence[Wire], most_rows: int, most_bytes: int, *, began: bool) -> None:
        self._library, self._wires = library(), wires
        count = len(wires)
        numbers = ctypes.c_int32 * count
        self._handle = ctypes.c_void_p(
            self._library.headrace_new(
                count,
                numbers(*(each.kind for each in wires)),
                numbers(*(each.precision for each in wires)),
                numbers(*(each.scale for each in wires)),
                most_rows,
                ctypes.c_int64(most_bytes),
                began,
            )
        )
        if self._handle.value is None:
            raise MemoryError

    def __del__(self) -> None:
        self._library.headrace_free(self._handle)

    def fill(self, connection: int, descriptor: int, calls: Sequence[Any]) -> Outcome:
        """Reads from a connection in COPY OUT until there is enough, all is read, or nothing has come for a while.

        Args:
            connection: Address of its PGconn.
            descriptor: Its socket.
            calls: libpq's PQgetCopyData, PQconsumeInput and PQfreemem.

        Raises:
            RetryableError: The server sent something else than rows.
        """
        handle = ctypes.c_void_p(connection)
        return _checked(self._library.headrace_fill(self._handle, handle, descriptor, WAIT_MILLISECONDS, *calls))

    def read(self, message: bytes) -> Outcome:
        """Reads whole tuples that lie in memory; raises as `fill` does."""
        return _checked(self._library.headrace_read(self._handle, message, ctypes.c_int64(len(message))))

    def _found(self) -> list[int]:
        numbers = (ctypes.c_int64 * 7)()
        self._library.headrace_found(self._handle, numbers)
        return list(numbers)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return self._found()[0]

    @property
    def size(self) -> int:
        """How many bytes they were."""
        return self._found()[1]

    def faults(self) -> list[tuple[int, int]]:
        """Returns row and column of each value that its type cannot hold."""
        count, address = self._found()[3:5]
        numbers = (ctypes.c_int64 * (2 * count)).from_address(address) if count else ()
        return list(zip(numbers[::2], numbers[1::2], strict=True))

    def raw(self) -> list[bytes]:
        """Returns the fields of each row at fault as the server sent them."""
        address, size = self._found()[5:7]
        held = ctypes.string_at(address, size) if size else b""
        rows, at = [], 0
        while at < len(held):
            length = int.from_bytes(held[at : at + 8], "little")
            rows.append(held[at + 8 : at + 8 + length])
            at += 8 + length
        return rows

    def arrays(self) -> list[pa.Array[Any]]:
        """Returns the columns; a value at fault is null."""
        return [self._array(place, wire) for place, wire in enumerate(self._wires)]

    def _array(self, place: int, wire: Wire) -> pa.Array[Any]:
        count = self.count
        numbers = (ctypes.c_int64 * 5)()
        self._library.headrace_column(self._handle, place, numbers)
        valid, data, offsets, size, nulls = numbers
        buffers = [pa.foreign_buffer(valid, (count + 7) // 8, self) if nulls else None]
        if wire.varies:
            buffers.append(pa.foreign_buffer(offsets, 4 * (count + 1), self))
        buffers.append(pa.foreign_buffer(data, size, self))
        return pa.Array.from_buffers(wire.type, count, buffers, null_count=nulls)


def _checked(outcome: int) -> Outcome:
    found = Outcome(outcome)
    if found is Outcome.NO_MEMORY:
        raise MemoryError
    if found is Outcome.MALFORMED:
        raise RetryableError("the server sent something else than rows in binary form", hint="run it again")
    return found


def encode(wires: Sequence[Wire], rows: pa.RecordBatch) -> bytes | None:
    """Returns rows as tuples of COPY's binary form, without header and trailer; None where a value has no such form.

    Args:
        wires: The columns.
        rows: Of the wires' types.
    """
    sources = (_Source * len(wires))(*(_source(wire, each) for wire, each in zip(wires, rows.columns, strict=True)))
    output = _Output()
    try:
        outcome = library().headrace_write(ctypes.byref(output), len(wires), sources, ctypes.c_int64(rows.num_rows))
        if outcome == Outcome.NO_MEMORY:
            raise MemoryError
        return ctypes.string_at(output.data, output.used) if outcome == Outcome.ENDED else None
    finally:
        library().headrace_release(ctypes.byref(output))


def _source(wire: Wire, column: pa.Array[Any]) -> _Source:
    buffers = [each.address if each is not None and each.size else None for each in column.buffers()]
    offsets = buffers[1] if wire.varies else None
    data = buffers[-1] or ctypes.addressof(_NOTHING)
    return _Source(wire.kind, wire.scale, buffers[0], data, offsets, column.offset)


_NOTHING = ctypes.create_string_buffer(64)
