"""The three entries of the language: condition, value, template; keeps what it compiled, and evaluates nothing."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from sqlglot import exp

from dsl.codes import Code
from dsl.expressions.check import Checked, check
from dsl.expressions.compiled import Compiled, ExpressionError
from dsl.expressions.types import Family, exported, show

if TYPE_CHECKING:
    import pyarrow as pa

_KEPT = 4096


@lru_cache(maxsize=_KEPT)
def compile_condition(text: str, schema: pa.Schema | None) -> Compiled:
    """Compiles an expression that is true or false for every row; NULL counts as false.

    Args:
        text: The expression.
        schema: Of the input, or None while it is unknown (then every field fits).

    Raises:
        ExpressionError: E501 to E506, with the place in the text.
    """
    checked = check(text, schema)
    root = checked.root
    if root.family not in {Family.BOOLEAN, Family.UNKNOWN}:
        shown = show(root.type)
        hint = "compare it with something, such as … != null"
        raise ExpressionError(Code.EXPRESSION_TYPE, f"a condition is true or false, not {shown}", hint, root.index)
    sql = exp.Coalesce(this=root.sql, expressions=[exp.false()]) if root.nullable else root.sql
    return _compiled(text, checked, sql)


@lru_cache(maxsize=_KEPT)
def compile_value(text: str, schema: pa.Schema | None) -> Compiled:
    """Compiles an expression of any type.

    Args:
        text: The expression.
        schema: Of the input, or None while it is unknown.

    Raises:
        ExpressionError: E501 to E506, with the place in the text.
    """
    checked = check(text, schema)
    return _compiled(text, checked, checked.root.sql)


def _compiled(text: str, checked: Checked, sql: exp.Expr) -> Compiled:
    root = checked.root
    return Compiled(
        text=text,
        sql=write(sql),
        type=exported(root.type),
        columns=checked.columns,
        paths=checked.paths,
        total=root.total,
        uses_now=checked.uses_now,
    )


def write(sql: exp.Expr) -> str:
    """Writes a tree as DuckDB's SQL."""
    return sql.sql(dialect="duckdb", copy=False, comments=False)
