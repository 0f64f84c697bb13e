"""How many values the columns of a Parquet file claim, read from its footer without trusting it; decodes no rows.

Arrow ends the process where such facts are damaged, so they are read here, from Thrift's compact form.
"""

from __future__ import annotations

import os
from typing import Any, BinaryIO

LONGEST = 64 * 2**20
DEEPEST = 16
_ROW_GROUPS, _COLUMNS, _FACTS, _PATH, _VALUES = 4, 1, 3, 3, 5


class FooterError(Exception):
    """It is not what the format says."""


def values_of(opened: BinaryIO) -> list[list[tuple[str, int]]]:
    """Returns for each row group the path and the number of values of each column.

    Raises:
        FooterError: The footer is broken, or larger than any honest one.
    """
    end = opened.seek(0, os.SEEK_END)
    opened.seek(max(0, end - 8))
    size = int.from_bytes(opened.read(8)[:4], "little")
    if not 0 < size <= min(LONGEST, end):
        raise FooterError("its size is wrong")
    opened.seek(end - 8 - size)
    try:
        whole = _Compact(opened.read(size)).struct(0)
        return [[_column(each) for each in group[_COLUMNS]] for group in whole[_ROW_GROUPS]]
    except (IndexError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise FooterError("it cannot be read") from error


def _column(chunk: dict[int, Any]) -> tuple[str, int]:
    facts = chunk[_FACTS]
    return ".".join(each.decode() for each in facts[_PATH]), int(facts[_VALUES])


class _Compact:
    """A reader of Thrift's compact protocol."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def struct(self, depth: int) -> dict[int, Any]:
        if depth > DEEPEST:
            raise FooterError("it is nested too deeply")
        found, number = dict[int, Any](), 0
        while head := self._byte():
            step = head >> 4
            number = number + step if step else self._zigzag()
            found[number] = self._value(head & 15, depth, field=True)
        return found

    def _value(self, kind: int, depth: int, *, field: bool = False) -> Any:
        if kind in {1, 2}:
            # A field's kind says which it is; in a list each has a byte.
            return kind == 1 if field else self._byte() == 1
        if kind == 3:
            return self._byte()
        if kind in {4, 5, 6}:
            return self._zigzag()
        if kind == 7:
            return self._bytes(8)
        if kind == 8:
            return self._bytes(self._varint())
        if kind in {9, 10}:
            return self._list(depth)
        if kind == 12:
            return self.struct(depth + 1)
        raise FooterError(f"it holds a value of kind {kind}")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        if count > len(self._data) - self._at:
            raise FooterError("it claims a list longer than itself")
        if depth > DEEPEST:
            raise FooterError("it is nested too deeply")
        return [self._value(head & 15, depth + 1) for _ in range(count)]

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _bytes(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise FooterError("it claims a text longer than itself")
        self._at += count
        return self._data[self._at - count : self._at]

    def _varint(self) -> int:
        found = shift = 0
        while shift < 70:
            byte = self._byte()
            found |= (byte & 127) << shift
            if byte < 128:
                return found
            shift += 7
        raise FooterError("it holds a number without an end")

    def _zigzag(self) -> int:
        found = self._varint()
        return (found >> 1) ^ -(found & 1)
