"""Which runs of Dagster try one and the same load: retries of runs that did not succeed; starts no run."""

from __future__ import annotations

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG


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
