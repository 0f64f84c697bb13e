"""A table and its log of changes, read from a real PostgreSQL: every change once and in order, from whatever batch it goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from dsl.contracts.capabilities import SyncMode
from dsl.contracts.changes import OPERATION, Deletes
from dsl.contracts.connectors import Batch, ReadRequest
from dsl.contracts.errors import FatalError, RegressionError, RetryableError, SchemaError
from dsl.contracts.spec import OptionError
from dsl.contracts.state import State
from resources.postgres.changes import elements
from resources.postgres.resource import PostgresConnection, PostgresSource
from tests.kit.postgres import PostgresDatabase

TABLE = "CREATE TABLE orders (id int PRIMARY KEY, name text, amount numeric(10, 2))"
Told = tuple[str, int | None, str | None]


@pytest.fixture(autouse=True)
def _slots(database: PostgresDatabase) -> Iterator[None]:
    """A server has few slots, and a test that fails leaves its own."""
    yield
    mine = "database = current_database()"
    for _ in range(20):
        if not database.rows(f"SELECT 1 FROM pg_replication_slots WHERE {mine} AND active"):
            break
        time.sleep(0.1)
    database.execute(
        f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE {mine} AND NOT active"
    )


@pytest.fixture
def source(database: PostgresDatabase, connection: PostgresConnection) -> PostgresSource:
    database.execute(TABLE)
    return PostgresSource(connection=connection, table="orders", sync_mode=SyncMode.CDC)


def batches_of(source: PostgresSource, state: State | None = None, **request: Any) -> list[Batch]:
    """Reads up to where the log ends, confirms nothing."""
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
    """Runs that go on one after the other, and confirm what they read."""

    def __init__(self, source: PostgresSource) -> None:
        self.source = source
        self.state: State | None = None
        self.rejected: list[str] = []

    def run(self, **request: Any) -> list[Told]:
        with self.source.read(ReadRequest(**request), self.state) as reader:
            batches = list(reader)
            self.rejected += [each.reason for each in reader.rejections()]
            if any(each.state is not None for each in batches):
                self.state = state_after(batches)
                reader.acknowledge(state_after(batches))
        return told(batches)


def test_the_table_then_every_change_of_it(database: PostgresDatabase, source: PostgresSource) -> None:
    database.execute("INSERT INTO orders VALUES (1, 'a', 1.5), (2, 'b', NULL)")
    reading = Reading(source)
    assert reading.run() == [("insert", 1, "a"), ("insert", 2, "b")]
    assert reading.run() == []
    database.execute(
        "INSERT INTO orders VALUES (3, 'c', 3)",
        "UPDATE orders SET name = 'B' WHERE id = 2",
        "UPDATE orders SET id = 9 WHERE id = 1",
        "DELETE FROM orders WHERE id = 3",
        "CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1)",
    )
    with database.connect(autocommit=False) as opened:
        opened.execute("INSERT INTO orders VALUES (100, 'rolled back', 0)")
        opened.rollback()
    changes = [("insert", 3, "c"), ("update", 2, "B"), ("delete", 1, None), ("update", 9, "a"), ("delete", 3, None)]
    assert reading.run() == changes
    database.execute("TRUNCATE orders", "INSERT INTO orders VALUES (1, 'again', 1)")
    assert reading.run() == [("truncate", None, None), ("insert", 1, "again")]
    assert reading.run() == []


def test_what_is_not_confirmed_is_told_again(database: PostgresDatabase, source: PostgresSource) -> None:
    first = batches_of(source)
    database.execute("INSERT INTO orders VALUES (1, 'a', 1)")
    for _ in range(2):
        assert told(batches_of(source, state_after(first))) == [("insert", 1, "a")]


def test_it_resumes_after_every_batch(database: PostgresDatabase, source: PostgresSource) -> None:
    """Rows that were read from a newer snapshot are told again by the log, which ends at the same table."""
    database.execute("INSERT INTO orders SELECT n, 'old', n FROM generate_series(1, 10) n")
    start = batches_of(source, batch_rows=3)
    for number in range(11, 21):
        database.execute(
            f"INSERT INTO orders VALUES ({number}, 'new', 0), ({number + 100}, 'new', 0)",
            f"UPDATE orders SET name = 'changed' WHERE id = {number - 10}",
            f"DELETE FROM orders WHERE id = {number + 99}",
        )
    expected = dict(database.rows("SELECT id, name FROM orders"))
    batches = [*start, *batches_of(source, state_after(start), batch_rows=3)]
    cuts = [at for at, each in enumerate(batches) if each.state is not None]
    assert len(cuts) > 12
    assert max(each.rows.num_rows for each in batches) <= 3
    for at in cuts:
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


def test_a_run_that_ended_before_its_first_commit_left_a_slot(
    database: PostgresDatabase, source: PostgresSource
) -> None:
    database.execute("INSERT INTO orders VALUES (1, 'a', 1)")
    batches_of(source)
    database.execute("UPDATE orders SET name = 'b'")
    again = told(batches_of(source))
    assert again == [("insert", 1, "b"), ("update", 1, "b")]


def test_a_state_never_stands_inside_a_transaction(database: PostgresDatabase, source: PostgresSource) -> None:
    start = batches_of(source)
    with database.connect(autocommit=False) as opened:
        opened.execute("INSERT INTO orders SELECT n, 'x', n FROM generate_series(1, 2500) n")
        opened.commit()
    batches = batches_of(source, state_after(start), batch_rows=1000)
    assert [(each.rows.num_rows, each.state is not None) for each in batches[:3]] == [
        (1000, False),
        (1000, False),
        (500, True),
    ]


def test_large_transactions_come_in_pieces_of_bytes(database: PostgresDatabase, source: PostgresSource) -> None:
    start = batches_of(source)
    database.execute("INSERT INTO orders SELECT n, repeat('x', 10000), n FROM generate_series(1, 300) n")
    batches = batches_of(source, state_after(start), batch_bytes=200_000)
    assert sum(each.rows.num_rows for each in batches) == 300
    assert max(each.rows.nbytes for each in batches) < 300_000


@pytest.mark.parametrize("identity", ["DEFAULT", "FULL"])
def test_values_that_are_stored_out_of_line_stay(
    database: PostgresDatabase, source: PostgresSource, identity: str
) -> None:
    database.execute(
        "ALTER TABLE orders ALTER name SET STORAGE EXTERNAL",
        f"ALTER TABLE orders REPLICA IDENTITY {identity}",
        "INSERT INTO orders VALUES (1, repeat('long ', 2000), 1), (2, 'short', 2)",
    )
    reading = Reading(source)
    reading.run()
    database.execute("UPDATE orders SET amount = 7 WHERE id = 1", "UPDATE orders SET id = 5 WHERE id = 1")
    long = "long " * 2000
    assert reading.run() == [
        ("update", 1, long if identity == "FULL" else None),
        ("delete", 1, None),
        ("update", 5, long),
    ]
    database.execute("UPDATE orders SET amount = 8 WHERE id = 5")
    assert reading.run() == [("update", 5, long)]


def test_deletions_that_are_ignored_are_left_out(database: PostgresDatabase, connection: PostgresConnection) -> None:
    database.execute(TABLE, "INSERT INTO orders VALUES (1, 'a', 1), (2, 'b', 2)")
    ignoring = PostgresSource(
        connection=connection, table="orders", sync_mode=SyncMode.CDC, deletes=Deletes.IGNORED, slot="ignoring"
    )
    assert ignoring.splits(4) == (), "a log is one"
    start = batches_of(ignoring)
    database.execute("DELETE FROM orders WHERE id = 1", "UPDATE orders SET id = 7 WHERE id = 2", "TRUNCATE orders")
    rows = [row for each in batches_of(ignoring, state_after(start)) for row in each.rows.to_pylist()]
    assert [(row["id"], row["name"]) for row in rows] == [(7, "b")]
    assert OPERATION not in rows[0]


VALUES = """
CREATE TABLE orders (id int PRIMARY KEY, name text, flag boolean, big bigint, ratio float8, amount numeric(38, 10), day date,
    at timestamptz, plain timestamp, span interval, raw bytea, doc jsonb, tags text[], days date[], owed money, key uuid)
