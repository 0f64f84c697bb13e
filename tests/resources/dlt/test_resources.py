"""What resources of dlt may yield and keep, and what comes of it: types, refused rows, state, faults, secrets."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import uuid
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from dsl.codes import Code
from dsl.compile import compile_text
from dsl.contracts.capabilities import SyncMode
from dsl.contracts.connectors import ReadRequest
from dsl.contracts.errors import FatalError, RetryableError, SchemaError
from dsl.contracts.rows import Batch, Rejection
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError
from dsl.contracts.state import State, is_complete
from dsl.diagnostics import CompileError
from resources.dlt.resource import DltConnection, DltSource
from resources.registry import InstalledCatalog
from resources.testing import CANARY
from tests.resources.dlt.shop import GIVEN

SHOP = "tests.resources.dlt.shop"


@pytest.fixture(autouse=True)
def _allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_ALLOW_PYTHON", "1")


def source(name: str, *, options: dict[str, Any] | None = None, **arguments: Any) -> DltSource:
    return DltSource(connection=DltConnection(source=f"{SHOP}:{name}", arguments=arguments), **(options or {}))


def yielding(*items: Any, **options: Any) -> DltSource:
    GIVEN["items"] = list(items)
    return source("anything", options=options)


def read(given: Any, state: State | None = None, **request: Any) -> tuple[list[Batch], list[Rejection]]:
    """Reads to the end; returns the batches, and what was refused."""
    with given.read(ReadRequest(**request), state) as reader:
        return list(reader), list(reader.rejections())


def rows_of(batches: list[Batch]) -> list[dict[str, Any]]:
    return [row for each in batches for row in each.rows.to_pylist()]


def test_values_keep_their_kinds() -> None:
    number = uuid.UUID(int=1)
    row = {
        "flag": True,
        "count": 2**63 - 1,
        "huge": 2**70,
        "ratio": 0.1,
        "price": decimal.Decimal("123.4500000001"),
        "name": "ünï 😀",
        "raw": b"\x00\xff",
        "day": dt.date(2026, 2, 28),
        "at": dt.datetime(2026, 1, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        "local": dt.datetime(2026, 1, 1, 2, 0, 0, 1),  # noqa: DTZ001 - without a zone on purpose
        "time": dt.time(23, 59, 59, 999999),
        "id": number,
        "nested": {"a": [1, decimal.Decimal("1.10")], "at": dt.date(2026, 1, 1)},
        "empty": None,
    }
    (found,) = rows_of(read(yielding(row))[0])
    changed = {"id": str(number), "nested": '{"a":[1,"1.10"],"at":"2026-01-01"}'}
    assert found == {**row, **changed}
    assert found["flag"] is True


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("no row", "it is text, not a dictionary"),
        ({"id": 1, "other": 2}, "column 'other' is not in the first rows"),
        ({"id": "2"}, "text is not int64"),
        ({"id": True}, "boolean is not int64"),
        ({"id": 1.0}, "float is not int64"),
        ({"id": 2**63}, "column 'id'"),
        ({"at": dt.datetime(2026, 1, 1)}, "timestamp is not timestamp[us, tz=UTC]"),  # noqa: DTZ001
        ({"price": decimal.Decimal("1.00000000001")}, "column 'price'"),
        ({"name": object()}, "object has no form in JSON"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_rest_arrives(item: Any, reason: str) -> None:
    first = {"id": 1, "at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "price": decimal.Decimal("1.5"), "name": "x"}
    batches, refused = read(yielding(first, item, {"id": 3}, infer_rows=1))
    assert [row["id"] for row in rows_of(batches)] == [1, 3]
    (rejection,) = refused
    assert reason in rejection.reason
    assert rejection.row.column("row").to_pylist() == [2]
    assert batches[-1].state is not None
    assert batches[-1].state["records_read"] == 3


def test_tables_and_frames_come_as_they_are() -> None:
    table = pa.table({"a": pa.array([1, 2, 3], pa.int32()), "b": [None, "x", "y"]})
    frame = pd.DataFrame({"b": ["z"], "a": [4]})
    batches, _ = read(yielding(table, frame, {"a": 5}), batch_rows=2)
    assert [row["a"] for row in rows_of(batches)] == [1, 2, 3, 4, 5]
    assert batches[0].rows.schema.field("a").type == pa.int32()
    assert max(each.rows.num_rows for each in batches) == 2
    with pytest.raises(SchemaError, match="'a' does not fit int32"):
        read(yielding(table, pa.table({"a": [2**40]})))


def test_incremental_goes_on_where_the_last_run_ended(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([{"id": at, "at": at} for at in range(5)]))
    growing = source("growing", path=str(file))
    first, _ = read(growing, batch_rows=2)
    assert [each.state is None for each in first] == [True, True, False], (
        "rows come in any order: no state before the end"
    )
    state = json.loads(json.dumps(first[-1].state))
    assert rows_of(read(growing, state)[0]) == [], "the boundary is not delivered twice"
    file.write_text(json.dumps([{"id": at, "at": at} for at in (4, 5, 6)] + [{"id": 9, "at": 4}]))
    second, _ = read(growing, state)
    assert sorted(row["id"] for row in rows_of(second)) == [5, 6, 9]
    assert not is_complete(second[-1].state)
    assert sorted(row["id"] for row in rows_of(read(growing, state)[0])) == [5, 6, 9], "a state is not used up by a run"
    anew = source("growing", path=str(file), options={"sync_mode": SyncMode.FULL_REFRESH})
    whole, _ = read(anew, state)
    assert (len(rows_of(whole)), is_complete(whole[-1].state)) == (4, True)


def test_a_resource_that_notes_before_it_yields_loses_nothing() -> None:
    """A state asked of it in the middle would say that a page is done whose rows are still on their way."""
    batches, _ = read(source("noting", pages=4), batch_rows=2)
    assert len(rows_of(batches)) == 12
    assert [each.state is None for each in batches] == [True] * (len(batches) - 1) + [False]
    more, _ = read(source("noting", pages=6), batches[-1].state)
    assert {row["page"] for row in rows_of(more)} == {4, 5}


def test_one_of_several_resources_is_named() -> None:
    connection = DltConnection(source=f"{SHOP}:two", arguments={"token": "t"})
    assert rows_of(read(DltSource(connection=connection, resource="a"))[0]) == [{"a": "t"}]
    assert rows_of(read(DltSource(connection=connection, resource="b"))[0]) == [{"b": 1}, {"b": 2}]
    with pytest.raises(SchemaError, match="several resources: a, b"):
        DltSource(connection=connection).discover_schema()
    with pytest.raises(SchemaError, match="no resource 'c'"):
        DltSource(connection=connection, resource="c").discover_schema()
    assert [each.name for each in connection.discover()] == ["a", "b"]
    assert connection.check().details == "resources: a, b"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (f"{SHOP}:nowhere", "it is NoneType, not a source"),
        (f"{SHOP}:nothing", "it is int, not a source"),
        ("no.such.module:f", "No module named 'no'"),
        (f"{SHOP}:two", "Missing 1 field"),
        (f"{SHOP}:of_file", "path"),
    ],
)
def test_what_is_no_source_is_said(path: str, message: str) -> None:
    connection = DltConnection(source=path)
    with pytest.raises(FatalError, match=message):
        DltSource(connection=connection, resource="a" if path.endswith("two") else None).discover_schema()


def test_a_generator_that_was_read_is_no_empty_resource() -> None:
    assert rows_of(read(source("once").declaring(pa.schema([pa.field("a", pa.int64())])))[0]) == [{"a": 1}]
    with pytest.raises(FatalError, match="read already"):
        source("once").discover_schema()


def test_a_failure_says_its_cause_without_the_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", CANARY)
    GIVEN["items"] = [{"a": 1}, RuntimeError(f"401 for {CANARY}")]
    connection = DltConnection(source=f"{SHOP}:anything", secrets={"token": Secret("${SHOP_TOKEN}")})
    given = DltSource(connection=connection, infer_rows=1)
    with (
        given.read(ReadRequest(batch_rows=1), None) as reader,
        pytest.raises(RetryableError, match=r"401 for \*\*\*") as caught,
    ):
        assert not any(is_complete(each.state) for each in reader)
    assert GIVEN["token"] == CANARY
    assert CANARY not in f"{caught.value} {caught.value!r} {given!r} {connection!r}"
    with pytest.raises(OptionError, match="written into the document"):
        DltConnection(source="a:b", secrets={"token": Secret("abc", literal=True)})


def test_nothing_runs_where_it_is_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADRACE_ALLOW_PYTHON")
    given, before = yielding({"a": 1}), GIVEN["started"]
    for attempt in (given.discover_schema, lambda: read(given), given.connection.discover):
        with pytest.raises(FatalError, match="HEADRACE_ALLOW_PYTHON"):
            attempt()
    assert GIVEN["started"] == before
    document = f"""
workflow:
  name: shop
  source:
    type: dlt
    config: {{source: "{SHOP}:anything"}}
    schema: {{a: int64}}
  destination: {{type: memory, config: {{table: t}}}}
"""
    with pytest.raises(CompileError) as caught:
        compile_text(document, "shop.yaml", catalog=InstalledCatalog(), environment={})
    assert [(each.code, each.span.line) for each in caught.value.diagnostics] == [(Code.DISABLED, 5)]


def test_its_own_state_is_bounded() -> None:
    with pytest.raises(FatalError, match="state has 300"):
        read(source("noting", pages=1, note="x" * 300_000))
