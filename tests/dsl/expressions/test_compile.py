"""What a compiled expression says about itself, and where errors point."""

from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pytest

from dsl.codes import Code
from dsl.expressions import ExpressionError, compile_condition, compile_value
from dsl.expressions.functions import FUNCTIONS
from dsl.expressions.reference import OPERATORS, functions, types
from tests.dsl.expressions.session import SCHEMA, Session


def test_the_first_example_of_the_design() -> None:
    compiled = compile_condition("user.email != null", SCHEMA)
    assert compiled.columns == {"user"}
    assert compiled.paths == {("user", "email")}
    assert compiled.total
    assert compiled.type == pa.bool_()
    assert not compiled.uses_now


@pytest.mark.parametrize(
    ("text", "columns", "paths"),
    [
        ("a + 1", {"a"}, {("a",)}),
        ("user.home.city", {"user"}, {("user", "home", "city")}),
        ("user.home.city = s or user = null", {"user", "s"}, {("user", "home", "city"), ("user",), ("s",)}),
        ("items[0].name", {"items"}, {("items",)}),
        ("labels['k']", {"labels"}, {("labels",)}),
        ("user['home'].city", {"user"}, {("user", "home", "city")}),
        ("1 + 1", set(), set()),
    ],
)
def test_what_is_read(text: str, columns: set[str], paths: set[tuple[str, ...]]) -> None:
    compiled = compile_value(text, SCHEMA)
    assert compiled.columns == columns
    assert compiled.paths == paths


@pytest.mark.parametrize(
    ("text", "code", "index", "words"),
    [
        ("user.emial != null", Code.UNKNOWN_FIELD, 5, "did you mean 'email'?"),
        ("a > 1 and usr.email = 'x'", Code.UNKNOWN_FIELD, 10, "did you mean 'user'?"),
        ("user.age > 1", Code.UNKNOWN_FIELD, 5, "case-sensitive: did you mean 'Age'?"),
        ("A = 1", Code.UNKNOWN_FIELD, 0, "case-sensitive: did you mean 'a'?"),
        ("user.home.town = 'x'", Code.UNKNOWN_FIELD, 10, "'user.home.town'"),
        ("a = 1 and lowr(s) = 'x'", Code.UNKNOWN_FUNCTION, 10, "did you mean 'lower'?"),
        ("p or (a = 'x')", Code.EXPRESSION_TYPE, 10, "cast(… as int64)"),
        ("s + t", Code.EXPRESSION_TYPE, 0, "concat(a, b)"),
        ("items.name = 'x'", Code.EXPRESSION_TYPE, 6, "unnest"),
        ("s.name", Code.EXPRESSION_TYPE, 2, "json_extract_string(s, '$.name')"),
        ("a && s", Code.EXPRESSION_TYPE, 0, "compare it"),
        ("lower(a)", Code.ARGUMENTS, 6, "cast(… as string)"),
        ("round(x, a)", Code.ARGUMENTS, 9, "round(number, [places])"),
        ("left(s)", Code.ARGUMENTS, 0, "left(text, count)"),
        ("(a = 1", Code.EXPRESSION_SYNTAX, 0, "not closed"),
        ("a = 1)", Code.EXPRESSION_SYNTAX, 5, "closes nothing"),
        ("a = ", Code.EXPRESSION_SYNTAX, 4, "stops"),
        ("a =~ 'x'", Code.EXPRESSION_FORBIDDEN, 2, "regexp_matches"),
        ("p ? a : b", Code.EXPRESSION_FORBIDDEN, 2, "if(condition, a, b)"),
        ("s || t", Code.EXPRESSION_TYPE, 0, "'or' wants true or false"),
        ("sum(a)", Code.EXPRESSION_FORBIDDEN, 0, "aggregate node"),
        ("a > 1 and random() > 0.5", Code.EXPRESSION_FORBIDDEN, 10, "now()"),
        ("cast(a as intt64)", Code.EXPRESSION_TYPE, 10, "did you mean"),
        ("day >= '2024-1-1'", Code.EXPRESSION_TYPE, 7, "such as '2024-01-31'"),
        ("tz > at", Code.EXPRESSION_TYPE, 5, "cast(… as timestamptz)"),
    ],
)
def test_errors_point_and_help(text: str, code: Code, index: int, words: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_value(text, SCHEMA)
    assert (caught.value.code, caught.value.index) == (code, index)
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["a", "s", "user", "a + 1", "'true'", "now()"])
def test_a_condition_is_true_or_false(text: str) -> None:
    with pytest.raises(ExpressionError, match="a condition is true or false"):
        compile_condition(text, SCHEMA)


