"""A deployment under `dagster dev` whose processes are killed: how soon it is noticed, and that each row arrives once. Slow."""

import json
import os
import shutil
import signal
import sqlite3
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from etl_defs.holds import hold, release
from etl_defs.naming import TAG_WORKER
from server.control import STOP, Target, end, hold_and_pause
from tests.etl_defs.deployment import Deployment, wait_for
from tests.etl_defs.workers import ROWS, ended, filled, found, process_of, told

pytestmark = pytest.mark.slow
LAUNCH = """mutation { launchRun(executionParams: { selector: {
    repositoryLocationName: "headrace", repositoryName: "__repository__", jobName: "JOB" } }) {
    __typename ... on LaunchRunSuccess { run { runId } } } }"""
TERMINATE = """mutation { terminateRun(runId: "RUN") { __typename } }"""
STREAM = """\
workflow:
  name: stream
  mode: stream
  poll: 100ms
  checkpoint: {period: 100ms}
  source: {type: sqlite, config: {path: FOLDER/fed.db, table: a, incremental_column: id}}
  destination: {type: sqlite, config: {path: FOLDER/stream.db, table: t}}
"""


@dataclass(frozen=True)
class Served:
    """A deployment that runs."""

    deployment: Deployment
    instance: DagsterInstance
    address: str
    folder: Path

    def ask(self, query: str) -> dict[str, dict[str, object]]:
        """Asks the web server as the UI does."""
        body = json.dumps({"query": query}).encode()
        request = urllib.request.Request(f"{self.address}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            data: dict[str, dict[str, object]] = json.load(answer)["data"]
        return data

    def begun(self, job: str) -> str:
        """Launches a workflow; returns its run once rows of it have arrived."""
        answer = self.ask(LAUNCH.replace("JOB", job))
        assert answer["launchRun"]["__typename"] == "LaunchRunSuccess", answer
        [run] = self.instance.get_runs(RunsFilter(job_name=job))
        wait_for(lambda: self.arrived(job), f"the first rows of {job}")
        return run.run_id

    def arrived(self, job: str) -> Counter[int]:
        """Returns how often each row stands in a workflow's target."""
        with closing(sqlite3.connect(self.folder / f"{job}.db", timeout=60)) as database:
            try:
                return Counter(number for (number,) in database.execute("SELECT id FROM t"))
            except sqlite3.OperationalError:  # the table is not there yet
                return Counter()

    def newest(self, job: str) -> DagsterRun:
        """Returns the newest run of a workflow."""
        [run] = self.instance.get_runs(RunsFilter(job_name=job), limit=1)
        return run

    def followed(self, job: str, lost: str, *, within: float, resumed_within: float, how: str) -> str:
        """Waits until a killed run is noticed and its retry brings rows, says how long both took, and returns the retry."""
        before, began = self.arrived(job).total(), time.monotonic()
        wait_for(lambda: found(self.instance, lost).status is DagsterRunStatus.FAILURE, "that it is noticed")
        noticed = time.monotonic() - began
        wait_for(lambda: self.arrived(job).total() > before, "that somebody goes on")
        resumed = time.monotonic() - began
        sys.stderr.write(f"{how}: noticed after {noticed:.1f} s, went on after {resumed:.1f} s\n")
        assert noticed <= within
        assert resumed <= resumed_within
        return self.newest(job).run_id


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    copy = filled(folder, "rate_limit: {rows: 60, per: 1s}").replace("rows: 200", "rows: 100")
    shutil.copyfile(folder / "in.db", folder / "fed.db")
    names = ("worker", "host", "ended")
    texts = {f"{each}.yaml": copy.replace("copy", each).replace("out.db", f"{each}.db") for each in names}
    deployment = Deployment(folder, {**texts, "stream.yaml": STREAM.replace("FOLDER", str(folder))})
    with pytest.MonkeyPatch.context() as patched, deployment.instance() as instance:
        patched.setenv("HEADRACE_WORKFLOWS", deployment.environment["HEADRACE_WORKFLOWS"])
        hold(instance, "stream", "the test")
        with deployment.serving() as address:
            yield Served(deployment, instance, address, folder)


def _code_servers(deployment: Deployment) -> list[int]:
    """Returns the processes of this deployment that serve its code."""
    found_there = []
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                command, variables = (each / "cmdline").read_bytes(), (each / "environ").read_bytes()
            except OSError:  # gone, or somebody else's
                continue
            serves = {b"grpc", b"code-server"} & {*command.split(b"\0")}
            if serves and f"DAGSTER_HOME={deployment.home}\0".encode() in variables + b"\0":
                found_there.append(int(each.name))
    return found_there


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_worker_that_dies_is_tried_again(served: Served) -> None:
    run_id = served.begun("worker")
    os.kill(process_of(served.instance, run_id), signal.SIGKILL)
    retry = served.followed("worker", run_id, within=20, resumed_within=90, how="worker")
    assert "the run's process has died" in told(served.instance, run_id)
    assert ended(served.instance, retry).status is DagsterRunStatus.SUCCESS
    assert found(served.instance, retry).parent_run_id == run_id
    assert served.arrived("worker") == dict.fromkeys(range(ROWS), 1)


def test_a_host_that_is_lost_is_noticed_by_the_lease(served: Served) -> None:
    """Worker, code server and warm process are gone at once, and the launcher knows nothing of the worker's host."""
    run_id = served.begun("host")
    pid = process_of(served.instance, run_id)
    victims = [pid, _parent(pid), *_code_servers(served.deployment)]
    assert len(victims) > 2, "no code server was found"
    served.instance.add_run_tags(run_id, {TAG_WORKER: f"lost/{pid}/1"})
    for each in victims:
        os.kill(each, signal.SIGKILL)
    retry = served.followed("host", run_id, within=30, resumed_within=90, how="host")
    assert "has not been heard of: its lease ran out" in told(served.instance, run_id)
    assert ended(served.instance, retry).status is DagsterRunStatus.SUCCESS
    assert found(served.instance, retry).parent_run_id == run_id
    assert served.arrived("host") == dict.fromkeys(range(ROWS), 1)


def test_the_button_of_the_ui_ends_a_run_at_a_batch(served: Served) -> None:
    run_id = served.begun("ended")
    answer = served.ask(TERMINATE.replace("RUN", run_id))
    assert answer["terminateRun"]["__typename"] == "TerminateRunSuccess"
    assert ended(served.instance, run_id).status is DagsterRunStatus.CANCELED
    part = served.arrived("ended")
    assert 0 < len(part) < ROWS
    assert served.ask(LAUNCH.replace("JOB", "ended"))["launchRun"]["__typename"] == "LaunchRunSuccess"
    wait_for(lambda: served.arrived("ended").total() > part.total(), "that the next run goes on")
    again = served.newest("ended")
    assert again.run_id != run_id
    assert end(served.instance, [again], STOP, lambda _: None) == []
    assert found(served.instance, again.run_id).status is DagsterRunStatus.CANCELED
    assert set(served.arrived("ended").values()) == {1}


def _add(folder: Path, number: int) -> None:
    with closing(sqlite3.connect(folder / "fed.db", timeout=60)) as database, database:
        database.execute("INSERT INTO a VALUES (?)", [number])


def test_a_stream_is_kept_alive_until_it_is_stopped_or_paused(served: Served) -> None:
    instance = served.instance
    assert not instance.get_runs(RunsFilter(job_name="stream")), "it is held"
    release(instance, "stream")
    wait_for(lambda: served.arrived("stream").total() == ROWS, "that the sensor starts it")
    first = served.newest("stream").run_id
    os.kill(process_of(instance, first), signal.SIGKILL)
    _add(served.folder, ROWS)
    second = served.followed("stream", first, within=20, resumed_within=90, how="stream")
    assert second != first
    target = Target("stream", "stream", None)
    assert end(instance, target.going(instance), STOP, lambda _: None) == []
    _stays_away(served, second)
    assert served.ask(LAUNCH.replace("JOB", "stream"))["launchRun"]["__typename"] == "LaunchRunSuccess"
    _add(served.folder, ROWS + 1)
    wait_for(lambda: ROWS + 1 in served.arrived("stream"), "that a person's run goes on")
    third = served.newest("stream").run_id
    _, _, left = hold_and_pause(instance, target, lambda _: None)
    assert left == []
    assert found(instance, third).status is DagsterRunStatus.CANCELED
    _stays_away(served, third)
    assert served.arrived("stream") == dict.fromkeys(range(ROWS + 2), 1)


def _stays_away(served: Served, last: str) -> None:
    """Lets the sensor look several times."""
    since = time.time()
    state = served.instance.all_instigator_state
    wait_for(
        lambda: any(
            tick.timestamp > since + 12
            for each in state()
            for tick in served.instance.get_ticks(each.instigator_origin_id, each.selector_id, limit=1)
        ),
        "further looks of the sensor",
    )
    assert served.newest("stream").run_id == last
