"""Stop and pause end at a batch boundary with a checkpoint; interrupts, hanging readers and blocking queries end too; no thread stays."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.errors import ErrorType, FatalError, RetryableError
from dsl.contracts.policies import RetryPolicy
from engine.run import Control, StageOutcome, run_stage
from tests.engine.fakes import Crash, Events, Power, Table, Tape, chunk, context, numbers, policies, scan, stage, stream

CAST = "SELECT id, CAST(text AS BIGINT) AS n FROM input"
JOIN = "SELECT l.id FROM l JOIN r ON l.id = r.id"
NEVER = "SELECT count(*) AS n FROM a, range(100000) x, range(100000) y WHERE hash(x.range, y.range, a.id) = 1"
WAIT = 10.0


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Whatever a test does, what it started has ended."""
    before = set(threading.enumerate())
    yield
    end = time.monotonic() + WAIT
    while left := [each for each in threading.enumerate() if each not in before]:
        assert time.monotonic() < end, left
        time.sleep(0.01)


def _beside(*steps: Callable[[], object]) -> None:
    """Does one step after another in a thread beside the test."""

    def work() -> None:
        for each in steps:
            each()

    threading.Thread(target=work).start()


def _rest() -> None:
    """Gives the other threads time to come to where they wait."""
    time.sleep(0.3)


class Interrupted(BaseException):
    """What a signal handler raises in the calling thread."""


@pytest.mark.parametrize("wish", ["stop", "pause"])
@pytest.mark.parametrize("at", [0, 1, 4])
def test_a_wish_ends_the_stage_at_a_boundary_and_the_next_run_goes_on(home: Path, wish: str, at: int) -> None:
    control = Control()

    def ask(number: int) -> None:
        if number == at:
            getattr(control, wish)()

    tape, table = Tape(numbers(30), batch=3, page=2, at_batch=ask), Table()
    given = context(home, control=control)
    report = run_stage(stage(scan(tape), table), given)
    assert report.outcome is (StageOutcome.STOPPED if wish == "stop" else StageOutcome.PAUSED)
    assert len(table.ids()) % 6 == 0
    assert len(table.ids()) < 30
    assert report.reconciliation.balanced
    tape.at_batch = lambda _: None
    again = run_stage(stage(scan(tape), table), replace(given, control=Control(), run_id="run-2"))
    assert again.outcome is StageOutcome.FINISHED
    assert table.ids() == list(range(30))
    assert (report.epochs == 0) is not again.resumed


@pytest.mark.parametrize("mode", [WriteMode.APPEND, WriteMode.OVERWRITE])
def test_a_wish_at_the_very_end_finishes(home: Path, mode: WriteMode) -> None:
    control, table = Control(), Table()
    table.before = lambda point: control.stop() if point == "write" else None
    report = run_stage(stage(scan(Tape(numbers(3))), table, mode=mode), context(home, control=control))
    assert report.outcome is StageOutcome.FINISHED
    assert table.ids() == [0, 1, 2]


def test_a_stop_wins_over_a_pause() -> None:
    control = Control()
    control.pause()
    control.stop()
    control.pause()
    assert control.wish() == "stop"
    assert control.wait(0)
    assert not Control().wait(0)


def test_a_wish_before_the_start_changes_nothing(home: Path) -> None:
    control, table = Control(), Table()
    control.stop()
    report = run_stage(
        stage(scan(Tape(numbers(3000), batch=1)), table, policies(epoch=1)), context(home, control=control)
    )
    assert report.outcome is StageOutcome.STOPPED
    assert report.epochs <= 1


def test_a_stopped_retry_does_not_open_again(home: Path) -> None:
    control, tape = Control(), Tape(numbers(9))

    def fail(_: int) -> None:
        control.stop()
        raise RetryableError("the server restarts")

    tape.at_batch = fail
    report = run_stage(stage(scan(tape), Table()), context(home, control=control))
    assert (report.outcome, report.attempts, len(tape.opened)) == (StageOutcome.STOPPED, 1, 1)


