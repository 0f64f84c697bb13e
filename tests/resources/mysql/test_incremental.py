"""Incremental reads of MariaDB lose nothing and double nothing, whatever commits late."""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from datetime import timedelta
from typing import Any

import pymysql
import pytest

from dsl.contracts.errors import FatalError
from dsl.contracts.state import State
from resources.mysql.resource import MysqlConnection, MysqlSource
from resources.sql import NullCursor
from tests.kit.mariadb import MariaDBDatabase
from tests.resources.sql_suite import drain, read_all

EVENTS = "CREATE TABLE events (id bigint AUTO_INCREMENT PRIMARY KEY, changed datetime(6), note text)"


def source(connection: MysqlConnection, **options: Any) -> MysqlSource:
    return MysqlSource(**{"connection": connection, "table": "events", "incremental_column": "changed", **options})


def ids(rows: list[dict[str, Any]]) -> list[int]:
    return sorted(each["id"] for each in rows)


def settled(connection: MysqlConnection, state: State | None, **options: Any) -> tuple[list[int], State | None]:
    """Reads after the margin that the bound keeps behind the clock."""
    time.sleep(1.2)
    rows, state = drain(source(connection, **options), state)
    return ids(rows), state


def test_the_seven_rows(database: MariaDBDatabase, connection: MysqlConnection) -> None:
    """Ties at the boundary, late commits and NULLs: each row once."""
    database.execute(EVENTS, "INSERT INTO events VALUES (1, '2024-01-01', ''), (2, '2024-01-02', ''), (3, NULL, '')")
    once = {"null_cursor": NullCursor.INCLUDE_ONCE}
    with database.connect(autocommit=False) as late:
        late.cursor().execute("INSERT INTO events VALUES (6, NOW(6), '')")
        got, state = settled(connection, None, **once)
        assert got == [1, 2, 3]
        database.execute("INSERT INTO events VALUES (5, NOW(6), ''), (7, NULL, '')")
        got, state = settled(connection, state, **once)
        assert got == [7]
        late.commit()
    got, state = settled(connection, state, **once)
    assert got == [5, 6]
    got, state = settled(connection, state, **once)
    assert got == []


@pytest.mark.parametrize("keyed", [True, False])
def test_ties_resume_after_every_batch(database: MariaDBDatabase, connection: MysqlConnection, *, keyed: bool) -> None:
    key = "PRIMARY KEY" if keyed else ""
    rows = ", ".join(f"({number}, '2024-01-01 00:00:{number // 20:02d}')" for number in range(1, 101))
    database.execute(f"CREATE TABLE events (id int {key}, changed datetime)", f"INSERT INTO events VALUES {rows}")
    batches, _ = read_all(source(connection), batch_rows=7)
    cuts = [place for place, batch in enumerate(batches) if batch.state is not None]
    assert len(cuts) == len(batches) if keyed else 0 < len(cuts) < len(batches)
    for place in cuts:
        before = [row["id"] for batch in batches[: place + 1] for row in batch.rows.to_pylist()]
        after, _ = drain(source(connection), batches[place].state, batch_rows=9)
        assert sorted(before + ids(after)) == list(range(1, 101))


def test_numbers_are_read_up_to_what_is_settled(database: MariaDBDatabase, connection: MysqlConnection) -> None:
    database.execute(EVENTS)
    by_id = {"incremental_column": "id"}
    late = database.connect(autocommit=False)
    late.cursor().execute("INSERT INTO events (note) VALUES ('late')")
    database.execute("INSERT INTO events (note) VALUES ('early')")
    ended = threading.Timer(0.5, _end, args=(late,))
    ended.start()
    rows, state = drain(source(connection, **by_id))
    ended.join()
    assert ids(rows) == [1, 2]
    database.execute("INSERT INTO events (note) VALUES ('next')")
    rows, state = drain(source(connection, **by_id), state)
    assert ids(rows) == [3]
    assert drain(source(connection, **by_id), state)[0] == []


def _end(late: pymysql.connections.Connection[Any]) -> None:
    late.commit()
    late.close()


def test_a_user_that_may_not_look_is_told_what_to_grant(database: MariaDBDatabase, connection: MysqlConnection) -> None:
    name = f"u_{database.database}"
    database.execute(
        EVENTS,
        "INSERT INTO events VALUES (1, '2024-01-01', '')",
        f"CREATE USER {name}@'127.0.0.1' IDENTIFIED BY '{database.password}'",
        f"GRANT SELECT ON {database.database}.* TO {name}@'127.0.0.1'",
    )
    small = dataclasses.replace(connection, username=name)
    with pytest.raises(FatalError, match=rf"GRANT PROCESS ON \*\.\* TO {name}, or set lag"):
        drain(source(small))
    assert ids(drain(source(small, lag=timedelta(hours=1)))[0]) == [1]


def test_concurrent_writers_with_late_commits_lose_nothing(
    database: MariaDBDatabase, connection: MysqlConnection
) -> None:
    database.execute(EVENTS)
    stop = time.monotonic() + 4
    errors: list[Exception] = []

    def write(seed: int) -> None:
        dice = random.Random(seed)
        try:
            with database.connect(autocommit=False) as opened, opened.cursor() as cursor:
                while time.monotonic() < stop:
                    for _ in range(dice.randint(1, 3)):
                        cursor.execute("INSERT INTO events (changed) VALUES (NOW(6))")
                    time.sleep(dice.choice([0, 0.01, 0.1, 0.3]))
                    opened.rollback() if dice.random() < 0.05 else opened.commit()
        except pymysql.Error as error:
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
