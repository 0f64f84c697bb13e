"""What an expression or a template becomes: SQL, its type and what it reads, as data; compiles nothing itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import pyarrow as pa

from dsl.codes import Code

Context: TypeAlias = Literal["json", "url", "text", "path"]
"""What a template makes, and so how the values in it are escaped."""


@dataclass(frozen=True)
class Compiled:
    """An expression, ready for DuckDB.

    Attributes:
        text: As it stands in the document.
        sql: One expression in DuckDB's dialect over the input's columns; never a statement. Its only parameter is `$now`.
        type: Type of the result as DuckDB hands it out in Arrow; `pa.null()` means unknown.
        columns: Top-level columns that it reads.
        paths: Fields that it reads, each as names from the column downwards; list and map steps end a path.
        total: Whether no row of the declared types can make its evaluation fail.
        uses_now: Whether the SQL mentions the parameter `$now` (a timestamp with time zone: the run's logical time).
    """

    text: str
    sql: str
    type: pa.DataType
    columns: frozenset[str] = frozenset()
    paths: frozenset[tuple[str, ...]] = frozenset()
    total: bool = True
    uses_now: bool = False


@dataclass(frozen=True)
class CompiledTemplate:
    """A text with `{{ expression }}` in it, ready for DuckDB.

    Attributes:
        text: As it stands in the document.
        parts: Literal texts and expressions, in order; empty texts are left out.
        context: "json", "url", "text" or "path".
        sql: See `render_sql`.
        total: Whether rendering cannot fail.
    """

    text: str
    parts: tuple[str | Compiled, ...]
    context: str
    sql: str = field(repr=False)
    total: bool

    def render_sql(self) -> str:
        """Returns one DuckDB expression that yields the text with every value escaped for its place.

        It is NULL only in the context "url", for a row whose value may not stand in a path (NULL, empty, only dots).
        """
        return self.sql

    @property
    def expressions(self) -> tuple[Compiled, ...]:
        """The expressions in it, in order."""
        return tuple(each for each in self.parts if isinstance(each, Compiled))

    @property
    def columns(self) -> frozenset[str]:
        """Top-level columns that it reads."""
        return frozenset[str]().union(*(each.columns for each in self.expressions))

    @property
    def paths(self) -> frozenset[tuple[str, ...]]:
        """Fields that it reads, as in `Compiled.paths`."""
        return frozenset[tuple[str, ...]]().union(*(each.paths for each in self.expressions))

    @property
    def uses_now(self) -> bool:
        """Whether the SQL mentions the parameter `$now`."""
        return any(each.uses_now for each in self.expressions)


class ExpressionError(ValueError):
    """An expression or a template that cannot be compiled.

    Args:
        code: E501 to E507.
        message: What is wrong, as one sentence.
        hint: What to write instead, or nothing.
        index: Where in the text, in characters from 0.
    """

    def __init__(self, code: Code, message: str, hint: str = "", index: int = 0) -> None:
        super().__init__(f"{code} {message}" + (f" ({hint})" if hint else ""))
        self.code, self.message, self.hint, self.index = code, message, hint, index
