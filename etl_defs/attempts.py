"""Which runs of Dagster try one and the same load: retries of runs that did not succeed; starts no run."""

from __future__ import annotations

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG

from dsl.contracts.errors import FencedError


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


def named(error: FencedError, instance: DagsterInstance, run: DagsterRun) -> FencedError:
    """Returns the error with the run that fenced this one, as far as Dagster knows it, and what to do.

    A token tells that its stream has another owner, and learns its name with that owner's first commit.
    """
    runs = instance.get_runs(RunsFilter(job_name=run.job_name), limit=2)
    other = next((f"most likely run {each.run_id}" for each in runs if each.run_id != run.run_id), "started elsewhere")
    return FencedError(
        f"{error.message}; the other is {other}",
        where=error.where,
        hint="let it finish: what this run committed stays, and the other goes on from there; "
        "launch the workflow again only if that one fails",
    )
