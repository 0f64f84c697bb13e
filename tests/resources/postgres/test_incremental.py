"""Incremental reads of PostgreSQL lose nothing and double nothing, whatever commits late."""

from __future__ import annotations

import random
import threading
import time
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from dsl.contracts.errors import FatalError, SchemaError
from dsl.contracts.state import State
from resources.postgres.resource import PostgresConnection, PostgresSource
from resources.sql import NullCursor
from tests.kit.postgres import PostgresDatabase
from tests.resources.sql_suite import drain, read_all

EVENTS = "CREATE TABLE events (id bigserial PRIMARY KEY, changed timestamptz, note text)"


def source(connection: PostgresConnection, **options: Any) -> PostgresSource:
    return PostgresSource(**{"connection": connection, "table": "events", "incremental_column": "changed", **options})


def ids(rows: list[dict[str, Any]]) -> list[int]:
    return sorted(each["id"] for each in rows)


def settled(connection: PostgresConnection, state: State | None, **options: Any) -> tuple[list[int], State | None]:
    """Reads after the margin that the bound keeps behind the clock."""
    time.sleep(0.05)
    rows, state = drain(source(connection, **options), state)
    return ids(rows), state


def test_the_seven_rows(database: PostgresDatabase, connection: PostgresConnection) -> None:
    """Ties at the boundary, late commits and NULLs: each row once."""
    database.execute(EVENTS)
    database.execute("INSERT INTO events VALUES (1, '2024-01-01Z'), (2, '2024-01-02Z'), (3, NULL)")
    late = database.connect(autocommit=False)
    late.execute("INSERT INTO events VALUES (6, clock_timestamp())")
    time.sleep(0.05)
    once = {"null_cursor": NullCursor.INCLUDE_ONCE}
    got, state = settled(connection, None, **once)
    assert got == [1, 2, 3]
    database.execute("INSERT INTO events VALUES (4, '2024-01-02Z'), (5, '2024-01-03Z'), (7, NULL), (8, now())")
    got, state = settled(connection, state, **once)
    assert got == [4, 5, 7], "a tie and a newer row that a program dated; 6 and 8 are not below the open transaction"
    late.commit()
    late.close()
    got, state = settled(connection, state, **once)
    assert got == [6, 8]
    got, state = settled(connection, state, **once)
    assert got == []


def test_more_ties_than_a_state_remembers(database: PostgresDatabase, connection: PostgresConnection) -> None:
    database.execute(EVENTS, "INSERT INTO events SELECT n, '2024-01-01Z' FROM generate_series(1, 1001) n")
    got, state = settled(connection, None)
    assert len(got) == 1001
    assert state is not None
    assert state["seen"] == []
    database.execute("INSERT INTO events VALUES (1002, now())")
    assert settled(connection, state)[0] == [1002]


def test_null_values_are_refused_with_their_count(database: PostgresDatabase, connection: PostgresConnection) -> None:
    database.execute(EVENTS, "INSERT INTO events VALUES (1, NULL), (2, now()), (3, NULL)")
    with pytest.raises(FatalError, match=r"2 rows have no value in 'changed'.*include_once"):
        drain(source(connection))


@pytest.mark.parametrize("keyed", [True, False])
def test_ties_resume_after_every_batch(
    database: PostgresDatabase, connection: PostgresConnection, *, keyed: bool
) -> None:
    database.execute(
        EVENTS,
        "INSERT INTO events SELECT n, '2024-01-01Z'::timestamptz + n / 20 * interval '1s' FROM generate_series(1, 100) n",
    )
    if not keyed:
        database.execute("ALTER TABLE events DROP CONSTRAINT events_pkey")
    time.sleep(0.05)
    batches, _ = read_all(source(connection), batch_rows=7)
    cuts = [place for place, batch in enumerate(batches) if batch.state is not None]
    assert len(cuts) == len(batches) if keyed else 0 < len(cuts) < len(batches)
    for place in cuts:
        before = [row["id"] for batch in batches[: place + 1] for row in batch.rows.to_pylist()]
        after, _ = drain(source(connection), batches[place].state, batch_rows=9)
        assert sorted(before + ids(after)) == list(range(1, 101))


def test_a_window_that_was_broken_off_is_finished_before_the_next(
    database: PostgresDatabase, connection: PostgresConnection
) -> None:
    database.execute(EVENTS, "INSERT INTO events SELECT n, clock_timestamp() FROM generate_series(1, 30) n")
    time.sleep(0.05)
    batches, _ = read_all(source(connection), batch_rows=10)
    database.execute("INSERT INTO events SELECT n, clock_timestamp() FROM generate_series(31, 40) n")
    time.sleep(0.05)
    after, state = drain(source(connection), batches[0].state)
    assert ids(after) == list(range(11, 41))
    assert drain(source(connection), state)[0] == []


