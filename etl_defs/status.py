"""What a run tells about itself while it goes on: one small row a stage in run storage, overwritten; decides nothing about the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum

from dagster import DagsterInstance

from dsl.contracts.redaction import scrub
from dsl.contracts.state import Json
from dsl.contracts.stores import Event
from resources.stores.key_values import KeyValues

PREFIX = "headrace/status/v1/"
VERSION = 1
_LONGEST_NOTE = 200
_AT_END = {
    "read": "rows_read",
    "written": "rows_written",
    "filtered": "rows_filtered",
    "rejected": "rows_rejected",
    "bytes": "bytes_written",
}
_METRICS = {name: name for name in (*_AT_END.values(), "epoch")}
_ENDS = {"finished": "completed", "stopped": "stopped", "paused": "paused"}


class Status(StrEnum):
    """Where a stage, or a run, stands."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    PAUSING = "pausing"
    STOPPED = "stopped"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"

    @property
    def over(self) -> bool:
        """Whether nothing comes after it in the same run."""
        return self in {Status.STOPPED, Status.PAUSED, Status.COMPLETED, Status.FAILED}


@dataclass(frozen=True)
class StatusUpdate:
    """One stage at one moment.

    Attributes:
        workflow: The workflow's Dagster name.
        stage: The stage's id.
        run_id: The run.
        status: Where it stands.
        metrics: Rows read, written, filtered, rejected, bytes, rows a second, epoch.
        at: When, in UTC.
        began: When the stage started, in UTC.
        note: Why it waits or has failed, or "".
    """

    workflow: str
    stage: str
    run_id: str
    status: Status
    metrics: Mapping[str, float] = field(default_factory=dict)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    note: str = ""

    def after(self, event: Event) -> StatusUpdate:
        """Returns it as it is after an event of the stage."""
        # A report of the end has short names; a commit tells by them what its own epoch came to.
        names = _AT_END if event.name == "stage_finished" else _METRICS
        found = {name: event.fields.get(key) for key, name in names.items()}
        metrics = {**self.metrics, **{name: value for name, value in found.items() if isinstance(value, int | float)}}
        seconds = (event.at - self.began).total_seconds()
        if metrics.get("rows_read") and seconds > 0:
            metrics["rows_per_second"] = round(metrics["rows_read"] / seconds, 1)
        note = scrub(str(event.fields.get("reason", "")))[:_LONGEST_NOTE]
        return replace(self, status=self._status(event), metrics=metrics, at=event.at, note=note)

    def _status(self, event: Event) -> Status:
        if event.name in {"stage_failed", "stage_fenced"}:
            return Status.FAILED
        if event.name == "stage_finished":
            return Status(_ENDS[str(event.fields.get("outcome", "finished"))])
        return self.status if self.status in {Status.STOPPING, Status.PAUSING} else Status.RUNNING

    def as_json(self) -> dict[str, Json]:
        """Returns it as plain data."""
        return {
            "v": VERSION,
            "workflow": self.workflow,
            "stage": self.stage,
            "run_id": self.run_id,
            "status": self.status.value,
            "metrics": dict(self.metrics),
            "timestamp": self.at.isoformat(timespec="milliseconds"),
            "began": self.began.isoformat(timespec="milliseconds"),
            "note": self.note,
        }

    def sentence(self) -> str:
        """Returns it as one line for people."""
        return f"{self.status}: {self.numbers()}" + (f" ({self.note})" if self.note else "")

    def numbers(self) -> str:
        """Returns how far it is, for people."""
        numbers = {name: int(self.metrics.get(name, 0)) for name in _METRICS}
        told = [
            f"read {numbers['rows_read']:,}",
            f"written {numbers['rows_written']:,}",
            *(f"{name} {numbers[f'rows_{name}']:,}" for name in ("filtered", "rejected") if numbers[f"rows_{name}"]),
            *([f"{self.metrics['rows_per_second']:,.0f} rows/s"] if self.metrics.get("rows_per_second") else []),
            f"epoch {numbers['epoch']}",
        ]
        return ", ".join(told)


class StatusBoard:
    """The status rows of a deployment.

    Args:
        instance: Its run storage keeps them.
    """

    def __init__(self, instance: DagsterInstance) -> None:
        self._pairs = KeyValues(instance)

    def put(self, update: StatusUpdate) -> None:
        """Overwrites a stage's row."""
        self._pairs.put(f"{PREFIX}{update.workflow}/{update.stage}"[:255], json.dumps(update.as_json()))

    def of(self, workflow: str, run_id: str | None = None) -> list[StatusUpdate]:
        """Returns the rows of a workflow's stages in the order in which they began; those of one run only, if it is named."""
        rows = (each for each in self.all(f"{workflow}/") if run_id in {None, each.run_id})
        return sorted(rows, key=lambda each: each.began)

    def all(self, prefix: str = "") -> list[StatusUpdate]:
        """Returns the rows of every workflow."""
        found = self._pairs.list(PREFIX + prefix).values()
        return [row for text in found if (row := _decoded(text)) is not None]


def _decoded(text: str) -> StatusUpdate | None:
    """Returns a row, or None for one that another version of Headrace wrote: the next second brings a new one."""
    facts = json.loads(text)
    if facts.get("v") != VERSION:
        return None
    return StatusUpdate(
        workflow=facts["workflow"],
        stage=facts["stage"],
        run_id=facts["run_id"],
        status=Status(facts["status"]),
        metrics=facts["metrics"],
        at=datetime.fromisoformat(facts["timestamp"]),
        began=datetime.fromisoformat(facts["began"]),
        note=facts["note"],
    )
