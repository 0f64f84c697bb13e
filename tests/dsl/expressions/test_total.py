"""An expression that is marked total never fails, whatever the row: every operator and function over the extremes of every type."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import product
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from dsl.expressions import Compiled, ExpressionError, compile_template, compile_value
from dsl.expressions.functions import FUNCTIONS
from tests.dsl.expressions.samples import LITERALS, SCHEMA, TYPES, calls
from tests.dsl.expressions.session import NOW, Session, schema_of

_ROWS = 60
_TEXTS = [
    None,
    "",
    "a",
    "12",
    "-1e400",
    "{",
    "[1]",
    "é\u0301\U0001f600",
    "\x00\x1f\x7f",
    "%_\\",
    "'\"",
    " x ",
    "2024-02-30",
    "x" * 300,
]
_FLOATS = [None, 0.0, -0.0, 1.5, -1.0, 1e308, -1e308, 5e-324, float("inf"), float("-inf"), float("nan")]


def _values(kind: pa.DataType) -> pa.Array[Any]:
    """The extremes of a type, with NULL."""
    if pa.types.is_integer(kind):
        bits, unsigned = kind.bit_width, pa.types.is_unsigned_integer(kind)
        low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return pa.array([None, low, high, 0, 1, high - 1, *([] if unsigned else [-1])], kind)
    if pa.types.is_float32(kind):
        return pa.array([None, 0.0, -1.5, 3.4e38, 1e-45, float("inf"), float("nan")], kind)
    if pa.types.is_floating(kind):
        return pa.array(_FLOATS, kind)
    if pa.types.is_decimal(kind):
        most = Decimal((0, (9,) * kind.precision, -kind.scale))
        return pa.array([None, most, most.copy_negate(), Decimal(0)], kind)
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        return _moments(kind)
    return _others(kind)


def _moments(kind: Any) -> pa.Array[Any]:
    if pa.types.is_date32(kind):
        return pa.array([None, 0, -1, 2**31 - 2, -(2**31) + 2, 19_782], pa.int32()).cast(kind)
    if pa.types.is_date64(kind):
        return pa.array([None, date(1970, 1, 1), date(9999, 12, 31), date(1, 1, 1)], kind)
    if pa.types.is_time(kind):
        return pa.array([None, 0, 86_399_999_999], pa.int64()).cast(kind)
    far = {"s": 9 * 10**12, "ms": 9 * 10**15, "us": 2**63 - 2, "ns": 2**63 - 2}[kind.unit]
    return pa.array([None, 0, -1, far, -far // 2, 1_709_212_455], pa.int64()).cast(kind)


def _others(kind: pa.DataType) -> pa.Array[Any]:
    samples: dict[pa.DataType, list[Any]] = {
        pa.bool_(): [None, True, False],
        pa.binary(): [None, b"", b"\x00\xff"],
        pa.month_day_nano_interval(): [None, (1, -2, 3), (0, 0, 0)],
        pa.json_(pa.string()): [None, "1", '{"a": [1, {"b": null}]}', '"x"', "null"],
        pa.uuid(): [None, b"\x00" * 16],
        pa.list_(pa.int32()): [None, [], [None, 1], [2**31 - 1]],
        pa.list_(pa.string()): [None, [], ["", None], ["a"]],
        pa.list_(pa.float64(), 2): [None, [1.0, None], [float("nan"), float("inf")]],
        pa.large_list(pa.int64()): [None, [], [2**63 - 1, None]],
        TYPES["st"]: [None, {"a": None, "b": '"'}, {"a": 1, "b": None}],
        TYPES["mp"]: [None, [], [("a", None)], [('"', 1)]],
    }
    return pa.array(samples.get(kind, _TEXTS), kind)


def _extremes() -> pa.Table:
    chosen = random.Random(7)
    columns = []
    for kind in TYPES.values():
        values = _values(pa.string() if kind == pa.string_view() else kind)
        places = [n % len(values) for n in range(_ROWS)]
        chosen.shuffle(places)
        columns.append(values.take(pa.array(places)).cast(kind))
    return pa.Table.from_arrays(columns, schema=SCHEMA)


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return _extremes()


def _failing(session: Session, rows: pa.Table, compiled: list[Compiled]) -> list[str]:
    """Evaluates all at once, and one by one only if that fails."""
    if not compiled:
        return []
    listed = ", ".join(f'{each.sql} AS "{n}"' for n, each in enumerate(compiled))
    session.db.register("input", rows)
    parameters = {"now": NOW} if any(each.uses_now for each in compiled) else None
    try:
        session.db.sql(f"SELECT {listed} FROM input", params=parameters).to_arrow_table()
    except duckdb.Error as error:
        if isinstance(error, duckdb.InternalException | duckdb.FatalException):
            session.connect()
        if len(compiled) == 1:
            return [f"{compiled[0].text}: {str(error).splitlines()[0]} ({compiled[0].sql})"]
        half = len(compiled) // 2
        return _failing(session, rows, compiled[:half]) + _failing(session, rows, compiled[half:])
    return []


def _total(texts: Iterable[str]) -> list[Compiled]:
    found = []
    for each in texts:
        try:
            compiled = compile_value(each, SCHEMA)
        except ExpressionError:
            continue
        if compiled.total:
            found.append(compiled)
    return found


def _check(session: Session, rows: pa.Table, texts: Iterable[str], least: int) -> None:
    compiled = _total(texts)
    assert len(compiled) >= least
    wrong = [
        each
        for start in range(0, len(compiled), 150)
        for each in _failing(session, rows, compiled[start : start + 150])
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("sign", ["+", "-", "*", "/", "%", "=", "!=", "<"])
def test_operators(session: Session, rows: pa.Table, sign: str) -> None:
    operands = [*TYPES, *LITERALS]
    _check(session, rows, (f"{a} {sign} {b}" for a, b in product(operands, operands)), 20)


@pytest.mark.parametrize(
    "form",
    ["case when b then {} else {} end", "coalesce({}, {})", "least({}, {})", "{} in ({}, null)", "nullif({}, {})"],
)
def test_choices(session: Session, rows: pa.Table, form: str) -> None:
    operands = [*TYPES, *LITERALS]
    _check(session, rows, (form.format(a, b) for a, b in product(operands, operands)), 100)


def test_casts(session: Session, rows: pa.Table) -> None:
    targets = ["string", "int8", "int64", "uint32", "float", "double", "decimal(10,2)", "decimal(38,10)", "boolean", "date", "timestamp",
               "timestamptz", "time", "json", "binary", "string[]"]  # fmt: skip
    _check(session, rows, (f"cast({a} as {each})" for a, each in product(TYPES, targets)), 60)
    _check(session, rows, (f"try_cast({a} as {each})" for a, each in product(TYPES, targets)), 200)


@pytest.mark.parametrize("name", sorted(name for name, each in FUNCTIONS.items() if each.total is not False))
def test_functions(session: Session, rows: pa.Table, name: str) -> None:
    _check(session, rows, calls(FUNCTIONS[name]), 1)


def test_parts_of_moments(session: Session, rows: pa.Table) -> None:
    parts = [
        "year",
        "quarter",
        "month",
        "week",
        "day",
        "dayofweek",
        "dayofyear",
        "hour",
        "minute",
        "second",
        "isodow",
        "isoyear",
    ]
    _check(
        session,
        rows,
        (f"date_part('{part}', {each})" for part, each in product(parts, ["day", "day64", "at", "at_ns", "tz"])),
        45,
    )


def test_steps_and_signs(session: Session, rows: pa.Table) -> None:
    texts = [
        "l_i[0]",
        "l_f[-1]",
        "l_l[7]",
        "st.a",
        "mp['k']",
        "-d42",
        "-f64",
        "round(d3810, 2)",
        "round(f64, -3)",
        "not b",
        "s like ls",
    ]
    _check(session, rows, texts, len(texts))


@pytest.mark.parametrize("context", ["json", "url", "text"])
def test_templates(session: Session, rows: pa.Table, context: Any) -> None:
    forms = {
        "json": ['{"a": {{%s}}}', '{"a": "{{%s}}"}'],
        "url": ["https://h/{{%s}}", "https://h/?q={{%s}}"],
        "text": ["{{%s}}"],
    }
    found = []
    for form, name in product(forms[context], TYPES):
        try:
            template = compile_template(form % name, SCHEMA, context)
        except ExpressionError:
            continue
        if template.total:
            found.append(Compiled(template.text, template.sql, pa.string()))
    assert len(found) >= 20
    assert not _failing(session, rows, found)


def test_what_is_marked_partial_does_fail(session: Session) -> None:
    table = pa.table(
        {"i": pa.array([2**63 - 1]), "s": ["x"], "d": pa.array([Decimal((0, (9,) * 38, 0))], pa.decimal128(38, 0))}
    )
    for text in (
        "i + 1",
        "i * 2",
        "-i - 2",
        "i % 0",
        "cast(s as int64)",
        "cast(i as int8)",
        "d + 1",
        "strptime(s, '%Y')",
        "json_extract(s, '$.a')",
    ):
        compiled = compile_value(text, table.schema)
        assert not compiled.total
        with pytest.raises(duckdb.Error):
            session.column(compiled, table)


def test_dates_that_no_timestamp_holds_are_partial() -> None:
    schema = schema_of([("day", pa.date32()), ("at", pa.timestamp("us")), ("tz", pa.timestamp("us", tz="UTC"))])
    assert not compile_value("day < at", schema).total
    assert compile_value("day < '2024-01-01' and at < '2024-01-01'", schema).total
    assert compile_value("tz < now()", schema).total
    assert datetime(2024, 1, 1, tzinfo=UTC) < NOW
