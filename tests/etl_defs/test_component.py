"""A folder of workflows as a component of somebody else's project. Reads its `defs.yaml` as Dagster does; needs no `dg`."""

import importlib
import sys
import tomllib
from pathlib import Path

import pytest
from dagster import Component, Definitions, load_from_defs_folder

from tests.architecture.sources import ROOT
from tests.etl_defs.location import copy

PROJECT = """\
[tool.dg]
directory_type = "project"
[tool.dg.project]
root_module = "shop"
"""
DEFS = """\
type: etl_defs.component.Workflows
attributes:
  path: ../../../../flows
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of Dagster with one component."""
    folder = tmp_path / "src" / "shop" / "defs" / "flows"
    folder.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    (folder / "defs.yaml").write_text(DEFS, encoding="utf-8")
    for package in (folder.parent.parent, folder.parent):
        (package / "__init__.py").touch()
    flows = tmp_path / "flows"
    flows.mkdir()
    schedule = "  schedule: '@daily'\n  trigger: {type: file, path: 'inbox/*.csv'}"
    (flows / "one.yaml").write_text(copy("one-flow", more=schedule), encoding="utf-8")
    (flows / "bad.yaml").write_text(copy("bad", more="  shedule: x"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "src")
    for name in [each for each in sys.modules if each.partition(".")[0] == "shop"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def test_a_component_brings_jobs_assets_schedules_triggers_and_resources(project: Path) -> None:
    found = load_from_defs_folder(path_within_project=project / "src" / "shop")
    Definitions.validate_loadable(found)
    assert {each.name for each in found.resolve_all_job_defs()} >= {"one_flow", "bad"}
    keys = {key.path[-1] for key in found.resolve_asset_graph().get_all_asset_keys()}
    assert keys == {"users", "copied", "bad"}
    repository = found.get_repository_def()
    assert [each.name for each in repository.schedule_defs] == ["one_flow__schedule"]
    assert [each.name for each in repository.sensor_defs] == ["headrace_triggers"]
    assert {"one_flow__source", "one_flow__destination"} <= set(repository.get_top_level_resources())


@pytest.mark.parametrize(("right", "wrong", "said"), [("path:", "pth:", "pth"), ("/flows", "/gone", "does not exist")])
def test_a_faulty_component_says_what_is_wrong(project: Path, right: str, wrong: str, said: str) -> None:
    file = project / "src" / "shop" / "defs" / "flows" / "defs.yaml"
    file.write_text(DEFS.replace(right, wrong), encoding="utf-8")
    with pytest.raises(Exception, match="flows") as caught:
        Definitions.validate_loadable(load_from_defs_folder(path_within_project=project / "src" / "shop"))
    told: list[str] = []
    error: BaseException | None = caught.value
    while error is not None:
        told.append(str(error))
        error = error.__cause__ or error.__context__
    assert said in "\n".join(told)


def test_dg_finds_the_component_where_the_project_says() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [module] = declared["project"]["entry-points"]["dagster_dg_cli.registry_modules"].values()
    assert declared["tool"]["dg"]["project"]["registry_modules"] == [module]
    assert issubclass(importlib.import_module(module).Workflows, Component)
