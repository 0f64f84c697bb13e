"""`mask`: what is hidden, for every type, at any depth; NULL stays NULL and nothing readable is left."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsl.contracts.errors import FatalError, SchemaError
from dsl.contracts.secret import Secret
from dsl.plan.physical import Apply
from dsl.processors.mask import MaskMethod, MaskOptions, MaskRule, Side
from engine.run import run_stage
from tests.engine.fakes import Table, Tape, context, numbers, scan, stage
from tests.engine.operators.opened import USERS, Workbench, secret, users

KEY = secret("a key that nobody guesses")


def masking(*rules: MaskRule) -> MaskOptions:
    return MaskOptions(rules=rules)


def hidden(bench: Workbench, values: list[Any], rule: MaskRule, kind: pa.DataType | None = None) -> list[Any]:
    """A column after one rule."""
    array: Any = pa.array(values, kind or pa.string())
    rows = pa.RecordBatch.from_arrays([array], names=["v"])
    done = bench.open(masking(rule), rows.schema).process(rows)
    assert (done.failed, done.filtered, done.expanded) == ((), 0, 0)
    assert done.passed.schema.field("v").type == (array.type if rule.method is MaskMethod.NULLIFY else pa.string())
    found: list[Any] = done.passed.column("v").to_pylist()
    return found


@pytest.mark.parametrize(
    ("rule", "shown"),
    [
        (MaskRule(field="v", method=MaskMethod.FULL), ["****", None, "****", "****", "****"]),
        (MaskRule(field="v", method=MaskMethod.FULL, replacement=""), ["", None, "", "", ""]),
        (MaskRule(field="v", method=MaskMethod.NULLIFY), [None] * 5),
        (MaskRule(field="v", method=MaskMethod.PARTIAL), ["ada****", None, "****", "****", "ü☃😀****"]),
        (MaskRule(field="v", method=MaskMethod.PARTIAL, side=Side.END), ["****com", None, "****", "****", "****☃😀!"]),
        (MaskRule(field="v", method=MaskMethod.PARTIAL, show_chars=0), ["****", None, "****", "****", "****"]),
        (MaskRule(field="v", method=MaskMethod.PARTIAL, show_chars=1, replacement="…"), ["a…", None, "…", "a…", "ü…"]),
    ],
)
def test_texts(bench: Workbench, rule: MaskRule, shown: list[Any]) -> None:
    assert hidden(bench, ["ada@example.com", None, "", "abc", "ü☃😀!"], rule) == shown


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.none() | st.text(max_size=8), min_size=1), st.integers(0, 9), st.sampled_from(Side))
def test_partial_never_shows_all_of_a_value(bench: Workbench, values: list[str | None], shown: int, side: Side) -> None:
    rule = MaskRule(field="v", method=MaskMethod.PARTIAL, show_chars=shown, side=side, replacement="*")
    for before, after in zip(values, hidden(bench, values, rule), strict=True):
        if before is None:
            assert after is None
            continue
        kept = shown if len(before) > shown else 0
        expected = before[:kept] + "*" if side is Side.START else "*" + (before[-kept:] if kept else "")
        assert after == expected


def test_a_hash_is_hmac_sha256_and_a_token_says_nothing_of_it(bench: Workbench) -> None:
    values = ["ada@example.com", "", None, "ada@example.com", "ü"]
    hashes = hidden(bench, values, MaskRule(field="v", method=MaskMethod.HASH, key=KEY))
    expected = [
        None if each is None else hmac.new(KEY.text.encode(), each.encode(), hashlib.sha256).hexdigest()
        for each in values
    ]
    assert hashes == expected
    tokens = hidden(bench, values, MaskRule(field="v", method=MaskMethod.TOKENISE, key=KEY))
    assert [each is None for each in tokens] == [each is None for each in values]
    assert tokens[0] == tokens[3] != tokens[1]
    assert {len(each) for each in tokens if each} == {22}
    raw = [bytes.fromhex(each) for each in hashes if each]
    assert not any(base64.urlsafe_b64decode(each + "==") in whole for each in tokens if each for whole in raw)


def test_another_key_gives_other_hashes(bench: Workbench) -> None:
    made = {
        tuple(hidden(bench, ["a"], MaskRule(field="v", method=method, key=secret(key))))
        for method in (MaskMethod.HASH, MaskMethod.TOKENISE)
        for key in ("one key", "another")
    }
    assert len(made) == 4


TYPES: list[tuple[Any, pa.DataType, str]] = [
    (5, pa.int64(), "5"), (2**64 - 1, pa.uint64(), "18446744073709551615"), (True, pa.bool_(), "true"), (0.5, pa.float64(), "0.5"),
    (Decimal("12.50"), pa.decimal128(10, 2), "12.50"), (dt.date(2026, 1, 31), pa.date32(), "2026-01-31"), (b"ab\0", pa.binary(), "ab\\x00"),
    (dt.datetime(2026, 1, 31, 1, 2, 3, tzinfo=dt.UTC), pa.timestamp("us", tz="UTC"), "2026-01-31 01:02:03+00"),
    (["a", None], pa.list_(pa.string()), "[a, NULL]"), ("x", pa.large_string(), "x"), ("x", pa.string_view(), "x"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "kind", "text"), TYPES)
@pytest.mark.parametrize("method", MaskMethod)
def test_every_type_is_hidden_by_its_text(
    bench: Workbench, value: Any, kind: pa.DataType, text: str, method: MaskMethod
) -> None:
    after = hidden(bench, [value, None], MaskRule(field="v", method=method, key=KEY, show_chars=1), kind)
    expected = {
        MaskMethod.NULLIFY: None,
        MaskMethod.FULL: "****",
        MaskMethod.PARTIAL: f"{text[:1]}****" if len(text) > 1 else "****",
        MaskMethod.HASH: hmac.new(KEY.text.encode(), text.encode(), hashlib.sha256).hexdigest(),
    }
    assert after[1] is None
    assert method is MaskMethod.TOKENISE or after[0] == expected[method]


def test_a_dictionary_is_hidden_too(bench: Workbench) -> None:
    rows = pa.RecordBatch.from_arrays([pa.array(["a", "b", None, "a"]).dictionary_encode()], names=["v"])
    rule = MaskRule(field="v", method=MaskMethod.FULL)
    assert bench.open(masking(rule), rows.schema).process(rows).passed.column("v").to_pylist() == [
        "****",
        "****",
        None,
        "****",
    ]


def test_nested_fields_keep_their_siblings(bench: Workbench) -> None:
    card = pa.struct([pa.field("no", pa.int64()), pa.field("of", pa.string())])
    kind = pa.struct([pa.field("email", pa.string()), pa.field("card", card)])
    schema = pa.schema([pa.field("id", pa.int64()), pa.field("user", kind)])
    people = [{"email": "ada@x", "card": {"no": 4111, "of": "Ada"}}, None, {"email": None, "card": None}]
    rows = pa.RecordBatch.from_pylist([{"id": n, "user": each} for n, each in enumerate(people)], schema=schema)
    rules = (
        MaskRule(field="user.email", method=MaskMethod.PARTIAL, show_chars=1),
        MaskRule(field="user.card.no", method=MaskMethod.FULL),
        MaskRule(field="id", method=MaskMethod.NULLIFY),
    )
    done = bench.open(masking(*rules), schema).process(rows.slice(0))
    assert done.passed.to_pylist() == [
        {"id": None, "user": {"email": "a****", "card": {"no": "****", "of": "Ada"}}},
        {"id": None, "user": None},
        {"id": None, "user": {"email": None, "card": None}},
    ]


def test_a_whole_struct_is_hidden(bench: Workbench) -> None:
    rule = MaskRule(field="user", method=MaskMethod.HASH, key=KEY)
    done = bench.open(masking(rule), USERS).process(users("ada@x", "ada@x", "bob@x"))
    first, second, third = done.passed.column("user").to_pylist()
    assert first == second != third


def test_a_field_that_is_not_there_is_an_error_not_a_leak(bench: Workbench) -> None:
    for field in ("User.email", "user.Email", "user.email.x", "mail"):
        with pytest.raises(SchemaError, match="case-sensitive"):
            bench.open(masking(MaskRule(field=field, method=MaskMethod.FULL)), USERS)


def test_an_empty_key_is_refused(bench: Workbench) -> None:
    rule = MaskRule(field="id", method=MaskMethod.HASH, key=Secret("${KEY}"))
    with pytest.raises(FatalError, match="empty"):
        bench.open(masking(rule), USERS, reveal=lambda _: "")


def test_a_key_that_nobody_can_resolve_is_refused(bench: Workbench) -> None:
    with pytest.raises(FatalError, match="store of secrets"):
        bench.open(masking(MaskRule(field="id", method=MaskMethod.HASH, key=Secret("${KEY}"))), USERS)


def test_a_million_values_are_hashed_once_each(bench: Workbench) -> None:
    """Ten values, a million rows: the work is that of ten."""
    rows = pa.RecordBatch.from_arrays([pa.array([str(n % 10) for n in range(1_000_000)])], names=["v"])
    done = bench.open(masking(MaskRule(field="v", method=MaskMethod.HASH, key=KEY)), rows.schema).process(rows)
    assert len(done.passed.column("v").unique()) == 10


def test_in_a_stage_nothing_readable_arrives(tmp_path: Path) -> None:
    table = Table()
    rules = masking(
        MaskRule(field="text", method=MaskMethod.FULL), MaskRule(field="id", method=MaskMethod.HASH, key=KEY)
    )
    report = run_stage(stage(Apply("mask", scan(Tape(numbers(20))), rules, None), table), context(tmp_path))
    assert report.reconciliation.balanced
    assert {each["text"] for each in table.rows()} == {"****"}
    assert len({each["id"] for each in table.rows()}) == 20
