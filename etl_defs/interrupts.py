"""Runs work beside the main thread, where Dagster's termination arrives, and turns it into a wish; kills nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from engine.control import Control

T = TypeVar("T")
GRACE = 10.0
WAKE = 0.25


def run_interruptibly(work: Callable[[], T], control: Control, *, grace: float = GRACE) -> T:
    """Runs `work` in a thread and waits for it.

    Termination reaches only the main thread, as an exception that no `except Exception` sees. Here it becomes a stop:
    the work ends at its next batch boundary with a checkpoint, and then the termination goes on its way.

    Args:
        work: What to do; must heed `control`.
        control: Told to stop when the main thread is interrupted.
        grace: Seconds that the work may take to end.
    """
    result: Future[T] = Future()
    ended = threading.Event()
    result.add_done_callback(lambda _: ended.set())
    thread = threading.Thread(target=_fulfil, args=(result, work), name="headrace-stage", daemon=True)
    try:
        thread.start()
        # A signal that another thread receives is handled when this one next wakes up; an interrupted join could not be repeated.
        while not ended.wait(WAKE):
            pass
    except BaseException:  # DagsterExecutionInterruptedError and KeyboardInterrupt are no Exceptions; raised again
        control.stop()
        if thread.ident is not None:
            ended.wait(grace)
        raise
    return result.result()


def _fulfil(result: Future[T], work: Callable[[], T]) -> None:
    try:
        result.set_result(work())
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised again in the thread that waits
        result.set_exception(error)
