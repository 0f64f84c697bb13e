"""The instance of a deployment without servers, as Dagster reads it."""

from pathlib import Path

import pytest
from dagster import DagsterInstance

from etl_defs.naming import TAG_WORKFLOW
from server.home import prepare_home


def test_dagster_takes_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    assert prepare_home() == tmp_path / "home"
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
    with DagsterInstance.get() as instance:
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
        assert instance.run_monitoring_enabled
        assert (instance.run_retries_enabled, instance.run_retries_retry_on_asset_or_op_failure) == (True, False)
        limits = instance.get_concurrency_config().run_queue_config
    assert limits is not None
    assert [(each["key"], each["value"], each["limit"]) for each in limits.tag_concurrency_limits] == [
        (TAG_WORKFLOW, {"applyLimitPerUniqueValue": True}, 1)
    ]


def test_what_is_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    prepare_home()
    assert (tmp_path / "dagster.yaml").read_text(encoding="utf-8") == "telemetry: {enabled: false}\n"
