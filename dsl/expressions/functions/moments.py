"""Functions of dates and timestamps, computed in UTC (the DuckDB session's time zone); the only clock is the run's logical time."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import pyarrow as pa
from sqlglot import exp

from dsl.diagnostics import did_you_mean
from dsl.expressions.functions.signature import (
    Arguments,
    Function,
    literal_text,
    moment_argument,
    number_argument,
    text_argument,
    whole_argument,
)
from dsl.expressions.typed import Typed, cast, function
from dsl.expressions.types import TIMESTAMP, TIMESTAMPTZ, Family

_GROUP: Final = "Dates and times"
_DAYS: Final = ("day", "week", "month", "quarter", "year")
_TIMES: Final = ("microsecond", "millisecond", "second", "minute", "hour")
_UNITS: Final = (*_TIMES, *_DAYS)
_PARTS: Final = (
    "year",
    "quarter",
    "month",
    "week",
    "day",
    "dayofweek",
    "dayofyear",
    "hour",
    "minute",
    "second",
    "isodow",
    "isoyear",
)
_ISO: Final = ("week", "isoyear")
_CODES = re.compile(r"%(-[dmHIMSjy]|[aAbBdfgGHIjmMpSuUVwWyYzZ%])|%")
_INTERVALS = {"quarter": ("to_months", 3), "week": ("to_days", 7)}


def _one_of(words: tuple[str, ...]) -> Callable[[object], str]:
    def check(value: object) -> str:
        return "" if value in words else f"{value!r} is no unit; {did_you_mean(str(value), words)}"

    return check


def _check_format(value: object) -> str:
    wrong = next((each for each in _CODES.finditer(str(value)) if not each[1]), None)
    return (
        ""
        if wrong is None
        else f"the format has no code {str(value)[wrong.start() : wrong.start() + 2]!r}; such as '%Y-%m-%d %H:%M:%S'"
    )


def _unit(given: Arguments) -> str:
    return str(given[0].constant)


def _whole_days(given: Arguments, moment: int) -> bool:
    return given[moment].family is Family.DATE and _unit(given) in _DAYS


def _moment_type(moment: int) -> Callable[[Arguments], pa.DataType]:
    def result(given: Arguments) -> pa.DataType:
        if given[moment].family is Family.DATE:
            return pa.date32() if _whole_days(given, moment) else TIMESTAMP
        return given[moment].type

    return result


def _trunc(given: Arguments) -> exp.Expr:
    found = function("date_trunc", given[0].sql, given[1].sql)
    return cast(found, pa.date32()) if _whole_days(given, 1) else found


def _add(given: Arguments) -> exp.Expr:
    unit = _unit(given)
    name, factor = _INTERVALS.get(unit, (f"to_{unit}s", 1))
    amount = cast(given[1].sql, pa.int64()) if given[1].type != pa.int64() else given[1].sql
    if factor != 1:
        amount = exp.Mul(this=amount, expression=exp.Literal.number(factor))
    if name in {"to_days", "to_months", "to_years"}:
        amount = cast(amount, pa.int32())
    found = exp.Add(this=exp.Paren(this=given[2].sql), expression=function(name, amount))
    return cast(found, pa.date32()) if _whole_days(given, 2) else found


def _diff(given: Arguments) -> exp.Expr:
    return function("date_diff", *(each.sql for each in given))


def _same_kind(given: Arguments) -> pa.DataType | None:
    kinds = {each.family for each in given[1:]} - {Family.UNKNOWN}
    return None if Family.TIMESTAMPTZ in kinds and len(kinds) > 1 else pa.int64()


def _parsed(given: Arguments) -> pa.DataType:
    return TIMESTAMPTZ if re.search(r"%[zZ]", str(given[1].constant).replace("%%", "")) else TIMESTAMP


def _part(name: str, doc: str) -> Function:
    example = f"{name}(timestamp '2024-02-29 13:14:15')"
    total: bool | Callable[[Arguments], bool] = (lambda given: _near(given[0])) if name in _ISO else True
    return Function(name, _GROUP, (moment_argument("moment"),), pa.int64(), name, doc, example, total)


def _near(moment: Typed) -> bool:
    """Tells whether every value lies in a year that ISO's weeks reach: dates go farther than timestamps."""
    return moment.family is not Family.DATE


