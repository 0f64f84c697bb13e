"""Types and SQL of `+ - * / %` and the sign, with DuckDB's result types; compares nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import pyarrow as pa
from sqlglot import exp

from dsl.codes import Code
from dsl.expressions.compiled import ExpressionError
from dsl.expressions.typed import Typed, adapts, bring, cast, common_type, enclose, literal
from dsl.expressions.types import MOMENTS, NUMBERS, Family, common_decimal, product_decimal, show, sum_decimal

OPERATORS: Final[dict[type[exp.Expr], str]] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.Mod: "%",
}


def compute(kind: type[exp.Expr], a: Typed, b: Typed) -> Typed:
    """Types one operation.

    Raises:
        ExpressionError: E505.
    """
    sign = OPERATORS[kind]
    _check_numbers(sign, a, b)
    families = {a.family, b.family}
    if Family.UNKNOWN in families:
        known = a if b.family is Family.UNKNOWN else b
        result = pa.float64() if sign == "/" and known.type == pa.float64() else pa.null()
        return _build(kind, a.sql, b.sql, result, a, b, total=False)
    if Family.FLOAT in families or sign == "/":
        return _build(kind, a.sql, b.sql, _float_result(sign, a, b), a, b, total=True)
    if Family.DECIMAL in families:
        found = {"*": product_decimal, "%": common_decimal}.get(sign, sum_decimal)(a.type, b.type)
        if found is None:
            raise ExpressionError(
                Code.EXPRESSION_TYPE,
                f"{show(a.type)} * {show(b.type)} has too many decimals",
                "cast one to double",
                a.index,
            )
        return _build(kind, a.sql, b.sql, found[0], a, b, total=found[1] and sign != "%")
    return _whole(kind, a, b)


def negate(a: Typed) -> Typed:
    """Types `-a`; the sign of a literal becomes part of it.

    Raises:
        ExpressionError: E505.
    """
    if a.is_null or a.family not in NUMBERS | {Family.UNKNOWN}:
        raise ExpressionError(
            Code.EXPRESSION_TYPE, f"'-' wants a number, not {'null' if a.is_null else show(a.type)}", "", a.index
        )
    if isinstance(a.constant, int | float | Decimal):
        found = literal(-a.constant, a.index)
        if found is not None:
            return found
    sql, kind = a.sql, a.type
    if a.family is Family.INTEGER and pa.types.is_unsigned_integer(kind):
        if kind == pa.uint64():
            raise ExpressionError(Code.EXPRESSION_TYPE, "'-' does not go with uint64", "cast(… as int64)", a.index)
        sql, kind = cast(sql, pa.int64()), pa.int64()
        return Typed(exp.Neg(this=sql), kind, a.index, a.total, nullable=a.nullable)
    total = a.total and a.family in {Family.DECIMAL, Family.FLOAT}
    return Typed(exp.Neg(this=enclose(sql)), kind, a.index, total, nullable=a.nullable)


def _check_numbers(sign: str, a: Typed, b: Typed) -> None:
    for each in (a, b):
        if each.is_null:
            raise ExpressionError(Code.EXPRESSION_TYPE, f"'{sign}' with null is always null", "", each.index)
        if each.family in NUMBERS | {Family.UNKNOWN}:
            continue
        hint = "cast(… as decimal(18, 2))"
        if each.family is Family.STRING:
            hint = "concat(a, b) joins texts; cast(… as int64) makes a number" if sign == "+" else "cast(… as int64)"
        elif each.family in MOMENTS:
            hint = "date_add('day', 1, value) and date_diff('day', a, b) compute with dates"
        raise ExpressionError(Code.EXPRESSION_TYPE, f"'{sign}' wants numbers, not {show(each.type)}", hint, each.index)


def _float_result(sign: str, a: Typed, b: Typed) -> pa.DataType:
    floats = [each.type for each in (a, b) if each.family is Family.FLOAT]
    return pa.float64() if pa.float64() in floats or (sign == "/" and not floats) else pa.float32()


def _whole(kind: type[exp.Expr], a: Typed, b: Typed) -> Typed:
    target = common_type([a, b])
    if target is None:
        raise ExpressionError(
            Code.EXPRESSION_TYPE,
            f"{show(a.type)} and {show(b.type)} have no common whole number",
            "cast one of them",
            a.index,
        )
    unsigned = [pa.types.is_unsigned_integer(each.type) for each in (a, b) if not adapts(each, target)]
    if any(unsigned) and not all(unsigned):
        target = pa.int64()
    left, right = (_bring_whole(each, target) for each in (a, b))
    divisor = b.constant
    safe = kind is exp.Mod and isinstance(divisor, int) and divisor > 0
    return _build(kind, left, right, target, a, b, total=safe)


def _bring_whole(piece: Typed, target: pa.DataType) -> exp.Expr:
    """Leaves to DuckDB what it does by itself: literals beside int32 and int64, and widening a sign-equal operand."""
    if isinstance(piece.constant, int) and target in {pa.int32(), pa.int64()}:
        return piece.sql
    same = pa.types.is_unsigned_integer(piece.type) == pa.types.is_unsigned_integer(target)
    return piece.sql if piece.constant is None and same else bring(piece, target)


def _build(
    kind: type[exp.Expr],
    left: exp.Expr,
    right: exp.Expr,
    result: pa.DataType,
    a: Typed,
    b: Typed,
    *,
    total: bool,
) -> Typed:
    more = {"typed": False, "safe": False} if kind is exp.Div else {}
    sql = kind(this=enclose(left), expression=enclose(right), **more)
    return Typed(sql, result, a.index, total and a.total and b.total, nullable=a.nullable or b.nullable)
