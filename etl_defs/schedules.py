"""Schedules: when a workflow starts by the clock, and what happens if it still runs then; starts nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    DefaultScheduleStatus,
    RunRequest,
    RunsFilter,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SkipReason,
)
from dagster._utils.schedules import cron_string_iterator

from dsl.schedule import Overlap, Schedule
from etl_defs.holds import why_held
from etl_defs.library import Entry
from etl_defs.naming import TAG_LOGICAL_TIME, TAG_WORKFLOW

IN_PROGRESS = (
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
)
MAX_CATCHUP = 50
Evaluation = Iterator[RunRequest | SkipReason]


def schedule_of(entry: Entry) -> ScheduleDefinition | None:
    """Returns the schedule that a workflow declares, or None. A declared schedule runs unless somebody stops it."""
    schedule = entry.outline.schedule if entry.outline else None
    if schedule is None:
        return None
    return ScheduleDefinition(
        name=f"{entry.name}__schedule",
        cron_schedule=schedule.cron,
        execution_timezone=schedule.timezone,
        job_name=entry.name,
        tags={TAG_WORKFLOW: entry.name},
        default_status=DefaultScheduleStatus.RUNNING,
        description=_describe(schedule),
        execution_fn=_evaluation(entry.name, schedule),
    )


def _describe(schedule: Schedule) -> str:
    overlap = (
        "Skipped while a run is in progress" if schedule.overlap is Overlap.SKIP else "Queued behind a run in progress"
    )
    catchup = "missed times are made up for" if schedule.catchup else "of missed times only the last is made up for"
    return f"{overlap}; {catchup}."


def _evaluation(name: str, schedule: Schedule) -> Callable[[ScheduleEvaluationContext], Evaluation]:
    def evaluate(context: ScheduleEvaluationContext) -> Evaluation:
        held = why_held(context.instance, name)
        if held:
            yield SkipReason(held)
            return
        busy = run_in_progress(context.instance, name) if schedule.overlap is Overlap.SKIP else None
        if busy is not None:
            yield SkipReason(f"run {busy} of {name} is still in progress")
            return
        now = context.scheduled_execution_time
        for time in [*(_missed(context.instance, name, schedule, now) if schedule.catchup else ()), now]:
            yield request(name, time)

    return evaluate


def request(name: str, logical_time: datetime, tags: Mapping[str, str] | None = None) -> RunRequest:
    """Returns the request for one run of a workflow; asking twice for the same time gives one run."""
    moment = logical_time.astimezone(UTC).isoformat()
    return RunRequest(run_key=moment, tags={TAG_WORKFLOW: name, TAG_LOGICAL_TIME: moment, **(tags or {})})


def run_in_progress(instance: DagsterInstance, name: str) -> str | None:
    """Returns the id of a run of the workflow that has not ended, or None."""
    runs = instance.get_run_records(RunsFilter(job_name=name, statuses=list(IN_PROGRESS)), limit=1)
    return runs[0].dagster_run.run_id if runs else None


def _missed(instance: DagsterInstance, name: str, schedule: Schedule, now: datetime) -> list[datetime]:
    """Returns the times between the last scheduled run and now at which no run started, the oldest first."""
    records = instance.get_run_records(RunsFilter(job_name=name, tags={TAG_WORKFLOW: name}), limit=20)
    times = [run.dagster_run.tags.get(TAG_LOGICAL_TIME) for run in records]
    last = max((datetime.fromisoformat(each) for each in times if each), default=None)
    if last is None:
        return []
    due = cron_string_iterator((last + timedelta(seconds=1)).timestamp(), schedule.cron, schedule.timezone)
    zone = ZoneInfo(schedule.timezone)
    return [each.astimezone(zone) for each in islice(due, MAX_CATCHUP) if each < now]
