"""Says in words what a value was that Arrow cannot hold, as PostgreSQL would have written it; reads no connection.

Source: PostgreSQL's sources, `numeric_send`, `timestamp_send`, `date_send`; "chrono-Compatible Low-Level Date Algorithms", H. Hinnant.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa

from resources.postgres.binary import Kind

_MICROSECONDS = 86_400_000_000
_SIGNS = {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}
_FLOATS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_DAYS_TO_2000 = 730_425
"""From the first of March of the year 0, where Hinnant's calendar begins, to the first of January 2000."""


def fields_of(raw: bytes) -> Iterator[bytes | None]:
    """Yields the fields of a tuple in COPY's binary form."""
    at = 0
    while at < len(raw):
        length = int.from_bytes(raw[at : at + 4], "big", signed=True)
        at += 4
        yield None if length < 0 else raw[at : at + length]
        at += max(length, 0)


def text_of_value(kind: Kind, raw: bytes) -> str:
    """Returns the text of a value that was refused.

    Args:
        kind: Its form: a number, date, time of day or timestamp.
        raw: The field.
    """
    if kind is Kind.NUMERIC:
        return _numeric(raw)
    value = int.from_bytes(raw, "big", signed=True)
    ends = 2 ** (8 * len(raw) - 1)
    if kind is not Kind.TIME and value in {ends - 1, -ends}:
        return "infinity" if value > 0 else "-infinity"
    if kind is Kind.DATE:
        return _date(value)
    if kind is Kind.TIME:
        return _time(value)
    days, microseconds = divmod(value, _MICROSECONDS)
    day, _, era = _date(days).partition(" ")
    return f"{day} {_time(microseconds)}{' ' * bool(era)}{era}"


def _numeric(raw: bytes) -> str:
    numbers = [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]
    count, weight, sign, scale = numbers[:4]
    if sign in _SIGNS:
        return _SIGNS[sign]
    weight -= (weight >= 2**15) * 2**16
    digits = "".join(f"{each:04}" for each in numbers[4 : 4 + count]) or "0"
    exponent = 4 * (weight - count + 1) if count else 0
    value = Decimal((int(sign == 0x4000), tuple(map(int, digits)), exponent))
    text = f"{value:f}"
    whole, _, fraction = text.partition(".")
    whole = whole.lstrip("-").lstrip("0") or "0"
    shown = f"{whole}.{fraction.ljust(scale, '0')[:scale]}" if scale else whole
    return f"-{shown}" if sign == 0x4000 else shown


def _date(days: int) -> str:
    era, day = divmod(days + _DAYS_TO_2000, 146_097)
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day = day - (153 * month + 2) // 5 + 1
    year += 400 * era + (month >= 10)
    month += 3 if month < 10 else -9
    return f"{year:04}-{month:02}-{day:02}" if year > 0 else f"{1 - year:04}-{month:02}-{day:02} BC"


def _time(microseconds: int) -> str:
    seconds, fraction = divmod(microseconds, 1_000_000)
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{text}.{fraction:06}".rstrip("0") if fraction else text


def text_at(column: pa.Array[Any], row: int) -> str | None:
    """Returns the text of a value that was read, as the server writes it, or None; a number without a scale has the places of its type."""
    value = column[row]
    if not value.is_valid:
        return None
    kind = column.type
    if pa.types.is_binary(kind):
        return f"\\x{value.as_py().hex()}"
    if pa.types.is_boolean(kind):
        return "t" if value.as_py() else "f"
    text = str(value.cast(pa.string()).as_py())
    if pa.types.is_floating(kind):
        return _FLOATS.get(text, text)
    if not pa.types.is_timestamp(kind) and not pa.types.is_time(kind):
        return text
    whole, _, fraction = text.removesuffix("Z").partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole}{'.' * bool(fraction)}{fraction}{'+00' * (pa.types.is_timestamp(kind) and kind.tz is not None)}"
