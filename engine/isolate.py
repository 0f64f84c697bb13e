"""Finds the rows at fault in a batch that failed as a whole, by halving it; decides nothing about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import pyarrow as pa

from dsl.contracts.errors import FatalError, RejectedRows
from dsl.contracts.rows import Rejection

R = TypeVar("R")
DENSE = 4
"""Rows at fault one after another, after which the next one is tried alone before the rest: halving asks twice for each."""


@dataclass
class Isolated(Generic[R]):
    """What came of a batch.

    Attributes:
        results: What the work returned for each part that went well, in the order of the rows.
        faults: Each row at fault, alone, with what it was refused for.
    """

    results: list[R] = field(default_factory=list)
    faults: list[tuple[pa.RecordBatch, RejectedRows]] = field(default_factory=list)

    def rejections(self, node: str) -> list[Rejection]:
        """The faults as rejections of a node."""
        return [
            Rejection(row, error.message, str(getattr(error, "code", "refused")), node) for row, error in self.faults
        ]


def isolate(rows: pa.RecordBatch, work: Callable[[pa.RecordBatch], R], ended: Callable[[], None]) -> Isolated[R]:
    """Does `work` on a batch; where it refuses rows without saying which, halves until they are alone.

    Args:
        rows: The batch.
        work: Raises `RejectedRows` after having applied nothing.
        ended: Raises when the run should end; asked before each part.
    """
    found: Isolated[R] = Isolated()
    parts, streak = [_Part(rows)], 0
    while parts:
        ended()
        part = parts.pop()
        if part.rows.num_rows > 1 and (part.at_fault or streak >= DENSE):
            parts += part.first_and_rest() if streak >= DENSE else part.halves()
            continue
        try:
            found.results.append(work(part.rows))
        except RejectedRows as error:
            if error.rows:
                named = _checked(error, part.rows.num_rows)
                found.faults.extend((part.rows.slice(each, 1), error) for each in sorted(named))
                rest = [each for each in range(part.rows.num_rows) if each not in named]
                parts.append(_Part(part.rows.take(pa.array(rest, pa.int64()))))
            elif part.rows.num_rows <= 1:
                found.faults.append((part.rows, error))
                streak += 1
            else:
                parts += part.halves()
        else:
            streak = 0
            if part.is_left:
                # Both halves together failed and this one did not: the other need not be tried as a whole.
                parts[-1].at_fault = True
    return found


@dataclass
class _Part:
    rows: pa.RecordBatch
    is_left: bool = False
    at_fault: bool = False

    def halves(self) -> list[_Part]:
        """Both halves of a part that is known to be at fault, the left one last, because the last is taken first."""
        return self._cut(self.rows.num_rows // 2, at_fault=True)

    def first_and_rest(self) -> list[_Part]:
        """The first row last; that it is well says nothing of the others unless the part is known to be at fault."""
        return self._cut(1, at_fault=self.at_fault)

    def _cut(self, place: int, *, at_fault: bool) -> list[_Part]:
        return [_Part(self.rows.slice(place)), _Part(self.rows.slice(0, place), is_left=at_fault)]


def _checked(error: RejectedRows, count: int) -> set[int]:
    named = set(error.rows or ())
    outside = next((each for each in named if not 0 <= each < count), None)
    if outside is not None:
        # Taking it for real would lose rows or never end.
        raise FatalError(f"row {outside} of {count} was refused", where=error.where) from error
    return named
