"""What a row of the function table says, and how a call is held against it; knows no function by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import pyarrow as pa
from sqlglot import exp

from dsl.codes import Code
from dsl.expressions.compiled import ExpressionError
from dsl.expressions.typed import Typed, cast, function
from dsl.expressions.types import MOMENTS, NUMBERS, SCALARS, Family, show

Arguments: TypeAlias = Sequence[Typed]


@dataclass(frozen=True)
class Argument:
    """One argument of a function.

    Attributes:
        name: For messages and the reference.
        accepts: Families it may have; empty for any.
        null: What `null` is taken for.
        literal: Whether it must be written out, because the type or the safety of the call depends on it.
        check: For literals: what is wrong with the value, or "".
        optional: Whether it may be left out (only at the end).
    """

    name: str
    accepts: frozenset[Family] = frozenset()
    null: pa.DataType | None = None
    literal: bool = False
    check: Callable[[object], str] | None = None
    optional: bool = False


@dataclass(frozen=True)
class Function:
    """One function of the language.

    Attributes:
        name: As it is called, in lower case.
        group: Heading of the reference page.
        arguments: In order.
        result: Type of the result, or how to find it.
        sql: Name of DuckDB's function, or how to build the tree.
        doc: One sentence.
        example: An expression without fields, shown with its result.
        total: Whether it cannot fail, or how to tell.
        more: Whether the last argument may be repeated.
        nullable: Whether it may give NULL where no argument is NULL; False also where NULL arguments give a value.
    """

    name: str
    group: str
    arguments: tuple[Argument, ...]
    result: pa.DataType | Callable[[Arguments], pa.DataType | None]
    sql: str | Callable[[Arguments], exp.Expr]
    doc: str
    example: str
    total: bool | Callable[[Arguments], bool] = True
    more: bool = False
    nullable: bool | Callable[[Arguments], bool] = True

    @property
    def signature(self) -> str:
        """How it is called, for the reference and for messages."""
        shown = [f"[{each.name}]" if each.optional else each.name for each in self.arguments]
        return f"{self.name}({', '.join(shown)}{', …' if self.more else ''})"


def check_call(called: Function, given: Arguments, index: int) -> Typed:
    """Types one call.

    Raises:
        ExpressionError: E506.
    """
    least = sum(not each.optional for each in called.arguments)
    if len(given) < least or (len(given) > len(called.arguments) and not called.more):
        raise ExpressionError(
            Code.ARGUMENTS, f"{called.name} is called with {len(given)} arguments", called.signature, index
        )
    pieces = [_fit(called, called.arguments[min(n, len(called.arguments) - 1)], each) for n, each in enumerate(given)]
    result = called.result(pieces) if callable(called.result) else called.result
    if result is None:
        kinds = ", ".join(dict.fromkeys(show(each.type) for each in pieces))
        raise ExpressionError(
            Code.ARGUMENTS,
            f"the arguments of {called.name} do not fit together: {kinds}",
            "cast them to one type",
            index,
        )
    sql = function(called.sql, *(each.sql for each in pieces)) if isinstance(called.sql, str) else called.sql(pieces)
    total = called.total(pieces) if callable(called.total) else called.total
    sure = all(
        each.total and (not each.unknown or not called.arguments[min(n, len(called.arguments) - 1)].accepts)
        for n, each in enumerate(pieces)
    )
    nullable = called.nullable(pieces) if callable(called.nullable) else called.nullable
    return Typed(sql, result, index, total and sure, nullable=nullable)


def _fit(called: Function, wanted: Argument, given: Typed) -> Typed:
    if wanted.literal:
        return _fit_literal(called, wanted, given)
    if given.is_null:
        return replace(given, sql=cast(given.sql, wanted.null), type=wanted.null) if wanted.null is not None else given
    if wanted.accepts and given.family not in wanted.accepts | {Family.UNKNOWN}:
        names = " or ".join(sorted(wanted.accepts))
        hint = called.signature
        if Family.STRING in wanted.accepts and len(wanted.accepts) == 1:
            hint += "; cast(… as string) makes a text"
        elif isinstance(given.constant, str) and wanted.accepts & MOMENTS:
            hint += "; write timestamp '…'"
        raise ExpressionError(
            Code.ARGUMENTS,
            f"{called.name} wants {names} for {wanted.name!r}, not {show(given.type)}",
            hint,
            given.index,
        )
    return given


def _fit_literal(called: Function, wanted: Argument, given: Typed) -> Typed:
    if given.constant is None or given.is_null or given.family not in wanted.accepts:
        kind = "whole number" if Family.INTEGER in wanted.accepts else "text"
        raise ExpressionError(
            Code.ARGUMENTS,
            f"{called.name} wants {wanted.name!r} written out as a {kind}",
            called.signature,
            given.index,
        )
    wrong = wanted.check(given.constant) if wanted.check else ""
    if wrong:
        raise ExpressionError(Code.ARGUMENTS, f"{called.name}: {wrong}", called.signature, given.index)
    return given


# ---- kinds of arguments ------------------------------------------------------------------------------------------------


def text_argument(name: str, *, optional: bool = False) -> Argument:
    """A text."""
    return Argument(name, frozenset({Family.STRING}), pa.string(), optional=optional)


def number_argument(name: str) -> Argument:
    """A number of any kind."""
    return Argument(name, NUMBERS, pa.float64())


def whole_argument(name: str, *, optional: bool = False) -> Argument:
    """A whole number."""
    return Argument(name, frozenset({Family.INTEGER}), pa.int64(), optional=optional)


def moment_argument(name: str) -> Argument:
    """A date or a timestamp."""
    return Argument(name, MOMENTS, pa.timestamp("us"))


def scalar_argument(name: str) -> Argument:
    """Anything that has a text."""
    return Argument(name, SCALARS - {Family.BINARY, Family.INTERVAL}, pa.string())


def any_argument(name: str) -> Argument:
    """Anything."""
    return Argument(name)


def literal_text(name: str, check: Callable[[object], str] | None = None, *, optional: bool = False) -> Argument:
    """A text that must be written out."""
    return Argument(name, frozenset({Family.STRING}), literal=True, check=check, optional=optional)


def literal_whole(name: str, low: int, high: int, *, optional: bool = False) -> Argument:
    """A whole number between two bounds that must be written out."""

    def check(value: object) -> str:
        return "" if isinstance(value, int) and low <= value <= high else f"{name!r} goes from {low} to {high}"

    return Argument(name, frozenset({Family.INTEGER}), literal=True, check=check, optional=optional)


def same_type(given: Arguments) -> pa.DataType:
    """The result has the type of the first argument."""
    return given[0].type


def any_null(given: Arguments) -> bool:
    """The result is NULL exactly where an argument is."""
    return any(each.nullable for each in given)
