"""Termination as a wish. Raises in the main thread what Dagster's signal handler raises there."""

import signal
import threading
from collections.abc import Iterator

import pytest
from dagster import DagsterExecutionInterruptedError
from dagster._utils.interrupts import capture_interrupts, raise_interrupts_as

from engine.control import Control, Wish
from etl_defs.interrupts import run_interruptibly


@pytest.fixture
def interruptible() -> Iterator[None]:
    with capture_interrupts(), raise_interrupts_as(DagsterExecutionInterruptedError):
        yield


def test_the_result_and_the_error_come_through() -> None:
    assert run_interruptibly(lambda: 42, Control()) == 42
    with pytest.raises(ZeroDivisionError):
        run_interruptibly(lambda: 1 // 0, Control())


@pytest.mark.usefixtures("interruptible")
def test_work_ends_at_its_boundary_before_the_termination_goes_on() -> None:
    control, ended = Control(), threading.Event()

    def work() -> None:
        signal.raise_signal(signal.SIGINT)
        assert control.wait(60)
        ended.set()

    with pytest.raises(DagsterExecutionInterruptedError):
        run_interruptibly(work, control)
    assert control.wish() is Wish.STOP
    assert ended.is_set()
