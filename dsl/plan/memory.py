"""What a step remembers between batches and between runs: keys it has seen, or rows of windows that are open; data only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final, TypeAlias

BUCKET: Final = "headrace window"
"""Name of the column in which `Windows.sql` finds the beginning of a row's window, in microseconds since 1970."""

MOMENT: Final = "headrace time"
"""Name of the column that holds a row's time, in microseconds since 1970."""


class Late(StrEnum):
    """What becomes of a row that comes too late."""

    FILTER = "filter"
    REJECT = "reject"


@dataclass(frozen=True)
class Keys:
    """The first row of each key passes; the key is remembered.

    Attributes:
        keys: SQL of each part of the key; every column if empty.
        time: SQL of a row's time, in microseconds since 1970; "" where keys are remembered for ever.
        span: A key is forgotten when nothing of it has come for so long, by `time`.
        late: What becomes of a row that is older than what is remembered.
    """

    keys: tuple[str, ...]
    time: str = ""
    span: timedelta = timedelta()
    late: Late = Late.FILTER


@dataclass(frozen=True)
class Windows:
    """Rows are kept until their windows close; then each window is computed, once.

    Attributes:
        time: SQL of a row's time, in microseconds since 1970.
        size: How long a window lasts.
        every: How long after one window the next begins.
        lateness: A window closes when a row has come that is so much later than its end.
        idle: After so long without a row, time goes on by the clock; None: it waits.
        late: What becomes of a row whose windows are all closed.
        columns: The columns that `sql` reads.
        sql: A SELECT of the results over `{0}`, which has those columns and `BUCKET`, a row for each window that a row is in.
    """

    time: str
    size: timedelta
    every: timedelta
    lateness: timedelta
    idle: timedelta | None
    late: Late
    columns: tuple[str, ...]
    sql: str


Memory: TypeAlias = Keys | Windows
