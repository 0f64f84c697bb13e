"""The ways to disturb a load: at a failpoint, at a random time, by a second run, by a cut connection. Each gives findings; none judges."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from tests.faults.campaign.targets import Target
from tests.faults.campaign.trial import Ground, Judgement, Trial, Verdict
from tests.faults.campaign.warm import Child
from tests.kit.proxy import FaultProxy

KILLS_A_LOAD = 6
EVERYWHERE = ("stage.", "loop.", "epoch.", "letters.added")
PATIENCE = 120.0
LOCK_PATIENCE = 1.0


@dataclass(frozen=True)
class Finding:
    """What one disturbed load showed.

    Attributes:
        way: `failpoints`, `kills`, `races`, `cuts`, `crashes` or `incremental`.
        target: Where it was written.
        case: What replays it, after `--only`.
        kills: Processes or servers that were killed, races run, connections cut, or commits made meanwhile.
        judgement: The verdict.
        notes: What happened, by how often.
    """

    way: str
    target: str
    case: str
    kills: int
    judgement: Judgement
    notes: dict[str, int] = field(default_factory=dict)


@dataclass
class Course:
    """One target in a campaign.

    Attributes:
        ground: What all loads share.
        target: Where they are written.
    """

    ground: Ground
    target: Target
    _visits: dict[str, dict[str, int]] = field(default_factory=dict)

    def begun(self, mode: str) -> Trial:
        """Makes a load; an overwrite finds what a run before it has written."""
        trial = self.ground.trial(self.target, mode)
        if mode == "overwrite":
            held, trial.name_of_run = trial.name_of_run, f"{trial.name}-before"
            ended = trial.attempt()
            assert ended is not None, "somebody else killed it"
            assert not ended.error, ended
            trial.name_of_run = held
            trial.forget_letters()
        return trial

    @cached_property
    def pace(self) -> tuple[float, float]:
        """Seconds of a processor until an undisturbed load opens its stage, and until it ends."""
        # The first one reads files that nobody has read before.
        return min((self._paced() for _ in range(2)), key=lambda each: each[1])

    def _paced(self) -> tuple[float, float]:
        trial = self.ground.trial(self.target, self.target.modes[0])
        ended = trial.attempt()
        assert ended is not None
        assert not ended.error, ended
        trial.finish()
        return ended.began, ended.seconds

    def known_visits(self, mode: str) -> dict[str, int]:
        """The same as `visits`, asked once."""
        if mode not in self._visits:
            self._visits[mode] = self.visits(mode)
        return self._visits[mode]

    def moment(self, luck: random.Random) -> float:
        """Seconds of a processor at which to disturb: a fifth of them before the stage begins."""
        began, seconds = self.pace
        return luck.uniform(0, began) if luck.random() < 0.2 else luck.uniform(began * 0.9, seconds)

    def visits(self, mode: str) -> dict[str, int]:
        """How often an undisturbed load of a mode reaches each failpoint."""
        trial = self.begun(mode)
        ended = trial.attempt()
        assert ended is not None
        assert not ended.error, ended
        books = ended.books
        assert books["read"] == books["written"] + books["filtered"] + books["rejected"] == self.ground.rows.count
        found = trial.finish()
        assert found.verdict is Verdict.WHOLE, found
        return ended.visits


# ---- failpoints ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A failpoint at one of its visits.

    Attributes:
        mode: Of the load.
        name: The failpoint.
        visit: Which visit kills.
        recovery: Whether the load was killed before, so that the kill strikes the attempt that recovers.
    """

    mode: str
    name: str
    visit: int
    recovery: bool = False

    @property
    def case(self) -> str:
        """How it is replayed."""
        return f"{self.mode}/{self.name}@{self.visit}{'/recovery' if self.recovery else ''}"

    @classmethod
    def parse(cls, case: str) -> Place:
        """Reads `case`."""
        mode, place, *rest = case.split("/")
        name, _, visit = place.partition("@")
        return cls(mode, name, int(visit), bool(rest))


