"""A run as it goes on: a table renewed in place on a terminal, a line now and then elsewhere; keeps the reports; changes nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dsl.contracts.redaction import scrub
from dsl.contracts.stores import Event
from engine.report import StageReport
from server.tables import list_table, private_stderr

WORDS = {
    "stage_started": "running",
    "stage_finished": "finished",
    "retrying": "waiting to try again",
    "stage_failed": "failed",
    "stage_fenced": "fenced",
}
EVERY = 5.0
NOTE = 200


@dataclass
class StageProgress:
    """What is known of a stage.

    Attributes:
        status: In a word or two.
        read: Rows read.
        written: Rows written, those not yet committed included.
        committed: Rows committed in this run.
        epoch: The last committed epoch over the stream's whole life.
        note: Why it waits or has failed, or "".
        began: When it started, in seconds of the clock that never goes back.
        told: When a line about it was last written.
    """

    status: str = "waiting"
    read: int = 0
    written: int = 0
    committed: int = 0
    epoch: int = 0
    note: str = ""
    began: float | None = None
    told: float = float("-inf")

    def take(self, event: Event, now: float) -> None:
        """Notes what an event says."""
        self.status = WORDS.get(event.name, "running")
        self.note = scrub(str(event.fields.get("reason", "")))[:NOTE]
        self.read = _number(event, "rows_read", _number(event, "read", self.read))
        self.written = _number(event, "rows_written", _number(event, "written", self.written))
        if event.name in {"committed", "stage_finished"}:
            self.committed = self.written
        if event.name in {"committed", "stage_started"}:
            self.epoch = _number(event, "epoch", self.epoch)
        if event.name == "stage_finished":
            self.status = str(event.fields.get("outcome", self.status))
        self.began = now if self.began is None else self.began

    def line(self) -> str:
        """Returns it as one line of a log."""
        told = f"{self.status}: read {self.read:,}, written {self.written:,}, epoch {self.epoch}"
        return f"{told} ({self.note})" if self.note else told


@dataclass
class Progress:
    """Watches a run.

    Attributes:
        stages: Ids of all stages, in order: shown as waiting before they start.
        reports: Of the stages that have ended, in order.
        seen: What is known of each stage that has begun.
        monotonic: Seconds of a clock that never goes back.
    """

    stages: tuple[str, ...] = ()
    reports: list[StageReport] = field(default_factory=list)
    seen: dict[str, StageProgress] = field(default_factory=dict)
    monotonic: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _lines: Console | None = None

    def emit(self, event: Event) -> None:
        """Takes one event; any thread may call this."""
        with self._lock:
            now = self.monotonic()
            stage = self.seen.setdefault(event.stage, StageProgress())
            stage.take(event, now)
            often = event.name in {"committed", "progress"}
            if self._lines is not None and not (often and now < stage.told + EVERY):
                stage.told = now
                self._lines.print(Text(f"{event.stage}: {stage.line()}"), soft_wrap=True)

    def finished(self, report: StageReport) -> None:
        """Takes the report of a stage that has ended."""
        with self._lock:
            self.reports.append(report)

    @contextmanager
    def shown(self, console: Console) -> Iterator[None]:
        """Shows the run while the block goes on: renewed in place on a terminal, else as lines."""
        if console.is_terminal:
            with Live(get_renderable=self._table, console=console, refresh_per_second=4, transient=True):
                yield
            return
        self._lines = console
        try:
            yield
        finally:
            self._lines = None

    @contextmanager
    def on_stderr(self, *, quiet: bool = False) -> Iterator[None]:
        """Shows the run on stderr while the block goes on, or nothing at all."""
        if quiet:
            yield
            return
        with private_stderr() as console, self.shown(console):
            yield

    def _table(self) -> Table:
        table = list_table("stage", "status")
        for name in ("read", "written", "rows/s", "epoch", "time"):
            table.add_column(name, justify="right")
        with self._lock:
            now = self.monotonic()
            for name in dict.fromkeys((*self.stages, *self.seen)):
                stage = self.seen.get(name, StageProgress())
                table.add_row(Text(name), Text(stage.status), *_cells(stage, now))
                if stage.note:
                    table.add_row("", Text(stage.note, style="yellow"))
        return table


def _cells(stage: StageProgress, now: float) -> tuple[str, ...]:
    seconds = 0.0 if stage.began is None else now - stage.began
    rate = f"{stage.read / seconds:,.0f}" if seconds >= 1 and stage.status == "running" else ""
    return (f"{stage.read:,}", f"{stage.written:,}", rate, str(stage.epoch), f"{seconds:.0f} s" if stage.began else "")


def _number(event: Event, name: str, before: int) -> int:
    value = event.fields.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else before