class _Gate:
    """Lets a reader hang at a batch until it is told to go on or its reader is closed."""

    def __init__(self, at: int) -> None:
        self.at, self.reached, self.go = at, threading.Event(), threading.Event()

    def __call__(self, number: int) -> None:
        if number == self.at:
            self.reached.set()
            assert self.go.wait(WAIT)


def test_a_page_that_does_not_end_is_left_after_the_grace(home: Path) -> None:
    """The reader is inside a page: there is no boundary to end at, so what it sent is read again."""
    gate, control = _Gate(3), Control()
    tape, table = Tape(numbers(30), batch=3, page=10, at_batch=gate), Table()
    given = context(home, control=control, grace=timedelta(0))
    _beside(lambda: gate.reached.wait(WAIT), control.stop, _rest, gate.go.set)
    report = run_stage(stage(scan(tape), table), given)
    assert (report.outcome, table.ids()) == (StageOutcome.STOPPED, [])


def _stopped_while_running(root: Any, home: Path, tapes: list[Tape]) -> tuple[Any, Table]:
    control, table = Control(), Table()
    reached = threading.Event()
    for each in tapes:
        each.at_batch = lambda number: reached.set() if number == 3 else None
    _beside(lambda: reached.wait(WAIT), _rest, control.stop)
    report = run_stage(stage(root, table), context(home, control=control))
    return report, table


def test_a_blocking_query_is_interrupted(home: Path) -> None:
    tape = Tape(numbers(40), batch=4)
    report, table = _stopped_while_running(stream({"a": scan(tape)}, NEVER), home, [tape])
    assert (report.outcome, table.ids()) == (StageOutcome.STOPPED, [])
    assert list((home / "spill").iterdir()) == []


@pytest.fixture
def interrupt() -> Iterator[Callable[[], None]]:
    """Raises `Interrupted` in the main thread, as a handler of SIGTERM would."""

    def handle(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, handle)
    yield lambda: os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


def test_an_interrupt_commits_at_the_next_boundary_and_goes_on(home: Path, interrupt: Callable[[], None]) -> None:
    gate, table = _Gate(5), Table()
    tape = Tape(numbers(30), batch=3, at_batch=gate)
    _beside(lambda: gate.reached.wait(WAIT), interrupt, _rest, gate.go.set)
    given = context(home)
    with pytest.raises(Interrupted):
        run_stage(stage(scan(tape), table), given)
    assert table.commits
    committed = len(table.ids())
    assert 0 < committed < 30
    tape.at_batch = lambda _: None
    run_stage(stage(scan(tape), table), replace(given, control=Control()))
    assert table.ids() == list(range(30))


def test_an_interrupt_ends_what_does_not_end_by_itself(home: Path, interrupt: Callable[[], None]) -> None:
    """The stage waits for a reader that waits for ever: after the grace it is cut off."""
    gate, table = _Gate(2), Table()
    tape = Tape(numbers(30), batch=3, page=10, at_batch=gate, at_close=gate.go.set)
    _beside(lambda: gate.reached.wait(WAIT), interrupt)
    with pytest.raises(Interrupted):
        run_stage(stage(scan(tape), table), context(home, grace=timedelta(seconds=0.2)))
    assert tape.closed == 1
    assert table.ids() == []


def test_a_reader_that_is_silent_for_too_long_is_opened_again(home: Path) -> None:
    gate, tape, table, events = _Gate(2), Tape(numbers(12)), Table(), Events()
    tape.at_batch, tape.at_close = gate, gate.go.set
    held = policies(epoch=3, timeout=timedelta(milliseconds=300))
    report = run_stage(stage(scan(tape, held=held), table, held), context(home, events=events))
    assert table.ids() == list(range(12))
    assert report.attempts == 2
    told = next(each for each in events.told if each.name == "retrying")
    assert "nothing came for 0.3 s" in str(told.fields["reason"])


def test_a_timeout_that_may_not_be_tried_again_says_where_and_what_to_do(home: Path) -> None:
    gate, tape = _Gate(1), Tape(numbers(12))
    tape.at_batch, tape.at_close = gate, gate.go.set
    held = policies(timeout=timedelta(milliseconds=200), retry=RetryPolicy(max_attempts=1))
    with pytest.raises(RetryableError, match=r"source: nothing came for 0.2 s \(raise its `timeout`\)") as raised:
        run_stage(stage(scan(tape, held=held), Table(), held), context(home))
    assert raised.value.error_type is ErrorType.TIMEOUT


