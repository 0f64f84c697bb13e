"""What an edge value means, apart from any system: Python's own values, and classes for what Python cannot hold; compares nothing."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias


@dataclass(frozen=True)
class Day:
    """A date of the proleptic Gregorian calendar.

    Attributes:
        year: Any whole number; 0 is the year 1 BC.
        month: From 1.
        day: From 1.
    """

    year: int
    month: int
    day: int


@dataclass(frozen=True)
class TimeOfDay:
    """A time between midnight and midnight, or a duration that a system calls a time.

    Attributes:
        nanoseconds: Since midnight; those of 24:00 and beyond, or before, are no time of day.
    """

    nanoseconds: int


@dataclass(frozen=True)
class Moment:
    """A date and a time.

    Attributes:
        day: The date.
        nanoseconds: Since its midnight.
        zoned: Whether it is an instant, told in UTC; otherwise it is what a clock on the wall shows.
    """

    day: Day
    nanoseconds: int
    zoned: bool = False


@dataclass(frozen=True)
class Forever:
    """`infinity` and `-infinity` of a date or a timestamp.

    Attributes:
        future: Whether it lies after everything.
    """

    future: bool


@dataclass(frozen=True)
class Span:
    """An interval: months and days have no fixed length.

    Attributes:
        months: Any whole number, as the others.
        days: Beside the months.
        microseconds: Beside the days.
    """

    months: int
    days: int
    microseconds: int


@dataclass(frozen=True)
class Json:
    """A JSON document.

    Attributes:
        text: One way to write it.
    """

    text: str


@dataclass(frozen=True)
class Unfit:
    """What a system holds although the type of the column says otherwise: no other system has a value for it.

    Attributes:
        text: How it shows.
    """

    text: str | bytes


Meaning: TypeAlias = (
    bool
    | int
    | float
    | Decimal
    | str
    | bytes
    | uuid.UUID
    | Day
    | TimeOfDay
    | Moment
    | Forever
    | Span
    | Json
    | Unfit
    | tuple["Meaning", ...]
    | None
)
"""A tuple is a list; None is NULL."""