@pytest.mark.parametrize("declared", ["timestamp(0)", "timestamptz(3)", "date", "timestamp"])
def test_coarse_columns_wait_until_their_unit_is_over(
    database: PostgresDatabase, connection: PostgresConnection, declared: str
) -> None:
    database.execute(
        f"CREATE TABLE events (id int PRIMARY KEY, changed {declared})",
        f"INSERT INTO events VALUES (1, '2024-01-01'), (2, (now() + interval '1 day')::{declared})",
    )
    time.sleep(0.05)
    rows, state = drain(source(connection))
    assert ids(rows) == [1]
    assert state is not None
    assert drain(source(connection), state)[0] == []


def test_numbers_are_read_up_to_what_is_settled(database: PostgresDatabase, connection: PostgresConnection) -> None:
    database.execute(EVENTS)
    by_id = {"incremental_column": "id"}
    late = database.connect(autocommit=False)
    late.execute("INSERT INTO events (note) VALUES ('late')")
    database.execute("INSERT INTO events (note) VALUES ('early')")
    ended = threading.Timer(0.4, _end, args=(late,))
    ended.start()
    rows, state = drain(source(connection, **by_id))
    ended.join()
    assert ids(rows) == [1, 2]
    database.execute("INSERT INTO events (note) VALUES ('next')")
    rows, state = drain(source(connection, **by_id), state)
    assert ids(rows) == [3]
    assert drain(source(connection, **by_id), state)[0] == []


def test_initial_value_leaves_out_what_is_older(database: PostgresDatabase, connection: PostgresConnection) -> None:
    database.execute(EVENTS, "INSERT INTO events VALUES (1, '2023-06-01Z'), (2, '2024-01-01Z'), (3, '2024-06-01Z')")
    rows, _ = drain(source(connection, initial_value="2024-01-01"))
    assert ids(rows) == [2, 3]


def test_a_role_that_may_not_look_is_told_what_to_grant(
    database: PostgresDatabase, connection: PostgresConnection
) -> None:
    role = f"small_{database.database}"
    database.execute(
        EVENTS, f"CREATE ROLE {role} LOGIN PASSWORD '{database.password}'", f"GRANT SELECT ON events TO {role}"
    )
    small = source(PostgresConnection(**{**vars(connection), "username": role}))
    with database.connect():  # another role's session: nobody could tell whether it writes
        with pytest.raises(FatalError, match=rf"GRANT pg_monitor TO {role}, or set lag"):
            drain(small)
        behind = source(PostgresConnection(**{**vars(connection), "username": role}), lag=_seconds(3600))
        assert drain(behind)[0] == []


def test_lag_stays_behind_the_clock(database: PostgresDatabase, connection: PostgresConnection) -> None:
    database.execute(EVENTS, "INSERT INTO events VALUES (1, now() - interval '2h'), (2, now() - interval '10s')")
    rows, state = drain(source(connection, lag=_seconds(3600)))
    assert ids(rows) == [1]
    rows, _ = drain(source(connection, lag=_seconds(1)), state)
    assert ids(rows) == [2]
    with pytest.raises(SchemaError, match=r"lag needs a column of time"):
        drain(source(connection, incremental_column="id", lag=_seconds(1)))


def _end(late: psycopg.Connection[Any]) -> None:
    late.commit()
    late.close()


def _seconds(count: int) -> timedelta:
    return timedelta(seconds=count)


@pytest.mark.parametrize("clock", ["now()", "clock_timestamp()"])
def test_concurrent_writers_with_late_commits_lose_nothing(
    database: PostgresDatabase, connection: PostgresConnection, clock: str
) -> None:
    database.execute(EVENTS)
    stop = time.monotonic() + 4
    errors: list[Exception] = []

    def write(seed: int) -> None:
        dice = random.Random(seed)
        try:
            with database.connect(autocommit=False) as opened:
                while time.monotonic() < stop:
                    for _ in range(dice.randint(1, 3)):
                        opened.execute(f"INSERT INTO events (changed) VALUES ({clock})".encode())
                    time.sleep(dice.choice([0, 0.01, 0.1, 0.3]))
                    opened.rollback() if dice.random() < 0.05 else opened.commit()
        except psycopg.Error as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for each in writers:
        each.start()
    seen: list[int] = []
    state: State | None = None
    while any(each.is_alive() for each in writers):
        rows, state = drain(source(connection), state, batch_rows=7)
        seen += [each["id"] for each in rows]
        time.sleep(0.05)
    got, state = settled(connection, state)
    assert errors == []
    expected = [row[0] for row in database.rows("SELECT id FROM events ORDER BY id")]
    assert len(expected) > 50
    assert sorted(seen + got) == expected
