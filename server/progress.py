"""A run as it goes on, on a terminal: one line a stage, renewed in place; keeps the reports for whoever asks; changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table

from dsl.contracts.redaction import scrub
from dsl.contracts.stores import Event
from engine.report import StageReport

WORDS = {
    "stage_started": "running",
    "stage_finished": "done",
    "retrying": "retrying",
    "stage_failed": "failed",
    "stage_fenced": "fenced",
}


@dataclass
class _Line:
    """What is known of a stage."""

    status: str = "waiting"
    read: int = 0
    written: int = 0
    epoch: int = 0
    note: str = ""


@dataclass
class Progress:
    """Watches a run.

    Attributes:
        stages: Ids of all stages, in order: shown as waiting before they start.
        reports: Of the stages that have ended, in order.
    """

    stages: tuple[str, ...] = ()
    reports: list[StageReport] = field(default_factory=list)
    _lines: dict[str, _Line] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def emit(self, event: Event) -> None:
        """Takes one event; any thread may call this."""
        with self._lock:
            line = self._lines.setdefault(event.stage, _Line())
            line.status = WORDS.get(event.name, line.status)
            line.read = _number(event.fields.get("rows_read"), line.read)
            line.written = _number(event.fields.get("rows_written"), line.written)
            line.epoch = _number(event.fields.get("epoch"), line.epoch)
            line.note = scrub(str(event.fields.get("reason", "")))[:80]

    def finished(self, report: StageReport) -> None:
        """Takes the report of a stage that has ended."""
        with self._lock:
            self.reports.append(report)
            books = report.reconciliation
            self._lines[report.stage] = _Line(str(report.outcome), books.read, books.written, report.epoch)

    @contextmanager
    def shown(self, console: Console) -> Iterator[None]:
        """Shows the run on a terminal while the block goes on; elsewhere nothing is drawn."""
        if not console.is_terminal:
            yield
            return
        with Live(get_renderable=self._table, console=console, refresh_per_second=4, transient=True):
            yield

    def _table(self) -> Table:
        table = Table("stage", "status", box=None)
        for name in ("read", "written", "epoch"):
            table.add_column(name, justify="right")
        table.add_column("")
        with self._lock:
            for stage in dict.fromkeys((*self.stages, *self._lines)):
                line = self._lines.get(stage, _Line())
                table.add_row(stage, line.status, f"{line.read:,}", f"{line.written:,}", str(line.epoch), line.note)
        return table


def _number(value: object, before: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else before
