"""Judges whether what a destination holds is the value that was sent; shares nothing with readers and writers, on purpose.

A value is the same in these forms, and in no other: a boolean as 0 or 1; a number in another type of number that is equal to it; a
number, UUID, date, time, timestamp, interval or JSON document as a text that says it; a timestamp with a zone as the same instant;
a list as a JSON array of such forms; JSON as an equal document (whitespace, the order of keys, escapes and the way a number is written
do not count). The sign of -0.0 counts, and so do the bytes of a text.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import re
import struct
import uuid
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from fractions import Fraction
from typing import Any, Final

from resources.testing.meanings import Day, Forever, Json, Meaning, Moment, Span, TimeOfDay, Unfit

_DAY_LENGTH: Final = 86_400 * 10**9
_DATE: Final = re.compile(r"(-?\d+)-(\d\d)-(\d\d)")
_TIME: Final = re.compile(r"(-?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,9}))?", re.ASCII)
_MOMENT: Final = re.compile(r"(-?\d+-\d\d-\d\d)[ T](\d\d:\d\d:\d\d(?:\.\d{1,9})?)(Z|[+-]\d\d(?::?\d\d)?)?", re.ASCII)
_ERA: Final = re.compile(r" (BC|\(BC\))")
_PART: Final = re.compile(r"([+-]?\d+) (year|month|mon|day)s?")
_SPAN_TIME: Final = re.compile(r"([+-]?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?$")
_ISO_SPAN: Final = re.compile(
    r"P(?:(-?\d+)Y)?(?:(-?\d+)M)?(?:(-?\d+)D)?(?:T(?:(-?\d+)H)?(?:(-?\d+)M)?(?:(-?[\d.]+)S)?)?"
)


class Kind(StrEnum):
    """What a destination's column says that its values are."""

    NUMBER = "number"
    FLOAT = "float"
    REAL = "real"
    BOOLEAN = "boolean"
    TEXT = "text"
    BYTES = "bytes"
    UUID = "uuid"
    JSON = "json"
    DAY = "day"
    TIME = "time"
    MOMENT = "moment"
    INSTANT = "instant"
    SPAN = "span"
    PYTHON = "python"


def same(meaning: Meaning, kind: Kind, raw: Any) -> bool:
    """Tells whether a destination's value is the one that was sent.

    Args:
        meaning: What was sent.
        kind: What the destination's column holds.
        raw: The value as its driver gives it: the server's text, bytes, or a Python value for `Kind.PYTHON`.
    """
    if meaning is None or raw is None:
        return meaning is None and raw is None
    if isinstance(meaning, Unfit):
        return raw == meaning.text or (not isinstance(raw, bytes) and str(raw) == meaning.text)
    try:
        if kind is Kind.PYTHON:
            return _equal(meaning, _from_python(raw))
        if kind is Kind.JSON:
            return _in_json(meaning, _document(raw))
        if kind is Kind.TEXT:
            return _in_text(meaning, raw)
        return _equal(meaning, _READ[kind](raw))
    except (ValueError, InvalidOperation, OverflowError, TypeError):
        return False


def _equal(meaning: Meaning, found: Any) -> bool:
    if isinstance(meaning, tuple):
        return (
            isinstance(found, tuple)
            and len(meaning) == len(found)
            and all(_equal(*both) for both in zip(meaning, found, strict=True))
        )
    if isinstance(meaning, bool) or isinstance(found, bool):
        return found in {0, 1} and meaning in {0, 1} and bool(meaning) == bool(found)
    if isinstance(meaning, int | float | Decimal):
        return isinstance(found, int | float | Decimal) and _equal_numbers(meaning, found)
    return type(meaning) is type(found) and meaning == found


def _equal_numbers(meaning: float | Decimal, found: float | Decimal) -> bool:
    """Compares numbers exactly; of floating-point zeros the sign counts."""
    if math.isnan(meaning) or math.isnan(found):
        return math.isnan(meaning) and math.isnan(found)
    if math.isinf(meaning) or math.isinf(found):
        return float(meaning) == float(found) and math.isinf(meaning) and math.isinf(found)
    if isinstance(meaning, float) and meaning == 0:
        return found == 0 and math.copysign(1, meaning) == math.copysign(1, found)
    if isinstance(meaning, Decimal) and isinstance(found, float):
        return Decimal(repr(found)) == meaning
    if isinstance(meaning, float) and not isinstance(found, float):
        return float(found) == meaning and Fraction(found) in {Fraction(meaning), Fraction(repr(meaning))}
    return Fraction(meaning) == Fraction(found)


def _from_python(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_from_python(each) for each in value)
    if isinstance(value, dt.datetime):
        nanoseconds = ((value.hour * 60 + value.minute) * 60 + value.second) * 10**9 + value.microsecond * 1000
        return Moment(Day(value.year, value.month, value.day), nanoseconds, value.tzinfo is not None)
    if isinstance(value, dt.date):
        return Day(value.year, value.month, value.day)
    return value


def _document(raw: str) -> Any:
    return json.loads(raw, parse_float=Decimal)


def _in_json(meaning: Meaning, found: Any) -> bool:
    """Compares a value with what stands for it in a JSON document."""
    if isinstance(meaning, Json):
        return _same_document(_document(meaning.text), found)
    if isinstance(meaning, tuple):
        return (
            isinstance(found, list)
            and len(meaning) == len(found)
            and all(_in_json(*both) for both in zip(meaning, found, strict=True))
        )
    if isinstance(found, str):
        return _in_text(meaning, found)
    return _equal(meaning, found)


