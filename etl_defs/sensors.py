"""One sensor for every trigger of every workflow, for those that never end, and for runs whose worker is gone; runs nothing itself."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Protocol, runtime_checkable

from dagster import (
    AssetKey,
    AssetRecordsFilter,
    DagsterInstance,
    DefaultSensorStatus,
    JobDefinition,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
)

from dsl.contracts.state import Json
from dsl.diagnostics import did_you_mean
from dsl.plan.logical import Read
from dsl.schedule import Trigger, TriggerType
from dsl.workflow import Mode
from etl_defs.arrivals import Arrival, local_files, look, seen_of
from etl_defs.holds import why_held
from etl_defs.kept_alive import verdict_on
from etl_defs.library import Library
from etl_defs.naming import TAG_LOGICAL_TIME, TAG_TRIGGER, TAG_WORKFLOW
from etl_defs.schedules import run_in_progress
from etl_defs.watchdog import end_dead_runs

NAME = "headrace_triggers"
INTERVAL = 5
"""Seconds between two looks; a trigger may have a longer interval of its own."""
ALONE = {"dagster/max_retries": "0"}
"""Who keeps a run alive starts it again; nobody else does."""
KNOWN = 1_000
Memory = dict[str, Json]


@runtime_checkable
class Lists(Protocol):
    """A source that can tell which files it would read."""

    def list_files(self) -> Sequence[tuple[str, int, float]]:
        """Returns name, bytes and seconds since 1970 of each file."""


@dataclass
class _Look:
    """One look of the sensor at all triggers.

    Attributes:
        library: The workflows.
        instance: Where runs and assets are found.
        memory: What the last look remembered, by workflow; changed by this one.
        requests: Runs to start.
        notes: Why others do not start.
    """

    library: Library
    instance: DagsterInstance
    memory: dict[str, Memory]
    requests: list[RunRequest] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def at(self, name: str, trigger: Trigger) -> None:
        """Looks at one trigger, unless it is too early or its workflow is running."""
        kept, now = self.memory.get(name, {}), time.time()
        last = kept.get("looked")
        if isinstance(last, int | float) and now - last < trigger.interval.total_seconds():
            return
        held = why_held(self.instance, name)
        if held:
            self.notes.append(held)
            return
        busy = run_in_progress(self.instance, name)
        if busy is not None:
            self.notes.append(f"{name}: run {busy} is still in progress")
            return
        found = (
            self._files(name, trigger, kept, now) if trigger.type is TriggerType.FILE else self._asset(trigger, kept)
        )
        key, reason, remembered = found
        self.memory[name] = {**remembered, "looked": now}
        if key:
            tags = {TAG_WORKFLOW: name, TAG_TRIGGER: reason, TAG_LOGICAL_TIME: datetime.now(UTC).isoformat()}
            self.requests.append(RunRequest(run_key=f"{name}:{key}", job_name=name, tags=tags))
        else:
            self.notes.append(f"{name}: {reason}")

    def end_dead_runs(self) -> None:
        """Ends runs whose worker is gone."""
        self.notes.extend(end_dead_runs(self.instance))

    def keep_alive(self, name: str) -> None:
        """Starts a workflow that never ends, unless it runs, is held, was stopped, or died a moment ago."""
        busy = run_in_progress(self.instance, name)
        held = "" if busy else why_held(self.instance, name)
        if busy or held:
            self.notes.extend([held] if held else [])
            return
        verdict = verdict_on(self.instance, name, time.time())
        if verdict.key:
            tags = {TAG_WORKFLOW: name, TAG_TRIGGER: f"kept alive: {verdict.reason}", **ALONE}
            self.requests.append(RunRequest(run_key=f"{name}:alive:{verdict.key}", job_name=name, tags=tags))
        else:
            self.notes.append(f"{name}: {verdict.reason}")

    def _files(self, name: str, trigger: Trigger, kept: Memory, now: float) -> tuple[str, str, Memory]:
        new, seen = look(self._listed(name, trigger), seen_of(kept), now)
        if not new:
            return "", "no new files", seen.as_json()
        first = min(new, key=lambda each: each.modified).name.rsplit("/", 1)[-1]
        reason = f"{first} and {len(new) - 1} more files" if len(new) > 1 else first
        key = hashlib.sha256(".".join(sorted(each.digest for each in new)).encode()).hexdigest()
        return key, reason, seen.as_json()

    def _listed(self, name: str, trigger: Trigger) -> list[Arrival]:
        if trigger.path is not None:
            return local_files(trigger.path)
        reads = [each for each in self.library.compiled(name).logical.nodes if isinstance(each, Read)]
        wanted = [each for each in reads if trigger.source in {None, each.id} and isinstance(each.source, Lists)]
        if len(wanted) != 1:
            raise ValueError("the trigger names no source of files; give it `source` or `path`")
        source = wanted[0].source
        return [Arrival(*each) for each in source.list_files()] if isinstance(source, Lists) else []

    def _asset(self, trigger: Trigger, kept: Memory) -> tuple[str, str, Memory]:
        key = AssetKey(list(trigger.asset))
        last = kept.get("storage_id")
        records = self.instance.fetch_materializations(AssetRecordsFilter(asset_key=key), limit=1).records
        newest = records[0].storage_id if records else 0
        if not newest:
            return "", self._never_written(key), {"storage_id": newest}
        if last is None or newest <= int(str(last)):
            return "", f"nothing new in {key.to_user_string()}", {"storage_id": newest}
        return str(newest), key.to_user_string(), {"storage_id": newest}

    def _never_written(self, key: AssetKey) -> str:
        """Says that an asset is not there yet, or was misspelt: a trigger that waits for ever should not do so in silence."""
        known = self.instance.get_asset_keys(prefix=key.path[:1], limit=KNOWN)
        hint = did_you_mean(key.to_user_string(), (each.to_user_string() for each in known))
        return f"nothing was ever written under {key.to_user_string()}" + (f" ({hint})" if hint else "")


def dispatcher(library: Library, job_of: Callable[[str], JobDefinition]) -> SensorDefinition:
    """Returns the sensor that watches every trigger that is switched on, every workflow that never ends, and every run's lease.

    Args:
        library: The workflows.
        job_of: Finds a job by name.
    """
    watched, endless = dict(_triggers(library)), list(_endless(library))

    def evaluate(context: SensorEvaluationContext) -> SensorResult:
        sight = _Look(library, context.instance, _memory(context.cursor))

        def looked(what: str, look_at: Callable[[], None]) -> None:
            try:
                look_at()
            except Exception as error:  # noqa: BLE001 - one thing that cannot be looked at hides no other
                context.log.warning("%s cannot be looked at: %s", what, error)
                sight.notes.append(f"{what}: {error}")

        looked("leases", sight.end_dead_runs)
        for name, trigger in watched.items():
            looked(name, partial(sight.at, name, trigger))
        for name in endless:
            looked(name, partial(sight.keep_alive, name))
        kept = {name: each for name, each in sight.memory.items() if name in watched}
        skip = None if sight.requests else SkipReason("; ".join(sight.notes) or "nothing to do")
        return SensorResult(
            run_requests=sight.requests, skip_reason=skip, cursor=json.dumps({"v": 1, "workflows": kept})
        )

    return SensorDefinition(
        name=NAME,
        evaluation_fn=evaluate,
        jobs=[job_of(name) for name in dict.fromkeys([*watched, *endless])] or None,
        minimum_interval_seconds=INTERVAL,
        default_status=DefaultSensorStatus.RUNNING,
        description=_describe(watched, endless),
    )


def _describe(watched: Iterable[str], endless: Iterable[str]) -> str:
    told = [("Watches the triggers of", ", ".join(watched)), ("Keeps alive", ", ".join(endless))]
    return " ".join([*(f"{what} {names}." for what, names in told if names), "Ends runs whose worker is gone."])


def _endless(library: Library) -> Iterator[str]:
    for name in library.names:
        outline = library.entry(name).outline
        if outline is not None and outline.mode is Mode.STREAM:
            yield name


def _triggers(library: Library) -> Iterator[tuple[str, Trigger]]:
    for name in library.names:
        outline = library.entry(name).outline
        if outline is not None and outline.trigger is not None and outline.trigger.enabled:
            yield name, outline.trigger


def _memory(cursor: str | None) -> dict[str, Memory]:
    if not cursor:
        return {}
    kept: Mapping[str, dict[str, Memory]] = json.loads(cursor)
    return dict(kept.get("workflows", {}))
