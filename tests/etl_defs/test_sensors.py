"""The one sensor of all triggers."""

import json
from pathlib import Path

import pytest
from dagster import (
    AssetMaterialization,
    DagsterInstance,
    DefaultSensorStatus,
    RunRequest,
    SensorDefinition,
    build_sensor_context,
)

from etl_defs.holds import hold, release
from tests.etl_defs.location import Location, copy


class _Watch:
    """A sensor and what it remembers between looks."""

    def __init__(self, sensor: SensorDefinition, instance: DagsterInstance) -> None:
        self._sensor, self._instance = sensor, instance
        self.cursor: str | None = None

    def look(self) -> list[RunRequest]:
        """Looks at once, however short the triggers' interval is."""
        if self.cursor:
            kept = json.loads(self.cursor)
            for each in kept["workflows"].values():
                each["looked"] = 0
            self.cursor = json.dumps(kept)
        tick = self._sensor.evaluate_tick(build_sensor_context(instance=self._instance, cursor=self.cursor))
        self.cursor = tick.cursor
        return list(tick.run_requests or [])


def _arrive(folder: Path, name: str) -> None:
    import os

    (folder / name).write_text("id\n1\n", encoding="utf-8")
    os.utime(folder / name, (1_000_000, 1_000_000 + len(name)))


def test_without_a_trigger_the_sensor_looks_after_runs_alone(tmp_path: Path) -> None:
    off = copy("off", more="  trigger: {type: asset, asset: [x], enabled: false}")
    [sensor] = Location(tmp_path, {"a.yaml": copy("a"), "off.yaml": off}).repository.sensor_defs
    assert sensor.description == "Ends runs whose worker is gone."
    with DagsterInstance.ephemeral() as instance:
        assert _Watch(sensor, instance).look() == []


def test_there_is_one_sensor_however_many_triggers(tmp_path: Path) -> None:
    trigger = "  trigger: {type: asset, asset: [memory, x], interval: 90s}"
    location = Location(tmp_path, {f"{n}.yaml": copy(f"w{n}", target=f"t{n}", more=trigger) for n in range(5)})
    [sensor] = location.repository.sensor_defs
    assert sensor.default_status is DefaultSensorStatus.RUNNING
    assert sensor.minimum_interval_seconds == 5
    assert {each.name for each in sensor.jobs} == {f"w{n}" for n in range(5)}


def test_files_that_arrive_start_one_run(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    text = copy("a", more=f"  trigger: {{type: file, path: '{inbox}/*.csv'}}")
    location = Location(tmp_path, {"a.yaml": text})
    [sensor] = location.repository.sensor_defs
    with DagsterInstance.ephemeral() as instance:
        watch = _Watch(sensor, instance)
        assert watch.look() == []
        for name in ("1.csv", "22.csv", "note.txt"):
            _arrive(inbox, name)
        [request] = watch.look()
        assert request.job_name == "a"
        assert request.tags["headrace/trigger"] == "1.csv and 1 more files"
        assert watch.look() == []
        _arrive(inbox, "333.csv")
        assert len(watch.look()) == 1


def test_new_data_upstream_starts_a_run_but_old_data_does_not(tmp_path: Path) -> None:
    text = copy("a", more="  trigger: {type: asset, asset: [memory, other, users]}")
    location = Location(tmp_path, {"a.yaml": text})
    [sensor] = location.repository.sensor_defs
    with DagsterInstance.ephemeral() as instance:
        upstream = AssetMaterialization(["memory", "other", "users"])
        instance.report_runless_asset_event(upstream)
        watch = _Watch(sensor, instance)
        assert watch.look() == []
        instance.report_runless_asset_event(upstream)
        assert [each.job_name for each in watch.look()] == ["a"]
        assert watch.look() == []


def test_an_asset_that_nobody_writes_is_named_with_the_one_that_was_meant(tmp_path: Path) -> None:
    text = copy("a", more="  trigger: {type: asset, asset: [memory, othr, users]}")
    [sensor] = Location(tmp_path, {"a.yaml": text}).repository.sensor_defs
    with DagsterInstance.ephemeral() as instance:
        instance.report_runless_asset_event(AssetMaterialization(["memory", "other", "users"]))
        tick = sensor.evaluate_tick(build_sensor_context(instance=instance))
    said = "a: nothing was ever written under memory/othr/users (did you mean 'memory/other/users'?)"
    assert tick.skip_message == said


def test_the_first_data_of_an_asset_starts_a_run(tmp_path: Path) -> None:
    text = copy("a", more="  trigger: {type: asset, asset: [memory, other, users]}")
    [sensor] = Location(tmp_path, {"a.yaml": text}).repository.sensor_defs
    with DagsterInstance.ephemeral() as instance:
        watch = _Watch(sensor, instance)
        assert watch.look() == []
        instance.report_runless_asset_event(AssetMaterialization(["memory", "other", "users"]))
        assert len(watch.look()) == 1


def test_a_trigger_that_cannot_be_looked_at_hides_no_other(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    _arrive(inbox, "1.csv")
    texts = {
        "a.yaml": copy("a", more="  trigger: {type: file}"),
        "b.yaml": copy("b", target="b", more=f"  trigger: {{type: file, path: '{inbox}/*.csv'}}"),
    }
    [sensor] = Location(tmp_path, texts).repository.sensor_defs
    with DagsterInstance.ephemeral() as instance:
        assert [each.job_name for each in _Watch(sensor, instance).look()] == ["b"]


@pytest.mark.parametrize("cursor", [None, "", '{"v": 1, "workflows": {"gone": {"looked": 5}}}'])
def test_what_is_remembered_of_workflows_that_are_gone_is_dropped(tmp_path: Path, cursor: str | None) -> None:
    text = copy("a", more="  trigger: {type: asset, asset: [x]}")
    [sensor] = Location(tmp_path, {"a.yaml": text}).repository.sensor_defs
    with DagsterInstance.ephemeral() as instance:
        tick = sensor.evaluate_tick(build_sensor_context(instance=instance, cursor=cursor))
    assert set(json.loads(tick.cursor or "")["workflows"]) == {"a"}


def test_nothing_starts_a_workflow_that_is_held(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    text = copy("a", more=f"  trigger: {{type: file, path: '{inbox}/*.csv'}}")
    [sensor] = Location(tmp_path, {"a.yaml": text}).repository.sensor_defs
    with DagsterInstance.ephemeral() as instance:
        _arrive(inbox, "1.csv")
        hold(instance, "a", "ann")
        tick = sensor.evaluate_tick(build_sensor_context(instance=instance))
        assert not tick.run_requests
        assert (tick.skip_message or "").startswith("a is held by ann since ")
        release(instance, "a")
        assert len(_Watch(sensor, instance).look()) == 1
