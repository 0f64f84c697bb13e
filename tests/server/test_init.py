"""The first files of a deployment: they validate, an editor accepts them, nothing is ever overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.dsl.json_schema import Validator
from tests.server.command import headrace
from tests.server.conftest import Here


def contents(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file()}


def test_what_it_writes_is_whole(folder: Path, here: Here) -> None:
    done = here("init", "shop")
    assert done.code == 0
    assert "Next: cd shop && headrace run workflows/first-workflow.yaml" in done.out
    assert set(contents(folder / "shop")) == {
        ".env",
        ".env.example",
        ".gitignore",
        ".headrace/dagster/dagster.yaml",
        "data/orders.csv",
        "headrace.schema.json",
        "workflows/first-workflow.yaml",
        "workspace.yaml",
    }
    first = (folder / "shop/workflows/first-workflow.yaml").read_text(encoding="utf-8")
    named = first.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    schema = json.loads((folder / "shop/workflows" / named).read_text(encoding="utf-8"))
    assert not list(Validator(schema).faults(yaml.safe_load(first)))


def test_it_never_overwrites(folder: Path, here: Here) -> None:
    here("init", "shop")
    kept = folder / "shop" / "data" / "orders.csv"
    kept.write_text("mine\n", encoding="utf-8")
    (folder / "shop" / ".env").unlink()
    before = contents(folder / "shop")
    told = here("init", "shop", "--json")
    assert told.json["written"] == [".env"]
    assert len(told.json["kept"]) == len(before)
    assert kept.read_text(encoding="utf-8") == "mine\n"
    after = here("init", "shop")
    assert after.out.count("written") == 0


def test_a_folder_that_cannot_be_made_is_told(folder: Path, here: Here) -> None:
    (folder / "file").write_text("", encoding="utf-8")
    done = here("init", "file/shop")
    assert done.code == 1
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.said


def test_the_first_workflow_runs_as_it_is(folder: Path, here: Here) -> None:
    here("init", "my shop")
    shop = folder / "my shop"
    assert headrace("validate", cwd=shop).code == 0
    for read in (3, 3):
        done = headrace("run", "workflows/first-workflow.yaml", "--json", cwd=shop)
        assert done.code == 0, done.said
        assert [(each["read"], each["written"]) for each in done.json["stages"]] == [(read, 2)]
    assert (shop / "data" / "orders.db").exists()
