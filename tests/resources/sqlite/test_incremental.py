"""Incremental reads of SQLite lose nothing and double nothing, whatever is written meanwhile and however columns are filled."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from typing import Any

import pytest

from dsl.contracts.connectors import ReadRequest
from dsl.contracts.errors import FatalError, SchemaError
from dsl.contracts.state import State
from resources.sql import NullCursor
from resources.sqlite.resource import SQLiteConnection, SQLiteSource
from tests.resources.sql_suite import drain, read_all
from tests.resources.sqlite.conftest import Query

EVENTS = "CREATE TABLE events (id INTEGER PRIMARY KEY, changed TIMESTAMP, note TEXT)"


def source(connection: SQLiteConnection, **options: Any) -> SQLiteSource:
    return SQLiteSource(**{"connection": connection, "table": "events", "incremental_column": "changed", **options})


def new(connection: SQLiteConnection, state: State | None, **options: Any) -> tuple[list[Any], State | None]:
    rows, state = drain(source(connection, **options), state)
    return sorted(each["id"] for each in rows), state


def test_each_row_once_with_ties_late_commits_and_nulls(connection: SQLiteConnection, query: Query) -> None:
    query("PRAGMA journal_mode = WAL", EVENTS)
    query("INSERT INTO events (id, changed) VALUES (1, '2024-01-01 00:00:00'), (2, '2024-01-02 00:00:00'), (3, NULL)")
    once = {"null_cursor": NullCursor.INCLUDE_ONCE}
    with closing(sqlite3.connect(connection.path, isolation_level=None)) as late:
        late.execute("BEGIN IMMEDIATE")
        late.execute("INSERT INTO events (id, changed) VALUES (6, '2024-01-02 00:00:00')")
        got, state = new(connection, None, **once)
        assert got == [1, 2, 3]
        with (
            pytest.raises(sqlite3.OperationalError, match="locked"),
            closing(sqlite3.connect(connection.path, timeout=0)) as other,
        ):
            other.execute("INSERT INTO events (id) VALUES (99)")  # nobody else can write: no bound is needed
        late.execute("COMMIT")
    query("INSERT INTO events (id, changed) VALUES (5, '2024-01-03 00:00:00'), (7, NULL)")
    got, state = new(connection, state, **once)
    assert got == [5, 6, 7]
    got, state = new(connection, state, **once)
    assert got == []


def test_null_values_are_refused_with_their_count(connection: SQLiteConnection, query: Query) -> None:
    query(EVENTS, "INSERT INTO events (id, changed) VALUES (1, NULL), (2, '2024-01-01'), (3, NULL)")
    with pytest.raises(FatalError, match=r"2 rows have no value in 'changed'.*include_once"):
        drain(source(connection))


@pytest.mark.parametrize(
    "key",
    ["id INTEGER PRIMARY KEY", "id TEXT PRIMARY KEY", "id INT, x INT DEFAULT 1, PRIMARY KEY (x, id)"],
)
def test_ties_resume_after_every_batch(connection: SQLiteConnection, query: Query, key: str) -> None:
    columns, _, constraint = key.partition(", PRIMARY")
    query(f"CREATE TABLE events ({columns}, changed TIMESTAMP{', PRIMARY' + constraint if constraint else ''})")
    rows = [(number, f"2024-01-01 00:00:{number // 20:02d}") for number in range(1, 101)]
    query("INSERT INTO events (id, changed) VALUES (?, ?)", rows=rows)
    batches, _ = read_all(source(connection), batch_rows=7)
    cuts = [place for place, batch in enumerate(batches) if batch.state is not None]
    assert len(cuts) > len(batches) // 2
    for place in cuts[:-1]:
        before = [row["id"] for each in batches[: place + 1] for row in each.rows.to_pylist()]
        after, _ = drain(source(connection), batches[place].state, batch_rows=9)
        assert sorted(int(each) for each in before + [row["id"] for row in after]) == list(range(1, 101))


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_a_row_that_joins_the_last_ones_between_crash_and_resume_is_read(
    connection: SQLiteConnection, query: Query, mode: str
) -> None:
    """Its key sorts before the keys that were delivered, so only a state that does not stand among them can tell."""
    query(f"PRAGMA journal_mode = {mode}", "CREATE TABLE events (id TEXT PRIMARY KEY, changed TIMESTAMP)")
    query(
        "INSERT INTO events VALUES ('a', '2024-01-01'), ('m', '2024-01-02'), ('n', '2024-01-02'), ('o', '2024-01-02')"
    )
    batches, _ = read_all(source(connection), batch_rows=1)
    query("INSERT INTO events VALUES ('b', '2024-01-02')")
    for place, batch in enumerate(batches):
        if batch.state is not None:
            before = [row["id"] for each in batches[: place + 1] for row in each.rows.to_pylist()]
            after, state = drain(source(connection), batch.state)
            again, _ = drain(source(connection), state)
            assert sorted(before + [row["id"] for row in after + again]) == ["a", "b", "m", "n", "o"]


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_a_row_that_joins_the_last_ones_while_they_are_read_is_read_next(
    connection: SQLiteConnection, query: Query, mode: str
) -> None:
    query(f"PRAGMA journal_mode = {mode}", "CREATE TABLE events (id TEXT PRIMARY KEY, changed TIMESTAMP)")
    query("INSERT INTO events VALUES ('m', '2024-01-02'), ('n', '2024-01-02')")
    with source(connection).read(ReadRequest(batch_rows=1), None) as reader:
        got: list[str] = []
        state: State | None = None
        for batch in reader:
            if not got:
                query("INSERT INTO events VALUES ('b', '2024-01-02')")
            got += [row["id"] for row in batch.rows.to_pylist()]
            state = batch.state
    assert got == ["m", "n"]
    assert new(connection, state)[0] == ["b"]


def test_numbers_are_compared_as_numbers(connection: SQLiteConnection, query: Query) -> None:
    query(EVENTS, "INSERT INTO events (id) VALUES (8), (9), (10)")
    got, state = new(connection, None, incremental_column="id")
    assert got == [8, 9, 10]
    query("INSERT INTO events (id) VALUES (11), (100)")
    got, state = new(connection, state, incremental_column="id")
    assert got == [11, 100]
    assert new(connection, None, incremental_column="id", initial_value="10")[0] == [10, 11, 100]


def test_texts_are_compared_as_texts(connection: SQLiteConnection, query: Query) -> None:
    """`10` comes before `9` there, and a window from `10` to `9` is not empty."""
    query(EVENTS, "INSERT INTO events (id, note) VALUES (1, '10')")
    _, state = new(connection, None, incremental_column="note")
    query("INSERT INTO events (id, note) VALUES (2, '9')")
    assert new(connection, state, incremental_column="note")[0] == [2]


def test_a_window_that_was_broken_off_is_finished_before_the_next(connection: SQLiteConnection, query: Query) -> None:
    query(EVENTS)
    query(
        "INSERT INTO events (id, changed) VALUES (?, ?)", rows=[(n, f"2024-01-01 00:00:{n:02d}") for n in range(1, 31)]
    )
    batches, _ = read_all(source(connection), batch_rows=10)
    query(
        "INSERT INTO events (id, changed) VALUES (?, ?)", rows=[(n, f"2024-01-01 00:01:{n:02d}") for n in range(31, 41)]
    )
    got, state = new(connection, batches[0].state)
    assert got == list(range(11, 41))
    assert new(connection, state)[0] == []


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("changed TIMESTAMP", ["'2024-01-01 00:00:00'", "'2024-01-01T00:00:00'"], "not all written alike"),
        ("changed TIMESTAMP", ["'2024-01-01 00:00:00+00:00'", "'2024-01-01 00:00:00+02:00'"], "not all written alike"),
        ("changed TIMESTAMP", ["'2024-01-01 00:00:00Z'", "'2024-01-01 00:00:00.5Z'"], "not all written alike"),
        ("changed TIMESTAMP", ["'2024-01-01 00:00:00'", "1700000000"], "number and text values"),
        ("changed INTEGER", ["1", "'later'"], "number and text values"),
        ("changed INTEGER", ["x'01'"], "blob values"),
        ("changed DECIMAL_TEXT(10, 2)", ["'9.00'", "'10.00'"], "decimals as text"),
    ],
)
def test_a_column_whose_order_would_lose_rows_is_refused(
    connection: SQLiteConnection, query: Query, column: str, values: list[str], reason: str
) -> None:
    query(f"CREATE TABLE events (id INTEGER PRIMARY KEY, {column})")
    query(f"INSERT INTO events (changed) VALUES {', '.join(f'({each})' for each in values)}")
    with pytest.raises(SchemaError, match=reason):
        drain(source(connection))


def test_without_a_key_nothing_is_read_incrementally(connection: SQLiteConnection, query: Query) -> None:
    query("CREATE TABLE events (id INT, changed TIMESTAMP)", "INSERT INTO events VALUES (1, '2024-01-01')")
    with pytest.raises(SchemaError, match=r"rows that tie in 'changed' could be lost.*add primary_key"):
        drain(source(connection))
    assert new(connection, None, primary_key=("id",))[0] == [1]
    by_query = {"table": None, "query": "SELECT id, changed FROM events", "primary_key": ("id",)}
    assert new(connection, None, **by_query)[0] == [1]
    query("INSERT INTO events VALUES (NULL, '2024-01-01')")
    with pytest.raises(SchemaError, match="no key tells them apart"):
        drain(source(connection, primary_key=("id",)))


def test_a_key_that_no_state_can_remember_leaves_one_pass(connection: SQLiteConnection, query: Query) -> None:
    query("CREATE TABLE events (id TEXT PRIMARY KEY)", "INSERT INTO events VALUES ('a'), (NULL), (NULL), ('b')")
    batches, rejected = read_all(SQLiteSource(connection=connection, table="events"), batch_rows=1)
    assert rejected == []
    assert len(batches) == 5
    assert [each.state is None for each in batches] == [True, True, True, True, False]


def test_a_key_that_has_gone_ends_a_resumed_read(connection: SQLiteConnection, query: Query) -> None:
    query("CREATE TABLE events (id TEXT PRIMARY KEY)", "INSERT INTO events VALUES ('a'), ('b'), ('c')")
    table = SQLiteSource(connection=connection, table="events")
    batches, _ = read_all(table, batch_rows=1)
    query("INSERT INTO events VALUES (x'00')")
    with pytest.raises(FatalError, match="key that its rows no longer have"):
        drain(table, batches[0].state)


def test_keys_that_are_no_unicode_resume(connection: SQLiteConnection, query: Query) -> None:
    query("CREATE TABLE events (id TEXT PRIMARY KEY, n INT)")
    query("INSERT INTO events VALUES ('a', 1), (CAST(x'ff' AS TEXT), 2), (CAST(x'fe41' AS TEXT), 3), ('b', 4)")
    table = SQLiteSource(connection=connection, table="events", columns=("n",))
    batches, _ = read_all(table, batch_rows=1)
    for place, batch in enumerate(batches[:-1]):
        rest, _ = drain(table, batch.state)
        assert len(rest) == 3 - place


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_rows_written_all_the_while_arrive_once(connection: SQLiteConnection, query: Query, mode: str) -> None:
    query(f"PRAGMA journal_mode = {mode}", "CREATE TABLE events (id INTEGER PRIMARY KEY, changed TIMESTAMP)")
    stop = time.monotonic() + 2

    def write() -> None:
        with closing(sqlite3.connect(connection.path, isolation_level=None, timeout=30)) as opened:
            while time.monotonic() < stop:
                opened.execute("BEGIN IMMEDIATE")
                for _ in range(3):
                    opened.execute("INSERT INTO events (changed) VALUES (strftime('%Y-%m-%d %H:%M:%S', 'now'))")
                opened.execute("COMMIT")
                time.sleep(0.002)

    writers = [threading.Thread(target=write) for _ in range(3)]
    for each in writers:
        each.start()
    seen: list[int] = []
    state: State | None = None
    while any(each.is_alive() for each in writers):
        got, state = new(connection, state)
        seen += got
    got, state = new(connection, state)
    expected = [row[0] for row in query("SELECT id FROM events ORDER BY id")]
    assert len(expected) > 100
    assert sorted(seen + got) == expected
