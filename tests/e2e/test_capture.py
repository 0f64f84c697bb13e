"""Change data capture keeps a table equal to its source: concurrent writers, processes that are killed, steps in between."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
import pytest

from engine.control import Control
from engine.report import RunReport, StageOutcome
from tests.e2e.capturing import run
from tests.kit.postgres import PostgresDatabase, PostgresServer
from tests.resources.fork_server import fork_server

TABLE = "CREATE TABLE orders (id bigint PRIMARY KEY, status text, amount bigint, note text)"
CHECKPOINT = "checkpoint: {rows: 40}\n  batch: {rows: 16}"
KILLED = ("cdc.slot_made@1", "loop.read@3", "sql.token_moved@1", "sql.committed@2", "loop.copied@1", "cdc.confirmed@1")


@pytest.fixture
def database(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresDatabase]:
    made = postgres.new_database()
    monkeypatch.setenv("PG_PASSWORD", made.password)
    made.execute(TABLE, "ALTER TABLE orders ALTER note SET STORAGE EXTERNAL")
    yield made
    mine = "FROM pg_replication_slots WHERE database = current_database()"
    for _ in range(50):
        if not made.rows(f"SELECT 1 {mine} AND active"):
            break
        time.sleep(0.1)
    made.execute(f"SELECT pg_drop_replication_slot(slot_name) {mine} AND NOT active")


def workflow(database: PostgresDatabase, steps: str = "", mode: str = "write_mode: merge, primary_key: id") -> str:
    """From `orders` to `kept`, beside each other."""
    place = f"host: {database.host}, port: {database.port}, database: {database.database}, username: {database.user}"
    return f"""workflow:
  name: capture
  {CHECKPOINT}
  source: {{type: postgres, config: {{{place}, password: "${{PG_PASSWORD}}", table: orders, sync_mode: cdc}}}}
  transformations: [{steps}]
  destination: {{type: postgres, config: {{{place}, password: "${{PG_PASSWORD}}", table: kept, {mode}}}}}
"""


@contextmanager
def writers(database: PostgresDatabase, count: int) -> Iterator[None]:
    """Sessions that insert, change, move and delete rows of `orders` all the while, some in transactions that are rolled back."""
    stop = threading.Event()

    def write(seed: int) -> None:
        dice = random.Random(seed)
        with database.connect(autocommit=False) as opened:
            while not stop.is_set():
                try:
                    for _ in range(dice.randint(1, 6)):
                        opened.execute(_statement(dice).encode())
                    opened.rollback() if dice.random() < 0.1 else opened.commit()
                except (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected):
                    opened.rollback()
                time.sleep(0.02)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(count)]
    for each in threads:
        each.start()
    try:
        yield
    finally:
        stop.set()
    for each in threads:
        each.join()


def _statement(dice: random.Random) -> str:
    number, other = dice.randint(1, 300), dice.randint(1, 300)
    return dice.choice(
        [
            f"INSERT INTO orders VALUES ({number}, 'open', {other}, repeat('n', {dice.choice([1, 3000])})) ON CONFLICT DO NOTHING",
            f"UPDATE orders SET amount = {other}, status = '{dice.choice(['open', 'closed'])}' WHERE id = {number}",
            f"UPDATE orders SET id = {other} WHERE id = {number}",
            f"DELETE FROM orders WHERE id = {number}",
        ]
    )


@pytest.mark.parametrize("faults", [KILLED[::3], pytest.param(KILLED, marks=pytest.mark.slow)], ids=["some", "all"])
def test_the_table_ends_equal_under_writers_and_kills(database: PostgresDatabase, faults: Sequence[str]) -> None:
    text = workflow(database)
    database.execute("INSERT INTO orders SELECT n, 'open', n, repeat('o', 3000) FROM generate_series(1, 200) n")
    server = fork_server("tests.e2e.capturing", "resources.postgres.cdc", "resources.postgres.writer")
    with writers(database, 3):
        for fault in faults:
            place, _, visit = fault.partition("@")
            code, said = server.run(
                "from tests.e2e.capturing import main; main()",
                {"FLOW": text, "HEADRACE_TEST": "1", "HEADRACE_FAILPOINTS": f"{place}=kill@{visit}"},
            )
            assert code == -9, (fault, said)
    run(text)
    wanted = database.rows("SELECT * FROM orders ORDER BY id")
    assert len(wanted) > 50
    assert database.rows("SELECT id, status, amount, note FROM kept ORDER BY id") == wanted


def test_it_follows_through_a_filter_and_a_mapping(database: PostgresDatabase) -> None:
    steps = """{type: filter, config: {condition: "status == 'open'"}},
    {type: mapping, config: {mappings: [{source: id, destination: number}, {expression: "amount * 2", destination: twice}]}}"""
    text = workflow(database, steps, "write_mode: merge, primary_key: number")
    database.execute("INSERT INTO orders SELECT n, 'open', n, '' FROM generate_series(1, 50) n")
    with writers(database, 2):
        for _ in range(3):
            run(text)
    run(text)
    wanted = database.rows("SELECT id, amount * 2 FROM orders WHERE status = 'open' ORDER BY id")
    assert wanted
    assert database.rows("SELECT number, twice FROM kept ORDER BY 1") == wanted


def test_a_log_of_changes_is_kept(database: PostgresDatabase) -> None:
    text = workflow(database, mode="write_mode: append")
    database.execute("INSERT INTO orders VALUES (1, 'open', 1, '')")
    run(text)
    database.execute("UPDATE orders SET amount = 2", "DELETE FROM orders")
    run(text)
    run(text)
    log = database.rows("SELECT id, amount, _op FROM kept ORDER BY amount NULLS LAST")
    assert log == [(1, 1, "insert"), (1, 2, "update"), (1, None, "delete")]


def test_a_workflow_that_streams_goes_on_for_ever(database: PostgresDatabase) -> None:
    text = workflow(database).replace(CHECKPOINT, "mode: stream\n  checkpoint: {period: 200ms}")
    control, reports = Control(), list[RunReport]()
    running = threading.Thread(target=lambda: reports.append(run(text, control=control)))
    running.start()
    for number in (1, 2):
        database.execute(f"INSERT INTO orders VALUES ({number}, 'open', 1, '')")
        _until(database, f"SELECT 1 FROM kept WHERE id = {number}")
    database.execute("DELETE FROM orders WHERE id = 1")
    _until(database, "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM kept WHERE id = 1)")
    control.stop()
    running.join()
    assert reports[0].stages[0].outcome is StageOutcome.STOPPED
    assert database.rows("SELECT id FROM kept") == [(2,)]


def _until(database: PostgresDatabase, query: str) -> None:
    """Waits until a query finds something; the suite's own limit ends a test that waits in vain."""
    while True:
        try:
            if database.rows(query):
                return
        except psycopg.errors.UndefinedTable:
            pass
        time.sleep(0.1)
