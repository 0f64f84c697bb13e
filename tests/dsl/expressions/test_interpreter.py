"""Random typed expressions over random rows: DuckDB's result of the compiled SQL against a second implementation."""

from __future__ import annotations

import math
from datetime import date
from typing import Any

import duckdb
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsl.expressions import compile_condition, compile_value
from tests.dsl.expressions import interpreter as py
from tests.dsl.expressions.interpreter import Node, Rejected
from tests.dsl.expressions.session import Session, schema_of

_SCHEMA = schema_of(
    [
        ("a", pa.int64()), ("b", pa.int64()), ("x", pa.float64()), ("y", pa.float64()), ("s", pa.string()), ("t", pa.string()),
        ("p", pa.bool_()), ("q", pa.bool_()), ("day", pa.date32()), ("u", pa.struct([("n", pa.int64()), ("s", pa.string())])),
    ]
)  # fmt: skip
_WHOLES = st.one_of(st.integers(-5, 5), st.sampled_from([py.INT_MIN, py.INT_MAX, 2**31, 2**53 + 1]))
_FLOATS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.5, -2.0, math.inf, -math.inf, math.nan, 1e300]), st.floats(-10, 10, width=16)
)
_TEXTS = st.text("abAB %_'\"é\\\n,\U0001f600", max_size=6)
_DAYS = st.dates(date(1900, 1, 1), date(2100, 12, 31))
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "a": _WHOLES, "b": _WHOLES, "x": _FLOATS, "y": _FLOATS, "s": _TEXTS, "t": _TEXTS, "p": st.booleans(), "q": st.booleans(), "day": _DAYS,
    "u": st.fixed_dictionaries({"n": st.none() | _WHOLES, "s": st.none() | _TEXTS}),
}  # fmt: skip
_ROWS = st.lists(
    st.fixed_dictionaries({name: st.none() | each for name, each in _VALUES.items()}), min_size=3, max_size=6
)
_KINDS = ("whole", "float", "text", "day")


@st.composite
def _wholes(draw: st.DrawFn, depth: int) -> Node:
    if depth <= 0 or draw(st.integers(0, 3)) == 0:
        return draw(
            st.sampled_from([py.field("a"), py.field("b"), py.field("u", "n"), *map(py.literal, (0, 1, -3, 7))])
        )
    kind = draw(st.integers(0, 7))
    if kind <= 2:
        # Two literals alone are 32 bits wide, as in DuckDB; the interpreter knows 64 only.
        return py.arithmetic(
            draw(st.sampled_from("+-*%")),
            draw(_wholes(depth - 1)),
            draw(st.sampled_from([py.field("a"), py.field("u", "n")])),
        )
    if kind == 3:
        return py.call("length", len, draw(_texts(depth - 1)))
    if kind == 4:
        return py.call("year", lambda value: value.year, draw(_days(depth - 1)))
    if kind == 5:
        return py.call(
            "date_diff", lambda _, a, b: (b - a).days, py.literal("day"), draw(_days(depth - 1)), draw(_days(depth - 1))
        )
    return draw(_chosen("whole", depth - 1))


@st.composite
def _floats(draw: st.DrawFn, depth: int) -> Node:
    if depth <= 0 or draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from([py.field("x"), py.field("y"), py.literal(0.5), py.literal(1e300)]))
    kind = draw(st.integers(0, 4))
    if kind <= 1:
        return py.arithmetic(draw(st.sampled_from("+-*/")), draw(_floats(depth - 1)), draw(_floats(depth - 1)))
    if kind == 2:
        return py.arithmetic("/", draw(_wholes(depth - 1)), draw(_wholes(depth - 1)))
    if kind == 3:
        return py.call("abs", abs, draw(_floats(depth - 1)))
    return draw(_chosen("float", depth - 1))


@st.composite
def _texts(draw: st.DrawFn, depth: int) -> Node:  # noqa: PLR0911 - one for each function
    if depth <= 0 or draw(st.integers(0, 3)) == 0:
        return draw(
            st.one_of(st.sampled_from([py.field("s"), py.field("t"), py.field("u", "s")]), _TEXTS.map(py.literal))
        )
    inner = _texts(depth - 1)
    count = py.literal(draw(st.integers(1, 4)))
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return py.call(
            "concat", lambda *parts: "".join(each or "" for each in parts), draw(inner), draw(inner), nulls=True
        )
    if kind == 1:
        return py.call(
            "substring", lambda text, start, size: text[start - 1 : start - 1 + size], draw(inner), count, py.literal(2)
        )
    if kind == 2:
        return py.call("left", lambda text, size: text[:size], draw(inner), count)
    if kind == 3:
        return py.call("right", lambda text, size: text[-size:], draw(inner), count)
    if kind == 4:
        return py.call(
            "replace", lambda text, old, new: text.replace(old, new), draw(inner), py.literal("a"), draw(inner)
        )
    if kind == 5:
        return py.call("upper", str.upper, draw(inner))
    if kind == 6:
        return py.call("trim", lambda text: text.strip(" "), draw(inner))
    if kind == 7:
        return py.call(
            "lpad", lambda text, size, pad: text[:size].rjust(size, pad), draw(inner), count, py.literal(".")
        )
    return draw(_chosen("text", depth - 1))


