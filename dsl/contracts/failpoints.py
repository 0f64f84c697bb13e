"""Named places at which a test makes the process fail; does nothing unless a test has armed it, and decides nothing else.

A place is declared once, at the top of its module (`_COMMITTED = Failpoint("sql.committed", "...")`), and reached by
`_COMMITTED.reach()`. Armed by `arm`, or by the variable `HEADRACE_FAILPOINTS` (`sql.committed=kill@3,spool.frozen=enospc`),
which counts only where `HEADRACE_TEST=1` says that this process belongs to a test.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
import time
from collections import defaultdict
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from enum import StrEnum

from dsl.contracts.errors import RetryableError

ALL: dict[str, Failpoint] = {}
"""Every place that has been declared in this process, by name."""


class Action(StrEnum):
    """What happens at an armed place."""

    KILL = "kill"
    RAISE = "raise"
    ENOSPC = "enospc"
    HANG = "hang"
    FREEZE = "freeze"


@dataclass(frozen=True)
class Fault:
    """What an armed place does, and at which visit.

    Attributes:
        action: What happens.
        visit: The visit at which it happens, counted from 1 in this process.
    """

    action: Action
    visit: int = 1

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Reads `kill@3`.

        Raises:
            ValueError: The action is unknown, or the visit is no positive number.
        """
        action, _, visit = text.partition("@")
        fault = cls(Action(action), int(visit or "1"))
        if fault.visit < 1:
            raise ValueError(f"visits are counted from 1, not {fault.visit}")
        return fault


_armed: dict[str, Fault] = {}
_visits: defaultdict[str, itertools.count[int]] = defaultdict(lambda: itertools.count(1))
"""Place -> what gives its next visit its number: a single step, so that threads need no lock."""
_watched = [False]


class Failpoint:
    """One named place.

    Args:
        name: `room.place`, unique in the project.
        doc: What has just been done when it is reached, and what has not.
    """

    __slots__ = ("doc", "name")

    def __init__(self, name: str, doc: str) -> None:
        if name in ALL:
            raise ValueError(f"failpoint {name!r} is declared twice")
        self.name, self.doc = name, doc
        ALL[name] = self

    def reach(self) -> None:
        """Does what a test wants here; nothing otherwise.

        Raises:
            RetryableError: Armed with `raise`.
            OSError: Armed with `enospc`: the disk is full.
        """
        if _watched[0]:
            _visit(self.name)


def _visit(name: str) -> None:
    visit, fault = next(_visits[name]), _armed.get(name)
    if fault is None or fault.visit != visit:
        return
    if fault.action is Action.KILL:
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault.action is Action.FREEZE:
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault.action is Action.HANG:
        time.sleep(3600)
    elif fault.action is Action.ENOSPC:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
    else:
        raise RetryableError("a test made it fail", where=name)


def arm(faults: Mapping[str, Fault]) -> None:
    """Arms these places and no others, and counts the visits of all of them from now on."""
    _armed.clear()
    _armed.update(faults)
    _visits.clear()
    _watched[0] = True


def disarm() -> None:
    """Makes every place do nothing again."""
    _watched[0] = False


def visits() -> dict[str, int]:
    """Returns how often each place has been reached since the last `arm`."""
    return {name: next(copy(each)) - 1 for name, each in _visits.items()}


def arm_from(environment: Mapping[str, str]) -> None:
    """Arms what the environment of a test asks for.

    Raises:
        ValueError: It cannot be read.
    """
    wanted = environment.get("HEADRACE_FAILPOINTS", "")
    if wanted and environment.get("HEADRACE_TEST") == "1":
        pairs = (each.partition("=") for each in wanted.split(","))
        arm({name.strip(): Fault.parse(text.strip()) for name, _, text in pairs})


arm_from(os.environ)