def places(course: Course, visits: Mapping[str, Mapping[str, int]], *, once: bool) -> Iterator[Place]:
    """Yields every failpoint that loads of each mode reach at its first, middle and last visit, and those of recoveries.

    Args:
        course: The target.
        visits: Mode -> failpoint -> its visits.
        once: Only the middle visits.
    """
    for mode, reached in visits.items():
        for name, count in sorted(reached.items()):
            for visit in [(count + 1) // 2] if once else sorted({1, (count + 1) // 2, count}):
                yield Place(mode, name, visit)
        for name in RECOVERIES:
            if course.target.reaches(name, EVERYWHERE) and mode not in NOT_IN.get(name, ()):
                yield Place(mode, name, 1, recovery=True)


OVERWRITES = frozenset({"elasticsearch.swapped", "file.removed", "sql.swapped"})
"""Failpoints that only an overwrite reaches."""
NOT_IN = {**dict.fromkeys(OVERWRITES, ("append", "upsert")), "elasticsearch.taken_back": ("upsert",)}
"""Failpoint of a recovery -> modes that have none of it: what has a key is written again instead of being taken back."""
RECOVERIES = (
    "elasticsearch.fenced",
    "elasticsearch.swapped",
    "elasticsearch.taken_back",
    "file.fenced",
    "file.published",
    "file.removed",
    "file.shown",
    "letters.discarded",
    "sql.fenced",
    "sql.swapped",
    "stage.compared",
    "stage.fenced",
)
"""Failpoints of the attempt that finds what a killed one left."""
_LEAVES = {
    "elasticsearch.swapped": "elasticsearch.moved",
    "elasticsearch.taken_back": "elasticsearch.sent",
    "file.published": "file.logged",
    "file.removed": "file.logged",
    "file.shown": "file.logged",
    "sql.swapped": "sql.committed",
}
"""Failpoint of a recovery -> where the attempt before must die, at its last visit, for there to be something to recover."""


def strike(course: Course, place: Place, visits: Mapping[str, int]) -> Finding:
    """Kills a load at a failpoint, and lets it finish."""
    trial, kills = course.begun(place.mode), 0
    if place.recovery:
        before = _LEAVES.get(place.name, "epoch.letters_kept")
        kills += trial.attempt({before: f"kill@{visits.get(before, 1)}"}) is None
    reached = trial.attempt({place.name: f"kill@{place.visit}"}) is None
    notes = {"reached" if reached else "missed": 1}
    judged = trial.finish()
    if not reached and judged.verdict is Verdict.WHOLE:
        judged = Judgement(Verdict.UNREACHED, why=f"this load did not come to {place.case}")
    return Finding("failpoints", course.target.name, place.case, kills + reached, judged, notes)


def unreached(target: Target, declared: set[str], reached: set[str]) -> set[str]:
    """Returns the failpoints that a target must reach and did not."""
    return {each for each in declared if target.reaches(each, EVERYWHERE)} - reached


# ---- kills ---------------------------------------------------------------------------------------------------------


def kill(course: Course, seed: int, most: int = KILLS_A_LOAD) -> Finding:
    """Kills a load at random times until it survives one or has died often enough, and lets it finish."""
    luck = random.Random(f"{course.target.name} {seed}")
    mode = luck.choices(course.target.modes, [3, 1, 1][: len(course.target.modes)])[0]
    trial, kills = course.begun(mode), 0
    notes = {mode: 1}
    while kills < most:
        child = trial.start()
        if child.spent(course.moment(luck)):
            ended = trial.heard(child.wait())
            if ended is None or not ended.error:
                break
            count(notes, f"between kills: {ended.error}: {ended.said.splitlines()[0][:200]}")
            continue
        child.signal(signal.SIGKILL)
        kills += trial.heard(child.wait()) is None
    return Finding("kills", course.target.name, str(seed), kills, trial.finish(), notes)


# ---- races ---------------------------------------------------------------------------------------------------------


def race(course: Course, seed: int) -> Finding:
    """Lets two runs load at once; those of even seeds freeze the first one at a failpoint while the second begins."""
    luck = random.Random(f"{course.target.name} {seed}")
    mode = luck.choice([each for each in course.target.modes if each != "overwrite"])
    visits = course.known_visits(mode)
    trial, notes = course.begun(mode), {mode: 1}
    if seed % 2 == 0:
        place = luck.choice(sorted(visits))
        first = trial.start({place: f"freeze@{luck.randint(1, visits[place])}"})
        notes[f"zombie at {place}" if first.frozen() else "no zombie"] = 1
        second = trial.start()
        # It may wait for a lock of the frozen one: then it goes on when that one does.
        second.waits(LOCK_PATIENCE)
        if first.code is None:
            first.signal(signal.SIGCONT)
    else:
        notes["at once"] = 1
        first = trial.start()
        first.spent(luck.uniform(0, course.pace[1] * 0.7))
        second = trial.start()
    outcome = _outcome(course.target, trial, (first, second), notes)
    judged = trial.finish()
    if judged.verdict is Verdict.WHOLE and outcome is not None:
        judged = outcome
    return Finding("races", course.target.name, str(seed), 1, judged, notes)


def _outcome(target: Target, trial: Trial, runs: tuple[Child, Child], notes: dict[str, int]) -> Judgement | None:
    """Notes how two runs ended; returns a judgement if one ended otherwise than it may."""
    for child in runs:
        if not child.ended(PATIENCE):
            child.signal(signal.SIGKILL)
            trial.heard(child.wait())
            return Judgement(Verdict.STUCK, why="a run did not end beside another")
        ended = trial.heard(child.wait())
        assert ended is not None, "somebody else killed it"
        count(notes, ended.error or "finished")
        if ended.error in {"", "FencedError"} or (
            target.locked and ended.error in {"UnavailableError", "RetryableError"}
        ):
            continue
        return Judgement(Verdict.STUCK, why=f"the loser says {ended.error}: {ended.said}")
    return None


# ---- cuts ----------------------------------------------------------------------------------------------------------


@dataclass
class Cutting:
    """Cuts connections between the load and its destination.

    Attributes:
        proxy: Stands between them.
        course: Whose target is reached through it.
    """

    proxy: FaultProxy
    course: Course
    _bytes: int = 0

    def measure(self) -> int:
        """Returns the bytes that the server sends in an undisturbed load."""
        if not self._bytes:
            plenty = 2**40
            self.proxy.reset_after = plenty
            trial = self.course.begun("append")
            ended = trial.attempt()
            assert ended is not None
            assert not ended.error, ended
            self._bytes = plenty - (self.proxy.reset_after or 0)
            self.proxy.heal()
            trial.finish()
        return self._bytes

    def cut(self, seed: int) -> Finding:
        """Resets the connections of one load; every third time around a COMMIT, otherwise after so many bytes."""
        luck, size = random.Random(f"cut {self.course.target.name} {seed}"), self.measure()
        mode = luck.choice(["append", "upsert"])
        commits = self.course.known_visits(mode)["sql.committed"]
        trial, before = self.course.begun(mode), self.proxy.resets
        notes = {mode: 1}
        if seed % 3 == 0:
            self.proxy.mark_cut = ("before", "while", "after")[seed // 3 % 3]
            self.proxy.mark_visits, self.proxy.mark = luck.randint(1, commits), b"COMMIT"
            notes[f"{self.proxy.mark_cut} COMMIT"] = 1
        else:
            self.proxy.reset_after = luck.randrange(size)
        ended = trial.attempt()
        self.proxy.heal()
        count(notes, (ended.error if ended is not None else "killed") or "went on by itself")
        return Finding("cuts", self.course.target.name, str(seed), self.proxy.resets - before, trial.finish(), notes)


def count(notes: dict[str, int], what: str) -> None:
    """Notes that something happened once more."""
    notes[what] = notes.get(what, 0) + 1
