"""Failpoints: inert unless a test arms them, and then exact about the visit."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest

from dsl.contracts.errors import RetryableError
from dsl.contracts.failpoints import ALL, Action, Failpoint, Fault, arm, arm_from, disarm, visits


@pytest.fixture
def place() -> Iterator[Failpoint]:
    made = Failpoint(f"test.{uuid.uuid4().hex}", "nothing has been done")
    yield made
    disarm()
    del ALL[made.name]


def test_a_place_that_is_not_armed_does_nothing(place: Failpoint) -> None:
    for _ in range(3):
        place.reach()
    assert visits().get(place.name, 0) == 0


def test_it_fails_at_the_visit_that_was_asked_for_and_at_no_other(place: Failpoint) -> None:
    arm({place.name: Fault(Action.RAISE, 2)})
    place.reach()
    with pytest.raises(RetryableError, match="a test made it fail"):
        place.reach()
    place.reach()
    assert visits() == {place.name: 3}


def test_a_full_disk_looks_like_one(place: Failpoint) -> None:
    arm({place.name: Fault.parse("enospc")})
    with pytest.raises(OSError, match="No space left") as found:
        place.reach()
    assert found.value.errno == errno.ENOSPC


def test_visits_of_places_that_are_not_armed_are_counted(place: Failpoint) -> None:
    arm({})
    place.reach()
    assert visits() == {place.name: 1}


def test_a_name_stands_for_one_place(place: Failpoint) -> None:
    with pytest.raises(ValueError, match="declared twice"):
        Failpoint(place.name, "again")


@pytest.mark.parametrize("text", ["explode", "kill@0", "kill@x"])
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Fault.parse(text)


def test_the_environment_counts_only_in_a_test(place: Failpoint) -> None:
    arm_from({"HEADRACE_FAILPOINTS": f"{place.name}=raise"})
    place.reach()
    arm_from({"HEADRACE_FAILPOINTS": f"{place.name}=raise", "HEADRACE_TEST": "1"})
    with pytest.raises(RetryableError):
        place.reach()


def test_a_process_is_killed_where_the_environment_says() -> None:
    script = "from dsl.contracts.failpoints import Failpoint as F; p = F('a.b', ''); [(p.reach(), print(n, flush=True)) for n in range(9)]"
    environment = {**os.environ, "HEADRACE_TEST": "1", "HEADRACE_FAILPOINTS": "a.b=kill@3"}
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, env=environment, timeout=60
    )
    assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, ["0", "1"])


def test_a_frozen_process_goes_on_when_it_is_told_to() -> None:
    script = "from dsl.contracts.failpoints import Failpoint as F; F('a.b', '').reach(); print('went on')"
    environment = {**os.environ, "HEADRACE_TEST": "1", "HEADRACE_FAILPOINTS": "a.b=freeze"}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment) as frozen:
        _, status = os.waitpid(frozen.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        frozen.send_signal(signal.SIGCONT)
        assert frozen.communicate()[0] == "went on\n"
