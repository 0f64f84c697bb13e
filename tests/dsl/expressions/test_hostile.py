"""What is no expression of the language is refused with a place, quickly, and never reaches DuckDB."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsl.codes import Code
from dsl.expressions import ExpressionError, compile_condition, compile_value
from dsl.expressions.words import REFUSED_FUNCTIONS, REFUSED_SIGNS, RESERVED, SUSPICIOUS
from tests.dsl.expressions.session import SCHEMA, Session

_HOSTILE = (Path(__file__).parent / "hostile.txt").read_text(encoding="utf-8").splitlines()
_CONTROL = [
    "a\x00",
    "'\x00'",
    "a\x1b[31m",
    "\ud800",
    "a\x07b",
    "'\udfff'",
    "a\u200bb",
    "a\u202eb",
    "ａ＝１",
    "a\u00a0=\u00a0b;",
    "“a”",
    "",
    " ",
    "\t\n",
]


@pytest.mark.parametrize("text", [*_HOSTILE, *_CONTROL])
def test_refused(text: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_value(text, SCHEMA)
    assert caught.value.code.startswith("E50")
    assert caught.value.message
    assert 0 <= caught.value.index <= len(text)


def test_there_are_many() -> None:
    assert len(set(_HOSTILE)) >= 300


@pytest.mark.parametrize("name", sorted(REFUSED_FUNCTIONS))
def test_functions_that_see_more_than_the_row(name: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_value(f"{name.upper()}(a)", None)
    assert caught.value.code is Code.EXPRESSION_FORBIDDEN
    assert caught.value.hint


@pytest.mark.parametrize("sign", sorted(REFUSED_SIGNS))
def test_signs_that_would_be_reread(sign: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_value(f"a {sign} b", None)
    assert caught.value.code is Code.EXPRESSION_FORBIDDEN
    assert caught.value.index == 2


def test_words_of_sql() -> None:
    for word in RESERVED:
        with pytest.raises(ExpressionError):
            compile_value(word, None)
        assert compile_value(f"`{word}` = 1", None).columns == {word}
    for word in SUSPICIOUS:
        assert compile_value(f"{word} = 1", None).columns == {word}


def _compiled_or_refused(text: str, schema: pa.Schema | None) -> None:
    """Anything but a result or an error with a place is a fault."""
    try:
        sql, index = compile_value(text, schema).sql, 0
    except ExpressionError as error:
        sql, index = error.code, error.index
    assert sql
    assert 0 <= index <= len(text)


def _deep() -> Iterator[Callable[[int], str]]:
    yield lambda n: "(" * n + "a" + ")" * n
    yield lambda n: "lower(" * n + "s" + ")" * n
    yield lambda n: "not " * n + "p"
    yield lambda n: "!" * n + "p"
    yield lambda n: "- " * n + "a"
    yield lambda n: "case when p then " * n + "a" + " end" * n
    yield lambda n: "a" + " + a" * n
    yield lambda n: "a" + " - a * 2" * n
    yield lambda n: "p" + " = p" * n
    yield lambda n: "(" * n
    yield lambda n: "a in (" * n
    yield lambda n: "[" * n
    yield lambda n: "user" + ".home" * n
    yield lambda n: "l" + "[0]" * n
    yield lambda n: "cast(" * n + "a" + " as int64)" * n
    yield lambda n: "if(p, " * n + "a" + ", a)" * n


@pytest.mark.parametrize("form", list(_deep()))
def test_depth_is_bounded(form: Callable[[int], str]) -> None:
    for count in (20, 60, 200, 1000, 5000, 20_000):
        started = time.process_time()
        _compiled_or_refused(form(count), SCHEMA)
        assert time.process_time() - started < 5


def test_depth_is_bounded_on_a_deep_stack() -> None:
    """What is allowed still compiles where the caller has used up much of the stack, or is refused properly."""

    def down(frames: int) -> None:
        if frames:
            down(frames - 1)
            return
        for form in _deep():
            for count in (4, 14, 16):
                _compiled_or_refused(form(count), None)

    down(sys.getrecursionlimit() // 4)


def test_long_chains_and_lists_compile(session: Session) -> None:
    both = compile_condition(" or ".join(f"a = {n}" for n in range(900)), SCHEMA)
    assert session.value(both, {"a": 899}) is True
    listed = compile_condition(f"a in ({', '.join(map(str, range(1500)))})", SCHEMA)
    assert session.value(listed, {"a": 1499}) is True
    with pytest.raises(ExpressionError, match="longer than"):
        compile_value("a" * 10_001, None)


_SIGNS = """( ) [ ] , . ! = == < - + * / % ; $ " """
_WORDS = "a s p user.email and or not in like between is null case when then else end cast as lower 'x' 1 2.5"
_SOUP = st.lists(st.sampled_from([*_SIGNS.split(), *_WORDS.split(), "`", "?"]), max_size=12).map(" ".join)


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(st.one_of(st.text(max_size=40), _SOUP))
def test_any_text_compiles_or_is_refused(text: str) -> None:
    _compiled_or_refused(text, SCHEMA)
    _compiled_or_refused(text, None)


_NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20
)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(name=_NAMES, inner=_NAMES, text=_NAMES)
def test_names_and_texts_cannot_break_out(session: Session, name: str, inner: str, text: str) -> None:
    schema = pa.schema([(name, pa.struct([(inner, pa.string())]))])
    quoted = ["`" + each.replace("`", "``") + "`" for each in (name, inner)]
    compiled = compile_value(f"concat({'.'.join(quoted)}, '{text.replace(chr(39), chr(39) * 2)}')", schema)
    rows = pa.Table.from_pylist([{name: {inner: "x"}}], schema=schema)
    assert session.column(compiled, rows)[0].as_py() == "x" + text
    assert compiled.paths == {(name, inner)}
