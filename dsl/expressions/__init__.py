"""The expression language: text and schema in, DuckDB SQL with a type out; evaluates nothing and reads nothing.

`compile_condition`, `compile_value` and `compile_template` are the entries; `check` says what the operators mean, `lexer` how
texts, fields and names are written, `functions` which functions there are, `template` how values are escaped. The DuckDB session
that runs the SQL must have its TimeZone set to UTC; where `uses_now`, it binds the run's logical time to `$now`.
"""

from __future__ import annotations

from dsl.expressions.compile import compile_condition as compile_condition
from dsl.expressions.compile import compile_value as compile_value
from dsl.expressions.compiled import Compiled as Compiled
from dsl.expressions.compiled import CompiledTemplate as CompiledTemplate
from dsl.expressions.compiled import ExpressionError as ExpressionError
from dsl.expressions.template import Context as Context
from dsl.expressions.template import compile_template as compile_template
from dsl.expressions.types import parse_type as parse_type
