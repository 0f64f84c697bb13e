"""Runs of a deployment in processes of their own, for the tests of this room: made, killed and tried again by hand. It holds no test."""

import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from dagster import DagsterInstance, DagsterRun
from dagster._core.definitions.reconstruct import ReconstructableRepository

from tests.etl_defs.deployment import Deployment
from tests.kit.process import ROOT

COPY = """\
workflow:
  name: copy
  batch: {rows: 100}
  checkpoint: {rows: 200}
  source:
    type: sqlite
    config: {path: FOLDER/in.db, table: a}
  destination:
    type: sqlite
    config: {path: FOLDER/out.db, table: t, write_mode: append}
"""
ROWS = 1_000
_WORK = """
import sys
from dagster import DagsterInstance
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from etl_defs.definitions import defs
with DagsterInstance.get() as instance:
    run = instance.get_run_by_id(sys.argv[1])
    execute_run(InMemoryJob(defs.get_job(run.job_name)), run, instance)
"""


def filled(folder: Path) -> str:
    """Makes the table that is copied; returns the workflow."""
    with sqlite3.connect(folder / "in.db") as database:
        database.execute("CREATE TABLE a (id INTEGER PRIMARY KEY)")
        database.executemany("INSERT INTO a VALUES (?)", [(number,) for number in range(ROWS)])
    return COPY.replace("FOLDER", str(folder))


def arrived(folder: Path) -> Counter[int]:
    """Returns how often each row stands in the target."""
    with sqlite3.connect(folder / "out.db") as database:
        return Counter(number for (number,) in database.execute("SELECT id FROM t"))


def created(instance: DagsterInstance, after: DagsterRun | None = None) -> DagsterRun:
    """Makes a run of the workflow; `after`, the run that it tries again as a person or the daemon would."""
    job = ReconstructableRepository.for_module("etl_defs.definitions", "defs", str(ROOT)).get_reconstructable_job(
        "copy"
    )
    parent = after.run_id if after else None
    root = (after.root_run_id or after.run_id) if after else None
    return instance.create_run_for_job(job.get_definition(), parent_run_id=parent, root_run_id=root)


def worker(
    deployment: Deployment, run: DagsterRun, variables: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Starts the process that works on a run."""
    log = deployment.home.parent / f"worker-{run.run_id}.log"
    with log.open("wb") as opened:
        return subprocess.Popen(
            [sys.executable, "-c", _WORK, run.run_id],
            env={**deployment.environment, **(variables or {})},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=opened,
            stderr=subprocess.STDOUT,
        )


def failpoint(name: str) -> Mapping[str, str]:
    """Returns the variables that make a worker fail at a place."""
    return {"HEADRACE_TEST": "1", "HEADRACE_FAILPOINTS": name}


def now(instance: DagsterInstance, run: DagsterRun) -> DagsterRun:
    """Returns a run as it stands."""
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found


def told(instance: DagsterInstance, run: DagsterRun) -> str:
    """Returns all that the log of a run says."""
    return "\n".join(f"{each.user_message} {each.dagster_event}" for each in instance.all_logs(run.run_id))
