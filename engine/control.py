"""What a person or a signal wants of a running stage; a flag that threads may set and the stage loop reads; never kills anything."""

from __future__ import annotations

import threading
from enum import StrEnum


class Wish(StrEnum):
    """What is wanted of a run."""

    RUN = "run"
    PAUSE = "pause"
    STOP = "stop"


class Control:
    """Carries one wish from any thread (or a signal handler) to the stage loops of a run.

    Stages look at it between two batches: they commit what is open, end, and report `stopped` or `paused`. One that does
    not come to a boundary within the run's grace, because a system keeps it waiting, is left: its last commit stays.
    Sub-classes may override `wish` to look elsewhere as well (a row in a database, a file).
    """

    def __init__(self) -> None:
        self._wish = Wish.RUN
        self._hurried = False
        self._changed = threading.Event()

    def stop(self, *, now: bool = False) -> None:
        """Asks every stage to end at its next batch boundary; or at once, without what its epoch holds so far."""
        self._wish = Wish.STOP
        self._hurried = self._hurried or now
        self._changed.set()

    def pause(self) -> None:
        """Asks every stage to end at its next batch boundary, as paused; a stop wins over a pause."""
        if self._wish is not Wish.STOP:
            self._wish = Wish.PAUSE
            self._changed.set()

    def wish(self) -> Wish:
        """What is wanted now; called often, so it must be quick."""
        return self._wish

    @property
    def hurried(self) -> bool:
        """Whether there is no time to come to a batch boundary."""
        return self._hurried

    def wait(self, seconds: float) -> bool:
        """Waits until something else than running is wanted, at most so long; tells whether it is."""
        self._changed.wait(seconds)
        return self.wish() is not Wish.RUN
