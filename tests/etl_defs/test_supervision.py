"""Runs whose worker is killed or frozen: found by their lease, tried again, fenced; each row arrives once. Real processes and signals."""

import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG

from etl_defs.attempts import load_of
from etl_defs.kept_alive import verdict_on
from etl_defs.leases import PREFIX, decoded
from etl_defs.watchdog import end_dead_runs
from resources.stores.key_values import KeyValues
from tests.etl_defs.deployment import Deployment, wait_for
from tests.etl_defs.workers import ROWS, arrived, created, failpoint, filled, now, told, worker

FINAL = ROWS // 200
ONCE = dict.fromkeys(range(ROWS), 1)


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    made = Deployment(tmp_path, {"copy.yaml": filled(tmp_path)})
    for name in ("DAGSTER_HOME", "HEADRACE_WORKFLOWS", "PYTHONWARNINGS"):
        monkeypatch.setenv(name, made.environment[name])
    return made


@pytest.fixture
def instance(deployment: Deployment) -> Iterator[DagsterInstance]:
    with deployment.instance() as found:
        yield found


def _expire(instance: DagsterInstance, run: DagsterRun) -> None:
    """Lets the time pass that a lease lasts, without waiting for it."""
    pairs, key = KeyValues(instance), PREFIX + run.run_id
    text = pairs.get(key)
    lease = decoded(text or "")
    assert text
    assert lease
    past = lease.__class__(**{**lease.__dict__, "expires": lease.expires - timedelta(minutes=1)})
    assert pairs.replace(key, text, past.encoded())


def test_a_retry_after_a_lost_final_commit_reads_nothing_again(
    deployment: Deployment, instance: DagsterInstance, tmp_path: Path
) -> None:
    first = created(instance)
    # Killed when the last epoch is committed and nobody but the target knows.
    assert worker(deployment, first, failpoint(f"epoch.committed=kill@{FINAL}")).wait() == -signal.SIGKILL
    assert arrived(tmp_path) == ONCE
    assert now(instance, first).status is DagsterRunStatus.STARTED, "Dagster does not notice"
    assert list(end_dead_runs(instance)) == [], "its lease has not run out"
    _expire(instance, first)
    [said] = end_dead_runs(instance)
    dead = now(instance, first)
    assert dead.status is DagsterRunStatus.FAILURE
    assert dead.tags[WILL_RETRY_TAG] == "true"
    assert said in told(instance, first)
    assert "goes on from the last commit" in told(instance, first)
    assert KeyValues(instance).list(PREFIX) == {}
    retry = created(instance, dead)
    assert worker(deployment, retry).wait() == 0
    assert now(instance, retry).status is DagsterRunStatus.SUCCESS
    assert arrived(tmp_path) == ONCE
    again = created(instance, now(instance, retry))
    assert worker(deployment, again).wait() == 0
    assert set(arrived(tmp_path).values()) == {2}, "a run that succeeded and is started again is a new load"


def test_a_worker_that_was_only_slow_is_fenced(
    deployment: Deployment, instance: DagsterInstance, tmp_path: Path
) -> None:
    slow = created(instance)
    process = worker(deployment, slow, failpoint("epoch.committed=freeze@2"))
    try:
        assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
        _expire(instance, slow)
        assert len(list(end_dead_runs(instance))) == 1
        retry = created(instance, now(instance, slow))
        assert worker(deployment, retry).wait() == 0
        assert now(instance, retry).status is DagsterRunStatus.SUCCESS
    finally:
        process.send_signal(signal.SIGCONT)
    process.wait()
    assert "another run owns this stream now" in told(instance, slow)
    assert f"most likely run {retry.run_id}" in told(instance, slow)
    assert now(instance, slow).status is DagsterRunStatus.FAILURE
    assert arrived(tmp_path) == ONCE


def test_a_load_is_named_by_its_first_run(instance: DagsterInstance) -> None:
    first = created(instance)
    second = created(instance, first)
    third = created(instance, second)
    assert load_of(instance, third) == first.run_id
    for each in (first, second):
        instance.report_engine_event("ends", each)
        instance.report_run_failed(each)
    assert load_of(instance, third) == first.run_id
    instance.add_run_tags(second.run_id, {AUTO_RETRY_RUN_ID_TAG: third.run_id})
    assert load_of(instance, now(instance, third)) == first.run_id


def test_the_lease_ends_with_its_run(deployment: Deployment, instance: DagsterInstance) -> None:
    run = created(instance)
    process = worker(deployment, run, failpoint("epoch.committed=freeze@1"))
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
    [text] = KeyValues(instance).list(PREFIX).values()
    lease = decoded(text)
    assert lease is not None
    assert (lease.workflow, lease.pid) == ("copy", process.pid)
    process.send_signal(signal.SIGCONT)
    process.wait()
    wait_for(lambda: not KeyValues(instance).list(PREFIX), "the end of the lease")


def _ended(instance: DagsterInstance, *, failed: bool = True) -> DagsterRun:
    run = created(instance)
    if failed:
        instance.report_run_failed(run)
    else:
        instance.report_run_canceled(run)
    return run


def test_a_workflow_that_never_ends_starts_later_each_time_it_dies_young(instance: DagsterInstance) -> None:
    assert verdict_on(instance, "copy", time.time()).key == "first"
    for waits in (5, 10, 20, 40):
        died = _ended(instance)
        instance.add_run_tags(died.run_id, {WILL_RETRY_TAG: "false"})
        assert verdict_on(instance, "copy", time.time()).key == ""
        assert f"after {waits} s" in verdict_on(instance, "copy", time.time()).reason
        assert verdict_on(instance, "copy", time.time() + waits).key == died.run_id


def test_a_workflow_that_was_stopped_is_not_started(instance: DagsterInstance) -> None:
    stopped = _ended(instance, failed=False)
    assert verdict_on(instance, "copy", time.time() + 9_999).reason.startswith(f"run {stopped.run_id} was stopped")
