"""What a tap may say and do, and what comes of it: types, refused records, states, faults, secrets."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dsl.bind import Allow
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
from resources.registry import InstalledCatalog
from resources.singer.resource import SingerConnection, SingerSource
from resources.testing import CANARY
from tests.resources.singer.taps import SCHEMA, scripted, tap


def read(source: SingerSource, state: State | None = None, **request: Any) -> tuple[list[Batch], list[Rejection]]:
    """Reads to the end; returns the batches, and what was refused."""
    with source.read(ReadRequest(**request), state) as reader:
        return list(reader), list(reader.rejections())


def rows_of(batches: list[Batch]) -> list[dict[str, Any]]:
    return [row for each in batches for row in each.rows.to_pylist()]


def state(value: Any) -> dict[str, Any]:
    return {"type": "STATE", "value": value}


def test_types_follow_the_schema() -> None:
    properties: dict[str, Any] = {
        "price": {"type": "number", "multipleOf": 0.01},
        "day": {"type": "string", "format": "date"},
        "at": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "nested": {"type": ["null", "object"], "properties": {"a": {"type": "integer"}}},
        "mixed": {"type": ["integer", "string"]},
        "big": {"type": "integer"},
        "free": {},
    }
    row = {
        "price": 12345678901234567890.25,
        "day": "2026-02-28",
        "at": "2026-01-01T02:00:00.000001+02:00",
        "tags": ["a", None, "ü"],
        "nested": {"a": 1, "more": [1.5]},
        "mixed": 7,
        "big": 2**63 - 1,
        "free": True,
    }
    text = json.dumps({"type": "RECORD", "stream": "rows", "record": row})
    source = scripted(
        text.replace("1.2345678901234567e+19", "12345678901234567890.25"), schema={"properties": properties}
    )
    (found,) = rows_of(read(source)[0])
    assert found == {
        "price": decimal.Decimal("12345678901234567890.25"),
        "day": dt.date(2026, 2, 28),
        "at": dt.datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=dt.UTC),
        "tags": ["a", None, "ü"],
        "nested": '{"a":1,"more":[1.5]}',
        "mixed": "7",
        "big": 2**63 - 1,
        "free": "true",
    }


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("this is no JSON", "it is not JSON"),
        ('{"type": "RECORD", "stream": "rows", "record": {"id": NaN}}', "NaN is not JSON"),
        ("[1]", "no message of Singer"),
        ({"type": "RECORD", "stream": "rows", "record": [1]}, "not an object"),
        ({"name": "no key"}, "field 'id' is missing"),
        ({"id": None}, "field 'id' is null, not integer"),
        ({"id": "5"}, "field 'id' is string, not integer"),
        ({"id": 1.5}, "field 'id' is number, not integer"),
        ({"id": 2**63}, "column 'id'"),
        ({"id": 1, "name": 5}, "field 'name' is number, not null or string"),
        ({"id": 1, "other": 5}, "field 'other' is not in the stream's schema"),
        ({"id": 1, "at": "yesterday"}, "column 'at'"),
        ({"id": 1, "at": "2026-01-01T00:00:00"}, "column 'at'"),
        ('{"type": "RECORD", "stream": "rows", "record": {"id": 1, "score": 0.12345678901234567890}}', "more digits"),
    ],
)
def test_what_breaks_the_schema_is_refused_and_the_rest_arrives(said: Any, reason: str) -> None:
    batches, refused = read(scripted({"id": 10}, said, {"id": 11, "score": 1, "name": "ü"}))
    assert [row["id"] for row in rows_of(batches)] == [10, 11]
    (rejection,) = refused
    assert reason in rejection.reason
    assert rejection.row.num_rows == 1
    assert rejection.row.column("line").to_pylist() == [3]
    assert batches[-1].state is not None
    assert batches[-1].state["records_read"] == 3


def test_states_stand_only_where_the_tap_said_one() -> None:
    source = scripted(
        {"id": 1}, {"id": 2}, {"id": 3}, state({"at": 3}), {"id": 4}, {"id": 5}, state({"at": 5.5}), {"id": 6}
    )
    batches, _ = read(source, batch_rows=2)
    seen = [([row["id"] for row in each.rows.to_pylist()], each.state and each.state.get("singer")) for each in batches]
    assert seen == [
        ([1, 2], None),
        ([3], {"at": 3}),
        ([4, 5], {"at": 5.5}),
        ([6], {"at": 5.5}),
    ]
    assert not any(is_complete(each.state) for each in batches)


def test_a_state_behind_every_full_batch_is_not_lost() -> None:
    said = [each for at in range(1, 7) for each in ([{"id": at}] + ([state(at)] if at % 2 == 0 else []))]
    batches, _ = read(scripted(*said), batch_rows=2)
    assert [each.state and each.state.get("singer") for each in batches] == [2, 4, 6, 6][: len(batches)]


def test_the_next_run_begins_at_the_state(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"id": {at}}}\n' for at in range(6)))
    source = SingerSource(connection=tap({"rows": str(rows)}), stream="rows")
    first, _ = read(source)
    with rows.open("a") as more:
        more.write('{"id": 6}\n')
    second, _ = read(source, json.loads(json.dumps(first[-1].state)))
    assert [row["id"] for row in rows_of(second)] == [6]
    anew = SingerSource(connection=source.connection, stream="rows", sync_mode=SyncMode.FULL_REFRESH)
    for _ in range(2):
        whole, _ = read(anew, first[-1].state and {**first[-1].state, "complete": True})
        assert len(rows_of(whole)) == 7
        assert is_complete(whole[-1].state)


def test_a_state_is_bounded() -> None:
    with pytest.raises(FatalError, match="STATE has 7"):
        read(scripted({"id": 1}, state({"seen": "x" * 70_000})))


def test_records_of_other_streams_are_passed_over() -> None:
    other = {"type": "RECORD", "stream": "other", "record": {"x": 1}}
    batches, refused = read(scripted({"type": "ACTIVATE_VERSION", "stream": "rows", "version": 1}, other, {"id": 1}))
    assert ([row["id"] for row in rows_of(batches)], refused) == ([1], [])


def test_a_column_that_changes_its_type_is_said() -> None:
    changed = {"type": "SCHEMA", "stream": "rows", "schema": {"properties": {"id": {"type": "string"}}}}
    with pytest.raises(SchemaError, match="'id' was int64 and is string now"):
        read(scripted({"id": 1}, changed, {"id": "2"}))


def test_batch_files_are_refused() -> None:
    with pytest.raises(FatalError, match="batch_config"):
        read(scripted({"type": "BATCH", "stream": "rows", "manifest": ["file:///etc/passwd"]}))


def test_a_tap_without_discovery_is_read_as_it_comes() -> None:
    connection = tap({"script": [{"type": "RECORD", "stream": "rows", "record": {"id": 1}}]}, discover_streams=False)
    assert rows_of(read(SingerSource(connection=connection, stream="rows"))[0])[0]["id"] == 1
    with pytest.raises(SchemaError, match="no stream 'rws'"):
        SingerSource(connection=connection, stream="rws").discover_schema()


def test_a_stream_that_is_not_there_is_named_with_its_neighbour() -> None:
    with pytest.raises(SchemaError, match="did you mean 'rows'"):
        SingerSource(connection=tap({}), stream="rws").discover_schema()
    (stream,) = tap({}).discover()
    assert (stream.name, stream.primary_key) == ("rows", ("id",))


def test_a_tap_that_fails_says_why_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINGER_TOKEN", f'{CANARY}"\\')
    script = [{"type": "RECORD", "stream": "rows", "record": {"id": 1}}, state(1)]
    secrets = {"token": Secret("${SINGER_TOKEN}")}
    connection = tap({"script": script, "complain": True, "exit": 3}, secrets=secrets, discover_streams=False)
    source = SingerSource(connection=connection, stream="rows").declaring(pa.schema([pa.field("id", pa.int64())]))
    with source.read(ReadRequest(batch_rows=1), None) as reader:
        with pytest.raises(RetryableError, match=r'exit code 3, having said: .*"token": "\*\*\*"') as caught:
            assert not list(reader)
        assert CANARY not in f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"
    checked = tap({"complain": True, "exit": 3}, secrets=secrets).check()
    assert not checked.healthy
    assert "***" in checked.details
    assert CANARY not in checked.details


def test_its_configuration_is_for_its_eyes_and_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINGER_TOKEN", CANARY)
    monkeypatch.setenv("HEADRACE_OTHER_SECRET", CANARY)
    seen = tmp_path / "seen.json"
    connection = tap(
        {"seen": str(seen), "auth": {"user": "u"}},
        secrets={"auth.token": Secret("${SINGER_TOKEN}")},
        environment={"LEVEL": Secret("${LEVEL:-debug}")},
    )
    read(SingerSource(connection=connection, stream="rows"))
    found = json.loads(seen.read_text())
    assert found["mode"] == "600"
    assert found["config"]["auth"] == {"user": "u", "token": CANARY}
    assert found["environment"]["LEVEL"] == "debug"
    assert "HEADRACE_OTHER_SECRET" not in found["environment"]
    assert not Path(found["folder"]).exists()


def test_a_reader_that_is_left_ends_the_tap(tmp_path: Path) -> None:
    seen = tmp_path / "seen.json"
    source = scripted({"id": 1}, {"id": 2}, "sleep", seen=str(seen))
    with source.read(ReadRequest(batch_rows=1), None) as reader:
        assert next(iter(reader)).rows.num_rows == 1
    found = json.loads(seen.read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(found["pid"], 0)
    assert not Path(found["folder"]).exists()


def test_a_tap_that_falls_silent_is_ended() -> None:
    connection = tap({"script": ["sleep"]}, silence=dt.timedelta(seconds=3), discover_streams=False)
    with pytest.raises(RetryableError, match="said nothing for 3 s"):
        read(SingerSource(connection=connection, stream="rows"))


def test_a_program_that_is_not_there() -> None:
    connection = SingerConnection(command=("tap-nowhere",))
    assert "no program 'tap-nowhere'" in connection.check().details
    with pytest.raises(FatalError, match="install the tap"):
        SingerSource(connection=connection, stream="rows").discover_schema()


def test_nothing_runs_where_it_is_not_allowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HEADRACE_ALLOW_PYTHON")
    seen = tmp_path / "seen.json"
    source = scripted({"id": 1}, seen=str(seen))
    for attempt in (source.discover_schema, lambda: read(source), source.connection.discover):
        with pytest.raises(FatalError, match="HEADRACE_ALLOW_PYTHON"):
            attempt()
    assert not seen.exists()


DOCUMENT = """
workflow:
  name: taps
  source:
    type: singer
    config: {command: [tap-x], stream: rows}
    schema: {id: int64}
  destination: {type: memory, config: {table: t}}
"""


def test_a_document_is_refused_where_it_is_not_allowed() -> None:
    catalog = InstalledCatalog()
    with pytest.raises(CompileError) as caught:
        compile_text(DOCUMENT, "taps.yaml", catalog=catalog, environment={})
    assert [(each.code, each.span.line) for each in caught.value.diagnostics] == [(Code.DISABLED, 5)]
    (workflow,) = compile_text(DOCUMENT, "taps.yaml", catalog=catalog, environment={}, allow=Allow(python=True))
    assert workflow.physical.stages


def test_secrets_are_references() -> None:
    with pytest.raises(OptionError, match="written into the document"):
        SingerConnection(command=("tap",), secrets={"token": Secret("abc", literal=True)})
    assert SCHEMA["required"] == ["id"]
