"""`enrich` and time: pauses that a service asks for, breakers, rates, refused credentials, and runs that are to end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from dsl.contracts.errors import ErrorType, FatalError
from dsl.contracts.policies import CircuitBreakerPolicy, OnError, Policies, RateLimit
from dsl.contracts.secret import Secret
from dsl.contracts.stores import Health
from dsl.processors.enrich import EnrichError
from engine.breaker import MemoryBreakers
from engine.channel import CancelledError
from engine.operators.http_call import LONGEST_PAUSE, seconds_of
from tests.engine.operators.opened import DLQ, HASTY, USERS, Workbench, enriching, http, listening, secret, users
from tests.kit.enrichment import EnrichmentApi, Fault, score_of

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0), ("7", 7), (" 7 ", 7), ("99999999", LONGEST_PAUSE), ("9" * 18, LONGEST_PAUSE), ("9" * 50, None), ("-1", None),
        ("1.5", None), ("", None), (None, None), ("soon", None), ("Fri, 02 Jan 2026 03:04:15 GMT", 10),
        ("Fri, 02 Jan 2026 05:04:15 +0200", 10),
        ("Fri, 02 Jan 2026 03:04:00 GMT", 0), ("Friday, 02-Jan-26 03:04:15 GMT", 10), ("Fri, 99 Jan 2026 03:04:15 GMT", None),
        ("Fri, 02 Jan 9999 03:04:15 GMT", LONGEST_PAUSE), ("²", None),
    ],
)  # fmt: skip
def test_how_long_a_service_asks_to_wait(text: str | None, seconds: float | None) -> None:
    assert seconds_of(text, NOW) == seconds


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured_by_every_row(bench: Workbench, http_api: EnrichmentApi, form: str) -> None:
    """The policy alone would pause for at most 2 ms."""
    asked = "1" if form == "seconds" else format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    http_api.fail_for("a", Fault.too_many_requests(asked))
    operator = bench.open(enriching(http_api.url, concurrency=1), USERS)
    began = time.monotonic()
    assert operator.process(users("a", "b")).passed.num_rows == 2
    assert time.monotonic() - began >= 0.95
    assert http_api.calls == {"a": 2, "b": 1}


def test_nobody_calls_while_a_service_wants_to_be_left_alone(bench: Workbench) -> None:
    times: list[float] = []

    def answer(_: bytes) -> bytes:
        times.append(time.monotonic())
        refused = http(b"", "503 Service Unavailable", "Retry-After: 1")
        return refused if len(times) == 1 else http(b'{"score": 1}')

    with listening(answer) as server:
        bench.open(enriching(server.url, concurrency=8), USERS).process(users(*map(str, range(20))))
    first, *later = sorted(times)
    assert min(each - first for each in later) >= 0.95
    assert len(later) == 20


def test_a_row_is_given_up_after_its_total_time(bench: Workbench, http_api: EnrichmentApi) -> None:
    http_api.fail_always_for("b", Fault.too_many_requests("3600"))
    options = enriching(http_api.url, total=timedelta(seconds=0.3), concurrency=1)
    done = bench.open(options, USERS).process(users("a", "b"))
    assert [each.code for each in done.failed] == ["http_total"]
    assert "answered 429" in done.failed[0].reason


def test_waiting_for_a_turn_is_no_part_of_a_requests_time(bench: Workbench, http_api: EnrichmentApi) -> None:
    """Forty requests of 50 ms, one at a time, none of which may take longer than a second."""
    http_api.delay = 0.05
    options = enriching(http_api.url, concurrency=1, timeout=timedelta(seconds=1))
    assert bench.open(options, USERS).process(users(*map(str, range(40)))).passed.num_rows == 40
    assert http_api.calls.total() == 40


def test_a_rate_is_kept(bench: Workbench, http_api: EnrichmentApi) -> None:
    held = replace(DLQ, rate_limit=RateLimit(requests=10, per=timedelta(seconds=0.5)))
    operator = bench.open(enriching(http_api.url, concurrency=16), USERS, held)
    began = time.monotonic()
    operator.process(users(*map(str, range(30))))
    assert time.monotonic() - began >= 0.9, "10 at once, 20 more at 20 a second"


# ---- circuit breaker -------------------------------------------------------------------------------------------------

BREAKER = CircuitBreakerPolicy(failures=3, cooldown=timedelta(seconds=0.4))


class Watched(MemoryBreakers):
    """Remembers every change."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Health] = []

    def swap(self, key: str, before: Health, after: Health) -> bool:
        self.seen.append(after)
        return super().swap(key, before, after)


def test_a_breaker_opens_lets_one_through_and_closes(bench: Workbench, http_api: EnrichmentApi) -> None:
    http_api.fail_next(*[Fault.server_error()] * 4)
    breakers = Watched()
    held = replace(DLQ, circuit_breaker=BREAKER, retry=replace(HASTY, max_attempts=10))
    operator = bench.open(enriching(http_api.url, concurrency=1), USERS, held, breakers=breakers)
    began = time.monotonic()
    done = operator.process(users(*map(str, range(20))))
    assert done.passed.num_rows == 20
    assert time.monotonic() - began >= 0.75, "the fourth call was a probe that failed"
    assert http_api.calls["0"] == 5
    assert any(each.open_until is not None for each in breakers.seen), "it never opened"
    assert any(each.probe for each in breakers.seen), "nobody probed"
    assert all(breakers.get(key).closed for key in breakers._known), "it did not close"


