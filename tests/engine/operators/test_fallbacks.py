"""`enrich` with fallbacks: what stands in, for which failures, in which order; every row stamped and counted, none lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsl.contracts.errors import FatalError
from dsl.contracts.policies import CircuitBreakerPolicy, OnError
from dsl.contracts.rows import Outcome
from dsl.plan.physical import Apply
from dsl.processors.enrich import EnrichCache, EnrichError, ResultMapping
from dsl.processors.fallback import EnrichFallback
from engine.operators.kept_answers import KeptAnswers
from engine.run import SystemClock, run_stage
from tests.engine.fakes import Table, Tape, context, scan, stage
from tests.engine.operators.opened import DLQ, USERS, Workbench, enriching, users
from tests.kit.enrichment import EnrichmentApi, Fault, enrichment_api, score_of

DOWN = Fault.server_error(503)
REFUSED = Fault.client_error()


@pytest.fixture
def standby() -> Iterator[EnrichmentApi]:
    """A second service that answers as the first."""
    with enrichment_api() as api:
        yield api


def _scores(done: Outcome) -> dict[str, tuple[Any, Any]]:
    return {each["user"]["email"]: (each["user"]["score"], each.get("by")) for each in done.passed.to_pylist()}


def test_another_endpoint_answers_what_the_first_could_not(
    bench: Workbench, http_api: EnrichmentApi, standby: EnrichmentApi
) -> None:
    http_api.fail_always_for("b@x", DOWN)
    http_api.fail_always_for("c@x", REFUSED)
    fallback = EnrichFallback(url=standby.url, stamp="by")
    done = bench.open(enriching(http_api.url, fallback=fallback), USERS).process(users("a@x", "b@x", "c@x", "b@x"))
    assert [each["by"] for each in done.passed.to_pylist()] == [None, "other_endpoint", "other_endpoint"]
    assert _scores(done) == {"a@x": (score_of("a@x"), None), "b@x": (score_of("b@x"), "other_endpoint")}
    assert [each.code for each in done.failed] == ["http_422"], "what a service refuses is not asked elsewhere"
    assert dict(done.fallbacks) == {"other_endpoint": 2}
    assert standby.calls == {"b@x": 1}


def test_when_both_are_down_the_next_one_helps(
    bench: Workbench, http_api: EnrichmentApi, standby: EnrichmentApi
) -> None:
    for api in (http_api, standby):
        api.fail_always_for("a@x", DOWN)
    http_api.fail_always_for("b@x", DOWN)
    fallback = EnrichFallback(url=standby.url, default={"user.score": -1}, stamp="by")
    done = bench.open(enriching(http_api.url, fallback=fallback), USERS).process(users("a@x", "b@x"))
    assert _scores(done) == {"a@x": (-1, "default"), "b@x": (score_of("b@x"), "other_endpoint")}
    assert done.failed == ()


def test_an_old_answer_helps_only_while_it_is_not_too_old() -> None:
    now = [0.0]
    kept: KeptAnswers[int] = KeptAnswers(10, 2**20, 5.0, lambda: now[0], stale=60.0)
    kept.put("u", None, 7, 10)
    assert (kept.get("u", None), kept.stale("u", None)) == (7, 7)
    now[0] = 5.0
    assert (kept.get("u", None), kept.stale("u", None)) == (None, 7)
    now[0] = 59.9
    assert kept.stale("u", None) == 7
    now[0] = 60.0
    assert kept.stale("u", None) is None
    assert len(kept) == kept.held == 0


def test_an_old_answer_stands_in_for_a_service_that_is_down(bench: Workbench, http_api: EnrichmentApi) -> None:
    cache = EnrichCache(ttl=timedelta(microseconds=1))
    fallback = EnrichFallback(stale_cache=timedelta(hours=1), stamp="by")
    operator = bench.open(enriching(http_api.url, fallback=fallback, cache=cache), USERS)
    assert _scores(operator.process(users("a@x", "b@x"))) == {each: (score_of(each), None) for each in ("a@x", "b@x")}
    for email in ("a@x", "c@x"):
        http_api.fail_always_for(email, DOWN)
    http_api.fail_always_for("b@x", REFUSED)
    done = operator.process(users("a@x", "b@x", "c@x"))
    assert _scores(done) == {"a@x": (score_of("a@x"), "stale_cache")}
    assert [each.code for each in done.failed] == ["http_422", "http_503"]
    assert dict(done.fallbacks) == {"stale_cache": 1}


@pytest.mark.parametrize("fallback", [EnrichFallback(skip_field=True), EnrichFallback(default={"user.score": 5})])
def test_a_row_goes_on_whatever_failed_but_not_without_a_required_value(
    bench: Workbench, http_api: EnrichmentApi, fallback: EnrichFallback
) -> None:
    http_api.fail_always_for("a@x", DOWN)
    http_api.fail_always_for("b@x", REFUSED)
    instead = 5 if fallback.default else None
    done = bench.open(enriching(http_api.url, fallback=fallback), USERS).process(users("a@x", "b@x", "c@x"))
    assert _scores(done) == {"a@x": (instead, None), "b@x": (instead, None), "c@x": (score_of("c@x"), None)}
    missing = (ResultMapping(source="response.rank", destination="rank", type="int64", required=True),)
    strict = enriching(http_api.url, fallback=replace(fallback, default={}, skip_field=True), result_mapping=missing)
    assert [each.code for each in bench.open(strict, USERS).process(users("c@x")).failed] == ["required"]


def test_rows_that_are_kept_are_counted(bench: Workbench, http_api: EnrichmentApi) -> None:
    http_api.fail_always_for("a@x", DOWN)
    done = bench.open(enriching(http_api.url, on_error=EnrichError.KEEP), USERS).process(users("a@x", "b@x", "a@x"))
    assert dict(done.fallbacks) == {"skip_field": 2}


def test_a_row_that_nothing_helps_fails_the_run_where_it_should(bench: Workbench, http_api: EnrichmentApi) -> None:
    http_api.fail_always_for("a@x", DOWN)
    options = enriching(http_api.url, fallback=EnrichFallback(stale_cache=timedelta(hours=1)))
    with pytest.raises(FatalError, match="503"):
        bench.open(options, USERS, replace(DLQ, on_error=OnError.FAIL)).process(users("b@x", "a@x"))


def test_a_row_does_not_wait_for_a_breaker_when_something_stands_in(bench: Workbench, http_api: EnrichmentApi) -> None:
    """With a pause of an hour, this test would not end."""
    for number in range(50):
        http_api.fail_always_for(str(number), DOWN)
    breaker = CircuitBreakerPolicy(failures=3, cooldown=timedelta(hours=1))
    options = enriching(http_api.url, fallback=EnrichFallback(skip_field=True), concurrency=1)
    done = bench.open(options, USERS, replace(DLQ, circuit_breaker=breaker)).process(users(*map(str, range(50))))
    assert dict(done.fallbacks) == {"skip_field": 50}
    assert sum(http_api.calls.values()) == 3


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fates=st.lists(st.sampled_from(["fine", "down", "refused", "both"]), min_size=1, max_size=12),
    always=st.booleans(),
)
def test_every_row_is_answered_helped_or_refused(tmp_path: Path, fates: list[str], *, always: bool) -> None:
    with enrichment_api() as first, enrichment_api() as second:
        emails = [f"{number}{fate}@x" for number, fate in enumerate(fates)]
        for email, fate in zip(emails, fates, strict=True):
            if fate != "fine":
                first.fail_always_for(email, REFUSED if fate == "refused" else DOWN)
            if fate == "both":
                second.fail_always_for(email, DOWN)
        bench = Workbench(tmp_path)
        fallback = EnrichFallback(url=second.url, skip_field=always, stamp="by")
        done = bench.open(enriching(first.url, fallback=fallback), USERS).process(users(*emails))
        bench.close()
    last = "skip_field" if always else "refused"
    ends = {"fine": None, "down": "other_endpoint", "refused": last, "both": last}
    expected = [(email, ends[fate]) for email, fate in zip(emails, fates, strict=True)]
    stamped = [(each["user"]["email"], each["by"]) for each in done.passed.to_pylist()]
    assert stamped == [each for each in expected if each[1] != "refused"]
    assert [each.row.to_pylist()[0]["user"]["email"] for each in done.failed] == [
        email for email, end in expected if end == "refused"
    ]
    assert sum(done.fallbacks.values()) == sum(by is not None for _, by in stamped)


def test_the_report_of_a_stage_counts_them(tmp_path: Path, http_api: EnrichmentApi) -> None:
    for number in range(0, 100, 10):
        http_api.fail_always_for(str(number), DOWN)
    rows = pa.table({"id": list(range(100)), "text": [str(each) for each in range(100)]})
    mapping = ResultMapping(source="response.score", destination="score", type="int64")
    options = enriching(
        http_api.url,
        body_template='{"email": "{{ text }}"}',
        result_mapping=(mapping,),
        fallback=EnrichFallback(skip_field=True, stamp="by"),
    )
    held = replace(DLQ, batch=replace(DLQ.batch, rows=7))
    root = Apply("ask", scan(Tape(rows)), options, None, held)
    given_context = context(tmp_path, clock=SystemClock(), allow_private_addresses=True)
    report = run_stage(stage(root, Table()), given_context)
    assert dict(report.fallbacks) == {"ask/skip_field": 10}
    assert report.as_json()["fallbacks"] == {"ask/skip_field": 10}
    assert report.reconciliation.balanced
    assert report.reconciliation.written == 100
