"""One load from its first attempt to its verdict: starts attempts, lets others kill them, runs to the end, and judges from outside."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from dagster import DagsterInstance

from resources.stores.checkpoints import KeyValueCheckpoints
from resources.stores.dead_letters import LocalDeadLetters
from server.home import SETTINGS
from tests.faults.campaign.load import Ended, Rows, workflow_text
from tests.faults.campaign.origins import origin_on
from tests.faults.campaign.targets import PostgresWithLetters, Target
from tests.faults.campaign.warm import Child, Warm
from tests.kit.mariadb import MariaDBServer
from tests.kit.postgres import PostgresServer

RERUNS = 6
"""Undisturbed attempts after which a load that has not finished is stuck."""


class Verdict(StrEnum):
    """What the judge says of a load: `astray` of its dead letters, `unreached` of a failpoint that no load came to."""

    WHOLE = "whole"
    LOST = "lost"
    DOUBLED = "doubled"
    CORRUPT = "corrupt"
    STUCK = "stuck"
    ASTRAY = "astray"
    UNREACHED = "unreached"


@dataclass(frozen=True)
class Judgement:
    """A verdict and its reasons.

    Attributes:
        verdict: In a word.
        lost: Rows that are missing.
        doubled: Copies of rows beyond the first.
        wrong: Rows that should not be there at all.
        why: In words.
    """

    verdict: Verdict
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    why: str = ""


class Ground:
    """What all loads of a campaign share: the source with the rows of one seed, and the process that forks.

    Args:
        rows: The rows.
        server: Holds the source.
        warm: The process that forks, if somebody else ends it.
    """

    def __init__(self, rows: Rows, server: PostgresServer | MariaDBServer, warm: Warm | None = None) -> None:
        self.rows, self.warm, self._borrowed = rows, warm or Warm(), warm is not None
        self._origin = origin_on(server)
        self.folder = Path(tempfile.mkdtemp(prefix="headrace-campaign-"))
        self._count = 0
        self._origin.fill(rows)
        self._template = self.folder / "dagster"
        self._template.mkdir()
        (self._template / "dagster.yaml").write_text(SETTINGS, encoding="utf-8")
        with DagsterInstance.from_config(str(self._template)) as instance:
            # Made once and copied: its tables are there, and no checkpoint is.
            KeyValueCheckpoints(instance).delete("nothing")

    def home(self, name: str) -> Path:
        """Makes a folder with an instance of Dagster in it."""
        home = self.folder / name
        home.mkdir()
        shutil.copytree(self._template, home / "dagster")
        return home

    def trial(self, target: Target, mode: str) -> Trial:
        """Makes a load that nobody has begun."""
        self._count += 1
        name = f"load_{self._count}"
        home = self.home(name)
        text = workflow_text(name, self._origin, target.destination(name, mode, home), mode, target.letters())
        (home / "load.yaml").write_text(text, encoding="utf-8")
        return Trial(self, target, mode, name, home)

    @cached_property
    def expected(self) -> Counter[Any]:
        """What a load must make visible."""
        return self.rows.expected()

    @cached_property
    def refused(self) -> Counter[int]:
        """The ids of its dead letters."""
        return self.rows.refused()

    def close(self) -> None:
        """Ends the process, and forgets everything on disk."""
        if not self._borrowed:
            self.warm.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Trial:
    """One load.

    Attributes:
        ground: What it shares with others.
        target: Where it is written.
        mode: How.
        name: Its workflow's name.
        home: Its folder.
        told: How each attempt ended; None for one that was killed.
        name_of_run: The run that the attempts at an overwrite belong to.
    """

    ground: Ground
    target: Target
    mode: str
    name: str
    home: Path
    told: list[Ended | None] = field(default_factory=list)
    name_of_run: str = "the run"

    def start(self, faults: dict[str, str] | None = None) -> Child:
        """Starts an attempt; those of an overwrite belong to one run."""
        run_id = self.name_of_run if self.mode == "overwrite" else f"{self.name}-{time.monotonic_ns()}"
        return self.ground.warm.start(self.home, run_id, faults)

    def attempt(self, faults: dict[str, str] | None = None) -> Ended | None:
        """Makes an attempt and waits for its end."""
        return self.heard(self.start(faults).wait())

    def heard(self, ended: Ended | None) -> Ended | None:
        """Notes how an attempt ended."""
        self.told.append(ended)
        return ended

    def finish(self) -> Judgement:
        """Lets undisturbed attempts finish the load, judges it, and forgets it if nothing is wrong."""
        for _ in range(RERUNS):
            ended = self.attempt()
            if ended is not None and not ended.error:
                found = self.judge()
                break
        else:
            last = self.told[-1]
            found = Judgement(Verdict.STUCK, why=f"{last.error}: {last.said}" if last else "killed by somebody else")
        if found.verdict is Verdict.WHOLE:
            self.target.clear(self.name)
            shutil.rmtree(self.home, ignore_errors=True)
        return found

    def judge(self) -> Judgement:
        """Compares what is there with what must be there."""
        have, want = self.target.rows(self.name, self.home), self.ground.expected
        lost, more = want - have, have - want
        doubled = sum(count for row, count in more.items() if row in want)
        wrong = more.total() - doubled
        if wrong:
            example = next(row for row in more if row not in want)
            return Judgement(Verdict.CORRUPT, lost.total(), doubled, wrong, f"{example} should not be there")
        if lost:
            return Judgement(Verdict.LOST, lost.total(), doubled, why=f"id {min(lost)[0]} is missing")
        if doubled:
            return Judgement(Verdict.DOUBLED, 0, doubled, why=f"id {min(more)[0]} is there twice")
        return self._judge_letters()

    def _judge_letters(self) -> Judgement:
        have, want = self._letters(), self.ground.refused
        lost, more = (want - have).total(), (have - want).total()
        if lost or more:
            return Judgement(Verdict.ASTRAY, lost, more, why=f"dead letters: {lost} missing, {more} too many")
        return Judgement(Verdict.WHOLE)

    def _letters(self) -> Counter[int]:
        if isinstance(self.target, PostgresWithLetters):
            return self.target.refused(self.name)
        store = LocalDeadLetters(self.home / "kept" / "dead_letters")
        found = Counter(int(each.rejection.row.to_pylist()[0]["id"]) for each in store.list(limit=100_000))
        store.close()
        return found

    def forget_letters(self) -> None:
        """Forgets the dead letters so far: a refresh that begins anew refuses the same rows anew."""
        shutil.rmtree(self.home / "kept" / "dead_letters")

    def copies(self) -> list[int]:
        """Returns the epochs of the copies in Dagster's storage."""
        [file] = (self.home / "dagster").glob("history/runs.db")
        with sqlite3.connect(file) as held:
            found = held.execute("SELECT value FROM kvs WHERE key LIKE 'headrace/checkpoint/%'").fetchall()
        held.close()
        return [int(json.loads(each)["epoch"]) for (each,) in found]
