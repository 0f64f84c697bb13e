"""The messages of PostgreSQL's plugin `pgoutput`, protocol version 1, as data; talks to no server and looks at no value.

Source: PostgreSQL documentation, "Logical Replication Message Formats". A value is its text as bytes, None for NULL, or `UNCHANGED` where
the server did not send it because it is stored out of line and has not changed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from dsl.contracts.errors import FatalError


class _Mark(Enum):
    UNCHANGED = "unchanged"


UNCHANGED: Final = _Mark.UNCHANGED
Value: TypeAlias = bytes | _Mark | None
Row: TypeAlias = Sequence[Value]


@dataclass(frozen=True)
class Begin:
    """A transaction's changes begin; `commit` is the place of its commit in the log."""

    commit: int


@dataclass(frozen=True)
class Commit:
    """They have ended; `end` is the place in the log behind them."""

    end: int


@dataclass(frozen=True)
class Relation:
    """What the rows of a table look like from here on; `types` are object ids."""

    id: int
    schema: str
    name: str
    columns: tuple[str, ...]
    types: tuple[int, ...]


@dataclass(frozen=True)
class Insert:
    """A row came."""

    relation: int
    row: Row


@dataclass(frozen=True)
class Update:
    """A row changed; `old` is its key before, or all of it, where the server sent it."""

    relation: int
    old: Row | None
    row: Row


@dataclass(frozen=True)
class Delete:
    """A row is gone; of `old`, columns outside the replica identity are None."""

    relation: int
    old: Row


@dataclass(frozen=True)
class Truncate:
    """Tables were emptied."""

    relations: tuple[int, ...]


Message: TypeAlias = Begin | Commit | Relation | Insert | Update | Delete | Truncate


def message_of(data: bytes) -> Message | None:
    """Returns what a message says; None for those that say nothing of rows (types, origins, messages of programs).

    Raises:
        FatalError: It is no message of this protocol.
    """
    kind = data[:1]
    if kind == b"I":
        return Insert(_number(data, 1), _row(data, 6)[0])
    if kind == b"U":
        return _update(data)
    if kind == b"D":
        return Delete(_number(data, 1), _row(data, 6)[0])
    if kind == b"B":
        return Begin(struct.unpack_from(">Q", data, 1)[0])
    if kind == b"C":
        return Commit(struct.unpack_from(">Q", data, 10)[0])
    if kind == b"R":
        return _relation(data)
    if kind == b"T":
        (count,) = struct.unpack_from(">I", data, 1)
        return Truncate(struct.unpack_from(f">{count}I", data, 6))
    if kind in {b"Y", b"O", b"M"}:
        return None
    raise FatalError(f"the server sent a message {kind!r}, which is none of pgoutput's first version")


def _update(data: bytes) -> Update:
    old, at = None, 5
    if data[5:6] in {b"K", b"O"}:
        old, at = _row(data, 6)
    return Update(_number(data, 1), old, _row(data, at + 1)[0])


def _number(data: bytes, at: int) -> int:
    return int(struct.unpack_from(">I", data, at)[0])


def _row(data: bytes, at: int) -> tuple[Row, int]:
    """Returns the row that begins at a place, and the place behind it."""
    (count,) = struct.unpack_from(">H", data, at)
    at += 2
    values: list[Value] = []
    for _ in range(count):
        kind = data[at]
        at += 1
        if kind == 0x74:  # t: its text
            size = _number(data, at)
            values.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        elif kind == 0x6E:  # n: NULL
            values.append(None)
        elif kind == 0x75:  # u: unchanged
            values.append(UNCHANGED)
        else:
            raise FatalError(f"the server sent a value of form {chr(kind)!r}, which nobody asked for")
    return values, at


def _relation(data: bytes) -> Relation:
    schema, at = _text(data, 5)
    name, at = _text(data, at)
    (count,) = struct.unpack_from(">H", data, at + 1)
    at += 3
    columns, types = [], []
    for _ in range(count):
        column, at = _text(data, at + 1)
        columns.append(column)
        types.append(_number(data, at))
        at += 8
    return Relation(_number(data, 1), schema or "pg_catalog", name, tuple(columns), tuple(types))


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(b"\0", at)
    return data[at:end].decode(), end + 1
