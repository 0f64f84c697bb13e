"""Walks a parsed expression, checks fields and types, and writes DuckDB's tree for it; refuses every node it has no case for.

Semantics that differ from plain SQL, the same in conditions and values:

- `=`, `!=`, `in`, `case x when` are null-safe: NULL equals NULL and differs from everything else, so they are never NULL.
- `and`, `or`, `not`, `<`, `like`, `between` have SQL's third value; only a *condition* as a whole takes NULL for false.
- `/` is floating-point division (IEEE 754: 1/0 is infinity); whole numbers and decimals that overflow fail the row.
- A text is no number, no date and no boolean, except that a text literal beside a date or timestamp is read as one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import pyarrow as pa
from sqlglot import exp

from dsl.codes import Code
from dsl.diagnostics import did_you_mean
from dsl.expressions import arithmetic, comparison
from dsl.expressions.casts import castable, casts_totally
from dsl.expressions.compiled import ExpressionError
from dsl.expressions.fields import Fields
from dsl.expressions.functions import FUNCTIONS, check_call
from dsl.expressions.lexer import Atom, Call, Constant, Field, Lexed, Name, TypeName
from dsl.expressions.parse import chain, parse
from dsl.expressions.typed import NULL, Typed, bring, brings_totally, cast, common_type, enclose, literal, settle
from dsl.expressions.types import Family, show
from dsl.expressions.words import REFUSED_FUNCTIONS

BUILT_IN: Final = frozenset({"cast", "try_cast"})


@dataclass(frozen=True)
class Checked:
    """A whole expression, checked."""

    root: Typed
    columns: frozenset[str]
    paths: frozenset[tuple[str, ...]]
    uses_now: bool


def check(text: str, schema: pa.Schema | None) -> Checked:
    """Parses and checks an expression.

    Raises:
        ExpressionError: E501 to E506.
    """
    lexed, tree = parse(text)
    checker = _Checker(lexed, Fields(schema))
    root = checker.visit(tree)
    return Checked(root, frozenset(checker.fields.columns), frozenset(checker.fields.paths), checker.uses_now)


@dataclass
class _Checker:
    lexed: Lexed
    fields: Fields
    uses_now: bool = False
    visitors: dict[type[exp.Expr], Callable[[exp.Expr], Typed]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.visitors = {
            exp.Paren: lambda node: self.visit(node.this),
            exp.Column: self._atom,
            exp.Identifier: self._atom,
            exp.Anonymous: self._call,
            exp.Bracket: self._bracket,
            exp.Dot: self._dot,
            exp.And: lambda node: self._logic(node, exp.And),
            exp.Or: lambda node: self._logic(node, exp.Or),
            exp.Not: self._not,
            exp.BitwiseNot: self._not,
            exp.Neg: lambda node: arithmetic.negate(self._operand(node.this)),
            exp.Is: self._is,
            exp.In: self._in,
            exp.Between: self._between,
            exp.Like: self._like,
            exp.ILike: self._like,
            exp.Case: self._case,
            **dict.fromkeys(arithmetic.OPERATORS, self._arithmetic),
            **dict.fromkeys(comparison.OPERATORS, self._comparison),
        }

    def visit(self, node: exp.Expr) -> Typed:
        visitor = self.visitors.get(type(node))
        if visitor is None:
            raise ExpressionError(Code.EXPRESSION_FORBIDDEN, "this is not part of the language", "", self._place(node))
        found = visitor(node)
        return found if found.index or not self.lexed.atoms else replace(found, index=self._place(node))

    def _operand(self, node: exp.Expr) -> Typed:
        return settle(self.visit(node))

    def _place(self, node: exp.Expr) -> int:
        """The leftmost atom under a node: where the author began to write it."""
        places = [self.lexed.places[int(each.this[1:])] for each in node.find_all(exp.Identifier, exp.Anonymous)]
        return min(places, default=0)

    def _lookup(self, name: str) -> tuple[Atom, int]:
        number = int(name[1:])
        return self.lexed.atoms[number], self.lexed.places[number]

    # ---- leaves

    def _atom(self, node: exp.Expr) -> Typed:
        atom, index = self._lookup(node.name)
        if isinstance(atom, Field):
            return self.fields.field(atom.names, atom.places)
        if isinstance(atom, Constant):
            if atom.moment:
                return comparison.read_moment(str(atom.value), atom.moment, index)
            if atom.value is None:
                return Typed(exp.Null(), pa.null(), index, constant=NULL)
            found = literal(atom.value, index)
            if found is None:
                raise ExpressionError(
                    Code.EXPRESSION_TYPE, f"the number {atom.value} is too large", "write it as 1e30", index
                )
            return found
        hint = "a type stands only in cast(… as type)" if isinstance(atom, TypeName) else ""
        raise ExpressionError(Code.EXPRESSION_SYNTAX, "a value should stand here", hint, index)

    def _bracket(self, node: exp.Expr) -> Typed:
        steps = node.args["expressions"]
        atom, index = self._lookup(steps[0].name) if len(steps) == 1 else (None, self._place(node))
        if not isinstance(atom, Constant) or isinstance(atom.value, float):
            raise ExpressionError(Code.EXPRESSION_FORBIDDEN, "an index is a whole number or a text", "", index)
        inner = self.visit(node.this)
        return (
            self.fields.item(inner, atom.value, index)
            if isinstance(atom.value, int)
            else self.fields.key(inner, str(atom.value), index)
        )

    def _dot(self, node: exp.Expr) -> Typed:
        atom, index = self._lookup(node.args["expression"].name)
        if not isinstance(atom, Name):
            raise ExpressionError(Code.EXPRESSION_SYNTAX, "a field's name should follow the dot", "", index)
        return self.fields.key(self.visit(node.this), atom.name, index)

    # ---- logic

    def _boolean(self, node: exp.Expr, what: str) -> Typed:
        found = self._operand(node)
        if found.family not in {Family.BOOLEAN, Family.UNKNOWN}:
            hint = f"compare it: {'… != null' if found.family is not Family.INTEGER else '… != 0'}"
            raise ExpressionError(
                Code.EXPRESSION_TYPE, f"{what} wants true or false, not {show(found.type)}", hint, found.index
            )
        return found

    def _logic(self, node: exp.Expr, kind: type[exp.Connector]) -> Typed:
        name = "'and'" if kind is exp.And else "'or'"
        pieces = [self._boolean(each, name) for each in chain(node, (kind,))]
        sql = enclose(pieces[0].sql)
        for each in pieces[1:]:
            sql = kind(this=sql, expression=enclose(each.sql))
        total = all(each.total and not each.unknown for each in pieces)
        return Typed(sql, pa.bool_(), pieces[0].index, total, nullable=any(each.nullable for each in pieces))

    def _not(self, node: exp.Expr) -> Typed:
        found = self._boolean(node.this, "'not'")
        total = found.total and not found.unknown
        return Typed(exp.Not(this=enclose(found.sql)), pa.bool_(), found.index, total, nullable=found.nullable)

    def _is(self, node: exp.Expr) -> Typed:
        left, right = self.visit(node.this), self.visit(node.args["expression"])
        if right.is_null:
            return Typed(
                exp.Is(this=enclose(left.sql), expression=exp.Null()),
                pa.bool_(),
                left.index,
                left.total,
                nullable=False,
            )
        if isinstance(right.constant, bool):
            return comparison.compare(exp.EQ, settle(left), right)
        raise ExpressionError(
            Code.EXPRESSION_FORBIDDEN,
            "'is' goes with null, true and false only",
            "'=' is null-safe already",
            right.index,
        )

    # ---- operators

    def _arithmetic(self, node: exp.Expr) -> Typed:
        return arithmetic.compute(type(node), self._operand(node.this), self._operand(node.args["expression"]))

    def _comparison(self, node: exp.Expr) -> Typed:
        return comparison.compare(type(node), self._operand(node.this), self._operand(node.args["expression"]))

    def _in(self, node: exp.Expr) -> Typed:
        values = node.args.get("expressions")
        if not values or set(node.args) - {"this", "expressions"} - {
            key for key, value in node.args.items() if not value
        }:
            raise ExpressionError(
                Code.EXPRESSION_FORBIDDEN, "'in' wants a list of values", "in ('a', 'b')", self._place(node)
            )
        return comparison.is_in(self._operand(node.this), [self._operand(each) for each in values])

    def _between(self, node: exp.Expr) -> Typed:
        value, low, high = (self._operand(node.args[each]) for each in ("this", "low", "high"))
        return comparison.between(value, low, high)

    def _like(self, node: exp.Expr) -> Typed:
        left, right = self._operand(node.this), self._operand(node.args["expression"])
        for each in (left, right):
            if each.family not in {Family.STRING, Family.UNKNOWN}:
                hint = "cast(… as string)"
                raise ExpressionError(
                    Code.EXPRESSION_TYPE, f"'like' compares texts, not {show(each.type)}", hint, each.index
                )
        sql: exp.Expr = type(node)(this=enclose(left.sql), expression=enclose(right.sql))
        if node.args.get("negate"):
            sql = exp.Not(this=enclose(sql))
        total = all(each.total and not each.unknown for each in (left, right))
        return Typed(sql, pa.bool_(), left.index, total, nullable=left.nullable or right.nullable)

    def _case(self, node: exp.Expr) -> Typed:
        subject = self._operand(node.this) if node.args.get("this") else None
        tests: list[Typed] = []
        arms: list[Typed] = []
        for each in node.args["ifs"]:
            if subject is None:
                tests.append(self._boolean(each.this, "'when'"))
            else:
                tests.append(comparison.compare(exp.EQ, subject, self._operand(each.this)))
            arms.append(self._operand(each.args["true"]))
        if node.args.get("default"):
            arms.append(self._operand(node.args["default"]))
        target = common_type(arms)
        if target is None or not tests:
            kinds = ", ".join(dict.fromkeys(show(each.type) for each in arms if not each.is_null))
            raise ExpressionError(
                Code.EXPRESSION_TYPE,
                f"the arms of 'case' have different types: {kinds}",
                "cast them to one",
                self._place(node),
            )
        found = [bring(each, target) for each in arms]
        ifs = [exp.If(this=test.sql, true=arm) for test, arm in zip(tests, found, strict=False)]
        sql = exp.Case(ifs=ifs, default=found[len(ifs)] if len(found) > len(ifs) else None)
        total = all(each.total and not each.unknown for each in tests) and all(
            each.total and brings_totally(each, target) for each in arms
        )
        nullable = len(arms) == len(ifs) or any(each.nullable for each in arms)
        return Typed(sql, target, tests[0].index, total, nullable=nullable)

    # ---- calls

    def _call(self, node: exp.Expr) -> Typed:
        atom, index = self._lookup(str(node.this))
        if not isinstance(atom, Call):
            raise ExpressionError(Code.EXPRESSION_SYNTAX, "a function's name should stand here", "", index)
        name = atom.name.lower()
        if name in BUILT_IN:
            return self._cast(name, node, index)
        if name not in FUNCTIONS:
            if name in REFUSED_FUNCTIONS:
                raise ExpressionError(
                    Code.EXPRESSION_FORBIDDEN,
                    f"{atom.name}() is not part of the language",
                    REFUSED_FUNCTIONS[name],
                    index,
                )
            raise ExpressionError(
                Code.UNKNOWN_FUNCTION,
                f"there is no function {atom.name!r}",
                did_you_mean(name, [*FUNCTIONS, *BUILT_IN]),
                index,
            )
        arguments = [self._operand(each) for each in node.args["expressions"]]
        self.uses_now = self.uses_now or name == "now"
        return check_call(FUNCTIONS[name], arguments, index)

    def _cast(self, name: str, node: exp.Expr, index: int) -> Typed:
        parts = node.args["expressions"]
        atom = self._lookup(parts[1].name)[0] if len(parts) == 2 and isinstance(parts[1], exp.Column) else None
        if not isinstance(atom, TypeName):
            raise ExpressionError(
                Code.ARGUMENTS, f"{name} wants a value and a type", f"{name}(price as decimal(10, 2))", index
            )
        value, target = self._operand(parts[0]), atom.type
        if not castable(value.type, target):
            hint = "to_json(…) gives its text" if value.family in {Family.LIST, Family.STRUCT, Family.MAP} else ""
            raise ExpressionError(
                Code.EXPRESSION_TYPE, f"{show(value.type)} cannot be cast to {show(target)}", hint, index
            )
        softly = name == "try_cast"
        total = value.total and (softly or value.is_null or casts_totally(value.type, target))
        return Typed(cast(value.sql, target, softly=softly), target, index, total, nullable=softly or value.nullable)
