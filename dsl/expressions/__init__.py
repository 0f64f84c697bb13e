"""The expression language: text and schema in, DuckDB SQL with a type out; evaluates nothing and reads nothing.

`compile_condition`, `compile_value` and `compile_template` are the entries; `check` says what the operators mean, `lexer` how
texts, fields and names are written, `functions` which functions there are, `template` how values are escaped. The DuckDB session
that runs the SQL must have its TimeZone set to UTC; where `uses_now`, it binds the run's logical time to `$now`.
The parser is imported with the first expression: it takes longer to import than a thousand workflows take to read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsl.expressions.compiled import Compiled as Compiled
from dsl.expressions.compiled import CompiledTemplate as CompiledTemplate
from dsl.expressions.compiled import Context as Context
from dsl.expressions.compiled import ExpressionError as ExpressionError
from dsl.expressions.types import parse_type as parse_type

if TYPE_CHECKING:
    import pyarrow as pa


def compile_condition(text: str, schema: pa.Schema | None) -> Compiled:
    """Compiles an expression that is true or false for every row; see `dsl.expressions.compile`."""
    from dsl.expressions.compile import compile_condition as compiled  # noqa: PLC0415 - the docstring of the module says why

    return compiled(text, schema)


def compile_value(text: str, schema: pa.Schema | None) -> Compiled:
    """Compiles an expression of any type; see `dsl.expressions.compile`."""
    from dsl.expressions.compile import compile_value as compiled  # noqa: PLC0415 - as above

    return compiled(text, schema)


def compile_template(template: str, schema: pa.Schema | None, context: Context) -> CompiledTemplate:
    """Compiles a text with `{{ expression }}` in it; see `dsl.expressions.template`."""
    from dsl.expressions.template import compile_template as compiled  # noqa: PLC0415 - as above

    return compiled(template, schema, context)
