"""Rows of a log of changes on their way into batches: whole transactions where they fit, pieces where they do not; knows no system.

A state may stand between two transactions only. So a batch of whole transactions carries a place in the log, and a piece of one that is
still under way carries none; what remains of it then closes the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import pyarrow as pa

from dsl.contracts.connectors import ReadRequest

R = TypeVar("R")


class ChangeBuffer(Generic[R]):
    """The rows that are not passed on yet.

    Args:
        request: How large batches may be.
        batch: Makes a batch of some rows.

    Attributes:
        torn: Whether rows of the transaction under way have been passed on.
    """

    def __init__(self, request: ReadRequest, batch: Callable[[list[R]], pa.RecordBatch]) -> None:
        self._request, self._make = request, batch
        self._whole: list[tuple[R, int]] = []
        self._open: list[tuple[R, int]] = []
        self._whole_size = self._open_size = 0
        self._closes = self.torn = False

    def add(self, row: R, size: int) -> None:
        """Adds a row of the transaction under way, of so many bytes."""
        self._open.append((row, size))
        self._open_size += size

    def commit(self) -> None:
        """Hears that the transaction is whole."""
        self._whole += self._open
        self._whole_size += self._open_size
        self._closes, self.torn = self.torn or self._closes, False
        self._open, self._open_size = [], 0

    def drop(self) -> None:
        """Forgets the transaction under way."""
        self._open, self._open_size = [], 0

    def ready(self, *, all_of_it: bool) -> Iterator[tuple[pa.RecordBatch, bool]]:
        """Yields batches, each with whether every whole transaction has been passed on with it.

        Args:
            all_of_it: Whether whole transactions are passed on however few rows they have.
        """
        while self._whole and (all_of_it or self._full(len(self._whole) + len(self._open), self._size)):
            rows, self._whole = self._whole[: self._request.batch_rows], self._whole[self._request.batch_rows :]
            self._whole_size = sum(size for _, size in self._whole)
            self._closes = self._closes and bool(self._whole)
            yield self._batch(rows), not self._whole
        if self._closes and not self._whole and not self.torn:
            self._closes = False
            yield self._batch([]), True
        if self._full(len(self._open), self._open_size):
            rows = self._open
            self.drop()
            self.torn = True
            yield self._batch(rows), False

    @property
    def _size(self) -> int:
        return self._whole_size + self._open_size

    def _full(self, count: int, size: int) -> bool:
        return count >= self._request.batch_rows or size >= self._request.batch_bytes

    def _batch(self, rows: list[tuple[R, int]]) -> pa.RecordBatch:
        return self._make([row for row, _ in rows])
