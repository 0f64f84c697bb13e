"""What goes wrong with Snowflake is said clearly, without a secret, and nothing is lost."""

from __future__ import annotations

import dataclasses
import errno
import importlib
import logging
import os
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import BatchWriter
from dsl.contracts.errors import (
    ErrorType,
    FatalError,
    HeadraceError,
    RejectedRows,
    RetryableError,
    SchemaError,
    UnavailableError,
)
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError
from resources.snowflake.resource import Protocol, SnowflakeConnection, SnowflakeDestination
from resources.sql_gathering import GatheringWriter
from resources.testing.samples import CANARY
from tests.kit.process import free_port
from tests.kit.proxy import FaultProxy, fault_proxy
from tests.resources.snowflake.conftest import REAL, Place
from tests.resources.sql_suite import SCHEMA, TOKEN, rows_of, schema_of, write_epoch

MADE_UP: dict[str, Any] = {
    "account": "made-up",
    "username": "u",
    "database": "D",
    "password": Secret(CANARY, literal=True),
}
LOCAL = SnowflakeConnection(**MADE_UP, host="127.0.0.1", protocol=Protocol.HTTP, connect_timeout=timedelta(seconds=1))

# The driver aborts what took too long from a thread of its own, which fails loudly while the network is gone.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def target(place: Place, **options: Any) -> SnowflakeDestination:
    return SnowflakeDestination(**{"connection": place.connection, "table": "target", **options})


def session_of(writer: BatchWriter) -> Any:
    assert isinstance(writer, GatheringWriter)
    return writer._session


def test_check_and_discover(place: Place) -> None:
    place.execute("CREATE TABLE orders (id NUMBER(10,0), total NUMBER(12,2))")
    assert place.connection.check().details.startswith("Snowflake ")
    found = {each.name: each.schema for each in place.connection.discover()}
    assert found[f"{place.database.schema}.ORDERS"] == schema_of(ID=pa.int64(), TOTAL=pa.decimal128(12, 2))


def test_http_is_for_loopback_only() -> None:
    for host in (None, "10.0.0.1", "example.com"):
        with pytest.raises(OptionError, match="in the clear"):
            SnowflakeConnection(**MADE_UP, host=host, protocol=Protocol.HTTP)
    assert SnowflakeConnection(**MADE_UP, host="emulator", protocol=Protocol.HTTP, insecure=True).host == "emulator"
    assert SnowflakeConnection(**MADE_UP).protocol is Protocol.HTTPS


def test_one_of_password_and_key_is_needed() -> None:
    plain = {name: value for name, value in MADE_UP.items() if name != "password"}
    both: dict[str, Any] = {"password": Secret("a"), "private_key": Secret("b")}
    for login in ({}, both):
        with pytest.raises(OptionError, match="one of password and private_key"):
            SnowflakeConnection(**plain, **login)


def test_an_unreachable_account_is_unavailable_and_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    nowhere = dataclasses.replace(LOCAL, port=free_port())
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(UnavailableError, match=r"cannot connect.*check account") as raised,
    ):
        SnowflakeDestination(connection=nowhere, table="t").open_writer(SCHEMA, TOKEN)
    checked = nowhere.check()
    assert not checked.healthy
    assert CANARY not in f"{raised.value} {raised.value.__cause__!r} {checked} {nowhere!r} {caplog.text}"


def test_a_missing_variable_is_said() -> None:
    unset = dataclasses.replace(LOCAL, password=Secret("${NOT_SET_ANYWHERE}"))
    assert "variable 'NOT_SET_ANYWHERE' is not set" in unset.check().details


@pytest.mark.skipif(not REAL, reason="the emulator accepts any password; run with SNOWFLAKE_TEST_ACCOUNT")
def test_a_wrong_password_is_no_matter_of_retrying(place: Place) -> None:
    wrong = dataclasses.replace(place.connection, password=Secret(CANARY, literal=True))
    with pytest.raises(FatalError, match=r"refuses the login") as raised:
        SnowflakeDestination(connection=wrong, table="t").open_writer(SCHEMA, TOKEN)
    assert raised.value.error_type is ErrorType.AUTH
    assert CANARY not in f"{raised.value} {raised.value.__cause__!r}"


def test_what_an_account_says_to_a_wrong_password_is_understood() -> None:
    from resources.snowflake.client import _refused

    driver = importlib.import_module("snowflake.connector")
    said = driver.errors.DatabaseError(
        msg="Incorrect username or password was specified.", errno=250001, sqlstate="08001"
    )
    verdict = _refused(said, LOCAL)
    assert isinstance(verdict, FatalError)
    assert verdict.error_type is ErrorType.AUTH


