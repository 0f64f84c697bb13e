"""Answers in JSON as values of declared types, exactly: what does not fit its type is refused, nothing is rounded to fit or guessed.

A number keeps every digit until its type is known. Texts stand for numbers, decimals and booleans where they are written as JSON
writes these; moments are ISO 8601 texts, with an offset for `timestamptz` and without one for `timestamp`; binary is base64.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final, TypeAlias, TypeVar

import pyarrow as pa

from dsl.expressions.types import Family, decimal_of, family, holds, item_of, show

T = TypeVar("T")

Convert: TypeAlias = Callable[[Any], Any]

MISSING: Final = object()
"""What a path leads to where there is nothing."""

_NUMBER: Final = re.compile(r"[-+]?[0-9]{1,400}(\.[0-9]{1,400})?([eE][-+]?[0-9]{1,4})?")
_DATE: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME: Final = r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6}0*)?)?"
_OFFSET: Final = r"(Z|z|[-+][0-9]{2}:?[0-9]{2})"
_MOST_DIGITS: Final = 1_000
_SHOWN: Final = 40


def parsed(body: bytes) -> Any:
    """Reads an answer; numbers with a point or an exponent become Decimals.

    Raises:
        ValueError: It is not JSON.
    """
    try:
        return json.loads(body.decode("utf-8-sig"), parse_float=Decimal, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def found_at(document: Any, steps: Sequence[str]) -> Any:
    """What a path leads to: names into objects, numbers into lists; `MISSING` where there is nothing."""
    for step in steps:
        if isinstance(document, dict) and step in document:
            document = document[step]
        elif isinstance(document, list) and re.fullmatch("[0-9]{1,9}", step) and int(step) < len(document):
            document = document[int(step)]
        else:
            return MISSING
    return document


def converter(kind: pa.DataType) -> Convert:
    """Returns what makes a Python value of a type from a JSON value that is not null; it raises ValueError for one that does not fit."""
    made = family(kind)
    if made is Family.LIST:
        return _list_of(item_of(kind))
    if made is Family.INTEGER:
        return _integer_of(kind)
    if made is Family.DECIMAL:
        return _decimal_of(kind)
    if made is Family.FLOAT:
        return _float_of(kind)
    plain = {
        Family.JSON: _json_text,
        Family.STRING: _text,
        Family.BOOLEAN: _boolean,
        Family.BINARY: _bytes,
        Family.DATE: _date,
        Family.TIME: _time,
        Family.TIMESTAMP: _timestamp,
        Family.TIMESTAMPTZ: _timestamptz,
    }
    return plain[made]


def as_json(value: Any) -> str:
    """The value as JSON text with every digit of its numbers.

    Raises:
        ValueError: A text in it is not Unicode.
    """
    if isinstance(value, str):
        return json.dumps(_unicode(value), ensure_ascii=False)
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, list):
        return f"[{','.join(map(as_json, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{as_json(key)}:{as_json(each)}' for key, each in value.items())}}}"
    return json.dumps(value)


def _json_text(value: Any) -> str:
    try:
        return as_json(value)
    except RecursionError as error:
        raise ValueError("the answer is nested too deeply") from error


def shown(value: Any) -> str:
    """A value for a message, shortened."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = json.dumps(value, default=str)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _no(value: Any, what: str) -> ValueError:
    return ValueError(f"{shown(value)} is not {what}")


def _unicode(value: str) -> str:
    # JSON may escape half a surrogate pair, which no text can hold.
    if any("\ud800" <= each <= "\udfff" for each in value):
        raise ValueError("a text holds half a character (a lone surrogate)")
    return value


def _text(value: Any) -> str:
    if isinstance(value, list | dict):
        raise _no(value, "string; `type: json` takes any value")
    return _unicode(value) if isinstance(value, str) else as_json(value)


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise _no(value, "boolean")


def _number(value: Any, what: str) -> Decimal:
    written = isinstance(value, str) and _NUMBER.fullmatch(value)
    if not written and (not isinstance(value, int | Decimal) or isinstance(value, bool)):
        raise _no(value, what)
    number = Decimal(value)
    # A short text such as 1e999999 is a number that fills the memory; 0e999999 is nothing.
    if abs(number.adjusted()) > _MOST_DIGITS:
        if number:
            raise _no(value, what)
        return Decimal(0)
    return number


def _integer_of(kind: pa.DataType) -> Convert:
    def convert(value: Any) -> int:
        number = _number(value, show(kind))
        if number != number.to_integral_value() or not holds(kind, int(number)):
            raise _no(value, show(kind))
        return int(number)

    return convert


def _decimal_of(kind: pa.DataType) -> Convert:
    precision, scale = decimal_of(kind)

    def convert(value: Any) -> Decimal:
        number = _number(value, show(kind))
        if not _fits(number, precision, scale):
            raise _no(value, show(kind))
        return number

    return convert


def _fits(number: Decimal, precision: int, scale: int) -> bool:
    if not number:
        return True
    digits = number.as_tuple().digits
    exponent = number.adjusted() - len(digits) + 1
    last = exponent + next(index for index, each in enumerate(reversed(digits)) if each)
    return last >= -scale and number.adjusted() < precision - scale


def _float_of(kind: pa.DataType) -> Convert:
    def convert(value: Any) -> float:
        number = _number(value, show(kind))
        rounded = float(number) if kind == pa.float64() else pa.scalar(float(number), kind).as_py()
        whole = isinstance(value, int) or (isinstance(value, str) and value.lstrip("+-").isdigit())
        # A fraction is the nearest that there is, as everywhere; a whole number may be an id, and must not become its neighbour.
        if not math.isfinite(rounded) or (whole and rounded != number):
            raise _no(value, show(kind))
        return rounded

    return convert


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else _raise(value, "base64")
    except (binascii.Error, ValueError) as error:
        raise _no(value, "base64") from error


def _raise(value: Any, what: str) -> bytes:
    raise _no(value, what)


def _iso(value: Any, pattern: str, what: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise _no(value, what)
    return value


def _date(value: Any) -> dt.date:
    text = _iso(value, _DATE, "date (2026-01-31)")
    return _made(lambda: dt.date.fromisoformat(text), value, "date")


def _time(value: Any) -> dt.time:
    text = _iso(value, _TIME, "time (13:45:00)")
    return _made(lambda: dt.time.fromisoformat(text), value, "time")


def _timestamp(value: Any) -> dt.datetime:
    text = _iso(value, f"{_DATE}([T ]{_TIME})?", "timestamp (2026-01-31T13:45:00, without an offset)")
    return _made(lambda: dt.datetime.fromisoformat(text), value, "timestamp")


def _timestamptz(value: Any) -> dt.datetime:
    text = _iso(value, f"{_DATE}[Tt ]{_TIME}{_OFFSET}", "timestamptz (2026-01-31T13:45:00Z, with an offset)")
    return _made(lambda: dt.datetime.fromisoformat(text.upper()).astimezone(dt.UTC), value, "timestamptz")


def _made(make: Callable[[], T], value: Any, what: str) -> T:
    try:
        return make()
    except (ValueError, OverflowError) as error:
        raise _no(value, what) from error


def _list_of(kind: pa.DataType) -> Convert:
    convert = converter(kind)

    def convert_all(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise _no(value, f"{show(kind)}[]")
        return [None if each is None else convert(each) for each in value]

    return convert_all
