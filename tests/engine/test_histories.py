"""Any history of runs, crashes, second runs, lost answers, stops, growth and other sizes; nothing lost, nothing doubled, at any time."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dsl.contracts.errors import FencedError, RetryableError
from dsl.contracts.policies import OnError
from dsl.plan.physical import Stage
from engine.report import StageReport
from engine.run import Control, run_stage
from tests.engine.fakes import (
    Checkpoints,
    Crash,
    DeadLetters,
    Events,
    Power,
    Table,
    Tape,
    chunk,
    context,
    numbers,
    policies,
    scan,
    stage,
)

CAST = "SELECT id, CAST(text AS BIGINT) AS n FROM input"


class Histories(RuleBasedStateMachine):
    """One stream over its whole life."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self.tape = Tape(numbers(0), incremental=True)
        self.table, self.checkpoints, self.letters = Table(), Checkpoints(), DeadLetters()
        self.poison: set[int] = set()
        self.refused: set[int] = set()
        self.epoch, self.runs = 3, 0
        self.table.refuse = lambda row: row["id"] in self.refused

    def teardown(self) -> None:
        self._folder.cleanup()

    @initialize(rows=st.integers(0, 12), names_rows=st.booleans())
    def begin(self, rows: int, *, names_rows: bool) -> None:
        self.table.names_rows = names_rows
        self.grow(rows, {2}, {5})

    @rule(
        rows=st.integers(1, 9),
        poison=st.sets(st.integers(0, 8), max_size=3),
        refused=st.sets(st.integers(0, 8), max_size=2),
    )
    def grow(self, rows: int, poison: set[int], refused: set[int]) -> None:
        held = self.tape.rows.num_rows
        self.poison |= {held + each for each in poison if each < rows}
        self.refused |= {held + each for each in refused if each < rows} - self.poison
        self.tape.rows = numbers(held + rows, poison=self.poison)

    @rule(batch=st.integers(1, 7), page=st.integers(1, 3), epoch=st.integers(1, 12))
    def resize(self, batch: int, page: int, epoch: int) -> None:
        self.tape.batch, self.tape.page, self.epoch = batch, page, epoch

    @rule(at=st.integers(1, 30))
    def die(self, at: int) -> None:
        self._switch_on(Power(at))
        with suppress(Crash):
            self._run()
        self._switch_on(Power())

    @rule(point=st.sampled_from(["write", "commit", "committed", "open_writer"]), nth=st.integers(1, 3))
    def fail_once(self, point: str, nth: int) -> None:
        left = [nth]

        def fail(reached: str) -> None:
            left[0] -= reached == point
            if reached == point and left[0] == 0:
                raise RetryableError("the connection broke")

        self.table.before = fail
        self._run()
        self.table.before = lambda _: None
        self._settled()

    @rule(nth=st.integers(1, 3))
    def be_overtaken(self, nth: int) -> None:
        """A second run does everything while the first one hangs before a commit."""
        left = [nth]

        def overtake(reached: str) -> None:
            left[0] -= reached == "commit"
            if reached == "commit" and left[0] == 0:
                self.table.before = lambda _: None
                self._run()

        self.table.before = overtake
        with suppress(FencedError):
            self._run()
        self.table.before = lambda _: None
        self._settled()

    @rule(at=st.integers(0, 5))
    def stop(self, at: int) -> None:
        control = Control()
        self.tape.at_batch = lambda number: control.stop() if number == at else None
        self._run(control=control)
        self.tape.at_batch = lambda _: None

    @rule()
    def lose_the_copy(self) -> None:
        self.checkpoints.kept.clear()

    @rule()
    def run(self) -> None:
        books = self._run().reconciliation
        assert books.balanced
        self._settled()

    @invariant()
    def nothing_is_doubled_or_made_up(self) -> None:
        ids, letters = self.table.ids(), [row["id"] for row in self.letters.rows()]
        assert len(ids) == len(set(ids))
        assert not set(ids) & (self.poison | self.refused)
        assert len(letters) == len(set(letters))
        assert set(letters) <= self.poison | self.refused

    @invariant()
    def what_is_committed_is_everything_up_to_the_state(self) -> None:
        last = self.table.tokens.get("flow/sink/0")
        if last is None:
            return
        inputs: Any = last.state["inputs"]
        read = range(inputs.get("source", {}).get("row", 0))
        assert set(self.table.ids()) == set(read) - self.poison - self.refused
        assert {row["id"] for row in self.letters.rows()} >= set(read) & (self.poison | self.refused)

    def _settled(self) -> None:
        every = set(range(self.tape.rows.num_rows))
        assert set(self.table.ids()) == every - self.poison - self.refused
        assert {row["id"] for row in self.letters.rows()} == every & (self.poison | self.refused)

    def _switch_on(self, power: Power) -> None:
        self.tape.power = self.table.power = self.checkpoints.power = self.letters.power = power

    def _run(self, control: Control | None = None) -> StageReport:
        self.runs += 1
        given = context(
            Path(self._folder.name), checkpoints=self.checkpoints, dead_letters=self.letters, events=Events()
        )
        given = replace(given, run_id=f"run-{self.runs}", control=control or Control())
        return run_stage(self._stage(), given)

    def _stage(self) -> Stage:
        held = policies(epoch=self.epoch, on_error=OnError.DLQ)
        return stage(chunk(scan(self.tape, held=held), CAST, held), self.table, held)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
