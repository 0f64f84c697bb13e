"""Runs that are forked from a warm process: they do what other runs do, their death is seen, they race, and streams are kept alive."""

import csv
import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRunStatus, RunRequest, build_sensor_context
from dagster._core.launcher.base import WorkerStatus
from dagster._core.storage.tags import WILL_RETRY_TAG

from etl_defs import warm_launcher
from etl_defs.holds import hold
from etl_defs.leases import leased
from etl_defs.library import Library
from etl_defs.naming import TAG_WORKER
from etl_defs.repository import WorkflowRepository
from etl_defs.settings import read_settings
from etl_defs.warm_launcher import WarmRunLauncher
from server.control import STOP, end
from server.home import SETTINGS
from tests.etl_defs.deployment import Deployment, wait_for
from tests.etl_defs.workers import ROWS, arrived, created, ended, filled, found, launched, process_of, stopped, told

COPY = """\
workflow:
  name: copy
  batch: {rows: 50}
  source: {type: file, config: {root: FOLDER, path: in.csv}}
  destination: {type: file, config: {root: FOLDER, path: out, format: csv}}
"""
STREAM = """\
workflow:
  name: stream
  mode: stream
  poll: 50ms
  checkpoint: {period: 50ms}
  source: {type: sqlite, config: {path: FOLDER/in.db, table: a, incremental_column: id}}
  destination: {type: sqlite, config: {path: FOLDER/out.db, table: t}}
"""


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    made = Deployment(tmp_path_factory.mktemp("warm"), {}, settings=_again_whatever_fails(SETTINGS))
    with pytest.MonkeyPatch.context() as patched:
        for name in ("DAGSTER_HOME", "HEADRACE_WORKFLOWS", "PYTHONWARNINGS"):
            patched.setenv(name, made.environment[name])
        yield made


def _again_whatever_fails(settings: str) -> str:
    changed = settings.replace("retry_on_asset_or_op_failure: false", "retry_on_asset_or_op_failure: true")
    assert changed != settings
    return changed


@pytest.fixture(scope="module")
def instance(deployment: Deployment) -> Iterator[DagsterInstance]:
    """One for all, and so one warm process: the files of workflows are read by each run anew."""
    with deployment.instance() as opened:
        yield opened


@pytest.fixture(autouse=True)
def files(deployment: Deployment, tmp_path: Path) -> None:
    for each in deployment.workflows.iterdir():
        each.unlink()
    (tmp_path / "in.csv").write_text("id,name\n1,ann\n2,bob\n", encoding="utf-8")
    _write(deployment, COPY.replace("FOLDER", str(tmp_path)))


def _write(deployment: Deployment, text: str, name: str = "copy") -> None:
    (deployment.workflows / f"{name}.yaml").write_text(text, encoding="utf-8")


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_run_does_what_other_runs_do(instance: DagsterInstance, tmp_path: Path) -> None:
    first = launched(instance)
    parent = _parent(process_of(instance, first))
    threads = {
        (each / "comm").read_text().strip()
        for each in Path(f"/proc/{parent}/task").iterdir()
        if each.name != str(parent)
    }
    assert threads <= {"jemalloc_bg_thd"}, "what is forked may have no thread that does not know of forks"
    assert ended(instance, first).status is DagsterRunStatus.SUCCESS
    (written,) = (tmp_path / "out").glob("*.csv")
    assert list(csv.reader(written.read_text().splitlines())) == [["id", "name"], ["1", "ann"], ["2", "bob"]]


def test_a_workflow_that_was_written_since_and_a_warm_process_that_died(
    deployment: Deployment, instance: DagsterInstance, tmp_path: Path
) -> None:
    first = launched(instance)
    parent = _parent(process_of(instance, first))
    _write(deployment, COPY.replace("FOLDER", str(tmp_path)).replace("copy", "later").replace("out", "two"), "later")
    second = launched(instance, "later")
    assert _parent(process_of(instance, second)) == parent
    assert ended(instance, second).status is DagsterRunStatus.SUCCESS
    assert ended(instance, first).status is DagsterRunStatus.SUCCESS
    os.kill(parent, signal.SIGKILL)
    third = launched(instance, "later")
    assert _parent(process_of(instance, third)) not in {parent, 1}
    assert ended(instance, third).status is DagsterRunStatus.SUCCESS
    assert not instance.run_launcher.terminate(third)


def test_a_run_that_somebody_else_started_is_left_to_its_lease(instance: DagsterInstance) -> None:
    run = created(instance)
    launcher = instance.run_launcher
    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
    instance.add_run_tags(run.run_id, {TAG_WORKER: "elsewhere/1/1"})
    assert launcher.check_run_worker_health(found(instance, run.run_id)).status is WorkerStatus.RUNNING
    with leased(instance, "copy", run.run_id):
        assert launcher.terminate(run.run_id), "it hears of it"
    assert found(instance, run.run_id).status is DagsterRunStatus.CANCELING
    assert not launcher.terminate(run.run_id), "nobody is there"


def test_the_death_of_a_run_is_seen(instance: DagsterInstance) -> None:
    run_id = launched(instance)
    launcher = instance.run_launcher
    assert isinstance(launcher, WarmRunLauncher)
    assert launcher.supports_check_run_worker_health
    pid = process_of(instance, run_id)
    with stopped(pid):
        assert launcher.check_run_worker_health(found(instance, run_id)).status is WorkerStatus.RUNNING
    wait_for(
        lambda: launcher.check_run_worker_health(found(instance, run_id)).status is WorkerStatus.FAILED,
        "that it is seen",
    )
    assert not launcher.terminate(run_id)


