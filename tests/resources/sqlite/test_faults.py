"""What goes wrong with SQLite is said clearly, and nothing is lost."""

from __future__ import annotations

import dataclasses
import sqlite3
import threading
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import ReadRequest, Token
from dsl.contracts.errors import FatalError, FencedError, RejectedRows, RetryableError, SchemaError, UnavailableError
from dsl.contracts.spec import OptionError
from resources.sql import SchemaEvolution
from resources.sql_gathering import GatheringWriter
from resources.sqlite.resource import SQLiteConnection, SQLiteDestination, SQLiteSource
from resources.sqlite.writer import SQLiteSession
from tests.resources.sql_suite import SCHEMA, TOKEN, drain, read_all, rows_of, schema_of, write_epoch
from tests.resources.sqlite.conftest import Query


def target(connection: SQLiteConnection, **options: Any) -> SQLiteDestination:
    return SQLiteDestination(**{"connection": connection, "table": "target", **options})


def test_check_and_discover(connection: SQLiteConnection, query: Query) -> None:
    assert "there is no file yet" in connection.check().details
    query(
        "CREATE TABLE b (x, id INTEGER PRIMARY KEY)",
        "CREATE VIEW v AS SELECT id FROM b",
        "CREATE TABLE _headrace_tokens (x)",
    )
    assert connection.check().details == f"SQLite {sqlite3.sqlite_version}, delete mode"
    streams = connection.discover()
    assert [(each.name, each.primary_key) for each in streams] == [("b", ("id",)), ("v", ())]
    assert streams[0].schema == schema_of(x=pa.string(), id=pa.int64())


def test_asking_makes_no_file(connection: SQLiteConnection) -> None:
    with pytest.raises(UnavailableError, match="there is no such file"):
        SQLiteSource(connection=connection, table="t").discover_schema()
    assert connection.check().healthy
    assert not list(Path(connection.path).parent.iterdir())


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    nowhere = SQLiteConnection(path=str(tmp_path / "none" / "users.db"))
    with pytest.raises(UnavailableError, match=rf"there is no folder '{tmp_path}/none'.*make it"):
        target(nowhere).open_writer(SCHEMA, TOKEN)
    assert not nowhere.check().healthy
    assert "it is a folder" in SQLiteConnection(path=str(tmp_path)).check().details


@pytest.mark.parametrize("path", ["", ":memory:", "file:x?mode=memory", "a\0b"])
def test_what_is_no_file_is_refused(path: str) -> None:
    with pytest.raises(OptionError, match="not the path of a file"):
        SQLiteConnection(path=path)


def test_a_file_that_is_no_database(connection: SQLiteConnection) -> None:
    Path(connection.path).write_text("this is no database, only a text of some length" * 100)
    assert "file is not a database" in connection.check().details
    with pytest.raises(FatalError, match="file is not a database"):
        target(connection).open_writer(SCHEMA, TOKEN)


def test_a_missing_table_and_a_dropped_column_are_named(connection: SQLiteConnection, query: Query) -> None:
    query("CREATE TABLE customers (id INTEGER, name TEXT)")
    with pytest.raises(SchemaError, match=r"no table 'custmers'.*did you mean 'customers'"):
        SQLiteSource(connection=connection, table="custmers").discover_schema()
    source = SQLiteSource(connection=connection, table="Customers")
    schema = source.discover_schema()
    query("ALTER TABLE customers DROP COLUMN name")
    with pytest.raises(SchemaError, match="no column 'name'"):
        source.read(ReadRequest(columns=tuple(schema.names)), None)
    with pytest.raises(SchemaError, match="no such table"):
        SQLiteSource(connection=connection, query="SELECT * FROM nowhere").discover_schema()
    with pytest.raises(FatalError, match="syntax error"):
        SQLiteSource(connection=connection, query="SELECT FROM WHERE").discover_schema()


def test_a_query_cannot_write(connection: SQLiteConnection, query: Query) -> None:
    query("CREATE TABLE t (id INTEGER)")
    for sly in (
        "WITH x AS (SELECT 1) DELETE FROM t",
        "SELECT 1; DROP TABLE t",
        "SELECT 1 UNION SELECT load_extension('x')",
    ):
        with pytest.raises(FatalError):
            drain(SQLiteSource(connection=connection, query=sly))
    assert query("SELECT count(*) FROM t") == [(0,)]


