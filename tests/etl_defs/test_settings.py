"""A deployment's settings."""

from pathlib import Path

import pytest

from etl_defs.settings import WORKFLOWS, SettingError, existing_workflows, read_settings


def test_defaults() -> None:
    settings = read_settings({})
    assert settings.workflows == WORKFLOWS
    assert settings.home == Path(".headrace").absolute()
    assert settings.memory == 128 * 2**20
    assert not settings.allow_python


def test_the_home_lies_in_dagsters_unless_it_is_named() -> None:
    assert read_settings({"DAGSTER_HOME": "/srv/dagster"}).home == Path("/srv/dagster/headrace")
    assert read_settings({"DAGSTER_HOME": "/srv/dagster", "HEADRACE_HOME": "/data"}).home == Path("/data")


@pytest.mark.parametrize(
    ("text", "size"), [("1024", 1024), ("64MiB", 2**26), ("1.5 GiB", 3 * 2**29), ("2MB", 2_000_000)]
)
def test_sizes(text: str, size: int) -> None:
    assert read_settings({"HEADRACE_MEMORY": text}).memory == size


@pytest.mark.parametrize("text", ["lots", "0", "-1", "5 parsecs"])
def test_a_size_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingError, match="HEADRACE_MEMORY"):
        read_settings({"HEADRACE_MEMORY": text})


@pytest.mark.parametrize("name", ["allow_python", "allow_private_addresses"])
def test_what_is_allowed_is_said(name: str) -> None:
    assert not getattr(read_settings({}), name)
    for text, allowed in (("1", True), ("true", True), ("Yes", True), ("0", False), ("", False), ("no", False)):
        assert getattr(read_settings({f"HEADRACE_{name.upper()}": text}), name) is allowed


def test_a_folder_of_workflows_that_is_not_there_is_said(tmp_path: Path) -> None:
    settings = read_settings({"HEADRACE_WORKFLOWS": str(tmp_path)})
    assert existing_workflows(settings) is settings
    with pytest.raises(SettingError, match=r"HEADRACE_WORKFLOWS=.*gone.*there is no such folder"):
        existing_workflows(read_settings({"HEADRACE_WORKFLOWS": str(tmp_path / "gone")}))
