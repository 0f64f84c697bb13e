"""Circuit breakers: closed, open, one probe; shared by threads; blamed for what failed and for nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dsl.contracts.connectors import Operator, Processor
from dsl.contracts.errors import FatalError, UnavailableError
from dsl.contracts.policies import CircuitBreakerPolicy, OnError, RetryPolicy
from dsl.contracts.rows import Outcome
from dsl.contracts.state import State
from dsl.contracts.stores import DeadLetter, Health
from dsl.plan.physical import Apply
from engine.breaker import Breaker, MemoryBreakers, OpenBreakerError, Permit
from engine.run import run_stage
from tests.engine.fakes import (
    DeadLetters,
    FakeConnection,
    SteadyClock,
    Table,
    TableDestination,
    Tape,
    TapeSource,
    chunk,
    context,
    numbers,
    policies,
    scan,
    stage,
)

COOLDOWN = timedelta(seconds=30)
POLICY = CircuitBreakerPolicy(failures=3, cooldown=COOLDOWN)
GUARDED = policies(circuit_breaker=POLICY, retry=RetryPolicy(max_attempts=1))


def _breaker(store: MemoryBreakers | None = None, clock: SteadyClock | None = None) -> Breaker:
    return Breaker("fake/x", POLICY, store or MemoryBreakers(), clock or SteadyClock())


def _open(breaker: Breaker) -> None:
    for _ in range(POLICY.failures):
        breaker.failed(breaker.admit())


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = _breaker()
    for _ in range(2):
        breaker.failed(breaker.admit())
    breaker.succeeded(breaker.admit())
    for _ in range(3):
        breaker.failed(breaker.admit())
    with pytest.raises(OpenBreakerError, match="lets one call through in 30 s") as raised:
        breaker.admit()
    assert raised.value.after == 30


def test_after_the_cooldown_one_probe_decides() -> None:
    store, clock = MemoryBreakers(), SteadyClock()
    breaker = _breaker(store, clock)
    _open(breaker)
    clock.sleep(COOLDOWN)
    probe = breaker.admit()
    with pytest.raises(OpenBreakerError):
        _breaker(store, clock).admit()
    breaker.failed(probe)
    with pytest.raises(OpenBreakerError):
        breaker.admit()
    clock.sleep(COOLDOWN)
    breaker.succeeded(breaker.admit())
    for _ in range(5):
        breaker.admit()
    assert store.get("fake/x").closed


def test_a_prober_that_dies_is_replaced() -> None:
    clock = SteadyClock()
    breaker = _breaker(clock=clock)
    _open(breaker)
    clock.sleep(COOLDOWN)
    breaker.admit()
    clock.sleep(COOLDOWN)
    breaker.admit()


def test_answers_in_flight_when_it_opens_change_nothing() -> None:
    store, clock = MemoryBreakers(), SteadyClock()
    breaker = _breaker(store, clock)
    early, other = breaker.admit(), breaker.admit()
    _open(breaker)
    opened = store.get("fake/x")
    clock.sleep(COOLDOWN / 2)
    breaker.succeeded(early)
    breaker.failed(other)
    assert store.get("fake/x") == opened
    clock.sleep(COOLDOWN / 2)
    breaker.succeeded(breaker.admit())
    breaker.failed(other)
    breaker.failed(other)
    assert store.get("fake/x") == Health(opening=1), "what failed before it opened counts after it closed"


def test_a_probe_that_takes_longer_than_its_turn_may_still_close_it() -> None:
    store, clock = MemoryBreakers(), SteadyClock()
    breaker = _breaker(store, clock)
    _open(breaker)
    clock.sleep(COOLDOWN)
    slow = breaker.admit()
    clock.sleep(COOLDOWN)
    second = breaker.admit()
    breaker.failed(slow)
    assert store.get("fake/x").opening == 1, "the verdict is that of the probe whose turn it is"
    breaker.succeeded(slow)
    assert store.get("fake/x").closed
    breaker.failed(second)
    assert store.get("fake/x").failures == 1


def test_a_clock_that_goes_back_does_not_keep_it_open() -> None:
    clock = SteadyClock()
    breaker = _breaker(clock=clock)
    _open(breaker)
    clock.sleep(-timedelta(hours=3))
    with pytest.raises(OpenBreakerError, match="in 30 s"):
        breaker.admit()
    clock.sleep(COOLDOWN)
    breaker.admit()


def test_many_threads_send_one_probe() -> None:
    store, clock, admitted = MemoryBreakers(), SteadyClock(), []
    _open(_breaker(store, clock))
    clock.sleep(COOLDOWN)
    together = threading.Barrier(32)

    def knock() -> None:
        together.wait()
        try:
            _breaker(store, clock).admit()
        except UnavailableError:
            return
        admitted.append(1)

    threads = [threading.Thread(target=knock) for _ in range(32)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(admitted) == 1


class Breakers(RuleBasedStateMachine):
    """The breaker beside a model of it: calls begin, end in any order, and some never end."""

    def __init__(self) -> None:
        super().__init__()
        self.store, self.clock = MemoryBreakers(), SteadyClock()
        self.breaker = _breaker(self.store, self.clock)
        self.under_way: list[Permit] = []
        self.probes: list[datetime] = []

    @rule()
    def call(self) -> None:
        before = self.store.get("fake/x")
        try:
            permit = self.breaker.admit()
        except OpenBreakerError:
            assert before.open_until is not None
            assert before.open_until > self.clock.now()
            return
        assert before.open_until is None or before.open_until <= self.clock.now()
        self.under_way.append(permit)
        if permit.probe:
            self.probes.append(self.clock.now())

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), worked=st.booleans())
    def answer(self, data: st.DataObject, *, worked: bool) -> None:
        permit = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        before = self.store.get("fake/x")
        (self.breaker.succeeded if worked else self.breaker.failed)(permit)
        after = self.store.get("fake/x")
        if not before.closed and not permit.probe:
            assert after == before, "an answer that was in flight says nothing about an open breaker"
        if before.closed and worked:
            assert after == replace(before, failures=0)

    @rule(seconds=st.integers(1, 40))
    def wait(self, seconds: int) -> None:
        self.clock.sleep(timedelta(seconds=seconds))

    @invariant()
    def open_means_failed_often(self) -> None:
        health = self.store.get("fake/x")
        assert health.closed is (health.failures < POLICY.failures)

    @invariant()
    def one_probe_in_a_cooldown(self) -> None:
        assert all(later - sooner >= COOLDOWN for sooner, later in pairwise(self.probes))


TestBreakers = Breakers.TestCase
TestBreakers.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def _guarded(home: Path, tape: Tape, table: Table, breakers: MemoryBreakers, **changes: Any) -> Any:
    source = replace(scan(tape, held=GUARDED), source=TapeSource(tape=tape, connection=FakeConnection(name="there")))
    planned = stage(source, table, GUARDED)
    return run_stage(planned, context(home, breakers=breakers, **changes))


def _down(_: object) -> None:
    raise UnavailableError("connection refused")


def test_a_source_that_is_down_opens_its_own_breaker(home: Path) -> None:
    breakers, tape = MemoryBreakers(), Tape(numbers(3), at_batch=_down)
    for _ in range(3):
        with pytest.raises(UnavailableError, match="connection refused"):
            _guarded(home, tape, Table(), breakers)
    assert breakers.get("fake/there").failures == 3
    assert breakers.get("fake/fake") == Health()
    with pytest.raises(OpenBreakerError):
        _guarded(home, tape, Table(), breakers)
    assert len(tape.opened) == 3


def test_a_destination_that_is_down_opens_its_own_breaker(home: Path) -> None:
    breakers, table, clock = MemoryBreakers(), Table(before=_down), SteadyClock()
    for _ in range(3):
        with pytest.raises(UnavailableError):
            _guarded(home, Tape(numbers(3)), table, breakers, clock=clock)
    assert breakers.get("fake/there") == Health()
    for _ in range(4):
        with pytest.raises(OpenBreakerError):
            _guarded(home, Tape(numbers(3)), table, breakers, clock=clock)
        clock.sleep(timedelta(seconds=7))
    # Being refused did not make it wait longer.
    clock.sleep(timedelta(seconds=2))
    table.before = lambda _: None
    _guarded(home, Tape(numbers(3)), table, breakers, clock=clock)
    assert breakers.get("fake/fake").closed


def test_a_stage_that_reads_and_writes_one_system_can_probe_it(home: Path) -> None:
    breakers, clock, table = MemoryBreakers(), SteadyClock(), Table()
    _open(Breaker("fake/fake", POLICY, breakers, clock))
    clock.sleep(COOLDOWN)
    run_stage(
        stage(scan(Tape(numbers(3)), held=GUARDED), table, GUARDED), context(home, breakers=breakers, clock=clock)
    )
    assert table.ids() == [0, 1, 2]
    assert breakers.get("fake/fake").closed


def test_a_run_that_found_nothing_new_closes_the_breaker_too(home: Path) -> None:
    breakers, clock, table = MemoryBreakers(), SteadyClock(), Table()
    given = context(home, breakers=breakers, clock=clock)
    tape = Tape(numbers(3), incremental=True)
    run_stage(stage(scan(tape, held=GUARDED), table, GUARDED), given)
    _open(Breaker("fake/fake", POLICY, breakers, clock))
    clock.sleep(COOLDOWN)
    run_stage(stage(scan(tape, held=GUARDED), table, GUARDED), given)
    assert len(table.commits) == 1
    assert breakers.get("fake/fake").closed


def test_other_errors_and_other_stores_are_not_blamed_on_the_destination(home: Path) -> None:
    class Down(DeadLetters):
        def add(self, letters: Iterable[DeadLetter]) -> int:
            raise UnavailableError("the store of dead letters is down")

    breakers, held = MemoryBreakers(), replace(GUARDED, on_error=OnError.DLQ)
    query = "SELECT CAST(text AS BIGINT) AS n FROM input"
    root = chunk(scan(Tape(numbers(3, poison={1})), held=held), query, held)
    with pytest.raises(UnavailableError, match="dead letters"):
        run_stage(stage(root, Table(), held), context(home, breakers=breakers, dead_letters=Down()))

    def fatal(_: str) -> None:
        raise FatalError("permission denied")

    with pytest.raises(FatalError):
        run_stage(stage(scan(Tape(numbers(3))), Table(before=fatal), GUARDED), context(home, breakers=breakers))
    assert breakers.get("fake/fake") == Health()


def test_a_system_of_which_only_the_schema_is_asked_is_blamed(home: Path) -> None:
    class Unreachable(TapeSource):
        def discover_schema(self) -> Any:
            raise UnavailableError("no route to host")

    tape, breakers = Tape(numbers(3)), MemoryBreakers()
    source = replace(
        scan(tape, held=GUARDED), source=Unreachable(tape=tape, connection=FakeConnection(name="there")), schema=None
    )
    destination = TableDestination(table=Table())
    planned = replace(stage(source, destination.table, GUARDED))
    with pytest.raises(UnavailableError):
        run_stage(planned, context(home, breakers=breakers))
    assert breakers.get("fake/there").failures == 1
    assert breakers.get("fake/fake") == Health()


def test_a_service_that_a_step_calls_is_not_blamed_on_the_destination(home: Path) -> None:
    class Asking(Processor):
        def output_schema(self, schema: pa.Schema) -> pa.Schema:
            return schema

        def open(self, schema: pa.Schema, state: State | None) -> Operator:
            del schema, state
            return Refused()

    class Refused(Operator):
        def process(self, rows: pa.RecordBatch) -> Outcome:
            raise UnavailableError("the service of the step is down")

    breakers, tape = MemoryBreakers(), Tape(numbers(3))
    root = Apply("ask", scan(tape, held=GUARDED), Asking(), None, GUARDED)
    with pytest.raises(UnavailableError, match="of the step"):
        run_stage(stage(root, Table(), GUARDED), context(home, breakers=breakers))
    assert breakers.get("fake/fake") == Health()