@pytest.mark.parametrize("options", [{"table": "other.t"}, {"table": "t", "initial_value": "1"}, {}])
def test_options_that_do_not_fit_are_refused(connection: SQLiteConnection, options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        SQLiteSource(connection=connection, **options)


def test_reader_and_writer_have_one_name(connection: SQLiteConnection) -> None:
    name = SQLiteSource(connection=connection, table="main.target").physical_name
    assert name == target(connection).physical_name
    assert name[0::2] == ("sqlite", "a test.db") or name[-2:] == ("a test.db", "target")


def test_a_locked_file_is_a_matter_of_trying_again(connection: SQLiteConnection, query: Query) -> None:
    impatient = dataclasses.replace(connection, busy_timeout=timedelta(milliseconds=50))
    with target(impatient).open_writer(SCHEMA, TOKEN) as writer, closing(sqlite3.connect(connection.path)) as other:
        writer.write(rows_of((1, "a")))
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RetryableError, match=r"keeps the file locked.*raise busy_timeout"):
            writer.commit(1, {"v": 1})
        with pytest.raises(RetryableError):
            target(impatient).open_writer(SCHEMA, TOKEN)
        other.rollback()
        with target(impatient).open_writer(SCHEMA, TOKEN) as again:
            assert again.get_state() is None
            write_epoch(again, 1, rows_of((1, "a")))
    assert query("SELECT id, name FROM target") == [(1, "a")]


