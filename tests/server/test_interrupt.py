"""Ctrl-C: the run ends at a batch boundary, says what is committed and how to go on; going on gives every row once."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from dagster import DagsterInstance

from tests.server.command import COMMAND, Ended, environment, headrace

ROWS = 100_000
SLOW = """\
workflow:
  name: slow
  batch: {rows: 1000}
  checkpoint: {rows: 5000}
  source: {type: duckdb, config: {path: in.duckdb, table: t}}
  destination:
    type: duckdb
    rate_limit: {rows: 10000, per: 1s}
    config: {path: out.duckdb, table: t}
"""


@pytest.fixture
def slow(folder: Path) -> Path:
    with duckdb.connect(str(folder / "in.duckdb")) as database:
        database.execute("CREATE TABLE t (id BIGINT PRIMARY KEY)")
        database.execute("INSERT INTO t SELECT range FROM range(?)", [ROWS])
    (folder / "slow.yaml").write_text(SLOW, encoding="utf-8")
    return folder


def interrupted(slow: Path, *more: str) -> Ended:
    """Starts the run, and interrupts it once its token says that something is committed."""
    command = [*COMMAND, "run", "slow.yaml", *more]
    run = subprocess.Popen(
        command, cwd=slow, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        while run.poll() is None and not committed(slow):
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate()
    finally:
        run.kill()
    return Ended(run.returncode, out, err)


def committed(slow: Path) -> bool:
    """Tells whether there is a checkpoint: the target itself is locked while the run goes on."""
    file = slow / ".headrace" / "dagster" / "history" / "runs.db"
    if not file.exists():
        return False
    try:
        with closing(sqlite3.connect(file)) as storage:
            return bool(storage.execute("SELECT 1 FROM kvs WHERE value LIKE '%records_read%'").fetchall())
    except sqlite3.OperationalError:  # the table is not there yet
        return False


def rows(slow: Path) -> tuple[int, int]:
    with duckdb.connect(str(slow / "out.duckdb"), read_only=True) as out:
        found = out.execute("SELECT count(*), count(DISTINCT id) FROM t").fetchone()
    assert found is not None
    return int(found[0]), int(found[1])


def test_a_run_ends_at_a_boundary_and_goes_on(slow: Path) -> None:
    ended = interrupted(slow)
    assert ended.code == 130, ended.said
    assert "Traceback" not in ended.said
    assert "slow: interrupted in" in ended.out
    before, distinct = rows(slow)
    assert 0 < before == distinct < ROWS
    assert f"destination: {before:,} rows committed, up to epoch" in ended.err
    assert ended.err.endswith("Run the same command again to go on from there.\n")
    again = headrace("run", "slow.yaml", "--json", cwd=slow)
    assert again.code == 0, again.said
    [stage] = again.json["stages"]
    assert (stage["read"], stage["resumed"]) == (ROWS - before, True)
    assert rows(slow) == (ROWS, ROWS)
    with DagsterInstance.from_config(str(slow / ".headrace" / "dagster")) as instance:
        assert [each.status.value for each in instance.get_runs()] == ["SUCCESS", "CANCELED"]


def test_a_script_reads_what_is_committed(slow: Path) -> None:
    ended = interrupted(slow, "--json")
    assert (ended.code, ended.err) == (130, "")
    told = json.loads(ended.out)
    assert (told["success"], told["outcome"], told["error"]["exit"]) == (False, "interrupted", 130)
    assert told["committed"]["destination"]["rows"] == rows(slow)[0] > 0