"""
ROW = """(1, E'quote " comma , new\\nline \\\\ tab\\t ünï', true, -9223372036854775808, 'NaN', 12345678901234567890.0123456789,
    '2024-02-29', '2024-01-01 12:34:56.789012+02', '1999-12-31 23:59:59.999999', '1 year 2 days', '\\x00ff', '{"a": [1, null]}',
    ARRAY['plain', 'with "quotes", and {braces}', 'back\\slash', NULL, 'NULL', ''], ARRAY['2024-01-01', NULL]::date[], -1234.56,
    '6f9619ff-8b86-d011-b42d-00c04fc964ff')"""


def test_the_log_gives_the_values_that_the_table_gives(
    database: PostgresDatabase, connection: PostgresConnection
) -> None:
    source = PostgresSource(connection=connection, table="orders", sync_mode=SyncMode.CDC)
    database.execute(VALUES, f"INSERT INTO orders VALUES {ROW}")
    (table, *_rest) = start = batches_of(source)
    database.execute("TRUNCATE orders", f"INSERT INTO orders VALUES {ROW}")
    logged = batches_of(source, state_after(start))
    assert logged[0].rows.schema == table.rows.schema
    assert str(logged[0].rows.slice(1, 1).to_pylist()) == str(table.rows.to_pylist())


def test_values_that_no_column_can_hold_are_rejected(
    database: PostgresDatabase, connection: PostgresConnection
) -> None:
    database.execute("CREATE TABLE orders (id int PRIMARY KEY, name text, day date)")
    reading = Reading(PostgresSource(connection=connection, table="orders", sync_mode=SyncMode.CDC))
    reading.run()
    database.execute("INSERT INTO orders VALUES (1, 'a', 'infinity'), (2, 'b', '2024-01-01')")
    assert reading.run() == [("insert", 2, "b")]
    assert len(reading.rejected) == 1
    assert "column 'day' has a value" in reading.rejected[0]


def test_new_columns_end_the_read_before_them(database: PostgresDatabase, source: PostgresSource) -> None:
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


def test_columns_of_the_past_are_null_or_left_out(database: PostgresDatabase, source: PostgresSource) -> None:
    start = batches_of(source)
    database.execute(
        "INSERT INTO orders VALUES (1, 'a', 1)",
        "ALTER TABLE orders ADD COLUMN note text",
        "ALTER TABLE orders DROP COLUMN amount",
        "ALTER TABLE orders ALTER COLUMN id TYPE bigint",
        "INSERT INTO orders VALUES (5000000000, 'b', 'new')",
    )
    rows = [row for each in batches_of(source, state_after(start)) for row in each.rows.to_pylist()]
    assert [(row["id"], row["note"], "amount" in row) for row in rows] == [(1, None, False), (5000000000, "new", False)]


def test_a_slot_that_is_gone_is_a_regression(database: PostgresDatabase, source: PostgresSource) -> None:
    state = state_after(batches_of(source))
    database.execute("SELECT pg_drop_replication_slot('headrace_public_orders')")
    with pytest.raises(RegressionError, match=r"slot 'headrace_public_orders' is gone, and with it the changes since"):
        source.read(ReadRequest(), state)


def test_a_slot_that_somebody_else_reads_is_a_regression(database: PostgresDatabase, source: PostgresSource) -> None:
    state = state_after(batches_of(source))
    database.execute(
        "INSERT INTO orders VALUES (1, 'a', 1)",
        "SELECT pg_replication_slot_advance('headrace_public_orders', pg_current_wal_lsn())",
    )
    with pytest.raises(RegressionError, match=r"by somebody else.*slot of its own"):
        source.read(ReadRequest(), state)


def test_two_readers_of_a_slot(database: PostgresDatabase, source: PostgresSource, monkeypatch: Any) -> None:
    monkeypatch.setattr("resources.postgres.cdc._FREE_ROUNDS", 2)
    state = state_after(batches_of(source))
    with source.read(ReadRequest(follow=True), state) as reader:
        database.execute("INSERT INTO orders VALUES (1, 'a', 1)")
        assert any(each.rows.num_rows for each in iter(lambda: next(iter(reader)), None))
        with pytest.raises(RetryableError, match="is active"):
            batches_of(source, state)


def test_who_follows_hears_that_nothing_comes(database: PostgresDatabase, source: PostgresSource) -> None:
    with source.read(ReadRequest(follow=True), None) as reader:
        seen: list[Told] = []
        still = 0
        for batch in reader:
            seen += told([batch])
            still += batch.rows.num_rows == 0
            if still == 3 and not batch.rows.num_rows:
                database.execute("INSERT INTO orders VALUES (1, 'a', 1)")
            if batch.state is not None:
                reader.acknowledge(batch.state)
            if seen:
                break
    assert seen == [("insert", 1, "a")]


def test_an_idle_table_lets_the_server_forget(database: PostgresDatabase, source: PostgresSource) -> None:
    reading = Reading(source)
    reading.run()
    database.execute("CREATE TABLE busy AS SELECT repeat('x', 100) AS x FROM generate_series(1, 20000)")
    assert reading.run() == []
    behind = (
        "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn) FROM pg_replication_slots WHERE slot_name = "
    )
    for _ in range(50):
        if database.rows(f"{behind} 'headrace_public_orders'")[0][0] < 100_000:
            return
        time.sleep(0.1)
    pytest.fail("the slot keeps what nobody needs")


def test_who_only_looks_makes_nothing(database: PostgresDatabase, source: PostgresSource) -> None:
    database.execute("INSERT INTO orders VALUES (1, 'a', 1)")
    assert told(batches_of(source, dry=True)) == [("insert", 1, "a")]
    assert database.rows("SELECT 1 FROM pg_publication") == []
    assert database.rows("SELECT 1 FROM pg_replication_slots WHERE database = current_database()") == []
    reading = Reading(source)
    reading.run()
    database.execute("UPDATE orders SET name = 'b'")
    with source.read(ReadRequest(dry=True), None) as reader:
        found = list(reader)
        reader.acknowledge(state_after(found))
    assert told(found) == [("insert", 1, "b")]
    assert reading.run() == [("update", 1, "b")], "nothing was confirmed"


def test_a_check_says_what_slots_retain(source: PostgresSource) -> None:
    batches_of(source)
    checked = source.connection.check()
    assert checked.healthy
    assert "slot 'headrace_public_orders' retains" in checked.details


@pytest.mark.parametrize(
    ("prepare", "options", "reason"),
    [
        ("ALTER TABLE orders DROP CONSTRAINT orders_pkey", {}, "give the table a primary key, or ALTER TABLE"),
        ("ALTER TABLE orders REPLICA IDENTITY NOTHING", {}, "would not say which rows were changed"),
        ("SELECT 1", {"primary_key": ("name",)}, "names rows by id and not by 'name'"),
        ("CREATE VIEW seen AS SELECT * FROM orders", {"table": "seen"}, "only tables have a log"),
        ("CREATE PUBLICATION small", {"publication": "small"}, "ALTER PUBLICATION .small. ADD TABLE"),
        (
            "CREATE PUBLICATION part FOR TABLE orders WITH (publish = 'insert')",
            {"publication": "part"},
            "leaves some changes out",
        ),
        (
            "SELECT pg_create_logical_replication_slot('other', 'test_decoding')",
            {"slot": "other"},
            "belongs to test_dec",
        ),
    ],
)
def test_what_cannot_be_told_is_refused(
    database: PostgresDatabase, source: PostgresSource, prepare: str, options: dict[str, Any], reason: str
) -> None:
    database.execute(prepare)
    asked = PostgresSource(**{"connection": source.connection, "table": "orders", "sync_mode": SyncMode.CDC, **options})
    with pytest.raises(FatalError, match=reason):
        asked.read(ReadRequest(), None)
    assert (
        database.rows(
            "SELECT 1 FROM pg_replication_slots WHERE slot_name LIKE 'headrace%' AND database = current_database()"
        )
        == []
    )


def test_a_column_that_the_log_cannot_show_is_refused(database: PostgresDatabase, source: PostgresSource) -> None:
    database.execute("CREATE TYPE pair AS (a int, b int)", "ALTER TABLE orders ADD COLUMN both_of_them pair")
    with pytest.raises(SchemaError, match="leave 'both_of_them' out with columns"):
        source.read(ReadRequest(), None)


def test_options_that_do_not_fit_together(connection: PostgresConnection) -> None:
    for options, name in (
        ({"sync_mode": SyncMode.CDC, "incremental_column": "at"}, "incremental_column"),
        ({"sync_mode": SyncMode.CDC, "deletes": Deletes.FULL_COMPARE, "incremental_column": "at"}, "deletes"),
        ({"slot": "mine"}, "slot"),
    ):
        with pytest.raises(OptionError) as refused:
            PostgresSource(**{"connection": connection, "table": "orders", **options})  # type: ignore[arg-type]
        assert refused.value.name == name
    assert PostgresSource(connection=connection, table="orders", deletes=Deletes.CDC).sync_mode is SyncMode.CDC


def test_the_texts_of_arrays() -> None:
    assert elements('{1,NULL,"NULL","",a b,"c\\"d\\\\e"}') == ["1", None, "NULL", "", "a b", 'c"d\\e']
    assert elements("{}") == []
    assert elements("[0:1]={x,y}") == ["x", "y"]
    assert elements("{{1,2},{3,4}}") == [["1", "2"], ["3", "4"]]
