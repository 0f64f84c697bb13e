"""What `headrace status` says beyond counts: how far behind a source is, and that nothing is heard of a run any more."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from dagster import DagsterInstance

from etl_defs.status import StatusBoard
from server.home import prepare_home
from server.status import SILENT
from tests.server.command import Ended
from tests.server.test_control import Here, running, slow, until_told

__all__ = ["slow"]

TIMED = """\
workflow:
  name: timed
  source: {type: duckdb, config: {path: in.duckdb, table: t, incremental_column: changed}}
  destination: {type: duckdb, config: {path: out.duckdb, table: t}}
"""


def _told(ended: Ended) -> dict[str, object]:
    [told] = ended.json["workflows"]
    return dict(told)


@pytest.fixture
def timed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADRACE_WORKFLOWS", str(folder))
    (folder / "timed.yaml").write_text(TIMED, encoding="utf-8")
    prepare_home()
    return folder


def test_the_lag_is_the_age_of_the_newest_row_that_is_committed(timed: Path, here: Here) -> None:
    assert _told(here("status", "timed", "--json"))["lag_seconds"] is None, "nothing is committed"
    before = time.monotonic()
    newest = datetime.now(UTC) - timedelta(hours=2)
    with duckdb.connect(str(timed / "in.duckdb")) as database:
        database.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, changed TIMESTAMPTZ)")
        database.executemany(
            "INSERT INTO t VALUES (?, ?)", [(number, newest - timedelta(hours=9 - number)) for number in range(10)]
        )
    assert here("run", "timed.yaml").code == 0
    lag = _told(here("status", "timed", "--json"))["lag_seconds"]
    assert isinstance(lag, float)
    assert 7_200 <= lag <= 7_201 + time.monotonic() - before
    assert " 2 h " in here("status", "timed").out
    with duckdb.connect(str(timed / "in.duckdb")) as database:
        database.execute("INSERT INTO t VALUES (10, ?)", [newest + timedelta(hours=1)])
    assert here("run", "timed.yaml").code == 0
    lag = _told(here("status", "timed", "--json"))["lag_seconds"]
    assert isinstance(lag, float)
    assert 3_600 <= lag <= 3_601 + time.monotonic() - before


def test_a_number_is_no_time(timed: Path, here: Here) -> None:
    (timed / "timed.yaml").write_text(TIMED.replace("column: changed", "column: id"), encoding="utf-8")
    with duckdb.connect(str(timed / "in.duckdb")) as database:
        database.execute("CREATE TABLE t AS SELECT range AS id FROM range(20200101, 20200104)")
    assert here("run", "timed.yaml").code == 0
    assert _told(here("status", "timed", "--json"))["lag_seconds"] is None


def test_a_run_that_was_killed_is_shown_as_silent(slow: Path, here: Here) -> None:
    with running(slow) as run:
        until_told(here, run)
        run.kill()
        run.wait()
    told = _told(here("status", "slow", "--json"))
    assert (told["status"], told["silent_seconds"]) == ("running", None), "it was heard of a moment ago"
    with DagsterInstance.get() as instance:
        board = StatusBoard(instance)
        [last] = board.of("slow")
        board.put(replace(last, at=last.at - timedelta(seconds=2 * SILENT)))
    told = _told(here("status", "slow", "--json"))
    assert told["status"] == "running"
    assert isinstance(told["silent_seconds"], float)
    assert told["silent_seconds"] >= 2 * SILENT
    assert "running, silent for " in here("status", "slow").out
