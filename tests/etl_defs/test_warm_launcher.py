"""Runs that are forked from a warm process: they do what other runs do, their death is seen, and the warm process has no threads."""

import csv
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.launcher.base import LaunchRunContext, WorkerStatus

from etl_defs.naming import TAG_WORKER
from etl_defs.warm_launcher import WarmRunLauncher
from server.home import SETTINGS
from tests.etl_defs.deployment import ENDED, Deployment, wait_for
from tests.kit.process import ROOT

COPY = """\
workflow:
  name: copy
  batch: {rows: 50}
  source: {type: file, config: {root: FOLDER, path: in.csv}}
  destination: {type: file, config: {root: FOLDER, path: out, format: csv}}
"""
LAUNCHER = "run_launcher:\n  module: etl_defs.warm_launcher\n  class: WarmRunLauncher\n"


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    (tmp_path / "in.csv").write_text("id,name\n1,ann\n2,bob\n", encoding="utf-8")
    text = COPY.replace("FOLDER", str(tmp_path))
    made = Deployment(tmp_path, {"copy.yaml": text}, settings=SETTINGS + LAUNCHER)
    for name in ("DAGSTER_HOME", "HEADRACE_WORKFLOWS", "PYTHONWARNINGS"):
        monkeypatch.setenv(name, made.environment[name])
    return made


@pytest.fixture
def instance(deployment: Deployment) -> Iterator[DagsterInstance]:
    with deployment.instance() as found:
        yield found


def _launched(instance: DagsterInstance) -> str:
    repository = ReconstructableRepository.for_module("etl_defs.definitions", "defs", str(ROOT))
    job = repository.get_reconstructable_job("copy")
    run = instance.create_run_for_job(
        job.get_definition(), status=DagsterRunStatus.STARTING, job_code_origin=job.get_python_origin()
    )
    instance.run_launcher.launch_run(LaunchRunContext(run, None))
    return run.run_id


def _ended(instance: DagsterInstance, run_id: str) -> DagsterRun:
    wait_for(lambda: _run(instance, run_id).status in ENDED, f"the end of {run_id}")
    return _run(instance, run_id)


def _run(instance: DagsterInstance, run_id: str) -> DagsterRun:
    found = instance.get_run_by_id(run_id)
    assert found is not None
    return found


def _process(instance: DagsterInstance, run_id: str) -> int:
    return int(_run(instance, run_id).tags[TAG_WORKER].split("/")[1])


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_run_does_what_other_runs_do(instance: DagsterInstance, tmp_path: Path) -> None:
    first = _launched(instance)
    parent = _parent(_process(instance, first))
    threads = {
        (each / "comm").read_text().strip()
        for each in Path(f"/proc/{parent}/task").iterdir()
        if each.name != str(parent)
    }
    assert threads <= {"jemalloc_bg_thd"}, "what is forked may have no thread that does not know of forks"
    assert _ended(instance, first).status is DagsterRunStatus.SUCCESS
    (written,) = (tmp_path / "out").glob("*.csv")
    assert list(csv.reader(written.read_text().splitlines())) == [["id", "name"], ["1", "ann"], ["2", "bob"]]
    second = _launched(instance)
    assert _parent(_process(instance, second)) == parent
    assert _ended(instance, second).status is DagsterRunStatus.SUCCESS
    os.kill(parent, signal.SIGKILL)
    third = _launched(instance)
    assert _parent(_process(instance, third)) not in {parent, 1}
    assert _ended(instance, third).status is DagsterRunStatus.SUCCESS
    assert not instance.run_launcher.terminate(third)
    instance.add_run_tags(third, {TAG_WORKER: "elsewhere/1/1"})
    assert instance.run_launcher.check_run_worker_health(_run(instance, third)).status is WorkerStatus.UNKNOWN


def test_the_death_of_a_run_is_seen(instance: DagsterInstance) -> None:
    run_id = _launched(instance)
    launcher = instance.run_launcher
    assert isinstance(launcher, WarmRunLauncher)
    assert launcher.supports_check_run_worker_health
    pid = _process(instance, run_id)
    os.kill(pid, signal.SIGSTOP)
    assert launcher.check_run_worker_health(_run(instance, run_id)).status is WorkerStatus.RUNNING
    os.kill(pid, signal.SIGKILL)
    wait_for(
        lambda: launcher.check_run_worker_health(_run(instance, run_id)).status is WorkerStatus.FAILED,
        "that it is seen",
    )
    assert not launcher.terminate(run_id)


def test_a_run_that_is_canceled_before_it_begins(instance: DagsterInstance, tmp_path: Path) -> None:
    run_id = _launched(instance)
    os.kill(_process(instance, run_id), signal.SIGSTOP)
    assert _run(instance, run_id).status is DagsterRunStatus.STARTING
    assert instance.run_launcher.terminate(run_id)
    assert _ended(instance, run_id).status is DagsterRunStatus.CANCELED
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_interrupted_ends_at_a_batch(instance: DagsterInstance, tmp_path: Path) -> None:
    with (tmp_path / "in.csv").open("a", encoding="utf-8") as more:
        more.writelines(f"{number},x\n" for number in range(3, 100_000))
    run_id = _launched(instance)
    wait_for(lambda: _run(instance, run_id).status is DagsterRunStatus.STARTED, "that it begins")
    assert instance.run_launcher.terminate(run_id)
    assert _ended(instance, run_id).status is DagsterRunStatus.CANCELED
    again = _launched(instance)
    assert _ended(instance, again).status is DagsterRunStatus.SUCCESS
    read = [row[0] for each in (tmp_path / "out").glob("*.csv") for row in csv.reader(each.read_text().splitlines())]
    rows = [each for each in read if each != "id"]
    assert (len(rows), len(set(rows))) == (99_999, 99_999)