def test_fields_of_an_unknown_schema_fit() -> None:
    compiled = compile_condition("user.email != null && tags[0] = 'x' || n > 1", None)
    assert compiled.paths == {("user", "email"), ("tags",), ("n",)}
    assert compile_value("user.n", None).type == pa.null()


def test_what_can_fail() -> None:
    for text in (
        "a = b",
        "user.email != null",
        "concat(s, a)",
        "x / y",
        "coalesce(s, 'x')",
        "a % 7",
        "d + d",
        "try_cast(s as int64)",
        "l[9]",
    ):
        assert compile_value(text, SCHEMA).total, text
    for text in (
        "a + b",
        "-a",
        "a % b",
        "cast(s as int64)",
        "strptime(s, '%Y')",
        "d * d * d * d",
        "json_extract(s, '$.a')",
        "abs(a)",
    ):
        assert not compile_value(text, SCHEMA).total, text


def test_now_is_a_parameter() -> None:
    compiled = compile_value("date_diff('day', tz, now())", SCHEMA)
    assert compiled.uses_now
    assert "$now" in compiled.sql


def test_names_that_differ_in_case_only_are_refused() -> None:
    schema = pa.schema(
        [("Id", pa.int64()), ("id", pa.int64()), ("v", pa.struct([("K", pa.int64()), ("k", pa.int64())]))]
    )
    for text in ("id", "Id", "v.k"):
        with pytest.raises(ExpressionError, match="cannot be told apart"):
            compile_value(text, schema)


def test_names_in_capitals_stay_apart(session: Session) -> None:
    schema = pa.schema([("Id", pa.int64()), ("v", pa.struct([("K", pa.int64())]))])
    rows = pa.table({"Id": [1], "v": [{"K": 2}]}, schema=schema)
    assert session.column(compile_value("Id + v.K", schema), rows)[0].as_py() == 3
    for wrong in ("id", "ID", "v.k", "V.K"):
        with pytest.raises(ExpressionError, match="case-sensitive"):
            compile_value(wrong, schema)


@pytest.mark.parametrize("each", functions(), ids=lambda each: each.name)
def test_examples_of_functions_run(session: Session, each: object) -> None:
    from dsl.expressions.reference import FunctionReference

    assert isinstance(each, FunctionReference)
    compiled = compile_value(each.example, SCHEMA)
    assert each.name in each.example
    assert session.value(compiled) is not None or each.name.startswith(("try_", "nullif"))


@pytest.mark.parametrize("each", OPERATORS, ids=lambda each: each.spellings[0])
def test_examples_of_operators_run(session: Session, each: object) -> None:
    from dsl.expressions.reference import OperatorReference

    assert isinstance(each, OperatorReference)
    session.value(compile_value(each.example, SCHEMA))


def test_the_reference_is_complete() -> None:
    rows = functions()
    assert len(rows) == len(FUNCTIONS) + 2 >= 60
    assert all(each.doc.endswith(".") or "…" in each.doc for each in rows)
    assert dict(types())["integer"] == "int64"


def test_importing_reaches_neither_duckdb_nor_dagster() -> None:
    code = "import sys, dsl.expressions; print(sorted({'duckdb', 'dagster'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"
    )
