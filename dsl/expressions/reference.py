"""The language as data for its generated reference page; writes no page."""

from __future__ import annotations

from dataclasses import dataclass

from dsl.expressions.functions import FUNCTIONS
from dsl.expressions.types import TYPE_NAMES, parse_type, show


@dataclass(frozen=True)
class FunctionReference:
    """One function, for the page.

    Attributes:
        name: As it is called.
        group: Heading it stands under.
        signature: Name and arguments; optional ones in brackets.
        doc: One sentence.
        example: An expression without fields.
        fails: Whether some rows can make it fail (they are rejected).
    """

    name: str
    group: str
    signature: str
    doc: str
    example: str
    fails: bool


@dataclass(frozen=True)
class OperatorReference:
    """One operator, for the page."""

    spellings: tuple[str, ...]
    doc: str
    example: str


_CASTS = (
    FunctionReference(
        "cast",
        "Types",
        "cast(value as type)",
        "The value in another type; one that does not fit fails the row.",
        "cast('12' as int64)",
        fails=True,
    ),
    FunctionReference(
        "try_cast",
        "Types",
        "try_cast(value as type)",
        "As cast, but NULL where the value does not fit.",
        "try_cast('x' as int64)",
        fails=False,
    ),
)

OPERATORS: tuple[OperatorReference, ...] = (
    OperatorReference(("==", "="), "Equal; NULL equals NULL.", "null = null"),
    OperatorReference(("!=", "<>"), "Different; NULL differs from everything else.", "1 != null"),
    OperatorReference(("<", "<=", ">", ">="), "Order; NULL where a side is NULL.", "1 < 2"),
    OperatorReference(("&&", "and"), "Both, in three-valued logic.", "true && false"),
    OperatorReference(("||", "or"), "Either, in three-valued logic; texts are joined by concat().", "true || false"),
    OperatorReference(("not",), "The opposite; NULL of NULL.", "not 1 = 2"),
    OperatorReference(("!",), "The opposite of the one value behind it.", "!(1 = 2)"),
    OperatorReference(
        ("+", "-", "*"), "Arithmetic; whole numbers and decimals that overflow fail the row.", "1 + 2 * 3"
    ),
    OperatorReference(("/",), "Floating-point division; by zero gives infinity or NaN.", "7 / 2"),
    OperatorReference(("%",), "The remainder, with the sign of the left side; by zero fails the row.", "-7 % 3"),
    OperatorReference(("in", "not in"), "Equal to one of the values.", "2 in (1, 2)"),
    OperatorReference(
        ("between", "not between"), "From the first to the second value, both included.", "2 between 1 and 3"
    ),
    OperatorReference(
        ("like", "not like", "ilike"), "% stands for any characters, _ for one; ilike ignores case.", "'abc' like 'a%'"
    ),
    OperatorReference(("is null", "is not null"), "The same as = null and != null.", "1 is not null"),
    OperatorReference(("case",), "The first arm whose condition holds.", "case when 1 > 2 then 'a' else 'b' end"),
)


def functions() -> tuple[FunctionReference, ...]:
    """Returns every function, by group and name as the table has them."""
    rows = [
        FunctionReference(each.name, each.group, each.signature, each.doc, each.example, fails=each.total is not True)
        for each in FUNCTIONS.values()
    ]
    return (*rows, *_CASTS)


def types() -> tuple[tuple[str, str], ...]:
    """Returns every name of a type with the type it stands for."""
    return tuple((name, show(parse_type(name))) for name in TYPE_NAMES)