def test_where_the_system_tells_no_birth_the_number_must_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert warm_launcher._birth(os.getpid()).isdigit()
    monkeypatch.setattr(warm_launcher, "_PROCESSES", tmp_path / "none")
    assert warm_launcher._birth(os.getpid()) == "unknown"
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert warm_launcher._birth(gone.pid) == ""


def test_a_run_that_is_canceled_before_it_begins(instance: DagsterInstance, tmp_path: Path) -> None:
    run_id = launched(instance)
    with stopped(process_of(instance, run_id)):
        assert found(instance, run_id).status is DagsterRunStatus.STARTING
        assert instance.run_launcher.terminate(run_id)
    assert ended(instance, run_id).status is DagsterRunStatus.CANCELED
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_run_that_is_interrupted_ends_at_a_batch(instance: DagsterInstance, tmp_path: Path) -> None:
    with (tmp_path / "in.csv").open("a", encoding="utf-8") as more:
        more.writelines(f"{number},x\n" for number in range(3, 100_000))
    run_id = launched(instance)
    wait_for(lambda: found(instance, run_id).status is DagsterRunStatus.STARTED, "that it begins")
    assert instance.run_launcher.terminate(run_id)
    assert ended(instance, run_id).status is DagsterRunStatus.CANCELED
    again = launched(instance)
    assert ended(instance, again).status is DagsterRunStatus.SUCCESS
    read = [row[0] for each in (tmp_path / "out").glob("*.csv") for row in csv.reader(each.read_text().splitlines())]
    rows = [each for each in read if each != "id"]
    assert (len(rows), len(set(rows))) == (99_999, 99_999)


def test_of_two_runs_that_are_launched_together_one_is_fenced_and_names_the_other(
    deployment: Deployment, instance: DagsterInstance, tmp_path: Path
) -> None:
    _write(deployment, filled(tmp_path, "rate_limit: {rows: 150, per: 1s}"))
    both = [launched(instance), launched(instance)]
    statuses = {each: ended(instance, each).status for each in both}
    assert set(statuses.values()) == {DagsterRunStatus.FAILURE, DagsterRunStatus.SUCCESS}, [
        told(instance, each) for each in both
    ]
    won, lost = sorted(both, key=lambda each: statuses[each] is DagsterRunStatus.FAILURE)
    assert f"another run owns this stream now; nothing of this epoch was committed; the other is run {won}" in told(
        instance, lost
    )
    assert found(instance, lost).tags[WILL_RETRY_TAG] == "false", "though the instance tries failed steps again"
    assert arrived(tmp_path) == dict.fromkeys(range(ROWS), 1)


def _looked(instance: DagsterInstance) -> list[RunRequest]:
    """Looks once with the sensor, as the daemon does every five seconds."""
    [sensor] = WorkflowRepository(Library(read_settings())).get_all_sensors()
    return list(sensor.evaluate_tick(build_sensor_context(instance=instance)).run_requests or [])


def _asked_for(instance: DagsterInstance, run_key: str) -> str:
    wait_for(lambda: [each.run_key for each in _looked(instance)] == [run_key], f"the request {run_key}")
    [request] = _looked(instance)
    return launched(instance, "stream", request.tags)


def test_a_stream_is_kept_alive_until_it_is_stopped(
    deployment: Deployment, instance: DagsterInstance, tmp_path: Path
) -> None:
    filled(tmp_path)
    _write(deployment, STREAM.replace("FOLDER", str(tmp_path)))
    first = _asked_for(instance, "stream:alive:first")
    _until_brought(instance, first, tmp_path, ROWS)
    assert _looked(instance) == [], "it runs"
    os.kill(process_of(instance, first), signal.SIGKILL)
    with closing(sqlite3.connect(tmp_path / "in.db")) as database, database:
        database.execute("INSERT INTO a VALUES (?)", [ROWS])
    health = instance.run_launcher.check_run_worker_health
    wait_for(lambda: health(found(instance, first)).status is WorkerStatus.FAILED, "that it is seen")
    instance.report_run_failed(found(instance, first), "as the daemon says then")
    assert found(instance, first).tags[WILL_RETRY_TAG] == "false", "the sensor starts it again, nobody else"
    second = _asked_for(instance, f"stream:alive:{first}")
    _until_brought(instance, second, tmp_path, ROWS + 1)
    assert set(arrived(tmp_path).values()) == {1}
    assert end(instance, [found(instance, second)], STOP, lambda _: None) == []
    assert found(instance, second).status is DagsterRunStatus.CANCELED
    assert _looked(instance) == [], "it was stopped"
    hold(instance, "stream", "ann")
    assert _looked(instance) == []


def _until_brought(instance: DagsterInstance, run_id: str, folder: Path, rows: int) -> None:
    def brought() -> bool:
        assert found(instance, run_id).status is not DagsterRunStatus.FAILURE, told(instance, run_id)
        return _brought(folder) == rows

    wait_for(brought, f"the arrival of {rows} rows")


def _brought(folder: Path) -> int:
    try:
        return sum(arrived(folder).values())
    except sqlite3.OperationalError:  # the table is not there yet
        return 0
