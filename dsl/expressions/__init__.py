"""The expression language: text and schema in, DuckDB SQL with a type out; evaluates nothing and reads nothing."""

from __future__ import annotations

from typing import Literal, TypeAlias

import pyarrow as pa

from dsl.codes import Code
from dsl.expressions.compiled import Compiled as Compiled
from dsl.expressions.compiled import CompiledTemplate as CompiledTemplate
from dsl.expressions.compiled import ExpressionError as ExpressionError

Context: TypeAlias = Literal["json", "url", "text"]


def compile_condition(text: str, schema: pa.Schema | None) -> Compiled:
    """Compiles an expression that is true or false; NULL counts as false.

    Raises:
        ExpressionError: With the place in the text.
    """
    raise ExpressionError(Code.EXPRESSION_SYNTAX, f"cannot compile {text!r} yet")


def compile_value(text: str, schema: pa.Schema | None) -> Compiled:
    """Compiles an expression of any type.

    Raises:
        ExpressionError: With the place in the text.
    """
    raise ExpressionError(Code.EXPRESSION_SYNTAX, f"cannot compile {text!r} yet")


def compile_template(text: str, schema: pa.Schema | None, context: Context) -> CompiledTemplate:
    """Compiles a text with `{{ expression }}` in it, escaped for where it will stand.

    Raises:
        ExpressionError: With the place in the text.
    """
    raise ExpressionError(Code.EXPRESSION_SYNTAX, f"cannot compile {text!r} yet")