_UNIT = literal_text("unit", _one_of(_UNITS))

FUNCTIONS: Final[tuple[Function, ...]] = (
    Function(
        "now", _GROUP, (), TIMESTAMPTZ, lambda _: cast(exp.Placeholder(this="now"), TIMESTAMPTZ),
        "The run's logical time: the same in every row and in every retry.", "year(now()) >= 2024", nullable=False,
    ),
    Function(
        "date_trunc", _GROUP, (_UNIT, moment_argument("moment")), _moment_type(1), _trunc,
        "The beginning of the unit that the moment lies in; a date stays a date.", "date_trunc('month', date '2024-02-29')", total=False,
    ),
    Function(
        "date_part", _GROUP, (literal_text("part", _one_of(_PARTS)), moment_argument("moment")), pa.int64(),
        lambda given: function(_unit(given), given[1].sql),
        "A part of the moment as a number: year, quarter, month, week, day, dayofweek (Sunday is 0), dayofyear, hour, minute, second …",
        "date_part('week', date '2024-02-29')", lambda given: _unit(given) not in _ISO or _near(given[1]),
    ),
    _part("year", "The year."),
    _part("quarter", "The quarter, 1 to 4."),
    _part("month", "The month, 1 to 12."),
    _part("week", "The ISO week, 1 to 53."),
    _part("day", "The day of the month."),
    _part("dayofweek", "The day of the week: Sunday is 0, Saturday 6."),
    _part("hour", "The hour, 0 to 23."),
    _part("minute", "The minute."),
    _part("second", "The second, without its fraction."),
    Function(
        "date_add", _GROUP, (_UNIT, whole_argument("amount"), moment_argument("moment")), _moment_type(2), _add,
        "The moment moved by an amount of units; a day that the month does not have becomes its last.",
        "date_add('month', 1, date '2024-01-31')", total=False,
    ),
    Function(
        "date_diff", _GROUP, (_UNIT, moment_argument("start"), moment_argument("end")), _same_kind, _diff,
        "How many borders of the unit lie between two moments.", "date_diff('day', date '2024-01-31', date '2024-02-01')", total=False,
    ),
    Function(
        "to_timestamp", _GROUP, (number_argument("seconds"),), TIMESTAMPTZ,
        lambda given: function("to_timestamp", cast(given[0].sql, pa.float64())),
        "The moment that many seconds after 1970-01-01 00:00 UTC.", "to_timestamp(0)", total=False,
    ),
    Function(
        "epoch", _GROUP, (moment_argument("moment"),), pa.float64(), "epoch",
        "Seconds since 1970-01-01 00:00 UTC.", "epoch(date '1970-01-02')",
    ),
    Function(
        "strftime", _GROUP, (moment_argument("moment"), literal_text("format", _check_format)), pa.string(), "strftime",
        "The moment as text, in C's format codes.", "strftime(date '2024-02-29', '%d.%m.%Y')",
    ),
    Function(
        "strptime", _GROUP, (text_argument("text"), literal_text("format", _check_format)), _parsed, "strptime",
        "The timestamp that the text shows; a text that does not fit fails the row. With %z it has a time zone.",
        "strptime('29.02.2024', '%d.%m.%Y')", total=False,
    ),
    Function(
        "try_strptime", _GROUP, (text_argument("text"), literal_text("format", _check_format)), _parsed, "try_strptime",
        "As strptime, but NULL where the text does not fit.", "try_strptime('soon', '%d.%m.%Y')",
    ),
)  # fmt: skip
