"""When the run of a workflow that never ends is started again: at once after it ran well, later and later after it died young."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus, RunRecord, RunsFilter
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG

WELL = 300.0
"""A run that went on for so many seconds ran well: what ended it is no reason to wait."""
FIRST, LONGEST = 5.0, 300.0
LOOKED_AT = 12
"""Runs looked at: more of them could not make the pause longer."""
RETRIED_WITHIN = 60.0


@dataclass(frozen=True)
class Verdict:
    """Whether a run is to start.

    Attributes:
        key: Names the start, so that asking twice gives one run; "" if none is to start.
        reason: Why it starts, or why not.
    """

    key: str
    reason: str


def verdict_on(instance: DagsterInstance, workflow: str, now: float) -> Verdict:
    """Returns whether a workflow that never ends, and of which nothing runs, is to be started.

    Args:
        instance: Where its runs are.
        workflow: Its Dagster name.
        now: Seconds since 1970.
    """
    records = instance.get_run_records(RunsFilter(job_name=workflow), limit=LOOKED_AT)
    if not records:
        return Verdict("first", "it never ran")
    last = records[0].dagster_run
    if _stopped(instance, records[0]):
        return Verdict("", f"run {last.run_id} was stopped; launch the workflow to go on")
    since = now - (records[0].end_time or records[0].create_timestamp.timestamp())
    if _retried_by_dagster(records[0]) and since < RETRIED_WITHIN:
        return Verdict("", f"a retry of run {last.run_id} follows")
    wait = pause(records)
    if since < wait:
        return Verdict("", f"run {last.run_id} ended {since:.0f} s ago; the next starts after {wait:.0f} s")
    return Verdict(last.run_id, f"after {last.run_id}")


def pause(records: Sequence[RunRecord]) -> float:
    """Returns the seconds between the end of the last run and the start of the next, from the newest runs."""
    young = sum(1 for _ in takewhile(lambda each: _seconds(each) < WELL, records))
    return min(FIRST * 2.0 ** (young - 1), LONGEST) if young else 0.0


def _seconds(record: RunRecord) -> float:
    return (record.end_time or 0.0) - record.start_time if record.start_time else 0.0


def _stopped(instance: DagsterInstance, record: RunRecord) -> bool:
    """Whether somebody ended it: a run that hears of it fails at its next boundary, and is not always shown as canceled."""
    run = record.dagster_run
    if run.status is DagsterRunStatus.CANCELED:
        return True
    return bool(instance.all_logs(run.run_id, of_type=DagsterEventType.RUN_CANCELING))


def _retried_by_dagster(record: RunRecord) -> bool:
    tags = record.dagster_run.tags
    return tags.get(WILL_RETRY_TAG) == "true" and AUTO_RETRY_RUN_ID_TAG not in tags