@pytest.mark.skipif(bool(REAL), reason="the account does not know the key")
def test_a_private_key_logs_in(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    made = rsa.generate_private_key(65537, 2048)
    for phrase in (None, "open sesame"):
        secrecy = BestAvailableEncryption(phrase.encode()) if phrase else NoEncryption()
        pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secrecy).decode()
        monkeypatch.setenv("TEST_KEY", pem)
        keyed = dataclasses.replace(
            place.connection,
            password=None,
            private_key=Secret("${TEST_KEY}"),
            private_key_passphrase=Secret(phrase, literal=True) if phrase else None,
        )
        assert keyed.check().healthy
    wrong = dataclasses.replace(keyed, private_key_passphrase=Secret("guess", literal=True))
    assert "the private key cannot be read" in wrong.check().details
    broken = dataclasses.replace(keyed, private_key=Secret(CANARY, literal=True))
    assert "the private key cannot be read" in broken.check().details
    assert CANARY not in broken.check().details


def test_numbers_of_errors_become_what_to_do() -> None:
    from resources.snowflake.client import translated

    driver = importlib.import_module("snowflake.connector")

    def verdict(kind: Any, number: int, state: str = "") -> HeadraceError:
        return translated(kind(msg="said", errno=number, sqlstate=state), "here")

    statement, lost = driver.errors.ProgrammingError, driver.errors.OperationalError
    assert isinstance(verdict(statement, 2003, "42S02"), SchemaError)
    assert isinstance(verdict(statement, 904, "42000"), SchemaError)
    assert verdict(statement, 3001, "42501").error_type is ErrorType.AUTH
    assert "set warehouse" in str(verdict(statement, 606, "57P03"))
    assert isinstance(verdict(statement, 625), RetryableError)
    assert isinstance(verdict(statement, 100038, "22018"), RejectedRows)
    assert isinstance(verdict(lost, 250003), UnavailableError)
    assert isinstance(translated(driver.errors.ServiceUnavailableError(), "here"), UnavailableError)
    assert type(verdict(statement, 1003, "42000")) is FatalError


def test_a_table_is_found_whatever_its_case(place: Place) -> None:
    place.execute("CREATE TABLE target (id NUMBER(19,0), name VARCHAR)")
    with target(place).open_writer(SCHEMA, TOKEN) as writer:
        write_epoch(writer, 1, rows_of((1, "a")))
    assert place.rows("SELECT id, name FROM target") == [(1, "a")]
    assert "target" not in place.tables()


@pytest.mark.skipif(not REAL, reason="the emulator makes a schema that a login names; run with SNOWFLAKE_TEST_ACCOUNT")
def test_a_schema_that_is_not_there_is_said(place: Place) -> None:
    with pytest.raises(HeadraceError, match="NOWHERE"):
        target(place, table="NOWHERE.target").open_writer(SCHEMA, TOKEN)


def test_a_row_that_a_column_refuses_is_named_and_the_epoch_goes_on(place: Place) -> None:
    place.execute(f'CREATE TABLE {place.named("target")} ("id" NUMBER(19,0), "name" VARCHAR NOT NULL)')
    with target(place).open_writer(SCHEMA, TOKEN) as writer:
        writer.write(rows_of((1, "a")))
        with pytest.raises(RejectedRows, match="'name' may not be NULL") as raised:
            writer.write(rows_of((2, "b"), (3, None)))
        assert raised.value.rows == (1,)
        writer.write(rows_of((2, "b")))
        assert writer.commit(1, {"v": 1}).rows == 2
    assert place.rows(f'SELECT "id" FROM {place.named("target")} ORDER BY 1') == [(1,), (2,)]


