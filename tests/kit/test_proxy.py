"""The fault proxy in front of a real server. It tests the kit, not Headrace."""

import psycopg
import pytest

from tests.kit.postgres import PostgresDatabase, PostgresServer
from tests.kit.proxy import FaultProxy, fault_proxy


def _through(proxy: FaultProxy, database: PostgresDatabase) -> psycopg.Connection:
    return database.connect(host=proxy.host, port=proxy.port, connect_timeout=10)


def test_it_forwards_faithfully(postgres: PostgresServer) -> None:
    database = postgres.new_database()
    with fault_proxy(postgres.host, postgres.port) as proxy, _through(proxy, database) as connection:
        rows = connection.execute("SELECT repeat('x', 1000) FROM generate_series(1, 500)").fetchall()
    assert rows == [("x" * 1000,)] * 500
    assert proxy.accepted == 1


def test_it_cuts_after_so_many_bytes_once(postgres: PostgresServer) -> None:
    database = postgres.new_database()
    with fault_proxy(postgres.host, postgres.port) as proxy:
        with _through(proxy, database) as connection:
            proxy.reset_after = 50_000
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT repeat('x', 1000) FROM generate_series(1, 500)")
        assert proxy.resets == 1
        with _through(proxy, database) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_it_resets_what_is_open_and_refuses_what_is_new(postgres: PostgresServer) -> None:
    database = postgres.new_database()
    with fault_proxy(postgres.host, postgres.port) as proxy:
        with _through(proxy, database) as connection:
            proxy.refuse = True
            proxy.reset_all()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError):
            _through(proxy, database)
        proxy.heal()
        with _through(proxy, database) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_it_swallows(postgres: PostgresServer) -> None:
    database = postgres.new_database()
    with fault_proxy(postgres.host, postgres.port) as proxy:
        proxy.blackhole = True
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            database.connect(host=proxy.host, port=proxy.port, connect_timeout=2)


@pytest.mark.parametrize(("cut", "kept"), [("before", 0), ("while", 1), ("after", 1)])
def test_it_cuts_around_a_mark(postgres: PostgresServer, cut: str, kept: int) -> None:
    database = postgres.new_database()
    database.execute("CREATE TABLE t (n int)")
    with fault_proxy(postgres.host, postgres.port) as proxy:
        proxy.mark, proxy.mark_visits, proxy.mark_cut = b"COMMIT", 2, cut
        plain = {"host": proxy.host, "port": proxy.port, "sslmode": "disable"}
        with database.connect(**plain) as connection:
            connection.execute("BEGIN; COMMIT")
            connection.execute("BEGIN; INSERT INTO t VALUES (1)")
            with pytest.raises(psycopg.OperationalError):
                connection.execute("COMMIT")
        if cut == "while":
            assert database.rows("SELECT * FROM t") == [], "the client hears of the cut before the server works"
        # Waits for the transaction that the cut left open.
        database.execute("BEGIN; LOCK TABLE t; COMMIT")
        assert database.rows("SELECT count(*) FROM t") == [(kept,)]
        assert proxy.resets == 1
