"""Where refused rows go when a document names a connection for them. Reads the places with the systems' own means."""

import json
from pathlib import Path

import duckdb
import pytest
from dagster import AssetKey, DagsterInstance

from etl_defs.naming import TAG_ERROR
from resources.memory.tables import table
from resources.stores.dead_letters import LocalDeadLetters
from tests.etl_defs.location import Location, copy
from tests.etl_defs.test_runs import metadata_at

LETTERS = """\
connection:
  name: shared-letters
  type: TYPE
  config: {CONFIG}
"""
DLQ = "  on_error: dlq\n  dead_letter: {destination: shared-letters, table: refused, max_rows: 10}"


def _location(folder: Path, kind: str, config: str) -> Location:
    texts = {"letters.yaml": LETTERS.replace("TYPE", kind).replace("CONFIG", config), "a.yaml": copy("a", more=DLQ)}
    location = Location(folder, texts)
    location.fill("users")
    table("copied", location.space).refuse = lambda row: "odd" if row["id"] in {1, 3} else None
    return location


def test_refused_rows_go_to_a_table_of_the_connection(tmp_path: Path) -> None:
    file = tmp_path / "letters.duckdb"
    location = _location(tmp_path, "duckdb", f"path: {file}")
    with DagsterInstance.ephemeral() as instance:
        result = location.run("a", instance)
        assert result.success
        shown = metadata_at(result, AssetKey(["memory", location.space, "copied"]))
    with duckdb.connect(str(file), read_only=True) as database:
        found = database.execute("SELECT workflow, stage, reason, row, run_id FROM refused ORDER BY row").fetchall()
    assert [(*row[:3], json.loads(row[3])["id"], row[4]) for row in found] == [
        ("a", "destination", "odd", number, result.run_id) for number in (1, 3)
    ]
    assert [each["id"] for each in location.rows("copied")] == [0, 2, 4]
    assert shown["rows_rejected"] == 2
    assert shown["dead_letters"].endswith("letters.duckdb / main / refused")
    local = LocalDeadLetters(location.home / "dead_letters")
    assert not local.list("a")
    local.close()


def test_without_a_connection_they_stay_in_the_deployments_store(tmp_path: Path) -> None:
    location = Location(tmp_path, {"a.yaml": copy("a", more="  on_error: dlq")})
    location.fill("users")
    table("copied", location.space).refuse = lambda row: "odd" if row["id"] == 1 else None
    with DagsterInstance.ephemeral() as instance:
        result = location.run("a", instance)
        shown = metadata_at(result, AssetKey(["memory", location.space, "copied"]))
    assert shown["dead_letters"] == str(location.home / "dead_letters")
    local = LocalDeadLetters(location.home / "dead_letters")
    assert [each.rejection.reason for each in local.list("a")] == ["odd"]
    local.close()


def test_the_connection_of_the_dead_letters_is_a_resource(tmp_path: Path) -> None:
    location = _location(tmp_path, "memory", "space: SPACE")
    assert "shared_letters" in location.repository.get_top_level_resources()


def test_the_next_run_adds_to_the_table(tmp_path: Path) -> None:
    location = _location(tmp_path, "memory", "space: SPACE")
    with DagsterInstance.ephemeral() as instance:
        assert location.run("a", instance).success
        assert len(location.rows("refused")) == 2
        assert location.run("a", instance).success
    assert len(location.rows("refused")) == 4


@pytest.mark.parametrize("named", ["shared-leters", "nothing"])
def test_a_connection_that_is_not_there_is_a_load_error(tmp_path: Path, named: str) -> None:
    location = Location(tmp_path, {"a.yaml": copy("a", more=DLQ.replace("shared-letters", named))})
    job = location.repository.get_job("a")
    assert job.tags[TAG_ERROR] == "load"
    assert f"**E404** no connection is called '{named}'" in (job.description or "")
