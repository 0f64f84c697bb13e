"""One more way to disturb a load: the server that it reads or writes is killed and started again; judges nothing."""

from __future__ import annotations

import random
import signal
import time
from dataclasses import dataclass
from typing import ClassVar

from tests.faults.campaign.modes import Course, Finding, count
from tests.faults.campaign.trial import Judgement, Verdict
from tests.kit.mariadb import MariaDBServer
from tests.kit.postgres import PostgresServer


@dataclass
class Crashing:
    """Kills one of two servers between which a load runs.

    Attributes:
        course: Reads from `source`, and writes to `destination`.
        source: A server that waits for its disk.
        destination: Another one.
    """

    course: Course
    source: PostgresServer | MariaDBServer
    destination: PostgresServer | MariaDBServer

    longest: ClassVar[float] = 0.5
    """Seconds that a server stays away, at most."""

    def crash(self, seed: int) -> Finding:
        """Kills a server during a load, and starts it again.

        Every other time the load stands still at a named place meanwhile; otherwise the server is at work.
        """
        luck = random.Random(f"crash {self.course.target.name} {seed}")
        mode = luck.choice(self.course.target.modes)
        side = ("destination", "source")[seed // 2 % 2]
        server = self.destination if side == "destination" else self.source
        visits = self.course.known_visits(mode)
        trial, notes = self.course.begun(mode), {mode: 1}
        place = luck.choice(sorted(each for each in visits if each.startswith(("loop.", "sql.", "epoch.", "letters."))))
        faults = {place: f"freeze@{luck.randint(1, visits[place])}"} if seed % 2 == 0 else {}
        child = trial.start(faults)
        began, seconds = self.course.pace
        crashed = child.frozen() if faults else not child.spent(luck.uniform(began, began + 0.9 * (seconds - began)))
        if crashed:
            count(notes, f"{side} {'while it stands' if faults else 'at work'}")
            server.process.crash()
            child.signal(signal.SIGCONT)
            time.sleep(luck.uniform(0, self.longest))
            server.restart()
        ended = trial.heard(child.wait())
        count(notes, (ended.error if ended is not None else "killed") or "went on by itself")
        judged = trial.finish()
        if ended is not None and ended.error.startswith("escaped") and judged.verdict is Verdict.WHOLE:
            judged = Judgement(Verdict.STUCK, why=f"the run says {ended.error}: {ended.said}")
        return Finding("crashes", self.course.target.name, str(seed), int(crashed), judged, notes)
