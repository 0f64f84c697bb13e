"""Change data capture from a real MariaDB keeps a table equal to its source under writers and kills, through a filter as well."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pymysql
import pytest

from tests.e2e.capturing import run
from tests.kit.mariadb import MariaDBDatabase, MariaDBServer
from tests.resources.fork_server import fork_server

TABLE = "CREATE TABLE orders (id bigint PRIMARY KEY, status varchar(10), amount bigint)"
KILLED = ("loop.read@2", "sql.token_moved@1", "sql.committed@2")


@pytest.fixture
def database(mariadb: MariaDBServer, monkeypatch: pytest.MonkeyPatch) -> MariaDBDatabase:
    made = mariadb.new_database()
    monkeypatch.setenv("MY_PASSWORD", made.password)
    made.execute(TABLE, "INSERT INTO orders SELECT seq, 'open', seq FROM seq_1_to_100")
    return made


def workflow(database: MariaDBDatabase, steps: str = "") -> str:
    """From `orders` to `kept`, beside each other."""
    place = f"host: {database.host}, port: {database.port}, database: {database.database}, username: {database.user}"
    return f"""workflow:
  name: capture
  checkpoint: {{rows: 40}}
  batch: {{rows: 16}}
  source: {{type: mysql, config: {{{place}, password: "${{MY_PASSWORD}}", table: orders, sync_mode: cdc}}}}
  transformations: [{steps}]
  destination:
    type: mysql
    config: {{{place}, password: "${{MY_PASSWORD}}", table: kept, write_mode: merge, primary_key: id}}
"""


@contextmanager
def writers(database: MariaDBDatabase, count: int) -> Iterator[None]:
    """Sessions that insert, change, move and delete rows of `orders` all the while, some in transactions that are rolled back."""
    stop = threading.Event()

    def write(seed: int) -> None:
        dice = random.Random(seed)
        with database.connect(autocommit=False) as opened, opened.cursor() as cursor:
            while not stop.is_set():
                try:
                    for _ in range(dice.randint(1, 6)):
                        cursor.execute(_statement(dice))
                    opened.rollback() if dice.random() < 0.1 else opened.commit()
                except pymysql.Error:
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
    number, other = dice.randint(1, 150), dice.randint(1, 150)
    return dice.choice(
        [
            f"INSERT IGNORE INTO orders VALUES ({number}, 'open', {other})",
            f"UPDATE orders SET amount = {other}, status = '{dice.choice(['open', 'closed'])}' WHERE id = {number}",
            f"UPDATE orders SET id = {other} WHERE id = {number}",
            f"DELETE FROM orders WHERE id = {number}",
        ]
    )


@pytest.mark.parametrize("faults", [KILLED[-1:], pytest.param(KILLED, marks=pytest.mark.slow)], ids=["one", "all"])
def test_the_table_ends_equal_under_writers_and_kills(database: MariaDBDatabase, faults: Sequence[str]) -> None:
    text = workflow(database)
    server = fork_server("tests.e2e.capturing", "resources.mysql.cdc", "resources.mysql.writer")
    with writers(database, 2):
        for fault in faults:
            place, _, visit = fault.partition("@")
            code, said = server.run(
                "from tests.e2e.capturing import main; main()",
                {"FLOW": text, "HEADRACE_TEST": "1", "HEADRACE_FAILPOINTS": f"{place}=kill@{visit}"},
            )
            assert code == -9, (fault, said)
    run(text)
    wanted = database.rows("SELECT * FROM orders ORDER BY id")
    assert len(wanted) > 20
    assert database.rows("SELECT * FROM kept ORDER BY id") == wanted


@pytest.mark.slow
def test_it_follows_through_a_filter(database: MariaDBDatabase) -> None:
    text = workflow(database, "{type: filter, config: {condition: \"status == 'open'\"}}")
    with writers(database, 2):
        for _ in range(3):
            run(text)
    run(text)
    wanted = database.rows("SELECT * FROM orders WHERE status = 'open' ORDER BY id")
    assert wanted
    assert database.rows("SELECT * FROM kept ORDER BY id") == wanted
