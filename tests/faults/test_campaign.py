"""A bounded share of `make faults`: failpoints, kills, races and cuts against real servers, and proof that the judge can say no."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from dsl.contracts import failpoints
from tests.faults.campaign import modes
from tests.faults.campaign.field import crashing, sql_target
from tests.faults.campaign.incremental import Incremental
from tests.faults.campaign.load import Rows
from tests.faults.campaign.modes import Course, Cutting, Finding, Place
from tests.faults.campaign.targets import Files, Postgres
from tests.faults.campaign.trial import Ground, Trial, Verdict
from tests.kit.mariadb import MariaDBServer
from tests.kit.postgres import PostgresServer
from tests.kit.proxy import fault_proxy

ROWS = Rows(seed=7, count=300)


@pytest.fixture(scope="module")
def ground(postgres: PostgresServer) -> Iterator[Ground]:
    """The source and the process that forks."""
    with ExitStack() as stack:
        made = Ground(ROWS, postgres)
        stack.callback(made.close)
        yield made


@pytest.fixture(scope="module")
def course(ground: Ground, postgres: PostgresServer) -> Course:
    """Loads into PostgreSQL."""
    return Course(ground, Postgres(postgres.new_database()))


def _whole(found: Finding) -> None:
    assert found.judgement.verdict is Verdict.WHOLE, found


@pytest.mark.parametrize("kind", ["postgres", "files"])
def test_killed_once_at_every_failpoint(ground: Ground, course: Course, kind: str) -> None:
    chosen = course if kind == "postgres" else Course(ground, Files("parquet"))
    visits = chosen.known_visits("append")
    reached = set()
    for name, count in visits.items():
        if kind == "files" and not name.startswith("file."):
            continue
        found = modes.strike(chosen, Place("append", name, (count + 1) // 2), visits)
        _whole(found)
        if "reached" in found.notes:
            reached.add(name)
    never = {each for each in modes.unreached(chosen.target, set(failpoints.ALL), reached) if each not in visits}
    assert never <= modes.OVERWRITES, f"no load was killed at {never}"


def test_killed_at_random_times(course: Course) -> None:
    kills = 0
    for seed in range(1, 30):
        found = modes.kill(course, seed, most=3)
        _whole(found)
        kills += found.kills
        if kills >= 8:
            return
    pytest.fail(f"{kills} kills in all")


@pytest.mark.parametrize("seed", [8, 3], ids=["zombie", "at-once"])
def test_two_runs_at_once(course: Course, seed: int) -> None:
    found = modes.race(course, seed)
    _whole(found)
    assert found.notes.get("FencedError", 0) + found.notes.get("finished", 0) == 2
    assert "no zombie" not in found.notes


@pytest.mark.parametrize("system", ["postgres", "mysql"])
def test_cut_around_a_commit(ground: Ground, postgres: PostgresServer, mariadb: MariaDBServer, system: str) -> None:
    server = postgres if system == "postgres" else mariadb
    with fault_proxy(server.host, server.port) as proxy:
        cutting, seen = Cutting(proxy, Course(ground, sql_target(server, proxy.port))), set[str]()
        for seed in (3, 6, 9):
            found = cutting.cut(seed)
            _whole(found)
            assert found.kills == 1, "the COMMIT was never seen"
            assert found.notes["went on by itself"] == 1, found
            seen |= found.notes.keys()
    assert {"before COMMIT", "while COMMIT", "after COMMIT"} <= seen


@pytest.mark.parametrize("system", ["postgres", pytest.param("mysql", marks=pytest.mark.slow)])
@pytest.mark.usefixtures("mariadb")  # where there is none, there is none to kill
def test_a_server_is_killed_and_comes_back(ground: Ground, system: str) -> None:
    with crashing(system, ground) as held:
        for seed in (4, 6):
            found = held.crash(seed)
            _whole(found)
            assert found.kills == 1, found


@pytest.mark.parametrize("system", ["postgres", "mysql"])
def test_read_incrementally_while_many_write(
    ground: Ground, postgres: PostgresServer, mariadb: MariaDBServer, system: str
) -> None:
    found = Incremental(ground, postgres if system == "postgres" else mariadb).run(1_000, 5, writers=6, longest=1.0)
    _whole(found)
    assert found.kills == 1_000
    assert found.notes["reads finished"] > 1


def _loaded(course: Course) -> tuple[Trial, Postgres]:
    trial, target = course.begun("append"), course.target
    assert isinstance(target, Postgres)
    ended = trial.attempt()
    assert ended is not None
    assert not ended.error, ended
    return trial, target


@pytest.mark.parametrize(
    ("spoil", "verdict"),
    [
        ("DELETE FROM {0} WHERE id = 5", Verdict.LOST),
        ("INSERT INTO {0} SELECT * FROM {0} WHERE id = 5", Verdict.DOUBLED),
        ("UPDATE {0} SET amount = amount + 1 WHERE id = 5", Verdict.CORRUPT),
    ],
)
def test_the_judge_sees_what_is_wrong(course: Course, spoil: str, verdict: Verdict) -> None:
    trial, target = _loaded(course)
    assert trial.judge().verdict is Verdict.WHOLE
    target.database.execute(spoil.format(trial.name))
    assert trial.judge().verdict is verdict


def test_the_judge_misses_dead_letters(course: Course) -> None:
    trial, _ = _loaded(course)
    trial.forget_letters()
    assert trial.judge().verdict is Verdict.ASTRAY
