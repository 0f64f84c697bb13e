"""The progress of a run: lines that are few where there is no terminal, a table where there is one, numbers that are true."""

from __future__ import annotations

import io
import os
import pty
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console

from dsl.contracts.rows import WriteStats
from dsl.contracts.stores import Event
from engine.report import NodeReport, Reconciliation, RunReport, StageOutcome, StageReport
from server.progress import EVERY, Progress
from server.tables import print_report, print_rows
from tests.server.command import COMMAND, environment


class Turned:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def event(name: str, **fields: int | str) -> Event:
    return Event(name, "w", "lake", datetime.now(UTC), fields)


def test_lines_are_few_and_tell_the_last_numbers() -> None:
    clock, told = Turned(), io.StringIO()
    progress = Progress(("lake",), monotonic=clock)
    with progress.shown(Console(file=told, width=120)):
        progress.emit(event("stage_started", epoch=7))
        for number in range(1, 101):
            clock.now += EVERY / 10
            progress.emit(event("committed", epoch=7 + number, rows_read=number * 10, rows_written=number * 9))
        progress.emit(event("retrying", reason="no answer"))
        progress.emit(event("stage_finished", outcome="finished", read=1000, written=900))
    lines = told.getvalue().splitlines()
    assert len(lines) == 13
    assert lines[0] == "lake: running: read 0, written 0, epoch 7"
    assert lines[-2] == "lake: waiting to try again: read 1,000, written 900, epoch 107 (no answer)"
    assert lines[-1] == "lake: finished: read 1,000, written 900, epoch 107"
    assert progress.seen["lake"].committed == 900


def test_what_is_not_committed_is_not_called_so() -> None:
    progress = Progress()
    progress.emit(event("committed", epoch=1, rows_read=10, rows_written=10))
    progress.emit(event("progress", epoch=2, rows_read=30, rows_written=30))
    progress.emit(event("stage_failed", reason="broken"))
    seen = progress.seen["lake"]
    assert (seen.status, seen.written, seen.committed, seen.epoch) == ("failed", 30, 10, 1)


def test_a_terminal_shows_a_table(orders: Path) -> None:
    main, other = pty.openpty()
    run = subprocess.Popen(
        [*COMMAND, "run", "orders.yaml"],
        cwd=orders,
        env=environment(TERM="xterm", COLUMNS="80"),
        stdout=subprocess.PIPE,
        stderr=other,
    )
    os.close(other)
    shown = b""
    while True:
        try:
            part = os.read(main, 65_536)
        except OSError:  # how Linux says that the last writer has closed the terminal
            break
        if not part:
            break
        shown += part
    os.close(main)
    run.communicate()
    assert run.returncode == 0
    assert b"rows/s" in shown
    assert b"destination" in shown
    assert b"Traceback" not in shown


def stage_report(name: str, *, rejected: int = 0, folded: bool = False, lost: int = 0) -> StageReport:
    folds = {"folded_in": 336_776, "folded_out": 16} if folded else {}
    written = 16 if folded else 336_776 - rejected - lost
    return StageReport(
        stage=name,
        outcome=StageOutcome.FINISHED,
        nodes=(NodeReport(("a", "b"), "scan", 1, 1),),
        reconciliation=Reconciliation(read=336_776, written=written, rejected=rejected, **folds),
        stats=WriteStats(rows=written),
        epochs=2,
        epoch=2,
        state=None,
        resumed=False,
        attempts=1,
        seconds=1.5,
        schema=pa.schema([]),
        preview=pa.table({}),
        rejected_by_code={"1_mapping/conversion": rejected} if rejected else {},
    )


@pytest.mark.parametrize("width", [80, 120])
def test_a_report_fits_its_terminal(width: int) -> None:
    told = io.StringIO()
    stages = (stage_report("warehouse", folded=True), stage_report("lake[0]", rejected=3))
    print_report(RunReport("flights", "1", stages, 3.25), "finished", Console(file=told, width=width))
    text = told.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "flights: finished in 3.2 s" in text
    assert "warehouse: 336,776 read + 16 folded out = 16 written + 336,776 folded in" in text
    assert "lake[0]: 336,776 read = 336,773 written + 3 rejected" in text
    assert "rejected 3 by 1_mapping/conversion" in text


def test_books_that_do_not_balance_say_so() -> None:
    told = io.StringIO()
    print_report(RunReport("w", "1", (stage_report("s", lost=1),), 1.0), "failed", Console(file=told, width=100))
    assert "s: 336,776 read ≠ 336,775 written" in told.getvalue()


def test_rows_are_printed_as_they_are() -> None:
    told = io.StringIO()
    table = pa.table({"[bold]a": ["[red]x", None, "line\nbreak", "\x1b[31m"], "b": [1, 2, 3, 4]})
    print_rows(table, types={"[bold]a": "string", "b": "int64"}, console=Console(file=told, width=80))
    text = told.getvalue()
    assert "[bold]a" in text
    assert "[red]x" in text
    assert "∅" in text
    assert "line⏎break" in text
    assert "\x1b[31m" not in text
