"""The door of the engine: runs one stage of a plan, or all of them in order; knows no YAML and no Dagster."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from datetime import timedelta

from dsl.contracts.errors import FencedError, HeadraceError, RetryableError
from dsl.plan.physical import ExchangeScan, ExchangeWrite, PhysicalPlan, Stage
from engine.channel import CancelledError
from engine.context import RunContext, SilentEvents, SystemClock
from engine.control import Control, Wish
from engine.events import Teller
from engine.exchange import Collection, Consumer, collect
from engine.memory import give_back
from engine.opening import exchange_source, leaf_keys
from engine.report import NodeReport, Reconciliation, RunReport, StageOutcome, StageReport
from engine.retry import backoff, may_retry, pause
from engine.stage import Attempt
from engine.totals import Totals

__all__ = [
    "Control",
    "NodeReport",
    "Reconciliation",
    "RunContext",
    "RunReport",
    "SilentEvents",
    "StageOutcome",
    "StageReport",
    "SystemClock",
    "Wish",
    "collect_exchanges",
    "run_plan",
    "run_stage",
]

_LOOK_SECONDS = 0.25
_HURRY_SECONDS = 1.0
_LEAVE_SECONDS = 3.0
"""How long a stage that is left may take to let go of its systems; a thread that hangs in one of them ends with the process."""


def run_plan(plan: PhysicalPlan, context: RunContext) -> RunReport:
    """Runs every stage in order, then collects what the exchanges no longer need.

    Stages after one that was stopped or paused are not run: what they would read is not whole.

    Raises:
        HeadraceError: A stage failed; what was committed stays, and another run goes on from there.
    """
    began = time.perf_counter()
    given = context if context.fingerprint else replace(context, fingerprint=plan.fingerprint)
    reports: list[StageReport] = []
    for stage in plan.stages:
        reports.append(run_stage(stage, given))
        if reports[-1].outcome is not StageOutcome.FINISHED:
            break
    else:
        collect_exchanges(plan, given)
    return RunReport(plan.workflow, context.run_id, tuple(reports), time.perf_counter() - began)


def run_stage(stage: Stage, context: RunContext) -> StageReport:
    """Runs one stage to its end, trying again where its policy says so.

    The work is done in other threads; the calling one only waits. An exception raised in it (an interrupt by a signal)
    asks the stage to stop at its next batch boundary, gives it `context.grace` to commit, ends it, and goes on.

    Raises:
        HeadraceError: The stage failed; its last committed epoch stays.
        BaseException: Whatever interrupted the calling thread.
    """
    give_back()
    running = _Running(stage, context)
    running.start()
    try:
        running.wait()
    except BaseException:
        context.control.stop()
        running.leave(context.grace)
        raise
    return running.result()


def collect_exchanges(plan: PhysicalPlan, context: RunContext) -> Collection:
    """Removes the segments of a plan's exchanges that all of their consumers have committed; call it when a run has finished."""
    found = Collection()
    for stage in plan.stages:
        if isinstance(stage.writer, ExchangeWrite):
            removed = collect(exchange_source(context, stage.id), _consumers(plan, stage.id), context.checkpoints)
            found = Collection(found.segments + removed.segments, found.bytes + removed.bytes)
    return found


def _consumers(plan: PhysicalPlan, producer: str) -> tuple[Consumer, ...]:
    return tuple(
        Consumer(f"{plan.workflow}/{stage.id}/0", key)
        for stage in plan.stages
        for key, leaf in leaf_keys(stage.root).items()
        if isinstance(leaf, ExchangeScan) and leaf.producer == producer
    )


