"""Finds the rows at fault in a batch that failed as a whole, by halving it; decides nothing about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import pyarrow as pa

from dsl.contracts.errors import FatalError, RejectedRows
from dsl.contracts.rows import Rejection

R = TypeVar("R")


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
    parts = [rows]
    while parts:
        ended()
        part = parts.pop()
        try:
            found.results.append(work(part))
        except RejectedRows as error:
            if error.rows:
                named = _checked(error, part.num_rows)
                found.faults.extend((part.slice(each, 1), error) for each in sorted(named))
                parts.append(
                    part.take(pa.array([each for each in range(part.num_rows) if each not in named], pa.int64()))
                )
            elif part.num_rows <= 1:
                found.faults.append((part, error))
            else:
                half = part.num_rows // 2
                parts += [part.slice(half), part.slice(0, half)]
    return found


def _checked(error: RejectedRows, count: int) -> set[int]:
    named = set(error.rows or ())
    outside = next((each for each in named if not 0 <= each < count), None)
    if outside is not None:
        # Taking it for real would lose rows or never end.
        raise FatalError(f"row {outside} of {count} was refused", where=error.where) from error
    return named
