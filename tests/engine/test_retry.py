"""Retries: every field of the policy, full jitter, what the system asks, which errors; and the pace of a rate limit."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsl.contracts.errors import (
    BudgetExceededError,
    ErrorType,
    FatalError,
    FencedError,
    HeadraceError,
    ReconciliationError,
    RegressionError,
    RetryableError,
    SchemaError,
    UnavailableError,
)
from dsl.contracts.policies import RateLimit, RetryPolicy
from engine.retry import Pace, RetryBudget, backoff, may_retry, pause
from engine.run import StageOutcome, run_stage
from tests.engine.fakes import Events, SteadyClock, Table, Tape, context, numbers, policies, scan, stage

POLICY = RetryPolicy(
    max_attempts=4,
    initial_backoff=timedelta(seconds=2),
    max_backoff=timedelta(seconds=30),
    backoff_multiplier=3.0,
    retry_on=(ErrorType.TRANSIENT, ErrorType.UNAVAILABLE),
)
ANY = RetryableError("later")
EVERY = tuple(each for each in ErrorType if each is not ErrorType.FATAL)


def _longest(failures: int, error: RetryableError = ANY, policy: RetryPolicy = POLICY) -> float:
    return backoff(policy, failures, error, lambda: 1.0).total_seconds()


def test_pauses_grow_by_the_factor_up_to_the_longest() -> None:
    assert [_longest(each) for each in range(1, 6)] == [2, 6, 18, 30, 30]
    assert _longest(10_000) == 30
    assert _longest(10_000, policy=replace(POLICY, backoff_multiplier=1e300)) == 30
    assert [_longest(each, policy=replace(POLICY, backoff_multiplier=1.0)) for each in (1, 9)] == [2, 2]


@given(failures=st.integers(1, 100), luck=st.floats(0, 1, exclude_max=True))
def test_jitter_is_full(failures: int, luck: float) -> None:
    found = backoff(POLICY, failures, ANY, lambda: luck)
    assert found.total_seconds() == pytest.approx(luck * _longest(failures), abs=1e-5)


def test_jitter_is_random() -> None:
    found = {backoff(POLICY, 3, ANY) for _ in range(50)}
    assert len(found) > 40
    assert all(timedelta() <= each <= timedelta(seconds=18) for each in found)


def test_what_the_system_asks_is_the_least() -> None:
    asked = RetryableError("too many requests", after=12.5, error_type=ErrorType.THROTTLED)
    assert backoff(POLICY, 1, asked, lambda: 0.0) == timedelta(seconds=12.5)
    assert backoff(POLICY, 3, asked, lambda: 1.0) == timedelta(seconds=18)
    assert _longest(1, RetryableError("an hour", after=3600)) == 3600


@pytest.mark.parametrize("error_type", ErrorType)
def test_only_the_named_classes_are_tried_again(error_type: ErrorType) -> None:
    error = RetryableError("x", error_type=error_type)
    assert may_retry(POLICY, 1, error) is (error_type in POLICY.retry_on)
    assert may_retry(POLICY, 3, error) is (error_type in POLICY.retry_on)
    assert not may_retry(POLICY, 4, error)
    assert not may_retry(replace(POLICY, max_attempts=1), 1, error)


def test_a_pause_ends_early_when_the_run_should() -> None:
    clock, looks = SteadyClock(), iter([False, False, True])
    pause(clock, timedelta(hours=1), lambda: next(looks))
    assert sum(clock.slept, timedelta()) == timedelta(milliseconds=500)


def _failing(error: HeadraceError, times: int, point: str = "open_writer") -> Table:
    left = Counter({point: times})

    def fail(reached: str) -> None:
        if left[reached] > 0:
            left[reached] -= 1
            raise error

    return Table(before=fail)


def _run(home: Path, table: Table, retry: RetryPolicy = POLICY, **changes: Any) -> Any:
    held = policies(epoch=3, retry=retry)
    return run_stage(stage(scan(Tape(numbers(9)), held=held), table, held), context(home, **changes))


@pytest.mark.parametrize("point", ["open_writer", "write", "commit", "committed"])
def test_a_stage_is_tried_as_often_as_the_policy_says(home: Path, point: str) -> None:
    clock, events = SteadyClock(), Events()
    report = _run(home, _failing(ANY, 3, point), clock=clock, events=events)
    assert (report.outcome, report.attempts) == (StageOutcome.FINISHED, 4)
    assert next(each.fields["failures"] for each in events.told if each.name == "retrying") == 1
    assert sum(clock.slept, timedelta()) <= timedelta(seconds=2 + 6 + 18)


def test_the_last_failure_is_raised(home: Path) -> None:
    table = _failing(ANY, 4)
    with pytest.raises(RetryableError, match="later"):
        _run(home, table)
    assert table.ids() == []


def test_progress_gives_the_patience_back(home: Path) -> None:
    """Every epoch fails twice; more failures than attempts in all, never more than two in a row."""
    left = Counter[int]()
    table = Table()

    def fail(point: str) -> None:
        epoch = len(table.commits)
        if point == "commit" and left[epoch] < 2:
            left[epoch] += 1
            raise ANY

    table.before = fail
    held = policies(epoch=1, retry=replace(POLICY, max_attempts=3))
    report = run_stage(stage(scan(Tape(numbers(6), batch=1), held=held), table, held), context(home))
    assert table.ids() == list(range(6))
    assert report.attempts == 13


def test_what_the_system_asks_is_waited_for(home: Path) -> None:
    clock = SteadyClock()
    _run(home, _failing(RetryableError("slow down", after=77.0), 1), clock=clock)
    assert sum(clock.slept, timedelta()) == timedelta(seconds=77)


@pytest.mark.parametrize("kind", [FatalError, FencedError, SchemaError, RegressionError, BudgetExceededError])
@pytest.mark.parametrize("point", ["open_writer", "write", "commit"])
def test_fatal_errors_are_never_tried_again(home: Path, kind: type[FatalError], point: str) -> None:
    every = replace(POLICY, retry_on=EVERY)
    clock = SteadyClock()
    with pytest.raises(kind):
        _run(home, _failing(kind("no", error_type=ErrorType.TRANSIENT), 1, point), every, clock=clock)
    assert clock.slept == []


@pytest.mark.parametrize("mended", [ErrorType.AUTH, ErrorType.SCHEMA, ErrorType.POISON])
def test_what_a_person_mends_is_tried_again_where_the_document_names_it(home: Path, mended: ErrorType) -> None:
    error = FatalError("not yet", error_type=mended)
    with pytest.raises(FatalError):
        _run(home, _failing(error, 1), POLICY)
    report = _run(home, _failing(error, 2), replace(POLICY, retry_on=(mended,)))
    assert report.attempts == 3


@pytest.mark.parametrize("kind", [FencedError, RegressionError, BudgetExceededError, ReconciliationError])
@pytest.mark.parametrize("mended", [ErrorType.AUTH, ErrorType.SCHEMA, ErrorType.POISON])
def test_what_nobody_may_go_on_after_is_never_tried_again(kind: type[FatalError], mended: ErrorType) -> None:
    assert not may_retry(replace(POLICY, retry_on=EVERY), 1, kind("no", error_type=mended))


def test_a_budget_allows_a_share_of_the_calls_and_a_reserve() -> None:
    budget = RetryBudget(0.2, reserve=3)
    assert [budget.spend() for _ in range(5)] == [True, True, True, False, False]
    for _ in range(9):
        budget.called()
    assert [budget.spend() for _ in range(3)] == [True, False, False]
    budget.called()
    assert budget.spend()
    assert not RetryBudget(0.0, reserve=0).spend()


def test_an_error_of_nobody_s_making_is_raised_as_it_is_and_told(home: Path) -> None:
    def fail(point: str) -> None:
        if point == "write":
            raise ZeroDivisionError("a fault of the connector")

    events = Events()
    with pytest.raises(ZeroDivisionError):
        _run(home, Table(before=fail), events=events)
    assert events.told[-1].name == "stage_failed"
    assert events.told[-1].fields["kind"] == "ZeroDivisionError"


@pytest.mark.parametrize(("reader", "writer", "attempts"), [(2, 5, 2), (5, 2, 3)])
def test_the_policy_is_that_of_the_node_at_fault(home: Path, reader: int, writer: int, attempts: int) -> None:
    failures = iter([UnavailableError("down"), UnavailableError("down")])

    def fail(_: int) -> None:
        if (error := next(failures, None)) is not None:
            raise error

    tape, table = Tape(numbers(3), at_batch=fail), Table()
    of_reader = policies(retry=replace(POLICY, max_attempts=reader))
    of_writer = policies(retry=replace(POLICY, max_attempts=writer))
    whole = stage(scan(tape, held=of_reader), table, of_writer)
    if attempts < 3:
        with pytest.raises(UnavailableError):
            run_stage(whole, context(home))
    else:
        assert run_stage(whole, context(home)).attempts == attempts


def _pace(clock: SteadyClock, **limit: Any) -> Pace:
    return Pace(RateLimit(**limit), clock, lambda: False)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=40))
def test_no_window_of_a_period_sees_more_than_two_shares(spent: list[int]) -> None:
    """A whole share may go at once, then as much again over the period that follows."""
    clock = SteadyClock()
    pace, sent = _pace(clock, rows=10, per=timedelta(seconds=1)), []
    for rows in spent:
        pace.spend(rows=rows)
        sent.append((clock.now(), rows))
    for begin, _ in sent:
        window = [rows for at, rows in sent if begin <= at < begin + timedelta(seconds=1)]
        assert sum(window) <= 2 * 10 + max(spent)
    took = (sent[-1][0] - sent[0][0]).total_seconds()
    assert took >= (sum(spent[:-1]) - 10) / 10 - 1e-3


def test_rows_and_requests_are_held_both() -> None:
    clock = SteadyClock()
    pace = _pace(clock, rows=1000, requests=2, per=timedelta(seconds=1))
    for _ in range(6):
        pace.spend(rows=1, requests=1)
    assert sum(clock.slept, timedelta()) == pytest.approx(timedelta(seconds=2), abs=timedelta(milliseconds=1))


def test_threads_share_one_pace() -> None:
    clock = SteadyClock()
    pace = _pace(clock, requests=5, per=timedelta(seconds=1))
    waits: list[timedelta] = []
    threads = [threading.Thread(target=lambda: waits.append(pace.claim(requests=1))) for _ in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert max(waits) == pytest.approx(timedelta(seconds=3), abs=timedelta(milliseconds=1))
    assert sum(each == timedelta() for each in waits) == 5


def test_a_limited_destination_and_source_are_slowed(home: Path) -> None:
    clock = SteadyClock()
    held = policies(rate_limit=RateLimit(rows=10, per=timedelta(seconds=1)))
    run_stage(stage(scan(Tape(numbers(100), batch=10)), Table(), held), context(home, clock=clock))
    assert sum(clock.slept, timedelta()) == pytest.approx(timedelta(seconds=9), abs=timedelta(milliseconds=1))
