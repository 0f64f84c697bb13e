"""SQL that places rows in windows: where windows begin, and which ones a row is in; computes no result."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from dsl.plan.memory import BUCKET

_MONDAY: Final = 946_857_600_000_000
"""2000-01-03, from which windows are counted: so weeks begin on Mondays."""


def micros(span: timedelta) -> int:
    """Returns a duration in microseconds."""
    return span // timedelta(microseconds=1)


def begins(time: str, every: timedelta) -> str:
    """Returns SQL of the beginning of the last window that begins at or before a time; both in microseconds."""
    step = micros(every)
    # The remainder of a negative number is negative in SQL.
    return f"({time} - ((({time} - {_MONDAY}) % {step}) + {step}) % {step})"


def placed(relation: str, time: str, size: timedelta, every: timedelta) -> str:
    """Returns a SELECT of a relation's rows with `BUCKET`, once for each window that a row is in.

    Args:
        relation: A view or a sub-query.
        time: SQL of a row's time in microseconds; where it is NULL, so is the one window of the row.
        size: How long a window lasts.
        every: How long after one window the next begins.
    """
    last, bucket = begins(time, every), f'"{BUCKET}"'
    several = -(-size // every)
    if several == 1:
        return f"SELECT *, {last} AS {bucket} FROM {relation}"
    start = f"{last} - hop * {micros(every)}"
    inside = f"(hop = 0 OR {start} + {micros(size)} > {time})"
    return f"SELECT *, {start} AS {bucket} FROM {relation}, range({several}) AS hops(hop) WHERE {inside}"
