"""How many lines of progress reach Dagster's event log. Waits for nothing: the clock is turned by hand."""

from datetime import UTC, datetime

from dsl.contracts.stores import Event
from etl_defs.progress import TROUBLES, AllEvents, BoundedEvents


class _Lines:
    def __init__(self) -> None:
        self.info_lines: list[str] = []
        self.warnings: list[str] = []

    def info(self, msg: str) -> None:
        self.info_lines.append(msg)

    def warning(self, msg: str) -> None:
        self.warnings.append(msg)


def _event(name: str, **fields: int) -> Event:
    return Event(name, "flow", "target", datetime(2026, 1, 1, tzinfo=UTC), fields)


def test_twelve_hours_of_progress_are_a_few_lines() -> None:
    lines, seconds = _Lines(), [0.0]
    events = BoundedEvents(lines, lambda: seconds[0])
    for second in range(12 * 3600):
        seconds[0] = float(second)
        events.emit(_event("progress", rows=second))
    assert 10 <= len(lines.info_lines) <= 25
    assert lines.info_lines[0] == "[target] progress: rows 10"


def test_a_short_stage_writes_no_progress() -> None:
    lines = _Lines()
    events = BoundedEvents(lines, lambda: 0.0)
    for _ in range(1000):
        events.emit(_event("committed", rows=1))
    assert not lines.info_lines


def test_trouble_is_bounded_and_says_so() -> None:
    lines = _Lines()
    events = BoundedEvents(lines, lambda: 0.0)
    for attempt in range(100):
        events.emit(_event("retrying", attempt=attempt))
    assert len(lines.warnings) == TROUBLES
    assert lines.warnings[-1].endswith("(more of these go to the process's log only)")


def test_everyone_is_told() -> None:
    first, second = _Lines(), _Lines()
    AllEvents([BoundedEvents(first), BoundedEvents(second)]).emit(_event("stage_started"))
    assert first.info_lines == second.info_lines == ["[target] stage started"]
