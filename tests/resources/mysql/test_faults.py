"""What goes wrong with MariaDB is said clearly, without the password, and nothing is lost."""

from __future__ import annotations

import dataclasses

import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import ReadRequest
from dsl.contracts.errors import ErrorType, FatalError, RetryableError, SchemaError, UnavailableError
from dsl.contracts.secret import Secret
from resources.mysql.resource import MysqlConnection, MysqlDestination, MysqlSource
from resources.sql import Tls
from resources.sql_session import Swap
from resources.sql_writer import SqlWriter
from tests.kit.mariadb import MariaDBDatabase
from tests.kit.process import free_port
from tests.resources.sql_suite import SCHEMA, TOKEN, drain, rows_of, write_epoch

CANARY = "canary-1618033988"


def test_check_and_discover(database: MariaDBDatabase, connection: MysqlConnection) -> None:
    database.execute("CREATE TABLE b (x int, id int PRIMARY KEY)", "CREATE VIEW v AS SELECT 1 AS one")
    found = connection.check()
    assert found.healthy
    assert found.details.startswith("MariaDB 1")
    streams = connection.discover()
    assert [(each.name, each.primary_key) for each in streams] == [("b", ("id",)), ("v", ())]
    assert streams[0].schema is not None
    assert streams[0].schema.names == ["x", "id"]


def test_a_wrong_password_is_no_matter_of_retrying(connection: MysqlConnection) -> None:
    wrong = dataclasses.replace(connection, password=Secret(CANARY, literal=True))
    with pytest.raises(FatalError, match=r"refuses the login of 'headrace'.*check username and password") as raised:
        MysqlSource(connection=wrong, table="t").discover_schema()
    assert raised.value.error_type is ErrorType.AUTH
    assert CANARY not in str(raised.value) + wrong.check().details + repr(wrong) + repr(raised.value.__cause__)


def test_an_unreachable_server_is_unavailable(connection: MysqlConnection) -> None:
    nowhere = dataclasses.replace(connection, port=free_port())
    with pytest.raises(UnavailableError, match=r"cannot connect.*check host and port"):
        MysqlDestination(connection=nowhere, table="t").open_writer(SCHEMA, TOKEN)
    assert not nowhere.check().healthy
    assert "no such database" in dataclasses.replace(connection, database="nope").check().details


def test_certificates_are_verified(database: MariaDBDatabase, connection: MysqlConnection) -> None:
    assert dataclasses.replace(connection, tls=Tls.VERIFY_FULL, ca_file=str(database.ca_file)).check().healthy
    assert "no trusted connection" in dataclasses.replace(connection, tls=Tls.VERIFY_FULL).check().details


def test_a_table_that_cannot_roll_back_is_refused(database: MariaDBDatabase, connection: MysqlConnection) -> None:
    database.execute("CREATE TABLE target (id bigint, name text) ENGINE=MyISAM")
    with pytest.raises(SchemaError, match="not an InnoDB table"):
        MysqlDestination(connection=connection, table="target").open_writer(SCHEMA, TOKEN)


def test_an_upsert_without_unique_index_says_so(database: MariaDBDatabase, connection: MysqlConnection) -> None:
    database.execute("CREATE TABLE target (id bigint, name text)")
    target = MysqlDestination(connection=connection, table="target", write_mode=WriteMode.UPSERT, primary_key=("id",))
    with pytest.raises(SchemaError, match="create a unique index"):
        target.open_writer(SCHEMA, TOKEN)


def test_overwrite_keeps_triggers(database: MariaDBDatabase, connection: MysqlConnection) -> None:
    database.execute(
        "CREATE TABLE target (id bigint, name text)",
        "CREATE TRIGGER shout BEFORE INSERT ON target FOR EACH ROW SET NEW.name = UPPER(NEW.name)",
    )
    target = MysqlDestination(connection=connection, table="target", write_mode=WriteMode.OVERWRITE)
    with target.open_writer(SCHEMA, TOKEN) as writer:
        write_epoch(writer, 1, rows_of((1, "a")), final=True)
    assert database.rows("SELECT id, name FROM target") == [(1, "A")]
    assert database.rows("SHOW TRIGGERS")[0][0] == "shout"


@pytest.mark.parametrize("after_rename", [False, True])
def test_a_swap_that_is_owed_is_done_by_the_next_run(
    database: MariaDBDatabase, connection: MysqlConnection, monkeypatch: pytest.MonkeyPatch, *, after_rename: bool
) -> None:
    """The process dies between the commit and the rename, or between the rename and its note."""
    target = MysqlDestination(connection=connection, table="target", write_mode=WriteMode.OVERWRITE)
    with target.open_writer(SCHEMA, TOKEN) as writer:
        write_epoch(writer, 1, rows_of((1, "old")), final=True)

    def die(self: SqlWriter, *_: object) -> None:
        if after_rename:
            session = self._session
            stage = self._target.beside(self._held.staging)
            assert session.swap is Swap.OWED
            session.take_place(stage, self._target, ["id", "name"])
        raise RetryableError("the process dies here")

    with monkeypatch.context() as patch:
        patch.setattr(SqlWriter, "_finish_swap", lambda self: die(self) if self._held.owed else None)
        with target.open_writer(SCHEMA, TOKEN) as writer, pytest.raises(RetryableError, match="dies here"):
            write_epoch(writer, 2, rows_of((2, "new")), final=True)
    with target.open_writer(SCHEMA, TOKEN) as writer:
        found = writer.get_state()
        assert found is not None
        assert found.epoch == 2
    assert database.rows("SELECT id, name FROM target") == [(2, "new")]
    assert [row[0] for row in database.rows("SHOW TABLES")] == ["_headrace_tokens", "target"]


def test_a_server_that_ends_the_session_loses_only_the_open_epoch(
    database: MariaDBDatabase, connection: MysqlConnection
) -> None:
    target = MysqlDestination(connection=connection, table="target")
    with target.open_writer(SCHEMA, TOKEN) as writer:
        write_epoch(writer, 1, rows_of((1, "a")))
        writer.write(rows_of((2, "b")))
        for (number,) in database.rows(
            "SELECT id FROM information_schema.processlist WHERE db = %s AND id <> CONNECTION_ID()", database.database
        ):
            database.execute(f"KILL {number}")
        with pytest.raises(RetryableError):
            writer.commit(2, {"v": 1})
    with target.open_writer(SCHEMA, TOKEN) as writer:
        found = writer.get_state()
        assert found is not None
        assert found.epoch == 1
    assert database.rows("SELECT id FROM target") == [(1,)]


def test_leaving_a_reader_early_does_not_fetch_the_rest(database: MariaDBDatabase, connection: MysqlConnection) -> None:
    database.execute("CREATE TABLE many AS SELECT seq AS id, REPEAT('x', 1000) AS pad FROM seq_1_to_20000")
    with MysqlSource(connection=connection, table="many").read(ReadRequest(batch_rows=10), None) as reader:
        assert next(iter(reader)).rows.num_rows == 10
    assert len(drain(MysqlSource(connection=connection, table="many"), limit=5)[0]) == 5