@dataclass
class _Running:
    """A stage in a thread of its own."""

    stage: Stage
    context: RunContext
    _done: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _report: StageReport | None = None
    _error: BaseException | None = None
    _attempt: Attempt | None = None
    _left: bool = False
    _began: float = field(default_factory=time.perf_counter)
    _totals: Totals = field(default_factory=Totals)
    _attempts: int = 0

    def __post_init__(self) -> None:
        self._teller = Teller(self.context, self.stage.id)

    def start(self) -> None:
        """Starts it."""
        work: Callable[[], None] = self._work
        context = copy_context()
        self._thread = threading.Thread(target=context.run, args=(work,), name=f"headrace-{self.stage.id}", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Waits for its end, and leaves it where it was to end and does not; may be interrupted."""
        control = self.context.control
        while not self._done.wait(_LOOK_SECONDS):
            if control.wish() is not Wish.RUN:
                self.leave(self.context.grace)
                return

    def leave(self, grace: timedelta) -> None:
        """Ends it: gently within `grace`, then at once."""
        until = time.monotonic() + grace.total_seconds()
        try:
            while not (self._done.is_set() or self.context.control.hurried) and time.monotonic() < until:
                self._done.wait(_LOOK_SECONDS)
        finally:
            self._left = True
            if not self._done.is_set() and self._attempt is not None:
                self._attempt.crew.hurry(_HURRY_SECONDS)
            self._done.wait(_LEAVE_SECONDS)

    def result(self) -> StageReport:
        """Its report.

        Raises:
            HeadraceError: What made it fail.
        """
        if self._report is not None:
            return self._report
        if self._left and (self._error is None or isinstance(self._error, CancelledError)):
            return self._left_report()
        raise self._error or CancelledError

    def _left_report(self) -> StageReport:
        """What a stage that came to no boundary has committed; its thread may still hang in a system's call."""
        outcome = StageOutcome.PAUSED if self.context.control.wish() is Wish.PAUSE else StageOutcome.STOPPED
        seconds = time.perf_counter() - self._began
        report = self._totals.report(self.stage.id, outcome, self._attempts, seconds)
        self._teller.tell("stage_finished", **_summary(report))
        return report

    def _work(self) -> None:
        try:
            self._report = self._run()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._error = error
            fenced = isinstance(error, FencedError)
            kind = type(error).__name__
            self._teller.tell("stage_fenced" if fenced else "stage_failed", kind=kind, reason=str(error))
        finally:
            self._done.set()

    def _run(self) -> StageReport:
        totals, failures = self._totals, 0
        outcome = self._outcome()
        while outcome is None:
            self._attempts += 1
            attempt = self._attempt = Attempt(self.stage, self.context, totals)
            before = totals.epochs
            try:
                outcome = attempt.run()
            except HeadraceError as error:
                failures = 1 if totals.epochs > before else failures + 1
                outcome = self._after(attempt, failures, error)
            else:
                failures = 0
                if outcome is StageOutcome.FINISHED and totals.epochs > before and attempt.more():
                    outcome = self._outcome()
        report = totals.report(self.stage.id, outcome, self._attempts, time.perf_counter() - self._began)
        self._teller.tell("stage_finished", **_summary(report))
        return report

    def _after(self, attempt: Attempt, failures: int, error: HeadraceError) -> StageOutcome | None:
        """What a failed attempt comes to: None for another one, after a pause.

        Raises:
            HeadraceError: It was the last one, or another one could not help.
        """
        policy = attempt.retry_policy()
        again = may_retry(policy, failures, error)
        if (again or isinstance(error, RetryableError)) and (outcome := self._outcome()) is not None:
            return outcome
        if not again:
            raise error
        wait = backoff(policy, failures, error)
        self._teller.tell("retrying", failures=failures, seconds=round(wait.total_seconds(), 3), reason=str(error))
        pause(self.context.clock, wait, lambda: self._outcome() is not None)
        return self._outcome()

    def _outcome(self) -> StageOutcome | None:
        """How to end because somebody wants it, or None to go on."""
        wish = self.context.control.wish()
        if wish is Wish.PAUSE:
            return StageOutcome.PAUSED
        return StageOutcome.STOPPED if wish is Wish.STOP or self._left else None


def _summary(report: StageReport) -> dict[str, str | int | float | bool]:
    books = report.reconciliation
    return {
        "outcome": report.outcome.value,
        "read": books.read,
        "written": books.written,
        "filtered": books.filtered,
        "rejected": books.rejected,
        "expanded": books.expanded,
        "epochs": report.epochs,
        "bytes": report.bytes_written,
        "seconds": round(report.seconds, 3),
        "attempts": report.attempts,
    }
