"""Finds runs whose worker is gone, and ends them for Dagster so that a retry can follow; starts no run and stops no process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus

from etl_defs.leases import Lease, decoded, leases
from resources.stores.key_values import KeyValues

CLAIM = timedelta(seconds=30)
"""How long one watchdog keeps others from the same run; if it dies meanwhile, another goes on."""
_CLOCK = "headrace/lease/clock"


def end_dead_runs(instance: DagsterInstance) -> Iterator[str]:
    """Ends every run whose lease ran out, and says of each what was done."""
    pairs = KeyValues(instance)
    now = pairs.read(_CLOCK)[1]
    for key, text in leases(pairs).items():
        lease = decoded(text)
        if lease is not None and lease.expires <= now and (said := _end(instance, pairs, key, text, lease, now)):
            yield said


def _end(instance: DagsterInstance, pairs: KeyValues, key: str, text: str, lease: Lease, now: datetime) -> str:
    run = instance.get_run_by_id(lease.run_id)
    if run is None or run.is_finished:
        pairs.delete(key)
        return ""
    # The worker's next renewal fails by this; a worker that was faster than the claim keeps its run.
    if not pairs.replace(key, text, replace(lease, expires=now + CLAIM, holder="watchdog").encoded()):
        return ""
    late = (now - lease.expires).total_seconds()
    said = (
        f"the worker of run {run.run_id} (process {lease.pid} on {lease.host}) has not been heard of: its lease ran out "
        f"{late:.0f} s ago, so its host is lost, frozen or cut off from run storage"
    )
    _mark(instance, run, said)
    pairs.delete(key)
    return said


def _mark(instance: DagsterInstance, run: DagsterRun, said: str) -> None:
    if run.status is DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, f"{said}. It was to end, and does.")
    else:
        instance.report_engine_event(f"{said}.", run)
        instance.report_run_failed(
            run, f"{said}. Nothing that was committed is lost: a retry, or a new launch, goes on from the last commit."
        )
    if instance.event_log_storage.supports_global_concurrency_limits:
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
