"""Stop, pause, resume and status against runs of other processes: what they say, how they end, and that every row arrives once."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb
import pytest
from dagster import DagsterInstance

from server.home import prepare_home
from tests.server.command import COMMAND, Ended, environment

Here = Callable[..., Ended]
ROWS = 20_000
SLOW = """\
workflow:
  name: slow
  batch: {rows: 500}
  checkpoint: {rows: 1000}
  schedule: {cron: "0 3 * * *"}
  source: {type: duckdb, config: {path: in.duckdb, table: t}}
  destination:
    type: duckdb
    rate_limit: {rows: 1000, per: 1s}
    config: {path: out.duckdb, table: t}
"""


@pytest.fixture
def slow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADRACE_WORKFLOWS", str(folder))
    with duckdb.connect(str(folder / "in.duckdb")) as database:
        database.execute("CREATE TABLE t (id BIGINT PRIMARY KEY)")
        database.execute("INSERT INTO t SELECT range FROM range(?)", [ROWS])
    (folder / "slow.yaml").write_text(SLOW, encoding="utf-8")
    prepare_home()
    return folder


@contextmanager
def running(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A run in a process of its own."""
    run = subprocess.Popen(
        [*COMMAND, "run", "slow.yaml"],
        cwd=folder,
        env=environment(HEADRACE_WORKFLOWS=str(folder)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield run
    finally:
        run.kill()
        run.communicate()


def until_told(here: Here, run: subprocess.Popen[str], key: str = "rows_written") -> None:
    """Waits until the run's status says that rows have moved."""
    while run.poll() is None:
        [told] = here("status", "slow", "--json").json["workflows"]
        if any(each["metrics"].get(key) for each in told["stages"]):
            assert told["status"] == "running"
            return
        time.sleep(0.1)
    raise AssertionError(run.communicate())


def test_a_workflow_is_paused_refused_and_resumed(slow: Path, here: Here) -> None:
    with running(slow) as run:
        until_told(here, run)
        paused = here("pause", "slow")
        assert paused.code == 0, paused.said
        assert "paused at its last commit" in paused.out
        assert "is held since" in paused.out
        said = "".join(run.communicate())
        assert run.returncode == 130, said
    [told] = here("status", "slow", "--json").json["workflows"]
    assert (told["status"], told["held"] is not None, told["next_tick"]) == ("paused", True, None)
    assert {each["status"] for each in told["stages"]} == {"paused"}
    kept = told["stages"][0]["metrics"]["rows_written"]
    assert 0 < kept < ROWS
    refused = here("run", "slow.yaml")
    assert refused.code == 1
    assert "headrace resume slow" in refused.said
    assert here("resume", "slow", "--no-run").out == "slow is released.\n"
    (slow / "slow.yaml").write_text(SLOW.replace("rows: 1000, per", "rows: 1000000, per"), encoding="utf-8")
    resumed = here("resume", "slow", "--json")
    assert resumed.code == 0, resumed.said
    assert resumed.json["stages"][0]["read"] == ROWS - kept
    [told] = here("status", "slow", "--json").json["workflows"]
    assert (told["status"], told["held"]) == ("completed", None)
    assert told["next_tick"] > told["last_success"]
    watched = here("status", "slow", "--watch")
    assert watched.out.startswith(f"slow: completed: destination completed: read {ROWS - kept:,}")
    assert len(watched.out.splitlines()) == 1
    with duckdb.connect(str(slow / "out.duckdb"), read_only=True) as out:
        assert out.execute("SELECT count(*), count(DISTINCT id) FROM t").fetchone() == (ROWS, ROWS)
    with DagsterInstance.get() as instance:
        runs = instance.get_runs()
        assert [each.status.value for each in runs] == ["SUCCESS", "FAILURE", "CANCELED"]
        assert runs[-1].tags["headrace/progress"].startswith("read ")
        assert runs[-1].tags["headrace/progress"].endswith("paused (destination)")
        stored = instance.run_storage.get_cursor_values({"headrace/status/v1/slow/destination"})
        assert json.loads(*stored.values())["run_id"] == runs[0].run_id, "one row a stage, however many runs"


@pytest.mark.usefixtures("slow")
def test_what_is_not_there_is_said(here: Here) -> None:
    assert here("stop", "slow").out == "No run of slow goes on.\n"
    assert "was not held" in here("resume", "slow", "--no-run").out
    for command in ("stop", "pause", "resume", "status"):
        refused = here(command, "nobody")
        assert (refused.code, refused.out) == (2, "")
        assert "there is no workflow 'nobody'" in refused.err
    assert " never run " in here("status").out
    assert json.loads(here("status", "--watch", "--json").out)["workflows"][0]["status"] == "never run"


@pytest.mark.slow
@pytest.mark.parametrize("how", [(), ("--now",)])
def test_a_destination_that_keeps_a_run_waiting_does_not_keep_it_from_ending(
    slow: Path, here: Here, how: tuple[str, ...]
) -> None:
    """Somebody else has locked the file that the run commits to."""
    target = (
        "type: sqlite\n    rate_limit: {rows: 1000, per: 1s}\n    config: {path: out.db, busy_timeout: 10m, table: t}"
    )
    text = SLOW[: SLOW.index("type: duckdb\n")] + target + "\n"
    (slow / "slow.yaml").write_text(text, encoding="utf-8")
    with running(slow) as run:
        until_told(here, run)
        with closing(sqlite3.connect(slow / "out.db", timeout=60, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            stopped = here("stop", "slow", *how)
            assert stopped.code == 0, stopped.said
            assert run.wait() == 130
    [told] = here("status", "slow", "--json").json["workflows"]
    assert told["status"] == "stopped"
    (slow / "slow.yaml").write_text(text.replace("rows: 1000, per", "rows: 1000000, per"), encoding="utf-8")
    assert here("run", "slow.yaml").code == 0
    with closing(sqlite3.connect(slow / "out.db")) as out:
        assert out.execute("SELECT count(*), count(DISTINCT id) FROM t").fetchone() == (ROWS, ROWS)
