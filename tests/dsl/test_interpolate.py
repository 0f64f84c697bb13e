"""Variables and secrets in documents: what they become, what is refused, and that no value changes a document's shape."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsl.codes import Code
from dsl.compile import compile_text
from dsl.contracts.secret import Secret
from dsl.diagnostics import CompileError, Diagnostics
from dsl.document import Map, parse, plain
from dsl.interpolate import Reference, interpolate
from tests.dsl.catalog import CATALOG, ShopSource

SET = {"A": "one", "EMPTY": "", "SECRET": "hunter2"}


def _value(text: str) -> tuple[object, list[Code]]:
    found = Diagnostics()
    (node,) = parse(f"key: '{text}'\n", "x.yaml")
    read = plain(interpolate(node, SET, found))
    assert isinstance(read, dict)
    return read["key"], [each.code for each in found.found]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}", "one"),
        ("a ${A} b ${A}", "a one b one"),
        ("${A:-two}", "one"),
        ("${B:-two}", "two"),
        ("${B:two}", "two"),
        ("${B:-}", ""),
        ("${EMPTY:-two}", "two"),
        ("${EMPTY}", ""),
        ("${B:-a:b-c?d}", "a:b-c?d"),
        ("${A:?why}", "one"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("$A {A} $", "$A {A} $"),
        ("${B:-${A}}", None),
    ],
)
def test_a_reference_becomes_its_value(text: str, value: object) -> None:
    read, codes = _value(text)
    if value is None:
        assert codes
    else:
        assert (read, codes) == (value, [])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("${B}", Code.VARIABLE_MISSING),
        ("${B:?why}", Code.VARIABLE_MISSING),
        ("${EMPTY:?why}", Code.VARIABLE_MISSING),
        ("${", Code.VARIABLE_SYNTAX),
        ("${}", Code.VARIABLE_SYNTAX),
        ("${A", Code.VARIABLE_SYNTAX),
        ("${a b}", Code.VARIABLE_SYNTAX),
        ("${A-B}", Code.VARIABLE_SYNTAX),
        ("${secret:}", Code.VARIABLE_SYNTAX),
        ("${secret:vault}", Code.VARIABLE_SYNTAX),
        ("${secret:vault/}", Code.VARIABLE_SYNTAX),
        ("${secret:vault/a#}", Code.VARIABLE_SYNTAX),
    ],
)
def test_what_cannot_be_resolved_is_noted(text: str, code: Code) -> None:
    assert _value(text)[1] == [code]


def test_every_missing_variable_has_its_place() -> None:
    found = Diagnostics()
    (node,) = parse('a: "x ${B} ${C}"\nb: ["${D}"]\nc: |\n  ${E}\n', "x.yaml")
    interpolate(node, {}, found)
    places = [(each.message.split()[2], each.span.line, each.span.column) for each in found.found]
    assert places == [("B", 1, 7), ("C", 1, 12), ("D", 2, 6), ("E", 3, 4)]


@given(st.text())
def test_no_value_changes_the_shape_of_a_document(value: str) -> None:
    (node,) = parse('a: "${X}"\nb: [1, "${X}", 3]\n', "x.yaml")
    read = plain(interpolate(node, {"X": value}, Diagnostics()))
    assert read == {"a": value, "b": [1, value, 3]}


def _source(password: str, environment: dict[str, str]) -> ShopSource:
    text = f"""
workflow:
  name: nightly
  source: {{type: shop, config: {{host: db.example.com, table: orders, password: '{password}'}}}}
  destination: {{type: lake}}
"""
    (compiled,) = compile_text(text, "x.yaml", catalog=CATALOG, environment=environment)
    options = compiled.bound.node("source").options
    assert isinstance(options, ShopSource)
    return options


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("${SECRET}", Secret("${SECRET}")),
        ("Bearer ${SECRET}", Secret("Bearer ${SECRET}")),
        ("${secret:vault/shop#password}", Secret("${secret:vault/shop#password}")),
        ("${SECRET:-fallback}", Secret("${SECRET}")),
        ("${UNSET:-fallback}", Secret("fallback", literal=True)),
        ("hunter2", Secret("hunter2", literal=True)),
        ("a$${b}", Secret("a${b}", literal=True)),
        ("12", Secret("12", literal=True)),
    ],
)
def test_a_secret_keeps_its_reference_and_never_its_value(text: str, secret: Secret) -> None:
    options = _source(text, SET)
    assert options.connection.password == secret
    assert "hunter2" not in repr(options)
    assert "fallback" not in repr(options)


def test_no_fault_shows_what_a_variable_holds() -> None:
    text = """
workflow:
  name: nightly
  source: {type: shop, config: {host: [a], port: "${SECRET}", tls: "${SECRET}", table: orders, login: "${SECRET}", verify: "${SECRET}"}}
  destination: {type: shop, config: {host: a, table: b, write_mode: "${SECRET}", "${SECRET}": 1}}
"""
    with pytest.raises(CompileError) as caught:
        compile_text(text, "x.yaml", catalog=CATALOG, environment=SET)
    assert len(caught.value.diagnostics) == 7
    assert "hunter2" not in str(caught.value)


def test_keys_are_no_place_for_references() -> None:
    (node,) = parse("'${A}': 1\n", "x.yaml")
    assert plain(interpolate(node, SET, Diagnostics())) == {"${A}": 1}


def test_a_tree_without_references_stays_as_it_is() -> None:
    (node,) = parse("a: {b: [x, 1]}\n", "x.yaml")
    read = interpolate(node, {}, Diagnostics())
    assert read == node
    assert isinstance(read, Map)
    assert not isinstance(read.entries[0].value, Reference)
