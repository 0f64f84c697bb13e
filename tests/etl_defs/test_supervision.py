"""Runs whose worker is killed or frozen: found by their lease, tried again, fenced; each row arrives once. Real processes and signals."""

import signal
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG

from dsl.contracts.failpoints import Action, Fault, arm, disarm
from etl_defs.attempts import load_of
from etl_defs.kept_alive import verdict_on
from etl_defs.leases import PREFIX, decoded
from etl_defs.watchdog import end_dead_runs
from resources.stores.key_values import KeyValues
from server.home import SETTINGS
from tests.etl_defs.deployment import Deployment
from tests.etl_defs.workers import (
    ROWS,
    arrived,
    created,
    databases_of,
    failpoint,
    filled,
    found,
    frozen,
    told,
    work_here,
    worker,
)

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
    with deployment.instance() as opened:
        yield opened


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
    assert found(instance, first.run_id).status is DagsterRunStatus.STARTED, "Dagster does not notice"
    assert list(end_dead_runs(instance)) == [], "its lease has not run out"
    _expire(instance, first)
    [said] = end_dead_runs(instance)
    dead = found(instance, first.run_id)
    assert dead.status is DagsterRunStatus.FAILURE
    assert dead.tags[WILL_RETRY_TAG] == "true"
    assert said in told(instance, first.run_id)
    assert "goes on from the last commit" in told(instance, first.run_id)
    assert KeyValues(instance).list(PREFIX) == {}
    retry = work_here(instance, created(instance, dead))
    assert retry.status is DagsterRunStatus.SUCCESS
    assert arrived(tmp_path) == ONCE
    assert KeyValues(instance).list(PREFIX) == {}, "a lease ends with its run"
    assert work_here(instance, created(instance, retry)).status is DagsterRunStatus.SUCCESS
    assert set(arrived(tmp_path).values()) == {2}, "a run that succeeded and is started again is a new load"


def test_a_worker_that_was_only_slow_is_fenced(
    deployment: Deployment, instance: DagsterInstance, tmp_path: Path
) -> None:
    slowly = filled(tmp_path, "rate_limit: {rows: 400, per: 1s}")
    (deployment.workflows / "copy.yaml").write_text(slowly, encoding="utf-8")
    slow = created(instance)
    process = worker(deployment, slow, failpoint("epoch.committed=freeze@2"))
    with frozen(process, *databases_of(deployment), tmp_path / "out.db"):
        [text] = KeyValues(instance).list(PREFIX).values()
        lease = decoded(text)
        assert lease is not None
        assert (lease.workflow, lease.pid) == ("copy", process.pid)
        _expire(instance, slow)
        assert len(list(end_dead_runs(instance))) == 1
        retry = work_here(instance, created(instance, found(instance, slow.run_id)))
        assert retry.status is DagsterRunStatus.SUCCESS
    process.wait()
    assert "another run owns this stream now" in told(instance, slow.run_id)
    assert f"the other is run {retry.run_id}" in told(instance, slow.run_id)
    assert found(instance, slow.run_id).status is DagsterRunStatus.FAILURE
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
    assert load_of(instance, found(instance, third.run_id)) == first.run_id


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
        [record] = instance.get_run_records(RunsFilter(run_ids=[died.run_id]))
        at = record.end_time
        assert at is not None
        assert verdict_on(instance, "copy", at + waits - 1).key == ""
        assert f"after {waits} s" in verdict_on(instance, "copy", at).reason
        assert verdict_on(instance, "copy", at + waits).key == died.run_id


def test_a_workflow_that_was_stopped_is_not_started(instance: DagsterInstance) -> None:
    stopped = _ended(instance, failed=False)
    assert verdict_on(instance, "copy", time.time() + 9_999).reason.startswith(f"run {stopped.run_id} was stopped")


@pytest.mark.parametrize(
    ("broken", "fault", "again"),
    [
        ("table: nowhere", {}, "false"),
        ("table: a", {"loop.read": Fault(Action.RAISE)}, "true"),
    ],
)
def test_an_instance_that_retries_failed_steps_retries_only_what_may_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, fault: Mapping[str, Fault], again: str
) -> None:
    text = filled(tmp_path).replace("table: a", broken).replace("  source:", "  retry: {max_attempts: 1}\n  source:")
    settings = SETTINGS.replace("retry_on_asset_or_op_failure: false", "retry_on_asset_or_op_failure: true")
    made = Deployment(tmp_path, {"copy.yaml": text}, settings=settings)
    monkeypatch.setenv("HEADRACE_WORKFLOWS", made.environment["HEADRACE_WORKFLOWS"])
    monkeypatch.setenv("DAGSTER_HOME", made.environment["DAGSTER_HOME"])
    arm(fault)
    try:
        with made.instance() as instance:
            failed = work_here(instance, created(instance))
    finally:
        disarm()
    assert failed.status is DagsterRunStatus.FAILURE
    assert failed.tags[WILL_RETRY_TAG] == again
