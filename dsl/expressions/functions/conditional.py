"""Functions that choose between values; the values must have one common type."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
from sqlglot import exp

from dsl.expressions import comparison
from dsl.expressions.functions.signature import Argument, Arguments, Function, any_argument
from dsl.expressions.typed import bring, brings_totally, common_type, function
from dsl.expressions.types import Family, comparable

_GROUP: Final = "Choices"


def _common(given: Arguments) -> pa.DataType | None:
    return common_type(list(given))


def _common_total(given: Arguments) -> bool:
    target = _common(given)
    return target is not None and all(brings_totally(each, target) for each in given)


def _brought(given: Arguments) -> list[exp.Expr]:
    target = _common(given) or pa.null()
    return [bring(each, target) for each in given]


def _coalesce(given: Arguments) -> exp.Expr:
    first, *rest = _brought(given)
    return exp.Coalesce(this=first, expressions=rest)


def _all_null(given: Arguments) -> bool:
    return all(each.nullable for each in given)


def _extreme(name: str, word: str) -> Function:
    def result(given: Arguments) -> pa.DataType | None:
        target = _common(given)
        return target if target is None or comparable(target, target, order=True) else None

    return Function(
        name, _GROUP, (any_argument("value"),), result, lambda given: function(name, *_brought(given)),
        f"The {word} of the values; NULL is left out, and NaN is above all numbers.", f"{name}(3, 1, null)", _common_total, more=True,
        nullable=_all_null,
    )  # fmt: skip


def _if_type(given: Arguments) -> pa.DataType | None:
    return _common(given[1:])


def _if(given: Arguments) -> exp.Expr:
    arms = _brought(given[1:])
    return exp.Case(ifs=[exp.If(this=given[0].sql, true=arms[0])], default=arms[1] if len(arms) > 1 else None)


def _if_total(given: Arguments) -> bool:
    return _common_total(given[1:])


def _if_null(given: Arguments) -> bool:
    return len(given) < 3 or any(each.nullable for each in given[1:])


def _nullif(given: Arguments) -> exp.Expr:
    same = comparison.compare(exp.EQ, given[0], given[1])
    return exp.Case(ifs=[exp.If(this=same.sql, true=exp.Null())], default=given[0].sql)


def _nullif_type(given: Arguments) -> pa.DataType:
    comparison.compare(exp.EQ, given[0], given[1])
    return given[0].type


def _nullif_total(given: Arguments) -> bool:
    return comparison.compare(exp.EQ, given[0], given[1]).total


_CONDITION = Argument("condition", frozenset({Family.BOOLEAN}), pa.bool_())

FUNCTIONS: Final[tuple[Function, ...]] = (
    Function(
        "coalesce", _GROUP, (any_argument("value"),), _common, _coalesce,
        "The first value that is not NULL.", "coalesce(null, 2, 3)", _common_total, more=True, nullable=_all_null,
    ),
    Function(
        "if", _GROUP, (_CONDITION, any_argument("then"), Argument("else", optional=True)), _if_type, _if,
        "`then` where the condition is true; `else` (or NULL) where it is false or NULL.", "if(1 > 2, 'a', 'b')", _if_total,
        nullable=_if_null,
    ),
    Function(
        "nullif", _GROUP, (any_argument("value"), any_argument("other")), _nullif_type, _nullif,
        "NULL where both are equal, otherwise the value.", "nullif('', '')", _nullif_total,
    ),
    _extreme("greatest", "greatest"),
    _extreme("least", "least"),
)  # fmt: skip
