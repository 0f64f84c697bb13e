"""A table and its binary log, read from a real MariaDB by both kinds of places: every change in order, from whatever batch it goes on."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from dsl.contracts.capabilities import SyncMode
from dsl.contracts.changes import OPERATION, Deletes
from dsl.contracts.connectors import Batch, ReadRequest
from dsl.contracts.errors import FatalError, RegressionError, SchemaError, UnavailableError
from dsl.contracts.state import State
from resources.mysql import binlog
from resources.mysql.resource import MysqlConnection, MysqlSource
from tests.kit.mariadb import MariaDBDatabase, MariaDBServer

TABLE = "CREATE TABLE orders (id int PRIMARY KEY, name text, amount decimal(10, 2))"
Told = tuple[str, int | None, str | None]


@pytest.fixture(params=["gtid", "file"])
def source(
    database: MariaDBDatabase,
    connection: MysqlConnection,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> MysqlSource:
    """By GTIDs, as on MariaDB, and by file and position, as on MySQL."""
    if request.param == "file":
        monkeypatch.setattr(binlog, "is_mariadb", lambda _: False)
    database.execute(TABLE)
    return MysqlSource(connection=connection, table="orders", sync_mode=SyncMode.CDC)


def batches_of(source: MysqlSource, state: State | None = None, **request: Any) -> list[Batch]:
    """Reads up to where the log ends."""
    with source.read(ReadRequest(**request), state) as reader:
        return list(reader)


def told(batches: list[Batch]) -> list[Told]:
    """What the batches say of each row."""
    rows = [row for each in batches for row in each.rows.to_pylist()]
    return [(row[OPERATION], row["id"], row["name"]) for row in rows]


def state_after(batches: list[Batch]) -> State:
    """The last state, as it comes back from a destination."""
    return json.loads(json.dumps([each.state for each in batches if each.state is not None][-1]))  # type: ignore[no-any-return]


class Reading:
    """Runs that go on one after the other."""

    def __init__(self, source: MysqlSource) -> None:
        self.source = source
        self.state: State | None = None
        self.rejected: list[str] = []

    def run(self, **request: Any) -> list[Told]:
        with self.source.read(ReadRequest(**request), self.state) as reader:
            batches = list(reader)
            self.rejected += [each.reason for each in reader.rejections()]
        self.state = state_after(batches)
        return told(batches)


def test_the_table_then_every_change_of_it(database: MariaDBDatabase, source: MysqlSource) -> None:
    database.execute("INSERT INTO orders VALUES (1, 'a', 1.5), (2, 'b', NULL)")
    reading = Reading(source)
    assert reading.run() == [("insert", 1, "a"), ("insert", 2, "b")]
    assert reading.run() == []
    database.execute(
        "INSERT INTO orders VALUES (3, 'c', 3)",
        "UPDATE orders SET name = 'B' WHERE id = 2",
        "UPDATE orders SET id = 9 WHERE id = 1",
        "DELETE FROM orders WHERE id = 3",
        "CREATE TABLE other (id int PRIMARY KEY)",
        "INSERT INTO other VALUES (1)",
        "TRUNCATE other",
    )
    with database.connect(autocommit=False) as opened, opened.cursor() as cursor:
        cursor.execute("INSERT INTO orders VALUES (100, 'rolled back', 0)")
        opened.rollback()
        cursor.execute("INSERT INTO orders VALUES (4, 'd', 0)")
        cursor.execute("SAVEPOINT here")
        cursor.execute("INSERT INTO orders VALUES (5, 'undone', 0)")
        cursor.execute("ROLLBACK TO here")
        opened.commit()
    changes = [("insert", 3, "c"), ("update", 2, "B"), ("delete", 1, "a"), ("update", 9, "a"), ("delete", 3, "c")]
    assert reading.run() == [*changes, ("insert", 4, "d")]
    database.execute("TRUNCATE TABLE orders", "FLUSH BINARY LOGS", "INSERT INTO orders VALUES (1, 'again', 1)")
    assert reading.run() == [("truncate", None, None), ("insert", 1, "again")]
    assert reading.run() == []


def test_who_only_looks_reads_the_table(database: MariaDBDatabase, source: MysqlSource) -> None:
    database.execute("INSERT INTO orders VALUES (1, 'a', 1)")
    assert told(batches_of(source, dry=True)) == [("insert", 1, "a")]


def test_it_resumes_after_every_batch(database: MariaDBDatabase, source: MysqlSource) -> None:
    database.execute("INSERT INTO orders SELECT seq, 'old', seq FROM seq_1_to_10")
    start = batches_of(source, batch_rows=3)
    for number in range(11, 21):
        database.execute(
            f"INSERT INTO orders VALUES ({number}, 'new', 0), ({number + 100}, 'new', 0)",
            f"UPDATE orders SET name = 'changed' WHERE id = {number - 10}",
            f"DELETE FROM orders WHERE id = {number + 99}",
        )
    expected = {row[0]: row[1] for row in database.rows("SELECT id, name FROM orders")}
    batches = [*start, *batches_of(source, state_after(start), batch_rows=3)]
    cuts = [at for at, each in enumerate(batches) if each.state is not None]
    assert len(cuts) > 12
    assert max(each.rows.num_rows for each in batches) <= 3
    for at in cuts[::2]:
        rest = batches_of(source, json.loads(json.dumps(batches[at].state)), batch_rows=4)
        assert _table([*batches[: at + 1], *rest]) == expected, f"resumed after batch {at}"


def _table(batches: list[Batch]) -> dict[int | None, str | None]:
    found: dict[int | None, str | None] = {}
    for operation, number, name in told(batches):
        if operation == "delete":
            found.pop(number, None)
        elif operation == "truncate":
            found.clear()
        else:
            found[number] = name
    return found


def test_a_state_never_stands_inside_a_transaction(database: MariaDBDatabase, source: MysqlSource) -> None:
    start = batches_of(source)
    with database.connect(autocommit=False) as opened, opened.cursor() as cursor:
        for number in range(5):
            cursor.execute(
                f"INSERT INTO orders SELECT seq, 'x', seq FROM seq_{number * 500 + 1}_to_{number * 500 + 500}"
            )
        opened.commit()
    batches = batches_of(source, state_after(start), batch_rows=1000)
    assert sum(each.rows.num_rows for each in batches) == 2500
    assert [each.state is not None for each in batches if each.rows.num_rows][:-1].count(True) == 0


def test_deletions_that_are_ignored_are_left_out(database: MariaDBDatabase, connection: MysqlConnection) -> None:
    database.execute(TABLE, "INSERT INTO orders VALUES (1, 'a', 1), (2, 'b', 2)")
    ignoring = MysqlSource(connection=connection, table="orders", sync_mode=SyncMode.CDC, deletes=Deletes.IGNORED)
    start = batches_of(ignoring)
    database.execute("DELETE FROM orders WHERE id = 1", "UPDATE orders SET id = 7 WHERE id = 2", "TRUNCATE orders")
    rows = [row for each in batches_of(ignoring, state_after(start)) for row in each.rows.to_pylist()]
    assert [(row["id"], row["name"]) for row in rows] == [(7, "b")]


VALUES = """
CREATE TABLE orders (id int PRIMARY KEY, name varchar(100), latin varchar(20) CHARACTER SET latin1, flag boolean, tiny tinyint unsigned,
    big bigint unsigned, ratio float, exact_ratio double, amount decimal(38, 10), day date, at timestamp(6) NULL, plain datetime(3),
    clock time(6), year_of year, raw varbinary(20), padded binary(6), doc json, kind enum('a', 'b "c"'), note longtext, bytes_of longblob)
