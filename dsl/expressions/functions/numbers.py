"""Functions of numbers, with DuckDB's result types; floating point follows IEEE 754 (no error, but infinity and NaN)."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
from sqlglot import exp

from dsl.expressions import arithmetic
from dsl.expressions.functions.signature import Arguments, Function, any_null, literal_whole, number_argument, same_type
from dsl.expressions.typed import Typed, cast, function
from dsl.expressions.types import MAX_DIGITS, Family, decimal_of

_GROUP: Final = "Numbers"


def _is_whole(piece: Typed) -> bool:
    return piece.family is Family.INTEGER


def _is_unsigned(piece: Typed) -> bool:
    return pa.types.is_unsigned_integer(piece.type)


def _float_unless_whole(given: Arguments) -> bool:
    return not _is_whole(given[0]) or _is_unsigned(given[0])


def _abs(given: Arguments) -> exp.Expr:
    return given[0].sql if _is_unsigned(given[0]) else function("abs", given[0].sql)


def _without_fraction(given: Arguments) -> pa.DataType:
    kind = given[0].type
    return pa.decimal128(decimal_of(kind)[0], 0) if given[0].family is Family.DECIMAL else kind


def _edge(name: str) -> Function:
    def sql(given: Arguments) -> exp.Expr:
        return given[0].sql if _is_whole(given[0]) else function(name, given[0].sql)

    words = {"floor": "not above", "ceil": "not below"}
    return Function(
        name, _GROUP, (number_argument("number"),), _without_fraction, sql,
        f"The nearest whole number {words[name]} it, in the type of the number.", f"{name}(2.5)", nullable=any_null,
    )  # fmt: skip


def _places(given: Arguments) -> int:
    places = given[1].constant if len(given) > 1 else 0
    return places if isinstance(places, int) else 0


def _round_type(given: Arguments) -> pa.DataType | None:
    kind, places = given[0].type, _places(given)
    if given[0].family is Family.DECIMAL:
        precision, scale = decimal_of(kind)
        carries = scale == 0 and -precision <= places < 0
        return pa.decimal128(min(precision + carries, MAX_DIGITS), max(0, min(places, scale)))
    if _is_whole(given[0]) and places < 0 and _is_unsigned(given[0]):
        return None if kind == pa.uint64() else pa.int64()
    return kind


def _round(given: Arguments) -> exp.Expr:
    value, places = given[0], _places(given)
    if places >= 0 and (_is_whole(value) or (value.family is Family.DECIMAL and places >= decimal_of(value.type)[1])):
        return value.sql
    if _is_whole(value) and _is_unsigned(value):
        return function("round", cast(value.sql, pa.int64()), given[1].sql)
    return function("round", *(each.sql for each in given))


def _rounds_totally(given: Arguments) -> bool:
    return given[0].family is Family.FLOAT or _places(given) >= 0


def _mod(given: Arguments) -> exp.Expr:
    return arithmetic.compute(exp.Mod, given[0], given[1]).sql


def _mod_type(given: Arguments) -> pa.DataType:
    return arithmetic.compute(exp.Mod, given[0], given[1]).type


def _mod_total(given: Arguments) -> bool:
    return arithmetic.compute(exp.Mod, given[0], given[1]).total


def _double(name: str, doc: str, example: str) -> Function:
    return Function(name, _GROUP, (number_argument("number"),), pa.float64(), name, doc, example, nullable=any_null)


FUNCTIONS: Final[tuple[Function, ...]] = (
    Function(
        "abs", _GROUP, (number_argument("number"),), same_type, _abs,
        "The number without its sign.", "abs(-3)", _float_unless_whole, nullable=any_null,
    ),
    Function(
        "round", _GROUP, (number_argument("number"), literal_whole("places", -30, 30, optional=True)), _round_type, _round,
        "Rounded to `places` after the point (0), halves away from zero; negative places round tens, hundreds …",
        "round(2.345, 2)", _rounds_totally, nullable=any_null,
    ),
    _edge("floor"),
    _edge("ceil"),
    Function(
        "sign", _GROUP, (number_argument("number"),), pa.int8(), "sign", "-1, 0 or 1.", "sign(-2.5)", nullable=any_null,
    ),
    _double("sqrt", "The square root; NaN for a negative number.", "sqrt(9)"),
    _double("ln", "The natural logarithm; NaN for a negative number.", "ln(1)"),
    _double("log10", "The logarithm to base 10.", "log10(1000)"),
    _double("exp", "e to the power of the number.", "exp(0)"),
    Function(
        "power", _GROUP, (number_argument("base"), number_argument("exponent")), pa.float64(), "power",
        "The base to the power of the exponent.", "power(2, 10)", nullable=any_null,
    ),
    Function(
        "mod", _GROUP, (number_argument("number"), number_argument("divisor")), _mod_type, _mod,
        "The remainder, with the sign of the number: `number % divisor`.", "mod(-7, 3)", _mod_total, nullable=any_null,
    ),
    Function(
        "is_finite", _GROUP, (number_argument("number"),), pa.bool_(), lambda given: function("isfinite", cast(given[0].sql, pa.float64())),
        "Whether it is neither infinite nor NaN.", "is_finite(1 / 0)", nullable=any_null,
    ),
)  # fmt: skip
