"""The checker's types are DuckDB's: every operator and function over every pair of types that the checker lets through."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import pyarrow as pa
import pytest

from dsl.codes import Code
from dsl.expressions import Compiled, ExpressionError, compile_value, parse_type
from dsl.expressions.functions import FUNCTIONS
from dsl.expressions.types import TYPE_NAMES, exported
from tests.dsl.expressions.samples import LITERALS, SCHEMA, TYPES, calls
from tests.dsl.expressions.session import NOW, Session, schema_of

_FITS = {Code.EXPRESSION_TYPE, Code.ARGUMENTS}


def _compiled(texts: Iterable[str]) -> list[Compiled]:
    found = []
    for each in texts:
        try:
            found.append(compile_value(each, SCHEMA))
        except ExpressionError as error:
            if error.code not in _FITS:
                raise
    return found


def _check(session: Session, texts: Iterable[str], least: int) -> None:
    compiled = _compiled(texts)
    assert len(compiled) >= least
    session.db.register("input", SCHEMA.empty_table())
    for start in range(0, len(compiled), 200):
        part = compiled[start : start + 200]
        listed = ", ".join(f'{each.sql} AS "{n}"' for n, each in enumerate(part))
        parameters = {"now": NOW} if any(each.uses_now for each in part) else None
        schema = session.db.sql(f"SELECT {listed} FROM input", params=parameters).to_arrow_table().schema
        wrong = [
            f"{each.text}: {each.type}, DuckDB {field.type} ({each.sql})"
            for each, field in zip(part, schema, strict=True)
            if each.type != field.type
        ]
        assert not wrong, "\n".join(wrong)


def test_columns_pass_through(session: Session) -> None:
    _check(session, TYPES, len(TYPES))


@pytest.mark.parametrize("sign", ["+", "-", "*", "/", "%"])
def test_arithmetic(session: Session, sign: str) -> None:
    operands = [*TYPES, *LITERALS]
    _check(session, (f"{a} {sign} {b}" for a, b in product(operands, operands)), 150)


@pytest.mark.parametrize("sign", ["=", "!=", "<", ">="])
def test_comparisons(session: Session, sign: str) -> None:
    operands = [*TYPES, *LITERALS]
    _check(session, (f"{a} {sign} {b}" for a, b in product(operands, operands)), 150)


def test_arms(session: Session) -> None:
    operands = [*TYPES, *LITERALS]
    for form in (
        "case when b then {} else {} end",
        "coalesce({}, {})",
        "if(b, {}, {})",
        "greatest({}, {})",
        "nullif({}, {})",
    ):
        _check(session, (form.format(a, c) for a, c in product(operands, operands) if not a == c == "null"), 150)


def test_membership(session: Session) -> None:
    operands = [*TYPES, *LITERALS]
    _check(session, (f"{a} in ({b}, {b})" for a, b in product(operands, operands)), 150)
    _check(session, (f"{a} between {b} and {b}" for a, b in product(operands, operands)), 150)


def test_signs_and_tests(session: Session) -> None:
    _check(session, (f"-{each}" for each in TYPES), 8)
    _check(session, (f"{each} is not null" for each in TYPES), len(TYPES))


def test_casts(session: Session) -> None:
    targets = [*TYPE_NAMES, "decimal(4,2)", "decimal(38,10)", "string[]", "int64[]"]
    texts = [
        f"{word}({a} as {target})"
        for word in ("cast", "try_cast")
        for a, target in product([*TYPES, *LITERALS], targets)
    ]
    _check(session, texts, 500)


def test_steps(session: Session) -> None:
    _check(session, ["l_i[0]", "l_s[-1]", "l_f[0]", "l_l[1]", "st.a", "st.b", "st['a']", "mp['k']", "mp.k"], 9)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_functions(session: Session, name: str) -> None:
    _check(session, calls(FUNCTIONS[name]), 1)


def test_rounding_keeps_the_digits_that_duckdb_keeps(session: Session) -> None:
    _check(session, (f"round({each}, {places})" for each in TYPES for places in (-2, -1, 0, 1, 2, 5)), 60)


def test_formats_with_a_zone_give_a_zone(session: Session) -> None:
    _check(session, ["strptime(s, '%Y %z')", "try_strptime(s, '%Y%%z')", "strptime(s, '%%%z')"], 3)
    assert compile_value("strptime(s, '%Y %z')", SCHEMA).type == pa.timestamp("us", tz="UTC")


def test_names_of_types() -> None:
    assert parse_type("Decimal(12, 3)") == pa.decimal128(12, 3)
    assert parse_type("integer") == pa.int64()
    assert parse_type("string[]") == pa.list_(pa.string())
    for wrong in ("decimal(39,2)", "decimal(3,4)", "varchar2", "", "[]", "struct"):
        with pytest.raises(ValueError, match=r"decimal|no type"):
            parse_type(wrong)


def test_unknown_fits_everything() -> None:
    schema = schema_of([("u", pa.null()), ("i", pa.int32())])
    for text in (
        "u.a.b[0]['x'] = 1",
        "u + 1 > 'x'",
        "lower(u)",
        "u in (1, 'x')",
        "cast(u as json)",
        "coalesce(u, i, 'x')",
        "-u",
        "u and i > 1",
    ):
        assert compile_value(text, schema).total is False, text
        compile_value(text, None)
    assert compile_value("u.a", schema).type == pa.null()
    assert compile_value("coalesce(u, i)", schema).type == pa.null()
    assert compile_value("u.a != null", schema).total


def test_exported_types_are_stable() -> None:
    for each in TYPES.values():
        assert exported(exported(each)) == exported(each)
