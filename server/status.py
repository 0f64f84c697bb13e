"""What the workflows of a deployment are doing, gathered from Dagster's storage and the dead letters; asks no system."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from dagster import DagsterInstance, DagsterRunStatus, RunRecord, RunsFilter
from dagster._core.scheduler.instigation import InstigatorStatus, InstigatorType
from dagster._utils.schedules import cron_string_iterator

from dsl.contracts.state import Json, State
from etl_defs.holds import Hold, holds
from etl_defs.library import Library
from etl_defs.naming import TAG_CONTROL
from etl_defs.pulse import PAUSE
from etl_defs.runner import local_letters
from etl_defs.settings import read_settings
from etl_defs.status import Status, StatusBoard, StatusUpdate
from resources.stores.checkpoints import KeyValueCheckpoints
from resources.stores.dead_letters import LocalDeadLetters
from server.control import Target

SILENT = 30.0
"""A run whose rows are older than so many seconds may have died: a living one writes one every ten."""
_WORDS = {
    DagsterRunStatus.QUEUED: "queued",
    DagsterRunStatus.NOT_STARTED: Status.STARTING.value,
    DagsterRunStatus.STARTING: Status.STARTING.value,
    DagsterRunStatus.SUCCESS: Status.COMPLETED.value,
    DagsterRunStatus.FAILURE: Status.FAILED.value,
}
_CURSORS = ("cursor", "high", "low")


@dataclass(frozen=True)
class WorkflowStatus:
    """One workflow at one moment.

    Attributes:
        name: Its Dagster name.
        status: That of its last run: `starting`, `running`, `pausing`, `stopping`, `paused`, `stopped`, `completed`, `failed`;
            `queued` and `never run` besides.
        hold: Who holds it, or None.
        run_id: The last run, or "".
        started: When that began, or None.
        stages: What its stages told last, in the order in which they began.
        last_success: When a run last completed, or None.
        next_tick: When its schedule starts it next, or None.
        dead_letters: Letters that wait for somebody.
        lag: Seconds between now and the newest value of a source's cursor that is committed, where that is a time; or None.
    """

    name: str
    status: str = "never run"
    hold: Hold | None = None
    run_id: str = ""
    started: datetime | None = None
    stages: tuple[StatusUpdate, ...] = ()
    last_success: datetime | None = None
    next_tick: datetime | None = None
    dead_letters: int = 0
    lag: float | None = None

    @property
    def going(self) -> bool:
        """Whether its last run has not ended."""
        return self.status in {"queued", *(each.value for each in Status if not each.over)}

    @property
    def silent(self) -> float | None:
        """Seconds since a run that goes on was heard of, if that is longer than it should be."""
        if not self.going or not self.stages:
            return None
        seconds = (datetime.now(UTC) - max(each.at for each in self.stages)).total_seconds()
        return seconds if seconds > SILENT else None

    def as_json(self) -> dict[str, Json]:
        """Returns it for machines."""
        return {
            "workflow": self.name,
            "status": self.status,
            "held": None if self.hold is None else {"since": self.hold.since.isoformat(), "by": self.hold.by},
            "run_id": self.run_id or None,
            "started": _iso(self.started),
            "stages": [each.as_json() for each in self.stages],
            "last_success": _iso(self.last_success),
            "next_tick": _iso(self.next_tick),
            "dead_letters": self.dead_letters,
            "lag_seconds": None if self.lag is None else round(self.lag, 1),
            "silent_seconds": None if self.silent is None else round(self.silent, 1),
        }


@dataclass
class Overview:
    """Looks at the workflows of a deployment, as often as it is asked.

    Attributes:
        instance: The deployment's instance.
        only: The one workflow to look at, or None for all.
    """

    instance: DagsterInstance
    only: Target | None = None

    def __post_init__(self) -> None:
        settings = read_settings()
        self._library = Library(settings)
        self._board = StatusBoard(self.instance)
        self._letters = LocalDeadLetters(local_letters(settings))
        self._checkpoints = KeyValueCheckpoints(self.instance)

    def look(self) -> list[WorkflowStatus]:
        """Returns every workflow as it is now, sorted by name."""
        held, letters, stopped = holds(self.instance), self._waiting(), self._stopped_schedules()
        return [self._status(name, held, letters, stopped) for name in self._names(held)]

    def _names(self, held: Mapping[str, Hold]) -> list[str]:
        if self.only is not None:
            return [self.only.name]
        told = {each.workflow for each in self._board.all()}
        return sorted({*self._library.names, *held, *told})

    def _status(
        self, name: str, held: Mapping[str, Hold], letters: Mapping[str, int], stopped: frozenset[str]
    ) -> WorkflowStatus:
        entry = self._library.entry(name) if self._library.has(name) else None
        title = self.only.title if self.only is not None else entry.title if entry is not None else name
        record = self._last(RunsFilter(job_name=name))
        succeeded = self._last(RunsFilter(job_name=name, statuses=[DagsterRunStatus.SUCCESS]))
        stages = () if record is None else tuple(self._board.of(name, record.dagster_run.run_id))
        schedule = entry.outline.schedule if entry is not None and entry.outline is not None else None
        due = schedule is not None and name not in held and f"{name}__schedule" not in stopped
        return WorkflowStatus(
            name=name,
            status="never run" if record is None else _word(record, stages),
            hold=held.get(name),
            run_id="" if record is None else record.dagster_run.run_id,
            started=None if record is None else _time(record.start_time or record.create_timestamp.timestamp()),
            stages=stages,
            last_success=None if succeeded is None else _time(succeeded.end_time),
            next_tick=_next(schedule.cron, schedule.timezone) if schedule is not None and due else None,
            dead_letters=letters.get(title, 0),
            lag=self._lag(title),
        )

    def _last(self, wanted: RunsFilter) -> RunRecord | None:
        found = self.instance.get_run_records(wanted, limit=1)
        return found[0] if found else None

    def _waiting(self) -> Counter[str]:
        found: Counter[str] = Counter()
        if self._letters.path.exists():
            for each in self._letters.groups():
                found[each.key.split("/", 1)[0]] += each.count
        return found

    def _stopped_schedules(self) -> frozenset[str]:
        states = self.instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE)
        return frozenset(each.instigator_name for each in states if each.status is InstigatorStatus.STOPPED)

    def _lag(self, title: str) -> float | None:
        reached = [at for each in self._checkpoints.list(f"{title}/") for at in _cursors(each.state)]
        return (datetime.now(UTC) - min(reached)).total_seconds() if reached else None


def _word(record: RunRecord, stages: Iterable[StatusUpdate]) -> str:
    run = record.dagster_run
    pausing = run.tags.get(TAG_CONTROL) == PAUSE
    if run.status is DagsterRunStatus.CANCELING:
        return Status.PAUSING if pausing else Status.STOPPING
    if run.status is DagsterRunStatus.CANCELED:
        return Status.PAUSED if pausing else Status.STOPPED
    if run.status is DagsterRunStatus.STARTED:
        return Status.RUNNING if any(True for _ in stages) else Status.STARTING
    return _WORDS.get(run.status, str(run.status.value).lower())


def _cursors(state: State) -> Iterator[datetime]:
    """Yields how far each source of a stage has been read, where its cursor is a time."""
    inputs = state.get("inputs")
    for each in inputs.values() if isinstance(inputs, dict) else ():
        if isinstance(each, dict):
            texts = (each.get(name) for name in _CURSORS)
            times = [found for text in texts if isinstance(text, str) and (found := _parsed(text)) is not None]
            if times:
                yield max(times)


def _parsed(text: str) -> datetime | None:
    if "-" not in text[1:]:
        return None  # digits alone may be a date, and are more often a number
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _next(cron: str, timezone: str) -> datetime:
    return next(iter(cron_string_iterator(datetime.now(UTC).timestamp(), cron, timezone)))


def _time(stamp: float | None) -> datetime | None:
    return None if stamp is None else datetime.fromtimestamp(stamp, UTC)


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")
