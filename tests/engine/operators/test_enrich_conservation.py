"""Every row is accounted for: in = passed + failed + filtered, in its order, whatever mix of faults a service plays."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsl.contracts.errors import FatalError
from dsl.contracts.policies import OnError, Policies
from dsl.plan.physical import Apply
from dsl.processors.enrich import EnrichBatch, EnrichCache, EnrichError
from engine.run import StageOutcome, SystemClock, run_stage
from tests.engine.fakes import Checkpoints, DeadLetters, Table, Tape, context, policies, scan, stage
from tests.engine.operators.opened import HASTY, USERS, enriching
from tests.kit.enrichment import EnrichmentApi, Fault, enrichment_api, score_of

PASSING = [
    Fault.too_many_requests(),
    Fault.server_error(),
    Fault.server_error(503),
    Fault.truncated(),
    Fault.not_json(),
    Fault.connection_closed(),
]
LASTING = [*PASSING, Fault.client_error(), Fault.client_error(400), Fault(status=302), Fault.client_error(404)]
numbers = count()


@pytest.fixture(scope="module")
def api() -> Iterator[EnrichmentApi]:
    """One API for all examples; each has addresses of its own."""
    with enrichment_api() as made:
        yield made


def table_of(emails: list[str]) -> pa.Table:
    rows = [{"id": number, "user": {"email": each}} for number, each in enumerate(emails)]
    return pa.Table.from_pylist(rows, schema=USERS)


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(st.data())
def test_no_row_is_lost_and_none_is_made_up(api: EnrichmentApi, data: st.DataObject) -> None:
    mark = next(numbers)
    keys = [f"{mark}-{number}@x" for number in range(data.draw(st.integers(1, 12), label="keys"))]
    emails = data.draw(st.lists(st.sampled_from(keys), min_size=1, max_size=40), label="rows")
    lasting = data.draw(st.dictionaries(st.sampled_from(keys), st.sampled_from(LASTING), max_size=5), label="lasting")
    passing = data.draw(st.dictionaries(st.sampled_from(keys), st.sampled_from(PASSING), max_size=5), label="passing")
    batch = data.draw(st.none() | st.integers(2, 8), label="batch")
    on_error = data.draw(st.sampled_from([OnError.DLQ, OnError.DROP, None]), label="on_error")
    for key, fault in lasting.items():
        api.fail_always_for(key, fault)
    if batch is None:
        for key, fault in passing.items():
            api.fail_for(key, fault)
    options = enriching(
        api.url,
        batch=None if batch is None else EnrichBatch(rows=batch),
        cache=EnrichCache(entries=data.draw(st.sampled_from([0, 3, 100]), label="cache")),
        concurrency=data.draw(st.sampled_from([1, 3, 8]), label="concurrency"),
        on_error=EnrichError.KEEP if on_error is None else None,
        timeout=timedelta(seconds=20),
    )
    held = policies(on_error=on_error or OnError.FAIL, retry=replace(HASTY, max_attempts=2), epoch=7)
    table, letters = Table(), DeadLetters()
    tape = Tape(table_of(emails), batch=data.draw(st.integers(1, 15), label="rows in a batch"))
    node = Apply("enrich", scan(tape), options, None, held)
    with TemporaryDirectory() as home:
        given_ = context(
            Path(home),
            clock=SystemClock(),
            dead_letters=letters,
            checkpoints=Checkpoints(),
            allow_private_addresses=True,
        )
        report = run_stage(stage(node, table, held), given_)
    books = report.reconciliation
    assert report.outcome is StageOutcome.FINISHED
    assert books.balanced
    assert books.read == len(emails) == books.written + books.filtered + books.rejected
    rows = table.rows()
    ids = [each["id"] for each in rows]
    assert ids == sorted(set(ids)), "out of order or doubled"
    assert all(emails[each["id"]] == each["user"]["email"] for each in rows)
    assert all(each["user"]["score"] in {None, score_of(each["user"]["email"])} for each in rows)
    if batch is None:
        assert {each["user"]["email"] for each in rows if each["user"]["score"] is not None} == set(emails) - set(
            lasting
        )
    if on_error is OnError.DLQ:
        assert sorted(ids + [each["id"] for each in letters.rows()]) == list(range(len(emails)))
    if on_error is None:
        assert ids == list(range(len(emails)))


def test_a_run_that_fails_goes_on_where_it_committed(api: EnrichmentApi, tmp_path: Path) -> None:
    emails = [f"resume-{number}@x" for number in range(20)]
    api.fail_for(emails[13], Fault.client_error())
    held = Policies(on_error=OnError.FAIL, retry=HASTY, checkpoint=policies(epoch=4).checkpoint)
    table, tape = Table(), Tape(table_of(emails), batch=2, incremental=True)
    given_ = context(tmp_path, clock=SystemClock(), allow_private_addresses=True)
    node = Apply("enrich", scan(tape), enriching(api.url), None, held)
    with pytest.raises(FatalError, match="422"):
        run_stage(stage(node, table, held), given_)
    committed = table.ids()
    assert committed == list(range(len(committed)))
    assert len(committed) <= 12
    run_stage(stage(node, table, held), given_)
    assert [(each["id"], each["user"]["score"]) for each in table.rows()] == list(enumerate(map(score_of, emails)))


def test_a_stop_ends_a_run_in_the_middle_of_a_call(api: EnrichmentApi, tmp_path: Path) -> None:
    emails = [f"slow-{number}@x" for number in range(40)]
    for each in emails[10:]:
        api.fail_always_for(each, Fault.slow(60))
    table, tape = Table(), Tape(table_of(emails), batch=5, incremental=True)
    held = policies(epoch=5, on_error=OnError.DLQ)
    given_ = context(tmp_path, clock=SystemClock(), allow_private_addresses=True)
    node = Apply("enrich", scan(tape), enriching(api.url, timeout=timedelta(minutes=10)), None, held)

    def stop() -> None:
        while not api.calls[emails[10]]:
            time.sleep(0.01)
        time.sleep(0.2)
        given_.control.stop()

    threading.Thread(target=stop, daemon=True).start()
    began = time.monotonic()
    report = run_stage(stage(node, table, held), given_)
    assert time.monotonic() - began < 50, "it waited for the service"
    assert report.outcome is StageOutcome.STOPPED
    assert table.ids() == list(range(10))
