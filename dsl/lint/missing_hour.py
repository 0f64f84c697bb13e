"""Schedules at an hour that does not exist on the day when clocks go forward; knows only the rules of time zones."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from dsl.bound import BoundWorkflow
from dsl.lint.rule import Finding, Rule

_SEVERAL = 4
_YEAR = 2025


class MissingHour(Rule):
    """The schedule names an hour that its time zone leaves out on one day of the year, when clocks go forward.

    On that day the run starts at another time, and in autumn the same hour comes twice. Choose another hour (03:30 is
    safe nearly everywhere), or the time zone UTC.
    """

    code = "W108"

    def findings(self, workflow: BoundWorkflow) -> Iterator[Finding]:
        """Yields the workflow itself."""
        schedule = workflow.workflow.schedule
        hours = schedule.cron.split()[1].split(",") if schedule is not None else []
        if schedule is None or len(hours) >= _SEVERAL:
            return
        for hour in hours:
            if hour.isdecimal() and int(hour) in _hours_left_out(schedule.timezone):
                said = f"{hour}:00 does not exist on one day of the year in {schedule.timezone}"
                yield self.found(workflow.workflow.span, said, "choose another hour, or timezone: UTC")


@cache
def _hours_left_out(zone: str) -> frozenset[int]:
    """Returns the hours that a zone skips: those that come back different from a trip through UTC."""
    local = ZoneInfo(zone)
    first = datetime(_YEAR, 1, 1, tzinfo=local)
    times = (first + timedelta(hours=each) for each in range(366 * 24))
    return frozenset(each.hour for each in times if each.astimezone(UTC).astimezone(local).hour != each.hour)
