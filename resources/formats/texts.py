"""Columns of text as typed columns, and the types that a sample of texts suggests; a text that does not fit is named, never guessed.

Inference is cautious: a number with leading zeros, or of more digits than a float holds, stays text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from resources.formats.json_values import from_json

_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,17})")
_FLOAT = re.compile(r"[+-]?(0|[1-9]\d{0,14})(\.\d+)?([eE][+-]?\d{1,3})?")
_BOOLEAN = re.compile(r"true|false|TRUE|FALSE|True|False")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?")
_ZONED = re.compile(_TIMESTAMP.pattern + r"(Z|[+-]\d\d:?\d\d)")
_GUESSES: tuple[tuple[re.Pattern[str], pa.DataType], ...] = (
    (_BOOLEAN, pa.bool_()),
    (_INTEGER, pa.int64()),
    (_FLOAT, pa.float64()),
    (_DATE, pa.date32()),
    (_TIMESTAMP, pa.timestamp("us")),
    (_ZONED, pa.timestamp("us", "UTC")),
)
_CAST: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_date,
    pa.types.is_timestamp,
)
_ONE_BY_ONE = 32
_FLOAT_DIGITS = 17


def guess(values: Sequence[str | None]) -> pa.DataType:
    """Returns the narrowest type that every text of a sample fits; text where none does or nothing is there."""
    given = [each for each in values if each is not None]
    for pattern, kind in _GUESSES:
        if not given or not all(pattern.fullmatch(each) for each in given) or typed(pa.array(given), kind)[1]:
            continue
        if pa.types.is_floating(kind) and any(len(_digits(each)) > _FLOAT_DIGITS for each in given):
            continue
        return kind
    return pa.string()


def _digits(number: str) -> str:
    """Returns the significant digits of a number."""
    return re.split("[eE]", number)[0].lstrip("+-0.").replace(".", "")


def typed(column: Any, kind: pa.DataType) -> tuple[Any, list[tuple[int, str]]]:
    """Converts a column of text, or of bytes that should be UTF-8.

    Args:
        column: An array of strings or binaries.
        kind: The type wanted.

    Returns:
        The column, NULL where a text does not fit, and for each of those its row and what is wrong.
    """
    try:
        return _convert(column, kind), []
    except (ValueError, TypeError, OverflowError, RecursionError, pa.ArrowException) as error:
        if len(column) == 1:
            return _nothing(kind), [(0, _reason(column, kind, error))]
    size = 1 if len(column) <= _ONE_BY_ONE else (len(column) + 1) // 2
    parts, faults = [], []
    for at in range(0, len(column), size):
        part, found = typed(column.slice(at, size), kind)
        parts.append(part)
        faults += [(at + row, reason) for row, reason in found]
    return pa.concat_arrays(parts), faults


def _nothing(kind: Any) -> Any:
    return pa.nulls(1, kind)


def _convert(column: Any, kind: pa.DataType) -> Any:
    text = column.cast(pa.string())
    if pa.types.is_string(kind):
        return text
    if any(fits(kind) for fits in _CAST):
        found = pc.utf8_trim_whitespace(text).cast(kind)
        if pa.types.is_floating(kind):
            _check_finite(text, found)
        return found
    values = text.to_pylist()
    if pa.types.is_nested(kind):
        values = [None if each is None else json.loads(each) for each in values]
    elif pa.types.is_duration(kind):
        values = [None if each is None else int(each) for each in values]
    return from_json(values, kind)


def _check_finite(text: Any, found: Any) -> None:
    """Refuses a number that no float holds: it would become infinite."""
    endless = pc.filter(text, pc.fill_null(pc.is_inf(found), False))
    if not pc.all(pc.match_substring(endless, "inf", ignore_case=True), min_count=0).as_py():
        raise ValueError("a number is too large")


def _reason(column: Any, kind: pa.DataType, error: BaseException) -> str:
    if isinstance(error, pa.ArrowException) and "UTF8" in str(error).upper():
        return "it is not UTF-8"
    value = column[0].as_py()
    shown = repr(value.decode(errors="backslashreplace") if isinstance(value, bytes) else value)
    return f"{shown if len(shown) <= 60 else shown[:57] + '...'} is not {kind}"
