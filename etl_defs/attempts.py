"""Which runs of Dagster try one and the same load: retries of runs that did not succeed; starts no run."""

from __future__ import annotations

from collections.abc import Iterator

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG

from dsl.contracts.errors import FencedError
from resources.stores.checkpoints import KeyValueCheckpoints

LOOKED_AT = 20
"""Runs of a workflow that are looked at for the one that fenced another."""


def load_of(instance: DagsterInstance, run: DagsterRun) -> str:
    """Returns the id of the first run of a load: the run's own, unless it tries again what another left undone.

    Dagster gives each retry an id of its own, whether its daemon or a person starts it. A run that is started again
    after it succeeded is a new load.
    """
    first = run
    while (parent := _tried_again(instance, first)) is not None:
        first = parent
    return first.run_id


def _tried_again(instance: DagsterInstance, run: DagsterRun) -> DagsterRun | None:
    parent = instance.get_run_by_id(run.parent_run_id) if run.parent_run_id else None
    if parent is None:
        return None
    # A worker that was taken for dead may succeed after all, once its retry has been decided on.
    retried = parent.tags.get(AUTO_RETRY_RUN_ID_TAG) == run.run_id
    return parent if retried or parent.status is not DagsterRunStatus.SUCCESS else None


def named(error: FencedError, instance: DagsterInstance, run: DagsterRun, title: str) -> FencedError:
    """Returns the error with the run that fenced this one, as far as Dagster knows it, and what to do.

    Args:
        error: What the destination said, which knows only that its stream has another owner.
        instance: Where runs and copies of tokens are.
        run: The run that was fenced.
        title: The workflow's own name, as its tokens have it.
    """
    return FencedError(
        f"{error.message}; the other is {_owner(instance, run, title)}",
        where=error.where,
        hint="let it finish: what this run committed stays, and the other goes on from there; "
        "launch the workflow again only if that one fails",
    )


def _owner(instance: DagsterInstance, run: DagsterRun, title: str) -> str:
    [record] = instance.get_run_records(RunsFilter(run_ids=[run.run_id]))
    began = record.start_time or record.create_timestamp.timestamp()
    for each in sorted(
        KeyValueCheckpoints(instance).list(f"{title}/"), key=lambda copy: copy.committed_at, reverse=True
    ):
        if each.run_id != run.run_id and each.committed_at.timestamp() >= began:
            return f"run {each.run_id}"
    # Whoever fenced this run was at work after it had begun. A copy may be of this run though another has committed since.
    others = [each for each in _at_work_since(instance, run.job_name, began) if each != run.run_id]
    if len(others) == 1:
        return f"run {others[0]}"
    return f"most likely run {others[0]}" if others else "started elsewhere"


def _at_work_since(instance: DagsterInstance, job: str, began: float) -> Iterator[str]:
    """Yields the runs of a workflow that had not ended at a time, the newest first."""
    for each in instance.get_run_records(RunsFilter(job_name=job), limit=LOOKED_AT):
        if each.start_time and (each.end_time is None or each.end_time >= began):
            yield each.dagster_run.run_id
