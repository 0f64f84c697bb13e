"""Runs of a deployment for the tests of this room: made, killed, frozen and tried again by hand. It holds no test."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.execution.api import execute_run
from dagster._core.launcher.base import LaunchRunContext

from etl_defs.library import Library
from etl_defs.naming import TAG_WORKER
from etl_defs.repository import WorkflowRepository
from etl_defs.settings import read_settings
from tests.etl_defs.deployment import ENDED, Deployment, wait_for
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
    MORE
    config: {path: FOLDER/out.db, table: t, write_mode: append}
"""
ROWS = 1_000
_WORK = """
import sys
from dagster import DagsterInstance
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.launcher.base import LaunchRunContext
from etl_defs.definitions import defs
with DagsterInstance.get() as instance:
    run = instance.get_run_by_id(sys.argv[1])
    execute_run(InMemoryJob(defs.get_job(run.job_name)), run, instance)
"""


def filled(folder: Path, more: str = "") -> str:
    """Makes the table that is copied; returns the workflow, with `more` about its destination."""
    with closing(sqlite3.connect(folder / "in.db")) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS a (id INTEGER PRIMARY KEY)")
        database.executemany("INSERT OR IGNORE INTO a VALUES (?)", [(number,) for number in range(ROWS)])
    return COPY.replace("FOLDER", str(folder)).replace("    MORE\n", f"    {more}\n" if more else "")


def arrived(folder: Path) -> Counter[int]:
    """Returns how often each row stands in the target."""
    with sqlite3.connect(folder / "out.db") as database:
        return Counter(number for (number,) in database.execute("SELECT id FROM t"))


def created(
    instance: DagsterInstance,
    after: DagsterRun | None = None,
    *,
    job: str = "copy",
    status: DagsterRunStatus | None = None,
    tags: Mapping[str, str] | None = None,
) -> DagsterRun:
    """Makes a run of a workflow in the folder that the environment names.

    Args:
        instance: Where.
        after: The run that it tries again, as a person or the daemon would.
        job: The workflow's Dagster name.
        status: Where it stands; not started if absent.
        tags: Of the run, besides those of its job.
    """
    # Not `etl_defs.definitions.defs`: that is made once in a process, of the folder of whichever test came first.
    definition = WorkflowRepository(Library(read_settings())).get_job(job)
    repository = ReconstructableRepository.for_module("etl_defs.definitions", "defs", str(ROOT))
    return instance.create_run_for_job(
        definition,
        status=status,
        tags={**definition.tags, **(tags or {})},
        parent_run_id=after.run_id if after else None,
        root_run_id=(after.root_run_id or after.run_id) if after else None,
        job_code_origin=repository.get_reconstructable_job(job).get_python_origin(),
    )


def launched(instance: DagsterInstance, job: str = "copy", tags: Mapping[str, str] | None = None) -> str:
    """Launches a run by the instance's own launcher, past its queue; returns its id."""
    run = created(instance, job=job, status=DagsterRunStatus.STARTING, tags=tags)
    instance.run_launcher.launch_run(LaunchRunContext(run, None))
    return run.run_id


def ended(instance: DagsterInstance, run_id: str) -> DagsterRun:
    """Waits for the end of a run, and returns it."""
    wait_for(lambda: found(instance, run_id).status in ENDED, f"the end of {run_id}")
    return found(instance, run_id)


def process_of(instance: DagsterInstance, run_id: str) -> int:
    """Returns the process that the warm launcher made for a run."""
    return int(found(instance, run_id).tags[TAG_WORKER].split("/")[1])


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Freezes a process, and kills it after the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


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


def work_here(instance: DagsterInstance, run: DagsterRun) -> DagsterRun:
    """Works on a run in this process, which costs no start of another; returns it as it ended."""
    execute_run(InMemoryJob(WorkflowRepository(Library(read_settings())).get_job(run.job_name)), run, instance)
    return found(instance, run.run_id)


@contextmanager
def frozen(process: "subprocess.Popen[bytes]", *databases: Path) -> Iterator[None]:
    """Waits until a worker freezes at its failpoint, and lets it go on after the block.

    A thread of it may be frozen in the middle of a transaction, in which it would keep everybody else from its database
    for ever; such a worker goes on for a moment and is frozen again.
    """
    try:
        _await_stop(process)
        while not all(map(_is_free, databases)):
            process.send_signal(signal.SIGCONT)
            time.sleep(0.02)
            process.send_signal(signal.SIGSTOP)
            _await_stop(process)
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def _await_stop(process: "subprocess.Popen[bytes]") -> None:
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), "the worker ended before it could be frozen"


def _is_free(path: Path) -> bool:
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as database:
        try:
            database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        database.execute("ROLLBACK")
    return True


def databases_of(deployment: Deployment) -> list[Path]:
    """Returns the files of a deployment's storage."""
    return sorted(deployment.home.rglob("*.db"))


def failpoint(name: str) -> Mapping[str, str]:
    """Returns the variables that make a worker fail at a place."""
    return {"HEADRACE_TEST": "1", "HEADRACE_FAILPOINTS": name}


def found(instance: DagsterInstance, run_id: str) -> DagsterRun:
    """Returns a run as it stands."""
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run


def told(instance: DagsterInstance, run_id: str) -> str:
    """Returns all that the log of a run says."""
    return "\n".join(f"{each.user_message} {each.dagster_event}" for each in instance.all_logs(run_id))