def test_a_lock_that_ends_in_time_is_waited_for(connection: SQLiteConnection, query: Query) -> None:
    with target(connection).open_writer(SCHEMA, TOKEN) as writer:
        writer.write(rows_of((1, "a")))
        other = sqlite3.connect(connection.path, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        ended = threading.Timer(0.3, other.close)
        ended.start()
        writer.commit(1, {"v": 1})
        ended.join()
    assert query("SELECT id FROM target") == [(1,)]


@pytest.mark.parametrize("mode", ["WAL", "DELETE", "TRUNCATE"])
def test_one_file_is_read_and_written_at_once(connection: SQLiteConnection, query: Query, mode: str) -> None:
    query(f"PRAGMA journal_mode = {mode}", "CREATE TABLE origin (id INTEGER PRIMARY KEY, name TEXT, at TIMESTAMP)")
    query("INSERT INTO origin VALUES (?, 'x', '2024-01-01')", rows=[(number,) for number in range(500)])
    for source in (
        SQLiteSource(connection=connection, table="origin", columns=("id", "name")),
        SQLiteSource(connection=connection, table="origin", columns=("id", "name"), incremental_column="at"),
    ):
        token = Token("w", source.incremental_column or "full")
        with (
            source.read(ReadRequest(batch_rows=50), None) as reader,
            target(connection).open_writer(SCHEMA, token) as writer,
        ):
            for epoch, batch in enumerate(reader, 1):
                writer.write(batch.rows)
                writer.commit(epoch, {"v": 1})
    assert query("SELECT count(*), count(DISTINCT id) FROM target") == [(1000, 500)]


def test_a_file_that_is_made_here_is_in_wal_mode(connection: SQLiteConnection, query: Query) -> None:
    target(connection).open_writer(SCHEMA, TOKEN).close()
    assert query("PRAGMA journal_mode") == [("wal",)]


def test_a_full_disk_commits_nothing_and_goes_on_when_there_is_space(
    connection: SQLiteConnection, query: Query
) -> None:
    with target(connection).open_writer(SCHEMA, TOKEN) as writer:
        write_epoch(writer, 1, rows_of((1, "a")))
        assert isinstance(writer, GatheringWriter)
        session = writer._session
        assert isinstance(session, SQLiteSession)
        pages = session.rows("PRAGMA page_count")[0][0]
        session.rows(f"PRAGMA max_page_count = {pages}")
        writer.write(rows_of(*((number, "x" * 100) for number in range(2, 2000))))
        with pytest.raises(UnavailableError, match=r"database or disk is full.*free some.*nothing was committed"):
            writer.commit(2, {"v": 1})
    assert query("SELECT id FROM target") == [(1,)]
    with target(connection).open_writer(SCHEMA, TOKEN) as writer:
        found = writer.get_state()
        assert found is not None
        assert found.epoch == 1
        write_epoch(writer, 2, rows_of(*((number, "x" * 100) for number in range(2, 2000))))
    assert query("SELECT count(*) FROM target") == [(1999,)]


def test_rows_that_break_a_constraint_are_named(connection: SQLiteConnection, query: Query) -> None:
    query(
        "CREATE TABLE target (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)", "INSERT INTO target VALUES (1, 'a')"
    )
    with target(connection).open_writer(SCHEMA, TOKEN) as writer:
        assert writer.write(rows_of((2, "b"))) == ()
        for wrong, at, reason in [
            (rows_of((3, "c"), (4, None)), (1,), "'name' may not be NULL"),
            (rows_of((3, "c"), (1, "new")), (1,), r"row of this \(id\) already"),
            (rows_of((3, "a"), (4, "d")), (0,), r"row of this \(name\) already"),
            (rows_of((3, "c"), (2, "again")), (1,), r"row of this \(id\) already"),
            (rows_of((3, "c"), (5, "c"), (5, "e")), (2,), r"row of this \(id\) already"),
        ]:
            with pytest.raises(RejectedRows, match=reason) as raised:
                writer.write(wrong)
            assert raised.value.rows == at
        assert writer.write(rows_of((3, "c"))) == ()
        assert writer.commit(1, {"v": 1}).rows == 2
    assert query("SELECT id, name FROM target") == [(1, "a"), (2, "b"), (3, "c")]


def test_rows_that_break_a_gathered_overwrite_are_named(connection: SQLiteConnection, query: Query) -> None:
    query("CREATE TABLE target (id INTEGER PRIMARY KEY, name TEXT)", "INSERT INTO target VALUES (1, 'old')")
    with target(connection, write_mode=WriteMode.OVERWRITE).open_writer(SCHEMA, TOKEN) as writer:
        write_epoch(writer, 1, rows_of((1, "a")))
        with pytest.raises(RejectedRows, match=r"row of this \(id\) already"):
            writer.write(rows_of((1, "b")))
        write_epoch(writer, 2, rows_of((2, "b")), final=True)
    assert query("SELECT id, name FROM target") == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("mode", [WriteMode.APPEND, WriteMode.OVERWRITE])
def test_what_only_the_table_knows_ends_the_epoch(connection: SQLiteConnection, query: Query, mode: WriteMode) -> None:
    query("CREATE TABLE target (id INTEGER, name TEXT CHECK (name <> 'bad'))", "INSERT INTO target VALUES (0, 'old')")
    with target(connection, write_mode=mode).open_writer(SCHEMA, TOKEN) as writer:
        writer.write(rows_of((1, "good"), (2, "bad")))
        with pytest.raises(FatalError, match=r"CHECK constraint failed.*filter such rows"):
            writer.commit(1, {"v": 1}, final=True)
    assert query("SELECT id FROM target") == [(0,)]


def test_overwrite_keeps_indexes_triggers_and_views(connection: SQLiteConnection, query: Query) -> None:
    query(
        "CREATE TABLE target (id INTEGER, name TEXT, at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)",
        "CREATE INDEX by_name ON target (name)",
        "CREATE VIEW seen AS SELECT id FROM target",
        "CREATE TABLE log (id INTEGER)",
        "CREATE TRIGGER logs AFTER INSERT ON target BEGIN INSERT INTO log VALUES (new.id); END",
    )
    with target(connection, write_mode=WriteMode.OVERWRITE).open_writer(SCHEMA, TOKEN) as writer:
        write_epoch(writer, 1, rows_of((1, "a")), final=True)
        write_epoch(writer, 2, rows_of((2, "b")), final=True)
    assert query("SELECT id FROM seen") == [(2,)]
    assert query("SELECT id, at IS NOT NULL FROM target") == [(2, 1)]
    assert query("SELECT id FROM log") == [(1,), (2,)]
    assert ("by_name",) in query("SELECT name FROM sqlite_schema")


def test_an_upsert_without_unique_index_and_a_view_are_refused(connection: SQLiteConnection, query: Query) -> None:
    query("CREATE TABLE target (id INTEGER, name TEXT)", "CREATE VIEW v AS SELECT * FROM target")
    with pytest.raises(SchemaError, match=r"no unique index on \(id\)"):
        target(connection, write_mode=WriteMode.UPSERT, primary_key=("id",)).open_writer(SCHEMA, TOKEN)
    with pytest.raises(SchemaError, match="it is a view"):
        target(connection, table="v").open_writer(SCHEMA, TOKEN)


def test_an_upsert_by_a_key_without_case_takes_the_last(connection: SQLiteConnection, query: Query) -> None:
    query("CREATE TABLE target (id INTEGER, name TEXT COLLATE NOCASE UNIQUE)", "INSERT INTO target VALUES (0, 'ADA')")
    with target(connection, write_mode=WriteMode.UPSERT, primary_key=("name",)).open_writer(SCHEMA, TOKEN) as writer:
        writer.write(rows_of((1, "Ada"), (2, "ada"), (3, "Bob")))
        stats = writer.commit(1, {"v": 1})
    assert query("SELECT id FROM target ORDER BY id") == [(2,), (3,)]
    assert stats.rows == 3


def test_decimals_are_widened_unless_something_rests_on_them(connection: SQLiteConnection, query: Query) -> None:
    small, large = schema_of(d=pa.decimal128(6, 2), e=pa.string()), schema_of(d=pa.decimal128(12, 4), e=pa.string())
    rows: dict[str, list[Any]] = {"d": ["1.50", None], "e": ["x", "y"]}
    with target(connection).open_writer(small, TOKEN) as writer:
        write_epoch(writer, 1, pa.RecordBatch.from_pydict(rows, schema_of(d=pa.string(), e=pa.string())).cast(small))
    with pytest.raises(SchemaError, match="column 'd' is DECIMAL_TEXT"):
        target(connection, schema_evolution=SchemaEvolution.FREEZE).open_writer(large, TOKEN)
    query("CREATE INDEX rests ON target (d)")
    with pytest.raises(SchemaError, match="column 'd' is DECIMAL_TEXT"):
        target(connection).open_writer(large, TOKEN)
    query("DROP INDEX rests")
    with target(connection).open_writer(large, TOKEN) as writer:
        more = pa.RecordBatch.from_pydict({"d": ["12345678.1234"], "e": ["z"]}).cast(large)
        write_epoch(writer, 2, more)
    found, _ = read_all(SQLiteSource(connection=connection, table="target", columns=("d",)))
    assert [str(row["d"]) for batch in found for row in batch.rows.to_pylist()] == ["1.5000", "None", "12345678.1234"]


def test_many_writers_at_once_leave_one_owner(connection: SQLiteConnection, query: Query) -> None:
    outcomes: list[str] = []

    def contend(number: int) -> None:
        try:
            with target(connection).open_writer(SCHEMA, Token("w", "s")) as writer:
                writer.write(rows_of((number, "x")))
                time.sleep(0.1)
                found = writer.get_state()
                writer.commit((found.epoch if found else 0) + 1, {"v": 1})
                outcomes.append("done")
        except FencedError:
            outcomes.append("fenced")

    with target(connection).open_writer(SCHEMA, Token("w", "other")):
        pass
    threads = [threading.Thread(target=contend, args=(number,)) for number in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(outcomes) == 6
    assert outcomes.count("done") >= 1
    assert query("SELECT count(*) FROM target") == [(outcomes.count("done"),)]
    assert query("SELECT epoch, fence FROM _headrace_tokens WHERE stream_key = 'w/s/0'") == [
        (outcomes.count("done"), 6)
    ]


def test_a_file_without_permission_to_write_says_so(connection: SQLiteConnection, query: Query) -> None:
    query("CREATE TABLE target (id INTEGER, name TEXT)")
    with target(connection).open_writer(SCHEMA, TOKEN) as writer:
        writer.write(rows_of((1, "a")))
        assert isinstance(writer, GatheringWriter)
        writer._session.run("PRAGMA query_only = ON")  # as a file system does that is mounted for reading
        with pytest.raises(FatalError, match=r"readonly.*check the permissions"):
            writer.commit(1, {"v": 1})