@st.composite
def _days(draw: st.DrawFn, depth: int) -> Node:
    if depth <= 0 or draw(st.booleans()):
        return draw(st.one_of(st.just(py.field("day")), _DAYS.map(py.literal)))
    return draw(_chosen("day", depth - 1))


@st.composite
def _chosen(draw: st.DrawFn, kind: str, depth: int) -> Node:
    inner = _of(kind, depth)
    form = draw(st.integers(0, 4))
    if form == 0:
        return py.call("coalesce", lambda a, b: b if a is None else a, draw(inner), draw(inner), nulls=True)
    if form == 1:
        return py.call("nullif", lambda a, b: None if py.same(a, b) else a, draw(inner), draw(inner), nulls=True)
    if form == 2:
        return py.call(
            "if", lambda c, a, b: a if c is True else b, draw(_booleans(depth)), draw(inner), draw(inner), nulls=True
        )
    if form == 3:
        return py.call("least", _least, draw(inner), draw(inner), nulls=True)
    arms = [(draw(_booleans(depth)), draw(inner)) for _ in range(draw(st.integers(1, 2)))]
    return py.cases(arms, draw(st.none() | inner))


def _least(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else b if py.less(b, a) else a


@st.composite
def _booleans(draw: st.DrawFn, depth: int) -> Node:  # noqa: PLR0911 - one for each form
    if depth <= 0:
        return draw(st.sampled_from([py.field("p"), py.field("q"), py.literal(True), py.literal(False)]))
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return py.conjunction(
            draw(st.sampled_from(["and", "&&", "AND"])), draw(_booleans(depth - 1)), draw(_booleans(depth - 1))
        )
    if kind == 1:
        return py.disjunction(
            draw(st.sampled_from(["or", "||"])), draw(_booleans(depth - 1)), draw(_booleans(depth - 1))
        )
    if kind == 2:
        return py.negation(draw(st.sampled_from(["not", "!"])), draw(_booleans(depth - 1)))
    what = _of(draw(st.sampled_from(_KINDS)), depth - 1)
    if kind <= 5:
        return py.comparison(
            draw(st.sampled_from(["=", "==", "!=", "<>", "<", "<=", ">", ">="])), draw(what), draw(what)
        )
    if kind == 6:
        choices = draw(st.lists(what | st.just(py.literal(None)), min_size=1, max_size=3))
        return py.membership(draw(what), choices, opposite=draw(st.booleans()))
    if kind == 7:
        return py.between(draw(what), draw(what), draw(what))
    if kind == 8:
        return py.is_null(draw(what), opposite=draw(st.booleans()))
    return py.like(draw(_texts(depth - 1)), draw(st.text("aAb%_'\\é", max_size=5)))


def _of(kind: str, depth: int) -> st.SearchStrategy[Node]:
    return {"whole": _wholes, "float": _floats, "text": _texts, "day": _days}[kind](depth)


def _expected(node: Node, rows: list[dict[str, Any]]) -> list[Any]:
    found = []
    for row in rows:
        try:
            found.append(node.value(row))
        except Rejected:
            found.append(Rejected)
    return found


def _same(found: object, expected: object) -> bool:
    if isinstance(expected, float) and isinstance(found, float):
        return found == expected or (math.isnan(found) and math.isnan(expected))
    return found == expected and isinstance(found, bool) == isinstance(expected, bool)


_SETTINGS = settings(
    max_examples=500, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@_SETTINGS
@given(node=st.one_of(_booleans(3), _wholes(3), _floats(3), _texts(3), _days(3)), rows=_ROWS)
def test_values(session: Session, node: Node, rows: list[dict[str, Any]]) -> None:
    compiled = compile_value(node.text, _SCHEMA)
    expected = _expected(node, rows)
    if Rejected in expected:
        assert not compiled.total
        rows = [row for row, each in zip(rows, expected, strict=True) if each is not Rejected]
        expected = [each for each in expected if each is not Rejected]
    found = session.column(compiled, pa.Table.from_pylist(rows, schema=_SCHEMA)).to_pylist()
    for row, one, other in zip(rows, found, expected, strict=True):
        assert _same(one, other), f"{node.text} over {row}: {one!r}, not {other!r}; {compiled.sql}"


@_SETTINGS
@given(node=_booleans(4), rows=_ROWS)
def test_conditions_have_two_values(session: Session, node: Node, rows: list[dict[str, Any]]) -> None:
    compiled = compile_condition(node.text, _SCHEMA)
    expected = _expected(node, rows)
    rows = [row for row, each in zip(rows, expected, strict=True) if each is not Rejected]
    found = session.column(compiled, pa.Table.from_pylist(rows, schema=_SCHEMA)).to_pylist()
    assert found == [each is True for each in expected if each is not Rejected], f"{node.text}; {compiled.sql}"


@_SETTINGS
@given(node=st.one_of(_booleans(3), _wholes(2), _floats(3), _texts(3), _days(3)), rows=_ROWS)
def test_total_expressions_never_fail(session: Session, node: Node, rows: list[dict[str, Any]]) -> None:
    compiled = compile_value(node.text, _SCHEMA)
    try:
        found = session.column(compiled, pa.Table.from_pylist(rows, schema=_SCHEMA))
    except duckdb.Error:
        assert not compiled.total, compiled
        return
    assert found.type == compiled.type
