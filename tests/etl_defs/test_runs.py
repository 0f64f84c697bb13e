"""Runs in this process: rows, metadata, checks, the number of events, and what is never stored."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow as pa
import pytest
from dagster import AssetKey, DagsterEventType, DagsterInstance, ExecuteInProcessResult

from etl_defs.runner import run_workflow
from etl_defs.settings import Settings
from tests.etl_defs.location import Location, copy, kept_instance

PICKLERS = frozenset({"pickle", "_pickle"})
MANY = """\
workflow:
  name: many
  on_error: dlq
  sources:
    users:
      type: memory
      config: {table: users, space: SPACE}
  transformations:
    some:
      inputs: [users]
      type: filter
      config: {condition: "id >= 2"}
    shaped:
      inputs: [some]
      type: mapping
      config:
        mappings:
          - {source: id, destination: user.id}
          - {source: name, destination: user.password}
  destinations:
    all_users:
      inputs: [users]
      type: memory
      config: {table: all_users, space: SPACE, write_mode: overwrite}
    some_users:
      inputs: [shaped]
      type: memory
      config: {table: some_users, space: SPACE}
"""


def metadata_at(result: ExecuteInProcessResult, key: AssetKey) -> dict[str, Any]:
    """Returns what the one materialization of an asset showed."""
    [event] = [
        each
        for each in result.all_events
        if each.event_type is DagsterEventType.ASSET_MATERIALIZATION and each.asset_key == key
    ]
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_rows_arrive_and_every_number_is_shown(tmp_path: Path) -> None:
    location = Location(tmp_path, {"a.yaml": MANY})
    location.fill("users")
    with DagsterInstance.ephemeral() as instance:
        result = location.run("many", instance)
        assert result.success
        shown = metadata_at(result, AssetKey(["memory", location.space, "some_users"]))
    assert location.rows("some_users") == [{"user": {"id": n, "password": f"user {n}"}} for n in (2, 3, 4)]
    assert shown["rows_written"] == shown["dagster/row_count"] == 3
    assert shown["rows_rejected"] == 0
    assert shown["bytes_written"] > 0
    assert shown["epochs"] >= 1
    assert "exactly once" in shown["guarantee"]
    assert [column.name for column in shown["dagster/column_schema"].columns] == ["user"]
    source = AssetKey(["memory", location.space, "users"])
    origins = shown["dagster/column_lineage"].deps_by_column["user"]
    assert {(each.asset_key, each.column_name) for each in origins} == {(source, "id"), (source, "name")}
    assert "user 2" not in shown["preview"], "a column named like a secret"
    assert '"id": 2' in shown["preview"]
    assert {record.data["node"] for record in shown["time_per_node"].records} >= {"some_users"}
    assert "select" in shown["plan"].lower() or "read" in shown["plan"]


def test_the_row_count_of_a_target_that_grows(tmp_path: Path) -> None:
    location = Location(tmp_path, {"a.yaml": MANY})
    location.fill("users")
    with DagsterInstance.ephemeral() as instance:
        for appended in (3, 6):
            result = location.run("many", instance)
            counts = {
                name: metadata_at(result, AssetKey(["memory", location.space, name]))["dagster/row_count"]
                for name in ("all_users", "some_users")
            }
            assert counts == {"all_users": 5, "some_users": appended}


def test_checks_tell_what_they_found(tmp_path: Path) -> None:
    location = Location(tmp_path, {"a.yaml": copy("a")})
    location.fill("users")
    with DagsterInstance.ephemeral() as instance:
        found = {each.check_name: each for each in location.run("a", instance).get_asset_check_evaluations()}
    assert {name: each.passed for name, each in found.items()} == {
        "reconciliation": True,
        "dead_letter_rate": True,
        "contract": True,
    }
    assert found["reconciliation"].description == "read 5 = written 5 + filtered 0 + rejected 0"


def test_a_contract_is_broken_by_a_source_that_changed(tmp_path: Path) -> None:
    text = copy("a").replace("    type: memory\n", "    type: memory\n    schema: {id: bigint, name: varchar}\n", 1)
    location = Location(tmp_path, {"a.yaml": text})
    location.fill("users", pa.table({"id": [1]}))
    with DagsterInstance.ephemeral() as instance:
        result = location.run("a", instance)
    assert not (result.success and all(each.passed for each in result.get_asset_check_evaluations()))


def test_a_run_of_many_batches_writes_few_events(tmp_path: Path) -> None:
    text = copy("a", more="  batch: {rows: 10}\n  checkpoint: {rows: 20}")
    location = Location(tmp_path, {"a.yaml": text})
    location.fill("users", pa.table({"id": range(5_000)}))
    with DagsterInstance.ephemeral() as instance:
        result = location.run("a", instance)
        assert result.success
        assert len(location.rows("copied")) == 5_000
        logged = instance.all_logs(result.run_id)
    assert len(logged) <= 50


def test_a_run_that_fails_says_where_and_why(tmp_path: Path) -> None:
    location = Location(tmp_path, {"a.yaml": copy("a", source="nowhere")})
    with DagsterInstance.ephemeral() as instance:
        result = location.run("a", instance)
        assert not result.success
        logged = "\n".join(each.user_message + str(each.dagster_event) for each in instance.all_logs(result.run_id))
    assert "nowhere" in logged
    assert "there is no such table" in logged


@contextmanager
def _pickled() -> Iterator[list[str]]:
    """Lists every call of the pickle module, in C and in Python, by whatever name it was imported, in this and every new thread."""
    seen: list[str] = []

    def watch(frame: FrameType, event: str, called: object) -> None:
        modules = {frame.f_globals.get("__name__")} if event == "call" else _modules_of(called)
        if not PICKLERS.isdisjoint(modules):
            seen.append(f"{called or frame.f_code.co_name} below {frame.f_back and frame.f_back.f_code.co_qualname}")

    sys.setprofile(watch)
    threading.setprofile(watch)
    try:
        yield seen
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def _modules_of(called: object) -> set[str | None]:
    owner = getattr(called, "__self__", None)
    return {getattr(called, "__module__", None), *(each.__module__ for each in type(owner).__mro__)}


def test_no_object_is_ever_pickled(tmp_path: Path) -> None:
    location = Location(tmp_path, {"a.yaml": MANY})
    location.fill("users")
    with kept_instance(tmp_path / "dagster") as instance:
        job = location.data.get_job("many")
        with _pickled() as seen:
            assert job.execute_in_process(instance=instance).success
        stored = [each for each in (tmp_path / "dagster").rglob("*") if each.is_file()]
    assert not seen
    assert not [each for each in stored if each.read_bytes()[:1] == b"\x80"]


def test_the_watch_for_pickles_sees_one() -> None:
    with _pickled() as seen:
        thread = threading.Thread(target=ForkingPickler.dumps, args=([1],))
        thread.start()
        thread.join()
    assert seen


def test_a_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    text = copy("a").replace("config: {table: users,", "config: {incremental: true, table: users,")
    location = Location(tmp_path, {"a.yaml": text})
    with DagsterInstance.ephemeral() as instance:
        location.fill("users", pa.table({"id": [1, 2]}))
        assert location.run("a", instance).success
        location.fill("users", pa.table({"id": [1, 2, 3]}))
        assert location.run("a", instance).success
    assert [each["id"] for each in location.rows("copied")] == [1, 2, 3]


def test_sources_are_observed(tmp_path: Path) -> None:
    location = Location(tmp_path, {"a.yaml": copy("a")})
    location.fill("users")
    with DagsterInstance.ephemeral() as instance:
        assert location.run("a", instance).success
        source = AssetKey(["memory", location.space, "users"])
        [record] = instance.fetch_observations(source, limit=10).records
    observed = record.asset_observation
    assert observed is not None
    assert observed.metadata["rows_read"].value == 5


def test_the_same_run_without_dagsters_executor(tmp_path: Path) -> None:
    location = Location(tmp_path, {"a.yaml": copy("a")})
    location.fill("users")
    settings = Settings(workflows=location.files, home=location.home)
    report = run_workflow(location.files / "a.yaml", settings=settings)
    assert [stage.reconciliation.written for stage in report.stages] == [5]
    assert len(location.rows("copied")) == 5
    with pytest.raises(KeyError, match="there is no workflow"):
        run_workflow(location.files / "a.yaml", name="b", settings=settings)