"""
ROW = """(1, 'quote " comma , \\n \\\\ ünï 😀', 'é€', true, 255, 18446744073709551615, 0.1, 1e300, 1234567890123456789012345678.0123456789,
    '2024-02-29', '2024-01-01 12:34:56.789012', '1999-12-31 23:59:59.999', '23:59:59.000001', 2155, x'00ff', x'61620000', '{"a": 1}',
    'b "c"', 'long', x'000102')"""


def test_the_log_gives_the_values_that_the_table_gives(database: MariaDBDatabase, connection: MysqlConnection) -> None:
    source = MysqlSource(connection=connection, table="orders", sync_mode=SyncMode.CDC)
    database.execute(VALUES, f"INSERT INTO orders VALUES {ROW}", "INSERT INTO orders (id) VALUES (2)")
    (table, *_rest) = start = batches_of(source)
    database.execute("TRUNCATE orders", f"INSERT INTO orders VALUES {ROW}", "INSERT INTO orders (id) VALUES (2)")
    logged = batches_of(source, state_after(start))
    assert logged[0].rows.schema == table.rows.schema
    assert str(logged[0].rows.slice(1).to_pylist()) == str(table.rows.to_pylist())


def test_values_that_no_calendar_has_are_rejected(database: MariaDBDatabase, connection: MysqlConnection) -> None:
    database.execute("CREATE TABLE orders (id int PRIMARY KEY, name text, day date, at timestamp NULL, clock time)")
    reading = Reading(MysqlSource(connection=connection, table="orders", sync_mode=SyncMode.CDC))
    reading.run()
    database.execute(
        "INSERT INTO orders VALUES (1, 'a', '0000-00-00', NULL, NULL), (2, 'b', NULL, '0000-00-00 00:00:00', NULL), "
        "(3, 'c', NULL, NULL, '-12:00:00'), (4, 'd', NULL, NULL, '12:00:00')"
    )
    assert reading.run() == [("insert", 4, "d")]
    assert [each.split("'")[1] for each in reading.rejected] == ["day", "at", "clock"]


def test_new_columns_end_the_read_before_them(database: MariaDBDatabase, source: MysqlSource) -> None:
    database.execute("INSERT INTO orders VALUES (1, 'a', 1)")
    reading = Reading(source)
    reading.run()
    database.execute("INSERT INTO orders VALUES (2, 'b', 2)")
    with source.read(ReadRequest(), reading.state) as reader:
        database.execute("ALTER TABLE orders ADD COLUMN note text", "INSERT INTO orders VALUES (3, 'c', 3, 'new')")
        batches = list(reader)
    assert told(batches) == [("insert", 2, "b")]
    after = batches_of(source, state_after(batches))
    assert [row["note"] for each in after for row in each.rows.to_pylist()] == ["new"]


def test_columns_of_the_past_are_null_or_left_out(database: MariaDBDatabase, source: MysqlSource) -> None:
    start = batches_of(source)
    database.execute(
        "INSERT INTO orders VALUES (1, 'a', 1)",
        "ALTER TABLE orders ADD COLUMN note text FIRST, DROP COLUMN amount, MODIFY id bigint",
        "INSERT INTO orders VALUES ('new', 5000000000, 'b')",
    )
    rows = [row for each in batches_of(source, state_after(start)) for row in each.rows.to_pylist()]
    assert [(row["id"], row["note"], "amount" in row) for row in rows] == [(1, None, False), (5000000000, "new", False)]


def test_a_log_that_is_gone_is_a_regression(
    mariadb: MariaDBServer, database: MariaDBDatabase, source: MysqlSource
) -> None:
    state = state_after(batches_of(source))
    database.execute(
        "INSERT INTO orders VALUES (1, 'a', 1)", "FLUSH BINARY LOGS", "INSERT INTO orders VALUES (2, 'b', 1)"
    )
    _purge(mariadb.default_database)
    with pytest.raises(RegressionError, match=r"no longer has the log that follows the last commit"):
        batches_of(source, state)


def _purge(server: MariaDBDatabase) -> None:
    """Removes all files of the log but the newest; what the engine may still need for a recovery goes a little later."""
    newest = server.rows("SHOW BINARY LOGS")[-1][0]
    while server.rows("SHOW BINARY LOGS")[0][0] != newest:
        server.execute(f"PURGE BINARY LOGS TO '{newest}'")
        time.sleep(0.1)


def test_a_lost_connection_is_not_mended_in_secret(database: MariaDBDatabase, source: MysqlSource) -> None:
    """The library would begin anew at its place, and rows of a transaction under way would come twice."""
    state = state_after(batches_of(source))
    database.execute("INSERT INTO orders SELECT seq, repeat('x', 500), seq FROM seq_1_to_30000")
    with source.read(ReadRequest(batch_rows=10), state) as reader:
        batches = iter(reader)
        next(batches)
        for number, *rest in database.rows("SHOW PROCESSLIST"):
            if "Binlog Dump" in rest:
                database.execute(f"KILL {number}")
        with pytest.raises(UnavailableError, match="lost"):
            list(batches)


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("s set('a', 'b')", "'s' is set"),
        ("b bit(3)", "'b' is bit"),
        ("u uuid", "'u' is uuid"),
        ("p point", "'p' is point"),
    ],
)
def test_columns_that_the_log_shows_otherwise_are_refused(
    database: MariaDBDatabase, connection: MysqlConnection, column: str, reason: str
) -> None:
    database.execute(f"CREATE TABLE orders (id int PRIMARY KEY, {column})")
    source = MysqlSource(connection=connection, table="orders", sync_mode=SyncMode.CDC)
    with pytest.raises(SchemaError, match=rf"{reason}.*leave '.' out with columns"):
        source.read(ReadRequest(), None)
    kept = MysqlSource(connection=connection, table="orders", sync_mode=SyncMode.CDC, columns=("id",))
    assert batches_of(kept)


def test_a_log_that_says_too_little_is_refused(source: MysqlSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(binlog._WANTED, "binlog_row_image", "NOBLOB")
    with pytest.raises(FatalError, match="binlog_row_image is FULL, and cdc needs NOBLOB"):
        source.read(ReadRequest(), None)
