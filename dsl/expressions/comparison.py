"""Types and SQL of `= != < <= > >= in between`, null-safe where the language says so; computes nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Final

import pyarrow as pa
from sqlglot import exp

from dsl.codes import Code
from dsl.expressions.compiled import ExpressionError
from dsl.expressions.typed import Typed, cast, enclose, text
from dsl.expressions.types import MOMENTS, NUMBERS, TIMESTAMP, TIMESTAMPTZ, Family, comparable, compares_totally, show

OPERATORS: Final[dict[type[exp.Expr], str]] = {
    exp.EQ: "=", exp.NEQ: "!=", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=",
}  # fmt: skip
_EQUALITIES = (exp.EQ, exp.NEQ)


def compare(kind: type[exp.Expr], a: Typed, b: Typed) -> Typed:
    """Types one comparison.

    Raises:
        ExpressionError: E505.
    """
    a, b = _as_moments(a, b)
    if kind in _EQUALITIES and (a.is_null or b.is_null):
        value = a if b.is_null else b
        sql: exp.Expr = exp.Is(this=enclose(value.sql), expression=exp.Null())
        sql = sql if kind is exp.EQ else exp.Not(this=sql)
        return Typed(sql, pa.bool_(), a.index, value.total, nullable=False)
    _check(OPERATORS[kind], a, b, order=kind not in _EQUALITIES)
    total = a.total and b.total and compares_totally(a.type, b.type)
    if kind in _EQUALITIES:
        return Typed(_equality(kind, a, b), pa.bool_(), a.index, total, nullable=False)
    sql = kind(this=enclose(a.sql), expression=enclose(b.sql))
    return Typed(sql, pa.bool_(), a.index, total, nullable=a.nullable or b.nullable)


def is_in(value: Typed, choices: list[Typed]) -> Typed:
    """Types `value in (…)`: exactly `value = a or value = b or …`.

    Raises:
        ExpressionError: E505.
    """
    pairs = [compare(exp.EQ, value, each) for each in choices]
    total = all(each.total for each in pairs)
    plain = [_as_moments(value, each)[1] for each in choices]
    if _one_kind(value, plain):
        found: exp.Expr = exp.In(this=enclose(value.sql), expressions=[each.sql for each in plain])
        if value.nullable:
            found = exp.Coalesce(this=found, expressions=[exp.false()])
        return Typed(found, pa.bool_(), value.index, total, nullable=False)
    sql = enclose(pairs[0].sql)
    for each in pairs[1:]:
        sql = exp.Or(this=sql, expression=enclose(each.sql))
    return Typed(sql, pa.bool_(), value.index, total, nullable=False)


def _one_kind(value: Typed, choices: list[Typed]) -> bool:
    """Tells whether DuckDB's `IN`, which brings everything to one type, compares as `=` does with each."""
    if value.is_null or any(each.constant is None or each.is_null for each in choices):
        return False
    kinds = {each.family for each in choices}
    return kinds == {value.family} and (value.family is not Family.DECIMAL or len({each.type for each in choices}) == 1)


def between(value: Typed, low: Typed, high: Typed) -> Typed:
    """Types `value between low and high`: exactly `value >= low and value <= high`.

    Raises:
        ExpressionError: E505.
    """
    first, second = compare(exp.GTE, value, low), compare(exp.LTE, value, high)
    sql = exp.And(this=first.sql, expression=second.sql)
    return Typed(sql, pa.bool_(), value.index, first.total and second.total, nullable=first.nullable or second.nullable)


def read_moment(written: str, word: str, index: int) -> Typed:
    """Reads the literal of a date, a timestamp, or a timestamp with time zone (UTC where none is written).

    Raises:
        ExpressionError: E505: it is none.
    """
    try:
        value = date.fromisoformat(written) if word == "date" else datetime.fromisoformat(written)
        if word == "timestamptz" and isinstance(value, datetime):
            value = value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ExpressionError(Code.EXPRESSION_TYPE, f"{written!r} is no {word}", _EXAMPLES[word], index) from error
    if word == "timestamp" and isinstance(value, datetime) and value.tzinfo is not None:
        hint = f"timestamptz '{written}'"
        raise ExpressionError(Code.EXPRESSION_TYPE, "a timestamp without time zone has no offset", hint, index)
    kind = _MOMENTS[word]
    return Typed(cast(text(str(value)), kind), kind, index, nullable=False, constant=value)


_MOMENTS: Final[dict[str, pa.DataType]] = {"date": pa.date32(), "timestamp": TIMESTAMP, "timestamptz": TIMESTAMPTZ}
_EXAMPLES = {
    "date": "such as '2024-01-31'",
    "timestamp": "such as '2024-01-31 12:30:00'",
    "timestamptz": "such as '2024-01-31T12:30:00+01:00'",
}
_WORDS = {Family.DATE: "date", Family.TIMESTAMP: "timestamp", Family.TIMESTAMPTZ: "timestamptz"}


def _as_moments(a: Typed, b: Typed) -> tuple[Typed, Typed]:
    """Reads a text literal beside a date or timestamp as one."""
    if isinstance(b.constant, str) and a.family in MOMENTS:
        return a, _literal_as(a.family, b)
    if isinstance(a.constant, str) and b.family in MOMENTS:
        return _literal_as(b.family, a), b
    return a, b


def _literal_as(kind: Family, piece: Typed) -> Typed:
    written = str(piece.constant)
    if kind is Family.DATE and len(written) > len("2024-01-31"):
        kind = Family.TIMESTAMP
    return replace(read_moment(written, _WORDS[kind], piece.index), index=piece.index)


def _equality(kind: type[exp.Expr], a: Typed, b: Typed) -> exp.Expr:
    if not a.nullable and not b.nullable:
        return kind(this=enclose(a.sql), expression=enclose(b.sql))
    form = exp.NullSafeEQ if kind is exp.EQ else exp.NullSafeNEQ
    return form(this=enclose(a.sql), expression=enclose(b.sql))


def _check(sign: str, a: Typed, b: Typed, *, order: bool) -> None:
    if a.is_null or b.is_null:
        raise ExpressionError(
            Code.EXPRESSION_TYPE,
            f"'{sign}' with null is never true",
            "= null or != null",
            (a if a.is_null else b).index,
        )
    if comparable(a.type, b.type, order=order):
        return
    families = {a.family, b.family}
    hint = "cast one of them"
    if Family.STRING in families and families & NUMBERS:
        hint = "cast(… as int64) or cast(… as double) reads a number from a text"
    elif Family.STRING in families and families & MOMENTS:
        hint = "cast(… as timestamp) reads a text"
    elif Family.TIMESTAMPTZ in families and families & MOMENTS:
        hint = "cast(… as timestamptz) takes it as UTC"
    elif Family.JSON in families:
        hint = "json_extract_string(value, '$') gives its text"
    elif families <= {Family.STRUCT, Family.LIST, Family.MAP}:
        hint = "compare single fields"
    raise ExpressionError(
        Code.EXPRESSION_TYPE, f"'{sign}' does not compare {show(a.type)} with {show(b.type)}", hint, b.index
    )