def test_an_outage_makes_few_calls(bench: Workbench, http_api: EnrichmentApi) -> None:
    """Without a breaker these would be 3 tries for each of 8 rows."""
    for number in range(8):
        http_api.fail_always_for(str(number), Fault.server_error(503))
    held = replace(DLQ, circuit_breaker=BREAKER)
    done = bench.open(enriching(http_api.url, concurrency=8), USERS, held).process(users(*map(str, range(8))))
    assert {each.code for each in done.failed} <= {"http_breaker_open", "http_503"}
    assert len(done.failed) == 8
    assert sum(http_api.calls.values()) < 18


def test_answers_that_refuse_a_row_do_not_open_a_breaker(bench: Workbench, http_api: EnrichmentApi) -> None:
    for number in range(10):
        http_api.fail_always_for(str(number), Fault.client_error())
    held = replace(DLQ, circuit_breaker=BREAKER)
    done = bench.open(enriching(http_api.url, concurrency=1), USERS, held).process(users(*map(str, range(20))))
    assert (len(done.failed), done.passed.num_rows) == (10, 10)


def test_retries_are_a_share_of_the_calls(bench: Workbench, http_api: EnrichmentApi) -> None:
    """A service that fails everything gets 1,000 calls, a hundred more, and a fifth of what it got; without a budget 3,000."""
    emails = [str(each) for each in range(1000)]
    for email in emails:
        http_api.fail_always_for(email, Fault.server_error())
    done = bench.open(enriching(http_api.url, concurrency=16), USERS).process(users(*emails))
    assert len(done.failed) == 1000
    assert 1250 <= sum(http_api.calls.values()) <= 1300
    held = replace(DLQ, retry=replace(HASTY, budget=0.0))
    http_api.calls.clear()
    bench.open(enriching(http_api.url, concurrency=16), USERS, held).process(users(*emails))
    assert sum(http_api.calls.values()) == 1100


# ---- credentials -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("on_error", [EnrichError.KEEP, EnrichError.DLQ])
def test_refused_credentials_end_the_run_after_one_call(
    bench: Workbench, http_api: EnrichmentApi, status: int, on_error: EnrichError
) -> None:
    http_api.fail_next(*[Fault.client_error(status)] * 500)
    operator = bench.open(enriching(http_api.url, concurrency=64, on_error=on_error), USERS)
    with pytest.raises(FatalError, match=f"credentials: the service answered {status}") as caught:
        operator.process(users(*map(str, range(500))))
    assert caught.value.error_type is ErrorType.AUTH
    assert len(http_api.requests) == 1


def test_403_may_mean_that_there_is_nothing_for_a_row(bench: Workbench, http_api: EnrichmentApi) -> None:
    http_api.fail_always_for("a", Fault.client_error(403))
    done = bench.open(enriching(http_api.url, missing_status=(403,)), USERS).process(users("a", "b"))
    assert [each["user"]["score"] for each in done.passed.to_pylist()] == [None, score_of("b")]


def test_a_secret_that_changed_meanwhile_is_taken(bench: Workbench, http_api: EnrichmentApi) -> None:
    tokens = {"now": "old"}

    def reveal(given: Secret) -> str:
        return given.text.replace("TOKEN", tokens["now"])

    http_api.token = "old"
    options = enriching(http_api.url, headers={"Authorization": secret("Bearer TOKEN")}, concurrency=4)
    operator = bench.open(options, USERS, reveal=reveal)
    assert operator.process(users("a")).passed.num_rows == 1
    http_api.token = tokens["now"] = "new"
    assert operator.process(users(*map(str, range(20)))).passed.num_rows == 20
    http_api.token = "newer"
    before = len(http_api.requests)
    with pytest.raises(FatalError, match="credentials"):
        operator.process(users("b"))
    assert len(http_api.requests) == before + 1


# ---- the end of a run ------------------------------------------------------------------------------------------------


def _slow(api: EnrichmentApi) -> None:
    api.delay = 30


def _forbidding(api: EnrichmentApi) -> None:
    api.fail_next(*[Fault.too_many_requests("3600")] * 1000)


@pytest.mark.parametrize("trouble", [_slow, _forbidding])
def test_a_run_that_is_to_end_ends_in_the_middle(
    bench: Workbench, http_api: EnrichmentApi, trouble: Callable[[EnrichmentApi], None]
) -> None:
    trouble(http_api)
    operator = bench.open(enriching(http_api.url, timeout=timedelta(minutes=5)), USERS)
    threading.Timer(0.3, bench.stopped.set).start()
    began = time.monotonic()
    with pytest.raises(CancelledError):
        operator.process(users(*map(str, range(100))))
    operator.close()
    operator.close()
    assert time.monotonic() - began < 10, "it waited for the service"
    assert not [each.name for each in threading.enumerate() if each.name == "headrace-step-http"]
    http_api.delay = 0


def test_a_resolver_that_hangs_does_not_hold_a_run(bench: Workbench) -> None:
    """Names are resolved in daemon threads: neither the loop nor the process waits for them."""
    import asyncio

    from engine.operators.loop import LoopThread
    from engine.operators.wall import Wall, _Resolver

    released = threading.Event()

    def lookup(*_: object) -> list[tuple[object, str]]:
        released.wait(60)
        return []

    loop = LoopThread("headrace-test", bench.stopped.is_set)
    threading.Timer(0.2, bench.stopped.set).start()
    with pytest.raises(CancelledError):
        loop.run(_Resolver(Wall("step", lookup=lookup)).resolve("slow.example"))  # type: ignore[arg-type]

    async def nothing() -> None:
        await asyncio.sleep(0)

    loop.close(nothing)
    (waiting,) = [each for each in threading.enumerate() if each.name == "headrace-resolve"]
    assert waiting.daemon
    released.set()
    waiting.join()


def test_nothing_is_asked_before_the_first_row(bench: Workbench, http_api: EnrichmentApi) -> None:
    bench.open(enriching(http_api.url), USERS, Policies(on_error=OnError.DLQ)).close()
    assert http_api.requests == []
