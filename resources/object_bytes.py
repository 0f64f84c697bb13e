"""One version of an object as a stream that can seek, fetched in ranges; knows no store, and never gives bytes of another version."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

FIRST = 256 * 2**10
LARGEST = 8 * 2**20


class ObjectBytes(io.RawIOBase):
    """Bytes of an object, in ranges that double while reading goes straight on, so that a jump costs little.

    Args:
        fetch: Returns `size` bytes from an offset, of the same version each time.
        size: Bytes of the object.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        self._fetch, self._size = fetch, size
        self._at = 0
        self._held, self._held_from = memoryview(b""), 0
        self._next = FIRST

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"cannot seek to {start + offset}")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        if not view or self._at >= self._size:
            return 0
        if not self._held_from <= self._at < self._held_from + len(self._held):
            self.load(len(view))
        start = self._at - self._held_from
        taken = self._held[start : start + len(view)]
        view[: len(taken)] = taken
        self._at += len(taken)
        return len(taken)

    def load(self, wanted: int = 0) -> None:
        """Fetches what comes next, at least `wanted` bytes as far as memory allows."""
        straight_on = self._at == self._held_from + len(self._held)
        self._next = min(self._next * 2, LARGEST) if straight_on and self._at else FIRST
        size = min(max(self._next, min(wanted, LARGEST)), self._size - self._at)
        self._held, self._held_from = memoryview(b""), self._at
        self._held = memoryview(self._fetch(self._at, size))

    def close(self) -> None:
        self._held = memoryview(b"")
        super().close()