def test_many_parts_are_one_load(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resources.snowflake.parts.PART_BYTES", 1)
    with target(place, write_mode=WriteMode.UPSERT, primary_key=("id",)).open_writer(SCHEMA, TOKEN) as writer:
        for number in range(4):
            writer.write(rows_of((number, "old"), (99, f"the last is {number}")))
        session = session_of(writer)
        assert len(session._parts.sent) == 4
        stats = writer.commit(1, {"v": 1})
        assert (stats.rows, stats.inserted, stats.updated) == (8, 5, 0)
        write_epoch(writer, 2, rows_of((0, "new")))
    found = place.rows(f'SELECT "id", "name" FROM {place.named("target")} ORDER BY 1')
    assert found == [(0, "new"), (1, "old"), (2, "old"), (3, "old"), (99, "the last is 3")]


def test_a_part_that_is_lost_in_the_stage_commits_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resources.snowflake.parts.PART_BYTES", 1)
    with target(place).open_writer(SCHEMA, TOKEN) as writer:
        writer.write(rows_of((1, "a")))
        writer.write(rows_of((2, "b")))
        session_of(writer)._parts.sent["part_000002.parquet"] = 1  # a file that was sent and is not there
        with pytest.raises(RetryableError, match=r"2 of 3 rows were loaded.*nothing of this epoch was committed"):
            writer.commit(1, {"v": 1})
    with target(place).open_writer(SCHEMA, TOKEN) as writer:
        assert writer.get_state() is None
    assert place.rows(f"SELECT count(*) FROM {place.named('target')}") == [(0,)]


def test_a_full_disk_commits_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object, __: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with target(place).open_writer(SCHEMA, TOKEN) as writer:
        monkeypatch.setattr("pyarrow.parquet.ParquetWriter.write_batch", full)
        with pytest.raises(UnavailableError, match=r"No space left on device.*set TMPDIR"):
            writer.write(rows_of((1, "a")))
        monkeypatch.undo()


def test_nothing_is_left_on_disk(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with target(place).open_writer(SCHEMA, TOKEN) as writer:
        write_epoch(writer, 1, rows_of((1, "a")))
        writer.write(rows_of((2, "b")))
        assert list(tmp_path.glob("headrace-snowflake-*/*.parquet"))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def proxy(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A bad network between the connector and the emulator, on which the driver gives up soon."""
    if REAL:
        pytest.skip("the network of a real account is not ours to break")
    monkeypatch.setattr("resources.snowflake.client._REQUEST_SECONDS", 3)
    with fault_proxy(place.database.host, place.database.port) as made:
        yield made
        # What the driver gave up, it aborts later from a thread of its own: the network stays until it has.
        made.heal()
        for each in threading.enumerate():
            if isinstance(each, threading.Timer):
                each.join(10)


def through(proxy: FaultProxy, place: Place) -> SnowflakeDestination:
    return target(place, connection=dataclasses.replace(place.connection, port=proxy.port))


def test_a_network_that_is_gone_at_the_commit_loses_only_the_open_epoch(place: Place, proxy: FaultProxy) -> None:
    with through(proxy, place).open_writer(SCHEMA, TOKEN) as writer:
        write_epoch(writer, 1, rows_of((1, "a")))
        writer.write(rows_of((2, "b")))
        proxy.refuse = True
        proxy.reset_all()
        with pytest.raises(RetryableError):
            writer.commit(2, {"v": 1})
        proxy.heal()
    with target(place).open_writer(SCHEMA, TOKEN) as writer:
        found = writer.get_state()
        assert found is not None
        assert found.epoch == 1
        write_epoch(writer, 2, rows_of((2, "b")))
    assert place.rows(f'SELECT "id" FROM {place.named("target")} ORDER BY 1') == [(1,), (2,)]


@pytest.mark.parametrize("cut", [0, 700, 1500, 2500, 4000, 6000])
def test_a_commit_that_is_cut_anywhere_is_replayed_once(place: Place, proxy: FaultProxy, cut: int) -> None:
    """Whether it was committed, the token tells; the driver itself sends again what it had no answer to."""
    with through(proxy, place).open_writer(SCHEMA, TOKEN) as writer:
        write_epoch(writer, 1, rows_of((1, "a")))
        writer.write(rows_of((2, "b")))
        proxy.reset_after = cut
        try:
            writer.commit(2, {"v": 1})
        except RetryableError:
            proxy.heal()
        else:
            assert proxy.resets == (1 if cut < 4000 else proxy.resets)
    with target(place).open_writer(SCHEMA, TOKEN) as writer:
        found = writer.get_state()
        assert found is not None
        if found.epoch == 1:
            write_epoch(writer, 2, rows_of((2, "b")))
        write_epoch(writer, 3, rows_of((3, "c")))
    assert place.rows(f'SELECT "id" FROM {place.named("target")} ORDER BY 1') == [(1,), (2,), (3,)]


def test_reader_and_writer_have_one_name(place: Place) -> None:
    name = target(place, table=f"{place.database.schema}.target").physical_name
    assert name == target(place).physical_name
    assert name[0] == "snowflake"
    assert name[-2:] == (place.database.schema, "target")
