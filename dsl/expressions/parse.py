"""Tokens to sqlglot's tree; checks its shape, and knows neither fields nor types."""

from __future__ import annotations

from typing import Final

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ErrorLevel, ParseError

from dsl.codes import Code
from dsl.expressions.compiled import ExpressionError
from dsl.expressions.lexer import Lexed, lex

MAX_DEPTH: Final = 40
_CHAINS = (exp.And, exp.Or)


def parse(text: str) -> tuple[Lexed, exp.Expr]:
    """Parses one expression; precedence and grammar are those of DuckDB's SQL.

    Raises:
        ExpressionError: E501 or E502.
    """
    lexed = lex(text)
    parser = DuckDB().parser(error_level=ErrorLevel.IMMEDIATE)
    try:
        trees = parser.parse(list(lexed.tokens), text)
    except ParseError as error:
        index = error.errors[0].get("col") if error.errors else 0
        raise ExpressionError(Code.EXPRESSION_SYNTAX, "the expression cannot be parsed", "", index or 0) from error
    except RecursionError as error:
        raise ExpressionError(Code.EXPRESSION_FORBIDDEN, "the expression is nested too deeply", "", 0) from error
    tree = trees[0] if len(trees) == 1 else None
    if not isinstance(tree, exp.Expr):
        raise ExpressionError(Code.EXPRESSION_SYNTAX, "the expression cannot be parsed")
    _check_depth(tree)
    return lexed, tree


def chain(node: exp.Expr, kinds: tuple[type[exp.Expr], ...]) -> list[exp.Expr]:
    """Returns the operands of a chain such as `a and b and c`, left to right, without recursion."""
    operands: list[exp.Expr] = []
    waiting = [node]
    while waiting:
        each = waiting.pop()
        if isinstance(each, kinds):
            waiting += [each.args["expression"], each.args["this"]]
        else:
            operands.append(each)
    return operands


def _check_depth(tree: exp.Expr) -> None:
    waiting = [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ExpressionError(
                Code.EXPRESSION_FORBIDDEN, "the expression is nested too deeply", "split it over two mappings"
            )
        same = type(node) if isinstance(node, _CHAINS) else None
        waiting += [(each, depth if type(each) is same else depth + 1) for each in node.iter_expressions()]
