"""What goes wrong with PostgreSQL is said clearly, without the password, and nothing is lost."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import psycopg
import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import ReadRequest, Token
from dsl.contracts.errors import ErrorType, FatalError, FencedError, RetryableError, SchemaError, UnavailableError
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError
from resources.postgres.client import connect, translated
from resources.postgres.resource import PostgresConnection, PostgresDestination, PostgresSource
from resources.postgres.writer import PostgresSession
from resources.sql import TableName, Tls
from tests.kit.postgres import PostgresDatabase
from tests.kit.process import free_port
from tests.resources.sql_suite import SCHEMA, TOKEN, drain, rows_of, write_epoch

CANARY = "canary-2718281828"


def test_check_and_discover(database: PostgresDatabase, connection: PostgresConnection) -> None:
    database.execute(
        "CREATE TABLE b (x int, id int PRIMARY KEY)", "CREATE SCHEMA s", "CREATE VIEW s.v AS SELECT 1 AS one"
    )
    found = connection.check()
    assert found.healthy
    assert found.details.startswith("PostgreSQL 1")
    streams = connection.discover()
    assert [(each.name, each.primary_key) for each in streams] == [("public.b", ("id",)), ("s.v", ())]
    assert streams[0].schema is not None
    assert streams[0].schema.names == ["x", "id"]


def test_a_wrong_password_is_no_matter_of_retrying(connection: PostgresConnection) -> None:
    wrong = dataclasses.replace(connection, password=Secret(CANARY, literal=True))
    with pytest.raises(FatalError, match=r"refuses the login of 'headrace'.*check username and password") as raised:
        PostgresSource(connection=wrong, table="t").discover_schema()
    assert raised.value.error_type is ErrorType.AUTH
    result = wrong.check()
    assert not result.healthy
    assert CANARY not in str(raised.value) + result.details + repr(wrong) + repr(raised.value.__cause__)


def test_an_unreachable_server_is_unavailable(connection: PostgresConnection) -> None:
    nowhere = dataclasses.replace(connection, port=free_port())
    with pytest.raises(UnavailableError, match=r"cannot connect.*check host and port"):
        PostgresDestination(connection=nowhere, table="t").open_writer(SCHEMA, TOKEN)
    assert not nowhere.check().healthy


def test_a_missing_database_and_variable_are_said(connection: PostgresConnection) -> None:
    assert "no such database" in dataclasses.replace(connection, database="nope").check().details
    unset = dataclasses.replace(connection, password=Secret("${NOT_SET_ANYWHERE}"))
    assert "variable 'NOT_SET_ANYWHERE' is not set" in unset.check().details


def test_certificates_are_verified(database: PostgresDatabase, connection: PostgresConnection) -> None:
    trusting = dataclasses.replace(connection, tls=Tls.VERIFY_FULL, ca_file=str(database.ca_file))
    assert trusting.check().healthy
    distrusting = dataclasses.replace(connection, tls=Tls.VERIFY_FULL)
    assert "no trusted connection" in distrusting.check().details


def test_a_missing_table_names_the_nearest(database: PostgresDatabase, connection: PostgresConnection) -> None:
    database.execute("CREATE TABLE users (id int)")
    with pytest.raises(SchemaError, match=r"no table 'public.user'.*did you mean 'public.users'"):
        PostgresSource(connection=connection, table="user").discover_schema()


def test_a_broken_query_and_a_writing_one_are_refused(
    database: PostgresDatabase, connection: PostgresConnection
) -> None:
    database.execute("CREATE TABLE users (id int)")
    with pytest.raises(FatalError, match=r"syntax error"):
        PostgresSource(connection=connection, query="SELECT FROM WHERE").discover_schema()
    sly = PostgresSource(connection=connection, query="WITH d AS (DELETE FROM users RETURNING 1) SELECT * FROM d")
    with pytest.raises(FatalError):
        drain(sly)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "table"),
        ({"table": "a", "query": "SELECT 1"}, "query"),
        ({"query": "DELETE FROM t"}, "query"),
        ({"query": "SELECT 1;"}, "query"),
        ({"table": "a.b.c"}, "table"),
        ({"table": "a", "initial_value": "1"}, "initial_value"),
    ],
)
def test_options_that_do_not_fit_are_named(connection: PostgresConnection, options: dict[str, Any], name: str) -> None:
    with pytest.raises(OptionError) as raised:
        PostgresSource(connection=connection, **options)
    assert raised.value.name == name


def test_upsert_needs_a_key_and_append_has_none(connection: PostgresConnection) -> None:
    with pytest.raises(OptionError, match=r"upsert needs"):
        PostgresDestination(connection=connection, table="t", write_mode=WriteMode.UPSERT)
    with pytest.raises(OptionError, match=r"no meaning in append"):
        PostgresDestination(connection=connection, table="t", primary_key=("id",))


def test_reader_and_writer_have_one_name(connection: PostgresConnection) -> None:
    default = dataclasses.replace(connection, host="db.example.com", port=5432)
    source = PostgresSource(connection=default, table="users")
    target = PostgresDestination(connection=default, table="public.users")
    assert (
        source.physical_name
        == target.physical_name
        == ("postgres", "db.example.com", connection.database, "public", "users")
    )


def test_an_upsert_without_unique_index_says_so(database: PostgresDatabase, connection: PostgresConnection) -> None:
    database.execute("CREATE TABLE target (id bigint, name text)")
    target = PostgresDestination(
        connection=connection, table="target", write_mode=WriteMode.UPSERT, primary_key=("id",)
    )
    with target.open_writer(SCHEMA, TOKEN) as writer, pytest.raises(SchemaError, match=r"create a unique index"):
        writer.write(rows_of((1, "a")))


def test_overwrite_keeps_views_grants_and_triggers(database: PostgresDatabase, connection: PostgresConnection) -> None:
    target = PostgresDestination(connection=connection, table="target", write_mode=WriteMode.OVERWRITE)
    with target.open_writer(SCHEMA, TOKEN) as writer:
        write_epoch(writer, 1, rows_of((1, "a")), final=True)
        database.execute("CREATE VIEW seen AS SELECT * FROM target")
        write_epoch(writer, 2, rows_of((2, "b")), final=True)
        assert database.rows("SELECT id FROM seen") == [(2,)]
        database.execute("DROP VIEW seen", "GRANT SELECT ON target TO public")
        write_epoch(writer, 3, rows_of((3, "c")), final=True)
    assert database.rows("SELECT id, name FROM target") == [(3, "c")]
    assert database.rows("SELECT relacl IS NOT NULL FROM pg_class WHERE relname = 'target'") == [(True,)]


def test_a_server_that_ends_the_session_loses_only_the_open_epoch(
    database: PostgresDatabase, connection: PostgresConnection
) -> None:
    target = PostgresDestination(connection=connection, table="target")
    with target.open_writer(SCHEMA, TOKEN) as writer:
        write_epoch(writer, 1, rows_of((1, "a")))
        writer.write(rows_of((2, "b")))
        database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'headrace'")
        with pytest.raises(RetryableError):
            writer.commit(2, {"v": 1})
    with target.open_writer(SCHEMA, TOKEN) as writer:
        found = writer.get_state()
        assert found is not None
        assert found.epoch == 1
        write_epoch(writer, 2, rows_of((2, "b")))
    assert database.rows("SELECT id FROM target ORDER BY id") == [(1,), (2,)]


def test_the_fence_waits_for_a_commit_under_way(database: PostgresDatabase, connection: PostgresConnection) -> None:
    target = PostgresDestination(connection=connection, table="target")
    with target.open_writer(SCHEMA, TOKEN) as writer:
        write_epoch(writer, 1, rows_of((1, "a")))
    slow = database.connect(autocommit=False)
    slow.execute("UPDATE _headrace_tokens SET epoch = 2, state = '{\"v\": 1}'")  # a commit whose end nobody heard of
    ended = threading.Timer(0.3, _end, args=(slow,))
    ended.start()
    with target.open_writer(SCHEMA, TOKEN) as writer:
        found = writer.get_state()
    ended.join()
    assert found is not None
    assert found.epoch == 2


def test_many_writers_at_once_leave_one_owner(database: PostgresDatabase, connection: PostgresConnection) -> None:
    target = PostgresDestination(connection=connection, table="target")
    outcomes: list[str] = []

    def contend(number: int) -> None:
        try:
            with target.open_writer(SCHEMA, Token("w", "s")) as writer:
                writer.write(rows_of((number, "x")))
                time.sleep(0.1)
                found = writer.get_state()
                writer.commit((found.epoch if found else 0) + 1, {"v": 1})
                outcomes.append("done")
        except FencedError:
            outcomes.append("fenced")

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(outcomes) == 6
    assert outcomes.count("done") >= 1
    assert database.rows("SELECT count(*) FROM target") == [(outcomes.count("done"),)]
    assert database.rows("SELECT epoch, fence FROM _headrace_tokens") == [(outcomes.count("done"), 6)]


def test_a_dropped_column_ends_the_read(database: PostgresDatabase, connection: PostgresConnection) -> None:
    database.execute("CREATE TABLE users (id int PRIMARY KEY, name text)")
    source = PostgresSource(connection=connection, table="users")
    schema = source.discover_schema()
    database.execute("ALTER TABLE users DROP COLUMN name")
    with pytest.raises(SchemaError, match=r"no column 'name'"):
        source.read(ReadRequest(columns=tuple(schema.names)), None)


def _end(slow: psycopg.Connection[Any]) -> None:
    slow.commit()
    slow.close()


@pytest.mark.parametrize("word", [psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation])
def test_a_table_that_two_create_at_one_moment_is_tried_again(
    connection: PostgresConnection, word: type[psycopg.Error]
) -> None:
    """Whichever of the server's words for that race it says, the second try finds the table."""
    met = [word("it exists already")]

    class Racing(PostgresSession):
        def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
            if met:
                raise translated(met.pop(), self.place)
            return super().run(statement, parameters)

    with closing(Racing(connect(connection), "here")) as session:
        session.ensure("CREATE TABLE IF NOT EXISTS raced (id int)")
        assert session.columns(TableName("public", "raced")) is not None
    assert met == []