def _same_document(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and one.keys() == other.keys()
            and all(_same_document(one[key], other[key]) for key in one)
        )
    if isinstance(one, list):
        return (
            isinstance(other, list)
            and len(one) == len(other)
            and all(_same_document(*both) for both in zip(one, other, strict=True))
        )
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | Decimal):
        return isinstance(other, int | Decimal) and one == other
    return type(one) is type(other) and one == other


def _in_text(meaning: Meaning, text: str) -> bool:
    """Compares a value with a text that says it."""
    if isinstance(meaning, Json):
        return _same_document(_document(meaning.text), _document(text))
    if isinstance(meaning, tuple):
        return _in_json(meaning, _document(text))
    if isinstance(meaning, bytes):
        return base64.b64decode(text, validate=True) == meaning
    if isinstance(meaning, bool):
        return text in {"true", "t", "1"} if meaning else text in {"false", "f", "0"}
    if isinstance(meaning, Forever):
        return text == ("infinity" if meaning.future else "-infinity")
    if isinstance(meaning, Moment) and meaning.zoned and _zone_of(text) is None:
        return False
    reads: dict[type, Callable[[str], Any]] = {
        int: _number, Decimal: _number, float: float, uuid.UUID: uuid.UUID, Day: _day, TimeOfDay: _time, Moment: _moment,
        Span: _span, str: str,
    }  # fmt: skip
    return _equal(meaning, reads[type(meaning)](text))


def _number(text: str) -> Decimal:
    return Decimal(text)


def _boolean(text: str) -> bool:
    return {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}[text]


def _day(text: str) -> Day | Forever:
    if text in {"infinity", "-infinity"}:
        return Forever(text == "infinity")
    found = _DATE.fullmatch(_ERA.sub("", text))
    if found is None:
        raise ValueError(text)
    year = int(found[1])
    return Day(1 - year if _ERA.search(text) else year, int(found[2]), int(found[3]))


def _time(text: str) -> TimeOfDay:
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(text)
    whole = int(found[2]) * 3600 + int(found[3]) * 60 + int(found[4])
    nanoseconds = whole * 10**9 + int((found[5] or "").ljust(9, "0"))
    return TimeOfDay(-nanoseconds if found[1] else nanoseconds)


def _zone_of(text: str) -> int | None:
    """Returns the seconds east of Greenwich that a text says, or None."""
    found = _MOMENT.fullmatch(_ERA.sub("", text))
    if found is None or found[3] is None:
        return None
    digits = found[3].replace(":", "").lstrip("+-Z").ljust(4, "0")
    seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return -seconds if found[3].startswith("-") else seconds


def _moment(text: str) -> Moment | Forever:
    """Reads a timestamp; one with a zone in UTC."""
    if text in {"infinity", "-infinity"}:
        return Forever(text == "infinity")
    found, zone = _MOMENT.fullmatch(_ERA.sub("", text)), _zone_of(text)
    if found is None:
        raise ValueError(text)
    era = _ERA.search(text)
    day = _day(found[1] + (era[0] if era else ""))
    assert isinstance(day, Day)
    moved, nanoseconds = divmod(_time(found[2]).nanoseconds - (zone or 0) * 10**9, _DAY_LENGTH)
    if moved:
        there = dt.date(day.year, day.month, day.day) + dt.timedelta(moved)
        day = Day(there.year, there.month, there.day)
    return Moment(day, nanoseconds, zone is not None)


def _instant(text: str) -> Moment | Forever:
    """Reads a timestamp of a session in UTC."""
    found = _moment(text)
    return replace(found, zoned=True) if isinstance(found, Moment) else found


def _span(text: str) -> Span:
    if text.startswith("P"):
        return _iso_span(text)
    parts = {"year": 0, "mon": 0, "day": 0}
    for count, unit in _PART.findall(text):
        parts[unit.removesuffix("th")] += int(count)
    rest = _PART.sub("", text).strip()
    clock = _SPAN_TIME.match(rest)
    if rest and clock is None:
        raise ValueError(text)
    microseconds = 0
    if clock is not None:
        whole = int(clock[2]) * 3600 + int(clock[3]) * 60 + int(clock[4])
        microseconds = whole * 10**6 + int((clock[5] or "").ljust(6, "0"))
        microseconds = -microseconds if clock[1] == "-" else microseconds
    return Span(parts["year"] * 12 + parts["mon"], parts["day"], microseconds)


def _iso_span(text: str) -> Span:
    found = _ISO_SPAN.fullmatch(text)
    if found is None:
        raise ValueError(text)
    years, months, days, hours, minutes = (int(each or 0) for each in found.groups()[:5])
    seconds = Decimal(found[6] or 0)
    return Span(years * 12 + months, days, (hours * 60 + minutes) * 60_000_000 + int(seconds * 10**6))


_READ: dict[Kind, Callable[[Any], Any]] = {
    Kind.NUMBER: lambda raw: raw if isinstance(raw, int | float) else _number(raw),
    Kind.FLOAT: float,
    Kind.REAL: lambda raw: struct.unpack("f", struct.pack("f", float(raw)))[0],
    Kind.BOOLEAN: _boolean,
    Kind.BYTES: bytes,
    Kind.UUID: uuid.UUID,
    Kind.DAY: _day,
    Kind.TIME: _time,
    Kind.MOMENT: _moment,
    Kind.INSTANT: _instant,
    Kind.SPAN: _span,
}