ROOTS: dict[str, Callable[[Tape, Tape], Any]] = {
    "copy": lambda one, _: scan(one),
    "chunk": lambda one, _: chunk(scan(one), CAST),
    "join": lambda one, other: stream({"l": scan(one, "left"), "r": scan(other, "right")}, JOIN),
    "sort over chunk": lambda one, _: stream({"a": chunk(scan(one), CAST)}, "SELECT * FROM a ORDER BY id"),
    "chunk over sort": lambda one, _: chunk(
        stream({"a": scan(one)}, "SELECT * FROM a ORDER BY id"), CAST, nodes=("after",)
    ),
}


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("point", ["open_writer", "write", "commit", "committed", "read", "reader.open", "checkpoint"])
def test_an_error_anywhere_ends_every_thread_and_closes_every_reader(home: Path, root: str, point: str) -> None:
    one, other, table = Tape(numbers(90), batch=2), Tape(numbers(90), batch=2), Table()
    power = Power(2 if point == "read" else 1, point)
    one.power = table.power = power
    given = context(home)
    given.checkpoints.power = power  # type: ignore[attr-defined]
    with pytest.raises(Crash):
        run_stage(stage(ROOTS[root](one, other), table, policies(epoch=2)), given)
    for tape in (one, other):
        opened = len(tape.opened)
        assert tape.closed == opened


def test_cancelling_while_the_channels_are_full_ends_at_once(home: Path) -> None:
    def fail(point: str) -> None:
        if point == "write":
            time.sleep(0.2)
            raise FatalError("the table is read-only")

    tape = Tape(numbers(400), batch=1)
    root = chunk(stream({"a": chunk(scan(tape), CAST)}, "SELECT id, n FROM a"), "SELECT id FROM input", nodes=("x",))
    with pytest.raises(FatalError, match="read-only"):
        run_stage(stage(root, Table(before=fail)), context(home))


@pytest.mark.parametrize("now", [True, False])
@pytest.mark.parametrize("wish", ["stop", "pause"])
def test_a_destination_that_does_not_answer_does_not_keep_a_stage(home: Path, wish: str, *, now: bool) -> None:
    """It hangs inside a write: the stage is left at its last commit, and the next run brings the rest, once."""
    control, table, hangs, go = Control(), Table(), threading.Event(), threading.Event()

    def hang(point: str) -> None:
        if point == "write" and len(table.commits) == 2:
            hangs.set()
            assert go.wait(WAIT * 3)

    def ask() -> None:
        if now:
            control.stop(now=True)
        else:
            getattr(control, wish)()

    table.before = hang
    grace = timedelta(seconds=60 if now else 0.2)
    given = context(home, control=control, grace=grace)
    _beside(lambda: hangs.wait(WAIT), ask)
    report = run_stage(stage(scan(Tape(numbers(30), batch=3)), table, policies(epoch=3)), given)
    expected = StageOutcome.PAUSED if wish == "pause" and not now else StageOutcome.STOPPED
    assert (report.outcome, report.epochs, report.epoch) == (expected, 2, 2)
    assert report.reconciliation.written == len(table.ids()) == 6
    go.set()
    _until_alone()
    table.before = lambda _: None
    run_stage(stage(scan(Tape(numbers(30), batch=3)), table), replace(given, control=Control(), run_id="run-2"))
    assert table.ids() == list(range(30))


def _until_alone() -> None:
    """Waits until the stage that was left has let go."""
    end = time.monotonic() + WAIT
    while any(each.name.startswith("headrace-") for each in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_run_that_is_to_end_opens_no_further_stage(home: Path) -> None:
    control, tape = Control(), Tape(numbers(3))
    control.pause()
    report = run_stage(stage(scan(tape), Table()), context(home, control=control))
    assert (report.outcome, report.epochs, report.nodes, tape.opened) == (StageOutcome.PAUSED, 0, (), [])
