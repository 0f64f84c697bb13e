"""Templates: hostile values fill their place and never change the shape of what they stand in."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsl.codes import Code
from dsl.expressions import ExpressionError, compile_template
from tests.dsl.expressions.session import SCHEMA, Session, schema_of

_HOSTILE = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=30),
    st.sampled_from(
        [
            'x","admin":true,"z":"',
            "\\",
            '\\"',
            '"}',
            "\n\r\t\x00\x1f\x7f",
            "\u2028\u2029",
            "</script>",
            "{{a}}",
            "${X}",
            "'; drop",
            "null",
        ]
    ),
)
_SETTINGS = settings(max_examples=300, deadline=None, derandomize=True, database=None)
_NESTED = schema_of(
    [
        ("s", pa.string()),
        ("n", pa.int64()),
        (
            "v",
            pa.struct(
                [("x", pa.float64()), ("l", pa.list_(pa.float64())), ("t", pa.timestamp("us")), ("s", pa.string())]
            ),
        ),
    ]
)


def _render(session: Session, template: str, context: Any, row: dict[str, Any], schema: pa.Schema = SCHEMA) -> Any:
    compiled = compile_template(template, schema, context)
    return session.column(compiled, pa.Table.from_pylist([row], schema=schema))[0].as_py()


def _strict(text: str) -> Any:
    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@_SETTINGS
@given(email=st.none() | _HOSTILE)
def test_the_example_of_the_design(session: Session, email: str | None) -> None:
    text = _render(session, '{"email": "{{user.email}}"}', "json", {"user": {"email": email}})
    assert _strict(text) == {"email": email or ""}


@_SETTINGS
@given(
    s=st.none() | _HOSTILE,
    n=st.none() | st.integers(-(2**63), 2**63 - 1),
    x=st.none() | st.floats(),
    many=st.none() | st.lists(st.none() | st.floats(), max_size=3),
)
def test_values_and_texts_in_json(
    session: Session, s: str | None, n: int | None, x: float | None, many: list[float | None] | None
) -> None:
    template = (
        '{"a": {{ s }}, "b": ["{{s}}-{{n}}", {{n}}], "c": {{ v }}, "d\\"{": {{ n > 0 }}, "e": {{ concat(s, s) }}}'
    )
    row = {"s": s, "n": n, "v": {"x": x, "l": many, "t": datetime(2024, 2, 29, 1, 2, 3), "s": s}}  # noqa: DTZ001 - a timestamp without zone
    found = _strict(_render(session, template, "json", row, _NESTED))

    def plain(value: float | None) -> float | None:
        return value if value is not None and math.isfinite(value) else None

    nested = {
        "x": plain(x),
        "l": None if many is None else [plain(each) for each in many],
        "t": "2024-02-29T01:02:03.000000",
        "s": s,
    }
    assert found == {
        "a": s, "b": [f"{s or ''}-{'' if n is None else n}", n], "c": nested, 'd"{': None if n is None else n > 0, "e": (s or "") * 2,
    }  # fmt: skip


@_SETTINGS
@given(s=_HOSTILE, t=_HOSTILE)
def test_values_in_urls(session: Session, s: str, t: str) -> None:
    url = _render(session, "https://api.example.com/v1/{{s}}/x?q={{t}}&r=1#{{s}}", "url", {"s": s, "t": t})
    if not s.strip("."):
        assert url is None
        return
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc) == ("https", "api.example.com")
    assert [unquote(each, errors="strict") for each in parts.path.split("/")] == ["", "v1", s, "x"]
    assert parse_qs(parts.query, keep_blank_values=True) == {"q": [t], "r": ["1"]}
    assert unquote(parts.fragment) == s


@_SETTINGS
@given(s=st.none() | _HOSTILE)
def test_values_in_texts_stay_in_their_line(session: Session, s: str | None) -> None:
    text = _render(session, "to: {{s}}\nend", "text", {"s": s})
    head, end = text.split("\n")
    assert end == "end"
    assert head == "to: " + "".join(" " if ord(each) < 32 or ord(each) == 127 else each for each in s or "")


def test_a_path_without_its_value_is_no_url(session: Session) -> None:
    for value in (None, "", ".", ".."):
        assert _render(session, "https://h/users/{{s}}", "url", {"s": value}) is None
    assert _render(session, "https://h/users?name={{s}}", "url", {"s": None}) == "https://h/users?name="
    assert _render(session, "https://h/users/{{a}}", "url", {"a": 7}) == "https://h/users/7"


def test_moments_are_rfc_3339(session: Session) -> None:
    row = {"tz": datetime(2024, 2, 29, 13, 14, 15, 123456, UTC)}
    assert _render(session, '{"at": {{tz}}, "in": "{{tz}}"}', "json", row) == (
        '{"at": "2024-02-29T13:14:15.123456Z", "in": "2024-02-29T13:14:15.123456Z"}'
    )
    assert "2024-02-29T13%3A14%3A15.123456Z" in _render(session, "https://h/?t={{tz}}", "url", row)


def test_json_stays_json(session: Session) -> None:
    assert _render(session, '{"v": {{ cast(s as json) }}}', "json", {"s": '{"a": [1]}'}) == '{"v": {"a":[1]}}'
    assert _strict(_render(session, '{"v": {{ s }}}', "json", {"s": '{"a": [1]}'})) == {"v": '{"a": [1]}'}


def test_braces_and_quotes_inside_an_expression(session: Session) -> None:
    assert (
        _render(session, "{{ '}}' }}{{'{{'}} { } {x} {{ concat(s, \"'}}\") }}", "text", {"s": "v"})
        == "}}{{ { } {x} v'}}"
    )
    assert _render(session, '{"a": {"b": {{a}}}}', "json", {"a": 1}) == '{"a": {"b": 1}}'


def test_without_expressions_it_is_the_text(session: Session) -> None:
    assert _render(session, "https://h/x'y", "url", {}) == "https://h/x'y"
    assert _render(session, "", "text", {}) == ""


def test_what_a_template_says_about_itself() -> None:
    compiled = compile_template('{"a": "{{user.email}}", "b": {{ date_diff(\'day\', tz, now()) }}}', SCHEMA, "json")
    assert [each if isinstance(each, str) else each.text for each in compiled.parts] == [
        '{"a": "', "user.email", '", "b": ', "date_diff('day', tz, now())", "}",
    ]  # fmt: skip
    assert compiled.columns == {"user", "tz"}
    assert compiled.paths == {("user", "email"), ("tz",)}
    assert compiled.uses_now
    assert not compiled.total
    assert compile_template('{"a": "{{user.email}}"}', SCHEMA, "json").total


@pytest.mark.parametrize(
    ("template", "context", "code", "index"),
    [
        ('{"a": {{ usr.email }}}', "json", Code.UNKNOWN_FIELD, 9),
        ('{"a": {{ user.emial }}}', "json", Code.UNKNOWN_FIELD, 14),
        ("{{ a +* }}", "text", Code.EXPRESSION_SYNTAX, 6),
        ("{{ }}", "text", Code.TEMPLATE, 0),
        ("x {{ a", "text", Code.TEMPLATE, 2),
        ("{{ a }} {{ b", "text", Code.TEMPLATE, 8),
        ("{% if p %}x{% endif %}", "text", Code.TEMPLATE, 0),
        ("{# c #}", "text", Code.TEMPLATE, 0),
        ("{{ select 1 }}", "text", Code.EXPRESSION_FORBIDDEN, 3),
        ("{{ a; b }}", "text", Code.EXPRESSION_FORBIDDEN, 4),
        ("{{ user }}", "text", Code.TEMPLATE, 3),
        ('{"a": "{{ user }}"}', "json", Code.TEMPLATE, 10),
        ("{{{s}}: 1}", "json", Code.TEMPLATE, 0),
        ("{ {{s}}: 1}", "json", Code.TEMPLATE, 2),
        ('{"{{s}}": 1}', "json", Code.TEMPLATE, 2),
        ('{"x{{s}}y": 1}', "json", Code.TEMPLATE, 3),
        ('{"a": 1{{a}}}', "json", Code.TEMPLATE, 7),
        ('{"a": {{a}}{{b}}}', "json", Code.TEMPLATE, 6),
        ('{"a": {{a}}', "json", Code.TEMPLATE, 6),
        ('{"a": "{{a}}}', "json", Code.TEMPLATE, 7),
        ('{"a": 1, "a": {{a}}}', "json", Code.TEMPLATE, 14),
        ('{"a": NaN, "b": {{a}}}', "json", Code.TEMPLATE, 16),
        ("{{ s }}", "url", Code.TEMPLATE, 0),
        ("https://{{s}}/x", "url", Code.TEMPLATE, 8),
        ("https://h{{s}}/x", "url", Code.TEMPLATE, 9),
        ("https://h:{{a}}/x", "url", Code.TEMPLATE, 10),
        ("{{s}}://h/x", "url", Code.TEMPLATE, 0),
        ("//h/{{s}}", "url", Code.TEMPLATE, 4),
        ("/x/{{s}}", "url", Code.TEMPLATE, 3),
    ],
)
def test_templates_that_are_refused(template: str, context: Any, code: Code, index: int) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_template(template, SCHEMA, context)
    assert (caught.value.code, caught.value.index) == (code, index), str(caught.value)
