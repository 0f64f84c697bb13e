"""A checked piece of an expression: its SQL tree with a type; and the builders of such trees. Decides nothing about the language."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from typing import Final, TypeGuard

import pyarrow as pa
from sqlglot import exp

from dsl.expressions.casts import casts_totally
from dsl.expressions.types import MAX_DIGITS, Family, common_of, duckdb_name, family, holds, settled

INT32_MAX: Final = 2**31


class Null:
    """The constant `null`."""


NULL: Final = Null()


@dataclass(frozen=True)
class Typed:
    """A checked piece.

    Attributes:
        sql: DuckDB's tree for it.
        type: Its type; `pa.null()` for unknown and for `null`.
        index: Where it begins in the text.
        total: Whether it cannot fail.
        nullable: Whether it may be NULL.
        constant: Its value, where it is a literal.
        path: Names from the column downwards, where it is a plain field.
    """

    sql: exp.Expr
    type: pa.DataType
    index: int
    total: bool = True
    nullable: bool = True
    constant: object = None
    path: tuple[str, ...] = ()

    @property
    def family(self) -> Family:
        """The family of its type."""
        return family(self.type)

    @property
    def is_null(self) -> bool:
        """Whether it is the constant `null`."""
        return self.constant is NULL

    @property
    def unknown(self) -> bool:
        """Whether only a run will know its type."""
        return self.family is Family.UNKNOWN and not self.is_null


_ATOMIC = (
    exp.Column,
    exp.Literal,
    exp.Anonymous,
    exp.Cast,
    exp.Paren,
    exp.Null,
    exp.Boolean,
    exp.Case,
    exp.Placeholder,
    exp.Coalesce,
)


def enclose(sql: exp.Expr) -> exp.Expr:
    """Puts parentheses around what is not of one piece (sqlglot writes trees without them)."""
    return sql if isinstance(sql, _ATOMIC) else exp.Paren(this=sql)


def function(name: str, *arguments: exp.Expr) -> exp.Expr:
    """Calls a function of DuckDB by its name."""
    return exp.Anonymous(this=name, expressions=list(arguments))


@lru_cache(maxsize=512)
def _data_type(name: str) -> exp.DataType:
    return exp.DataType.build(name, dialect="duckdb")


def cast(sql: exp.Expr, target: pa.DataType, *, softly: bool = False) -> exp.Expr:
    """Casts to a type."""
    kind = exp.TryCast if softly else exp.Cast
    return kind(this=sql, to=_data_type(duckdb_name(target)).copy())


def text(value: str) -> exp.Expr:
    """A text literal."""
    return exp.Literal.string(value)


def number(value: int) -> exp.Expr:
    """A whole-number literal."""
    return exp.Neg(this=exp.Literal.number(-value)) if value < 0 else exp.Literal.number(value)


def literal(value: str | bool | float | Decimal, index: int) -> Typed | None:  # noqa: FBT001 - a literal's value
    """Types a literal as DuckDB does, or returns None for a number that has no type."""
    kind: pa.DataType | None = pa.string()
    sql: exp.Expr
    if isinstance(value, bool):
        sql, kind = exp.Boolean(this=value), pa.bool_()
    elif isinstance(value, str):
        sql = text(value)
    elif isinstance(value, int):
        sql = number(value)
        kind = pa.int32() if holds(pa.int32(), value) else pa.int64() if holds(pa.int64(), value) else None
    elif isinstance(value, Decimal):
        plain = f"{abs(value):f}"
        whole, _, fraction = plain.partition(".")
        size = len(whole) + len(fraction)
        sql = exp.Literal.number(plain if fraction else f"{plain}.")
        sql = exp.Neg(this=sql) if value < 0 else sql
        kind = pa.decimal128(size, len(fraction)) if size <= MAX_DIGITS else None
    else:
        plain = re.sub(r"e\+?", "e", repr(abs(value)))
        sql = exp.Literal.number(plain if "e" in plain else f"{plain}e0")
        sql = exp.Neg(this=sql) if value < 0 else sql
        kind = pa.float64() if abs(value) != float("inf") else None
    return None if kind is None else Typed(sql, kind, index, nullable=False, constant=value)


def settle(piece: Typed) -> Typed:
    """Brings a piece to the type that is computed with (see `types.settled`)."""
    wanted = settled(piece.type)
    if wanted == piece.type or piece.family in {Family.UNKNOWN, Family.STRUCT, Family.MAP}:
        return piece
    quietly = {
        Family.STRING,
        Family.BINARY,
        Family.DATE,
        Family.TIMESTAMPTZ,
        Family.DECIMAL,
        Family.FLOAT,
        Family.INTERVAL,
    }
    if piece.family in quietly or (piece.family is Family.LIST and not pa.types.is_fixed_size_list(piece.type)):
        return replace(piece, type=wanted)
    fails = piece.family is Family.TIMESTAMP and piece.type != pa.timestamp("ns")
    return replace(piece, sql=cast(piece.sql, wanted), type=wanted, total=piece.total and not fails)


def adapts(piece: Typed, target: pa.DataType) -> bool:
    """Tells whether a whole-number literal takes the other operand's integer type, as it does in DuckDB."""
    return is_whole(piece.constant) and pa.types.is_integer(target) and holds(target, piece.constant)


def is_whole(constant: object) -> TypeGuard[int]:
    """Tells whether a literal is a whole number."""
    return isinstance(constant, int) and not isinstance(constant, bool)


def common_type(pieces: list[Typed]) -> pa.DataType | None:
    """Returns the one type of several arms (literals adapt, `null` fits everything), or None if they do not fit."""
    arms = [each for each in pieces if not each.is_null]
    firm = [each for each in arms if not is_whole(each.constant)]
    target = common_of(each.type for each in firm) if firm else None
    if firm and target is None:
        return None
    rest = [each.type for each in arms if is_whole(each.constant) and (target is None or not adapts(each, target))]
    return common_of([*([] if target is None else [target]), *rest])


def bring(piece: Typed, target: pa.DataType) -> exp.Expr:
    """Returns the piece's SQL with the type `target`, cast only where it differs."""
    if piece.is_null or piece.type == target or family(target) is Family.UNKNOWN or piece.unknown:
        return piece.sql
    return cast(piece.sql, target)


def brings_totally(piece: Typed, target: pa.DataType) -> bool:
    """Tells whether bringing a piece to a type cannot fail; a literal's own type was chosen so that it fits."""
    return piece.is_null or (not piece.unknown and (piece.constant is not None or casts_totally(piece.type, target)))
