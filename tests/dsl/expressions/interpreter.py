"""A second implementation of the language, in Python, written from its documented meaning; knows nothing of SQL.

A node is a text and a function from a row to a value; `Rejected` says that the row fails. Evaluation is strict: where DuckDB
does not need a part (an arm of `case`), it may succeed although this fails.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

Row = Mapping[str, Any]
INT_MIN, INT_MAX = -(2**63), 2**63 - 1


class Rejected(Exception):
    """The row fails."""


@dataclass(frozen=True)
class Node:
    """One expression: how it is written, how strongly it binds, and what it means."""

    text: str
    level: int
    value: Callable[[Row], Any]

    def at(self, level: int) -> str:
        """The text, in parentheses where it binds less strongly than its place wants."""
        return self.text if self.level >= level else f"({self.text})"


OR, AND, NOT, COMPARE, ADD, MULTIPLY, SIGN, ATOM = range(1, 9)


def field(*names: str) -> Node:
    def value(row: Row) -> Any:
        found: Any = row
        for name in names:
            found = None if found is None else found[name]
        return found

    return Node(".".join(names), ATOM, value)


def literal(value: Any) -> Node:
    if value is None or isinstance(value, bool):
        return Node({None: "null", True: "true", False: "false"}[value], ATOM, lambda _: value)
    if isinstance(value, str):
        return Node("'" + value.replace("'", "''") + "'", ATOM, lambda _: value)
    if isinstance(value, date):
        return Node(f"date '{value}'", ATOM, lambda _: value)
    if isinstance(value, float):
        return Node(f"{value:e}".replace("e+", "e"), ATOM if value >= 0 else SIGN, lambda _: float(f"{value:e}"))
    return Node(str(value), ATOM if value >= 0 else SIGN, lambda _: value)


# ---- logic: three values; equality has two


def conjunction(sign: str, a: Node, b: Node) -> Node:
    def value(row: Row) -> bool | None:
        both = (a.value(row), b.value(row))
        return False if False in both else None if None in both else True

    return Node(f"{a.at(AND)} {sign} {b.at(NOT)}", AND, value)


def disjunction(sign: str, a: Node, b: Node) -> Node:
    def value(row: Row) -> bool | None:
        both = (a.value(row), b.value(row))
        return True if True in both else None if None in both else False

    return Node(f"{a.at(OR)} {sign} {b.at(AND)}", OR, value)


def negation(sign: str, a: Node) -> Node:
    text = f"not {a.at(NOT)}" if sign == "not" else f"!{a.at(ATOM)}"
    return Node(text, NOT if sign == "not" else SIGN, lambda row: None if (x := a.value(row)) is None else not x)


def same(x: Any, y: Any) -> bool:
    """NULL is NULL, NaN is NaN, and a whole number beside a floating one is read as one."""
    if x is None or y is None:
        return x is y
    if isinstance(x, float) or isinstance(y, float):
        x, y = float(x), float(y)
        return x == y or (math.isnan(x) and math.isnan(y))
    return bool(x == y)


def less(x: Any, y: Any) -> bool:
    """NaN is above all numbers."""
    if isinstance(x, float) or isinstance(y, float):
        x, y = float(x), float(y)
        if math.isnan(x) or math.isnan(y):
            return not math.isnan(x) if math.isnan(y) else False
    return bool(x < y)


def comparison(sign: str, a: Node, b: Node) -> Node:
    def value(row: Row) -> bool | None:
        x, y = a.value(row), b.value(row)
        if sign in {"=", "=="}:
            return same(x, y)
        if sign in {"!=", "<>"}:
            return not same(x, y)
        if x is None or y is None:
            return None
        return {"<": less(x, y), ">": less(y, x), "<=": less(x, y) or same(x, y), ">=": less(y, x) or same(x, y)}[sign]

    return Node(f"{a.at(ADD)} {sign} {b.at(ADD)}", COMPARE, value)


def membership(a: Node, choices: list[Node], *, opposite: bool) -> Node:
    word = "not in" if opposite else "in"
    text = f"{a.at(ADD)} {word} ({', '.join(each.text for each in choices)})"

    def value(row: Row) -> bool:
        x, found = a.value(row), [each.value(row) for each in choices]
        return any(same(x, each) for each in found) != opposite

    return Node(text, COMPARE, value)


def between(a: Node, low: Node, high: Node) -> Node:
    first, second = comparison(">=", a, low), comparison("<=", a, high)
    return Node(
        f"{a.at(ADD)} between {low.at(ADD)} and {high.at(ADD)}", COMPARE, conjunction("and", first, second).value
    )


def like(a: Node, pattern: str) -> Node:
    translated = re.compile("".join({"%": ".*", "_": "."}.get(each, re.escape(each)) for each in pattern), re.DOTALL)
    text = f"{a.at(ADD)} like {literal(pattern).text}"
    return Node(text, COMPARE, lambda row: None if (x := a.value(row)) is None else translated.fullmatch(x) is not None)


def is_null(a: Node, *, opposite: bool) -> Node:
    word = "is not null" if opposite else "is null"
    return Node(f"{a.at(ADD)} {word}", COMPARE, lambda row: (a.value(row) is None) != opposite)


# ---- choices


def cases(arms: list[tuple[Node, Node]], other: Node | None) -> Node:
    written = " ".join(f"when {test.text} then {arm.text}" for test, arm in arms)
    text = f"case {written}{f' else {other.text}' if other else ''} end"

    def value(row: Row) -> Any:
        found = [(test.value(row), arm.value(row)) for test, arm in arms]
        rest = other.value(row) if other else None
        return next((arm for test, arm in found if test is True), rest)

    return Node(text, ATOM, value)


# ---- arithmetic


def _divide(x: float, y: float) -> float:
    if y != 0:
        return x / y
    return math.nan if x == 0 or math.isnan(x) else math.copysign(math.inf, x) * math.copysign(1, y)


def _remainder(x: int, y: int) -> int:
    if y == 0 or (x == INT_MIN and y == -1):
        raise Rejected
    return int(math.copysign(1, x)) * (abs(x) % abs(y))


def arithmetic(sign: str, a: Node, b: Node) -> Node:
    level = ADD if sign in "+-" else MULTIPLY

    def value(row: Row) -> int | float | None:
        x, y = a.value(row), b.value(row)
        if x is None or y is None:
            return None
        if sign == "/":
            return _divide(float(x), float(y))
        if sign == "%":
            return _remainder(x, y)
        found: int | float = x + y if sign == "+" else x - y if sign == "-" else x * y
        if isinstance(found, int) and not INT_MIN <= found <= INT_MAX:
            raise Rejected
        return found

    return Node(f"{a.at(level)} {sign} {b.at(level + 1)}", level, value)


def call(name: str, function: Callable[..., Any], *arguments: Node, nulls: bool = False) -> Node:
    """A function; without `nulls`, a NULL argument gives NULL."""

    def value(row: Row) -> Any:
        given = [each.value(row) for each in arguments]
        return None if not nulls and None in given else function(*given)

    return Node(f"{name}({', '.join(each.text for each in arguments)})", ATOM, value)
