"""The pulse of a run: once a second it tells the run's status, and hears whether somebody wants the run to end; moves no rows."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

from dagster import DagsterInstance, DagsterRunStatus, Failure
from dagster._core.errors import DagsterRunNotFoundError

from dsl.contracts.errors import HeadraceError
from dsl.contracts.stores import Event
from engine.control import Control, Wish
from etl_defs.holds import is_held
from etl_defs.logs import LOGGER
from etl_defs.naming import TAG_CONTROL, TAG_PROGRESS
from etl_defs.status import Status, StatusBoard, StatusUpdate

EVERY = 1.0
TAG_EVERY = 5.0
STILL = 10.0
"""A row is written again after so many seconds although nothing changed: a reader sees that the run is alive."""
PAUSE, NOW = "pause", "now"
"""Values of the run's tag that say how it is to end once Dagster shows it as being canceled."""
_ENDING = {Wish.STOP: Status.STOPPING, Wish.PAUSE: Status.PAUSING}


class Pulse:
    """Tells and hears, in a thread beside the run.

    A run is asked to end by Dagster's own means, from the UI or by the command: its status becomes CANCELING (or
    CANCELED, when somebody did not want to wait). So every launcher, and a run without one, can be asked alike.

    Args:
        instance: Where the status rows, the tag and the run are.
        workflow: The workflow's Dagster name.
        run_id: The run.
        control: Told to stop or pause.
        monotonic: Seconds of a clock that never goes back.
    """

    def __init__(
        self,
        instance: DagsterInstance,
        workflow: str,
        run_id: str,
        control: Control,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._instance, self._board = instance, StatusBoard(instance)
        self._workflow, self._run_id, self._control = workflow, run_id, control
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._seen: dict[str, StatusUpdate] = {}
        self._dirty: set[str] = set()
        self._told: dict[str, float] = {}
        self._tag, self._tagged = "", float("-inf")
        self._end = threading.Event()

    def emit(self, event: Event) -> None:
        """Takes an event of a stage; writes nothing."""
        with self._lock:
            known = self._seen.get(event.stage)
            if known is None or event.name == "stage_started":
                known = StatusUpdate(self._workflow, event.stage, self._run_id, Status.STARTING, began=event.at)
            self._seen[event.stage] = known.after(event)
            self._dirty.add(event.stage)

    def beat(self, *, last: bool = False) -> None:
        """Tells what is new, and hears what is wanted; a storage that is away for a while is left alone."""
        try:
            if not last:
                self._hear()
            self._tell(last=last)
        except (HeadraceError, DagsterRunNotFoundError) as error:
            logging.getLogger(LOGGER).warning("the status of run %s could not be told: %s", self._run_id, error)

    def run(self) -> None:
        """Beats until it is ended."""
        while not self._end.wait(EVERY):
            try:
                self.beat()
            except Exception:  # whatever the storage's driver raises, the run itself goes on
                logging.getLogger(LOGGER).exception("the status of run %s could not be told", self._run_id)

    def end(self) -> None:
        """Ends the thread."""
        self._end.set()

    def _hear(self) -> None:
        if self._control.hurried:
            return
        run = self._instance.get_run_by_id(self._run_id)
        if run is None or run.status not in {DagsterRunStatus.CANCELING, DagsterRunStatus.CANCELED}:
            return
        asked = run.tags.get(TAG_CONTROL)
        if run.status is DagsterRunStatus.CANCELED or asked == NOW:
            self._control.stop(now=True)
        elif asked == PAUSE:
            self._control.pause()
        else:
            self._control.stop()

    def _tell(self, *, last: bool) -> None:
        now, wish = self._monotonic(), self._control.wish()
        with self._lock:
            for stage, each in self._seen.items():
                ending = _ENDING.get(wish)
                if ending is not None and not each.status.over and each.status is not ending:
                    self._seen[stage] = replace(each, status=ending, at=datetime.now(UTC))
                    self._dirty.add(stage)
                elif not last and not each.status.over and now - self._told.get(stage, now) >= STILL:
                    self._seen[stage] = replace(each, at=datetime.now(UTC))
                    self._dirty.add(stage)
            due = [self._seen[stage] for stage in sorted(self._dirty)]
            self._dirty.clear()
        for each in due:
            self._board.put(each)
            self._told[each.stage] = now
        if last or now - self._tagged >= TAG_EVERY:
            self._show(now)

    def _show(self, now: float) -> None:
        """Puts the progress where the UI shows it: a tag of the run, overwritten."""
        with self._lock:
            going = [each for each in self._seen.values() if not each.status.over] or list(self._seen.values())
            # The list of runs cuts a tag after some twenty characters: numbers come first.
            text = "; ".join(f"{each.numbers()}, {each.status} ({each.stage})" for each in going)
        if text and text != self._tag:
            self._instance.add_run_tags(self._run_id, {TAG_PROGRESS: text})
            self._tag, self._tagged = text, now


def refuse_if_held(instance: DagsterInstance, workflow: str) -> None:
    """Lets no run of a workflow that is held go on: the UI can start one, too.

    Raises:
        Failure: It is held.
    """
    if is_held(instance, workflow):
        raise Failure(
            f"workflow {workflow} is held: it was paused; 'headrace resume {workflow}' releases it and goes on",
            allow_retries=False,
        )


@contextmanager
def beating(instance: DagsterInstance | None, workflow: str, run_id: str, control: Control) -> Iterator[Pulse | None]:
    """Lets a run's pulse beat while the block goes on; a run that nobody can look up has none."""
    if instance is None or instance.is_ephemeral or not run_id:
        yield None
        return
    pulse = Pulse(instance, workflow, run_id, control)
    thread = threading.Thread(target=pulse.run, name="headrace-pulse", daemon=True)
    thread.start()
    try:
        yield pulse
    finally:
        pulse.end()
        thread.join(2 * EVERY)
        with suppress(Exception):  # the run has ended, whether or not the last word about it can be kept
            pulse.beat(last=True)
