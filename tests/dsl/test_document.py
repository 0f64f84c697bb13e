"""YAML as the language reads it: places, scalars of YAML 1.2, and hostile texts, each refused with its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsl.codes import Code
from dsl.diagnostics import CompileError, Diagnostic, Span
from dsl.document import DEEPEST, LONGEST, Map, Scalar, Sequence, leaves_of, parse, plain


def _one(text: str) -> Map:
    (node,) = parse(text, "x.yaml")
    assert isinstance(node, Map)
    return node


def _refused(text: str) -> list[tuple[Code, int, int]]:
    with pytest.raises(CompileError) as caught:
        parse(text, "x.yaml")
    return [(each.code, each.span.line, each.span.column) for each in caught.value.diagnostics]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("12:30:45", "12:30:45"),
        ("014", "014"),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("1.2.3", "1.2.3"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("12", 12),
        ("-7", -7),
        ("0o14", 12),
        ("0xff", 255),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("-.inf", float("-inf")),
        ("9" * 50, "9" * 50),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    assert plain(_one(f"a: {text}\n")) == {"a": value}


def test_a_merge_key_is_a_key_like_any_other() -> None:
    assert plain(_one("a: &x {b: 1}\nc: {<<: *x}\n")) == {"a": {"b": 1}, "c": {"<<": {"b": 1}}}


def test_places_count_from_one() -> None:
    node = _one("a:\n  - b: x\n  - 'y'\n")
    items = node.get("a")
    assert isinstance(items, Sequence)
    assert node.entries[0].span == Span("x.yaml", 1, 1)
    assert items.span == Span("x.yaml", 2, 3)
    assert [each.span for each in leaves_of(node)] == [Span("x.yaml", 2, 8), Span("x.yaml", 3, 5)]


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("a: xyz", 4),
        ("a: 'xyz'", 5),
        ('a: "xyz"', 5),
        ('a: "x\\u0079z"', None),
        ("a: |\n  xyz\n", None),
        ("a: 'x''z'", None),
    ],
)
def test_a_text_knows_its_first_character_where_it_stands_as_written(text: str, column: int | None) -> None:
    leaf = _one(text).get("a")
    assert isinstance(leaf, Scalar)
    assert (leaf.first and leaf.first.column) == column


def test_several_documents_and_empty_ones() -> None:
    assert [plain(each) for each in parse("---\n---\na: 1\n---\n# nothing\n---\nb: 2\n", "x")] == [{"a": 1}, {"b": 2}]


def test_a_byte_order_mark_and_windows_lines() -> None:
    assert plain(_one("\ufeffa: 1\r\nb: 2\r\n")) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: b\x00c\n", (Code.SYNTAX, 1, 5)),
        ("äöü: 1\nb: x\x07\n", (Code.SYNTAX, 2, 5)),
        ("a: 😀\nb: \ud800\n", (Code.SYNTAX, 2, 4)),
        ("a: [1,\n", (Code.SYNTAX, 2, 1)),
        ("a: 'x\n\n\n", (Code.SYNTAX, 1, 4)),
        ("a: *b\n", (Code.SYNTAX, 1, 4)),
        ("a: @b\n", (Code.SYNTAX, 1, 4)),
        ("%YAML 9.9\n---\na: 1\n", (Code.SYNTAX, 1, 1)),
        ("%TAG ! tag:example.com,2000:\n---\na: !x 1\n", (Code.TAG, 3, 4)),
        ("a: !!python/object/apply:os.system ['true']\n", (Code.TAG, 1, 4)),
        ("a: !!int 3\n", (Code.TAG, 1, 4)),
        ("a: ! 3\n", (Code.TAG, 1, 4)),
        ("!!map {a: 1}\n", (Code.TAG, 1, 1)),
        ("a: !!binary aGk=\n", (Code.TAG, 1, 4)),
        ("!!set {a, b}\n", (Code.TAG, 1, 1)),
        ("a: 1\na: 2\n", (Code.DUPLICATE_KEY, 2, 1)),
        ("a: {b: 1, 'b': 2}\n", (Code.DUPLICATE_KEY, 1, 11)),
        ("? [x]\n: 1\n", (Code.KEY_TYPE, 1, 3)),
        ("", (Code.EMPTY, 1, 1)),
        ("# only this\n", (Code.EMPTY, 1, 1)),
        ("null\n", (Code.EMPTY, 1, 1)),
        ("a: &x [*x]\n", (Code.ALIAS, 1, 4)),
        ("a: &x {b: *x}\n", (Code.ALIAS, 1, 4)),
    ],
)
def test_a_hostile_text_is_refused_with_its_place(text: str, fault: tuple[Code, int, int]) -> None:
    assert fault in _refused(text)


def test_depth_is_refused_before_anything_recursive_sees_it() -> None:
    for deep in (40, 3_000, 100_000):
        assert _refused("a: " + "[" * deep) == [(Code.TOO_DEEP, 1, 3 + DEEPEST)]
    block = "".join(f"{' ' * depth}a:\n" for depth in range(200))
    assert _refused(block) == [(Code.TOO_DEEP, DEEPEST + 1, DEEPEST + 1)]


def test_a_document_as_deep_as_allowed_is_read() -> None:
    assert plain(_one("a: " + "[" * (DEEPEST - 1) + "]" * (DEEPEST - 1)))


def test_an_alias_bomb_is_refused() -> None:
    laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert _refused(laughs) == [(Code.ALIAS, 3, 11)]


def test_a_few_aliases_cannot_multiply_a_large_document() -> None:
    large = ",".join("x" for _ in range(20_000))
    (fault,) = _refused(f"a: &a [{large}]\nb: &b [*a, *a]\nc: [*b, *b]\n")
    assert fault[0] is Code.ALIAS


def test_a_large_document_is_refused() -> None:
    assert _refused("a: " + "x" * LONGEST) == [(Code.TOO_LARGE, 1, 1)]
    assert _refused("a: " + "é" * (LONGEST // 2)) == [(Code.TOO_LARGE, 1, 1)]


def test_all_duplicates_and_tags_come_at_once() -> None:
    assert _refused("a: 1\nb: !x 2\na: 3\nb: 4\n") == [
        (Code.TAG, 2, 4),
        (Code.DUPLICATE_KEY, 3, 1),
        (Code.DUPLICATE_KEY, 4, 1),
    ]


def _faults(text: str) -> tuple[Diagnostic, ...]:
    try:
        parse(text, "x.yaml")
    except CompileError as error:
        return error.diagnostics
    return ()


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    assert all(each.span.line >= 1 and each.span.column >= 1 for each in _faults(text))


@given(st.text(alphabet="ab:-[]{}&*!|>'\"#%@,? \n\t", max_size=60))
def test_any_text_of_yaml_signs_is_read_or_refused(text: str) -> None:
    assert all(each.message for each in _faults(text))
