"""The shared breaker: processes count together, one of them probes, and an outage of its own storage closes nothing."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from dagster import DagsterInstance

from dsl.contracts.policies import CircuitBreakerPolicy
from dsl.contracts.stores import Health
from engine.breaker import Breaker, OpenBreakerError
from engine.context import SystemClock
from resources.stores.breakers import AWAY_SECONDS, SharedBreakers
from resources.stores.key_values import KeyValues
from tests.resources.stores.breaker_crowd import KEY, POLICY, PROCESSES

NOON = datetime(2024, 1, 2, 12, tzinfo=UTC)


@dataclass
class Endpoint:
    """Takes connections; answers nothing while it is dead."""

    port: int
    alive: bool = False
    calls: int = 0


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        found = Endpoint(server.getsockname()[1])

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    found.calls += 1
                    if found.alive:
                        connection.sendall(b"!")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield found
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.slow
def test_a_crowd_leaves_a_dead_endpoint_alone_and_finds_it_again(tmp_path: Path) -> None:
    (tmp_path / "dagster").mkdir()
    store = SharedBreakers.of(DagsterInstance.local_temp(str(tmp_path / "dagster")))
    with endpoint() as dead:
        command = [sys.executable, "-m", "tests.resources.stores.breaker_crowd", str(tmp_path), str(dead.port)]
        with subprocess.Popen(command) as crowd:
            _wait_for(lambda: store.get(KEY).opening >= 5, crowd)
            dead.alive = True
            _wait_for(lambda: store.get(KEY).closed, crowd)
            worked = dead.calls
            _wait_for(lambda: dead.calls >= worked + 3 * PROCESSES, crowd)
            (tmp_path / "over").touch()
        assert crowd.returncode == 0
        total = dead.calls
    calls = [json.loads(line) for log in tmp_path.glob("*.calls") for line in log.read_text().splitlines()]
    assert len(calls) == total
    assert len(list(tmp_path.glob("*.calls"))) == PROCESSES
    early = [each for each in calls if each[0] == 0]
    assert not any(worked for _, _, worked, _ in early)
    assert POLICY.failures <= len(early) <= POLICY.failures + PROCESSES
    probes = [each for each in calls if each[1]]
    began = sorted(datetime.fromisoformat(each[3]) for each in probes)
    assert all(later - sooner >= POLICY.cooldown for sooner, later in pairwise(began))
    last = max(opening for opening, _, _, _ in calls)
    # Every opening but the last has one probe that failed, and nothing else; the last one's worked, and then everybody's calls.
    failed = Counter(opening for opening, _, worked, _ in probes if not worked)
    assert failed == dict.fromkeys(range(1, last), 1)
    late = [each for each in calls if each[0] == last]
    assert all(worked for _, _, worked, _ in late)
    assert [probe for _, probe, _, _ in late if probe] == [1]


def _wait_for(condition: object, crowd: subprocess.Popen[bytes]) -> None:
    assert callable(condition)
    while not condition():
        assert crowd.poll() is None, "the crowd ended early"
        time.sleep(0.05)


@dataclass
class Storage:
    """Rows that can be away, with a clock of their own."""

    rows: dict[str, str] = field(default_factory=dict)
    away: bool = False
    time: datetime = NOON
    asked: int = 0

    def read(self, key: str) -> tuple[str | None, datetime]:
        self._ask()
        return self.rows.get(key), self.time

    def insert(self, key: str, value: str) -> bool:
        self._ask()
        return self.rows.setdefault(key, value) is value

    def replace(self, key: str, old: str, new: str) -> bool:
        self._ask()
        if self.rows.get(key) != old:
            return False
        self.rows[key] = new
        return True

    def _ask(self) -> None:
        self.asked += 1
        if self.away:
            raise ConnectionError("storage is away")


@dataclass
class Seconds:
    """Seconds that a test lets pass."""

    passed: float = 1000.0

    def __call__(self) -> float:
        return self.passed


HALF_MINUTE = CircuitBreakerPolicy(failures=2, cooldown=timedelta(seconds=30))


def _breaker(storage: Storage, seconds: Seconds) -> tuple[Breaker, SharedBreakers]:
    store = SharedBreakers(storage, seconds)
    return Breaker("x", HALF_MINUTE, store, SystemClock()), store


def _open(breaker: Breaker) -> None:
    for _ in range(2):
        breaker.failed(breaker.admit())


def test_failures_of_different_processes_add_up() -> None:
    storage, seconds = Storage(), Seconds()
    (one, _), (other, _) = _breaker(storage, seconds), _breaker(storage, seconds)
    permits = one.admit(), other.admit()
    one.failed(permits[0])
    other.failed(permits[1])
    with pytest.raises(OpenBreakerError, match="after 2 failures"):
        other.admit()
    seconds.passed += 1
    with pytest.raises(OpenBreakerError):
        one.admit()


def test_the_time_is_that_of_the_storage() -> None:
    storage, seconds = Storage(), Seconds()
    breaker, store = _breaker(storage, seconds)
    _open(breaker)
    assert store.get("x").since == NOON
    storage.time = NOON + timedelta(seconds=29)
    seconds.passed += 1
    with pytest.raises(OpenBreakerError, match="in 1 s"):
        breaker.admit()
    storage.time = NOON + timedelta(seconds=30)
    seconds.passed += 1
    assert breaker.admit().probe == 1


def test_a_closed_breaker_asks_its_storage_once_a_second() -> None:
    storage, seconds = Storage(), Seconds()
    breaker, _ = _breaker(storage, seconds)
    for _ in range(1000):
        breaker.succeeded(breaker.admit())
    assert storage.asked == 1
    seconds.passed += 1
    breaker.admit()
    assert storage.asked == 2


def test_an_open_breaker_stays_open_while_its_storage_is_away() -> None:
    storage, seconds = Storage(), Seconds()
    breaker, store = _breaker(storage, seconds)
    _open(breaker)
    storage.away = True
    seconds.passed += 20
    with pytest.raises(OpenBreakerError, match="in 10 s"):
        breaker.admit()
    seconds.passed += 10
    probe = breaker.admit()
    assert probe.probe == 1
    breaker.failed(probe)
    with pytest.raises(OpenBreakerError, match="in 30 s"):
        breaker.admit()
    assert store.get("x").opening == 2


def test_what_a_process_learns_alone_is_told_when_the_storage_is_back() -> None:
    storage, seconds = Storage(away=True), Seconds()
    breaker, _ = _breaker(storage, seconds)
    _open(breaker)
    with pytest.raises(OpenBreakerError):
        breaker.admit()
    assert storage.rows == {}
    storage.away, storage.time = False, datetime.now(UTC)
    seconds.passed += AWAY_SECONDS
    with pytest.raises(OpenBreakerError):
        breaker.admit()
    other, _ = _breaker(storage, seconds)
    with pytest.raises(OpenBreakerError):
        other.admit()


def test_a_storage_that_is_away_is_not_asked_for_every_call() -> None:
    storage, seconds = Storage(away=True), Seconds()
    breaker, _ = _breaker(storage, seconds)
    for _ in range(100):
        breaker.succeeded(breaker.admit())
    assert storage.asked == 1


def test_a_row_that_nobody_can_read_is_as_good_as_none() -> None:
    storage, seconds = Storage({"headrace/breaker/v1/x": "from a later version"}), Seconds()
    breaker, _ = _breaker(storage, seconds)
    _open(breaker)
    with pytest.raises(OpenBreakerError):
        breaker.admit()


def test_it_comes_back_from_dagsters_storage_as_it_was(tmp_path: Path) -> None:
    with DagsterInstance.local_temp(str(tmp_path)) as instance:
        key, health = "http/" + "x" * 400, Health(3, NOON + timedelta(seconds=1), NOON, 2, 1)
        assert SharedBreakers.of(instance).swap(key, SharedBreakers.of(instance).get(key), health) is False
        store = SharedBreakers.of(instance)
        assert store.swap(key, store.get(key), health)
        assert SharedBreakers.of(instance).get(key) == health
        _, now = KeyValues(instance).read("nothing")
        assert abs(now - datetime.now(UTC)) < timedelta(hours=1)
