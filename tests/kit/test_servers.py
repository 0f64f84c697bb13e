"""A round trip through each server of the kit. It tests the kit, not Headrace."""

import http.client
import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import botocore.exceptions
import psycopg
import pymysql
import pytest

from tests.kit.elasticsearch import ElasticsearchServer
from tests.kit.enrichment import EnrichmentApi, Fault, score_of
from tests.kit.mariadb import MariaDBServer, start_mariadb
from tests.kit.postgres import PostgresServer, start_postgres
from tests.kit.process import ROOT, ServerProcess, Unavailable, free_port, make_folder
from tests.kit.s3 import S3Server
from tests.kit.snowflake import SnowflakeServer


def test_postgres_stores_rows_over_tls(postgres: PostgresServer) -> None:
    database = postgres.new_database()
    database.execute("CREATE TABLE t (a int, b text)", "INSERT INTO t VALUES (1, 'ü'), (2, NULL)")
    assert database.rows("SELECT a, b FROM t ORDER BY a") == [(1, "ü"), (2, None)]
    with database.connect(sslmode="verify-full", sslrootcert=str(database.ca_file)) as connection:
        used = connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
    assert used == (True,)
    assert database.rows("SHOW wal_level") == [("logical",)]


def test_postgres_refuses_a_wrong_password(postgres: PostgresServer) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        postgres.new_database().connect(password="wrong")


def test_databases_are_apart(postgres: PostgresServer) -> None:
    one, other = postgres.new_database(), postgres.new_database()
    one.execute("CREATE TABLE only_here (a int)")
    assert other.rows("SELECT count(*) FROM pg_tables WHERE tablename = 'only_here'") == [(0,)]


def test_mariadb_stores_rows_over_tls(mariadb: MariaDBServer) -> None:
    database = mariadb.new_database()
    database.execute("CREATE TABLE t (a int, b varchar(10))", "INSERT INTO t VALUES (1, 'ü'), (2, NULL)")
    assert database.rows("SELECT a, b FROM t ORDER BY a") == [(1, "ü"), (2, None)]
    [(_, cipher)] = database.rows("SHOW STATUS LIKE 'Ssl_cipher'")
    assert cipher
    assert database.rows("SELECT @@binlog_format") == [("ROW",)]


def test_mariadb_refuses_a_wrong_password(mariadb: MariaDBServer) -> None:
    with pytest.raises(pymysql.OperationalError, match="Access denied"):
        pymysql.connect(host=mariadb.host, port=mariadb.port, user=mariadb.user, password="wrong")


def test_s3_stores_objects_and_keeps_conditions(s3_server: S3Server) -> None:
    bucket = s3_server.new_bucket()
    bucket.put("a/1", b"one")
    bucket.put("b/2", b"two")
    assert bucket.keys() == ["a/1", "b/2"]
    assert bucket.keys("a/") == ["a/1"]
    assert bucket.get("a/1") == b"one"
    with pytest.raises(botocore.exceptions.ClientError, match="PreconditionFailed"):
        bucket.client().put_object(Bucket=bucket.bucket, Key="a/1", Body=b"again", IfNoneMatch="*")
    assert bucket.get("a/1") == b"one"


def test_elasticsearch_indexes_documents(elasticsearch: ElasticsearchServer) -> None:
    index = elasticsearch.new_index()
    elasticsearch.request("PUT", f"{index}/_doc/x", {"a": 1})
    assert elasticsearch.documents(index) == {"x": {"a": 1}}


def test_snowflake_merges_rows(snowflake: SnowflakeServer) -> None:
    database = snowflake.new_database()
    database.execute(
        "CREATE TABLE t (id int, v varchar)",
        "INSERT INTO t VALUES (1, 'old')",
        "CREATE TEMPORARY TABLE s (id int, v varchar)",
        "INSERT INTO s VALUES (1, 'new'), (2, 'ü')",
        "MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN UPDATE SET v = s.v "
        "WHEN NOT MATCHED THEN INSERT (id, v) VALUES (s.id, s.v)",
    )
    assert database.rows("SELECT id, v FROM t ORDER BY id") == [(1, "new"), (2, "ü")]


def _score(api: EnrichmentApi, body: object) -> object:
    asked = urllib.request.Request(api.url, data=json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return json.loads(answer.read())


def test_api_scores_one_and_many(http_api: EnrichmentApi) -> None:
    one, other = {"email": "a@x", "score": score_of("a@x")}, {"email": "b@x", "score": score_of("b@x")}
    assert _score(http_api, {"email": "a@x"}) == one
    assert _score(http_api, [{"email": "b@x"}, {"email": "a@x"}]) == [other, one]
    assert http_api.calls == {"a@x": 2, "b@x": 1}


def test_api_fails_as_scripted(http_api: EnrichmentApi) -> None:
    http_api.fail_next(Fault.too_many_requests("7"), Fault.truncated(), Fault.connection_closed())
    http_api.fail_for("b@x", Fault.server_error(503))
    with pytest.raises(urllib.error.HTTPError) as refused:
        _score(http_api, {"email": "a@x"})
    with refused.value as answer:
        assert (answer.code, answer.headers["Retry-After"]) == (429, "7")
    with pytest.raises(http.client.IncompleteRead):
        _score(http_api, {"email": "a@x"})
    with pytest.raises(http.client.RemoteDisconnected):
        _score(http_api, {"email": "a@x"})
    assert _score(http_api, {"email": "a@x"}) == {"email": "a@x", "score": score_of("a@x")}
    with pytest.raises(urllib.error.HTTPError) as failed:
        _score(http_api, {"email": "b@x"})
    with failed.value as answer:
        assert answer.code == 503
    assert _score(http_api, {"email": "b@x"}) == {"email": "b@x", "score": score_of("b@x")}


def test_a_server_that_ends_says_why_and_leaves_nothing() -> None:
    folder = make_folder("ends")
    process = ServerProcess("ends", ["sh", "-c", "echo out of paper; exit 3"], folder)

    def never() -> None:
        msg = "no answer"
        raise ConnectionError(msg)

    with pytest.raises(Unavailable, match=r"ends ended with 3: no answer\nout of paper"):
        process.wait_until(never, seconds=10)
    assert not folder.exists()


def _is_alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
@pytest.mark.parametrize("drop_root", [False, True])
def test_a_server_dies_with_killed_tests(drop_root: bool) -> None:  # noqa: FBT001 - a parameter of the test
    script = (
        "import time; from tests.kit.process import ROOT, ServerProcess, make_folder\n"
        f"s = ServerProcess('s', ['sleep', '600'], make_folder('killed'), drop_root={drop_root})\n"
        "print(s.pid, s.folder, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT, text=True) as tests:
        assert tests.stdout is not None
        pid, folder = tests.stdout.readline().split()
        assert _is_alive(int(pid))
        tests.kill()
    for _ in range(200):
        if not _is_alive(int(pid)):
            break
        time.sleep(0.05)
    shutil.rmtree(folder)
    assert not _is_alive(int(pid))


def test_ports_are_handed_out_once() -> None:
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == len(ports)


@pytest.mark.parametrize("start", [start_postgres, start_mariadb], ids=["postgres", "mariadb"])
def test_a_durable_server_comes_back_with_what_was_committed(
    start: Callable[..., PostgresServer | MariaDBServer],
) -> None:
    server = start(durable=True)
    try:
        database = server.new_database()
        database.execute("CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
        left = database.connect(autocommit=False)
        left.cursor().execute("INSERT INTO t VALUES (2)")
        server.process.crash()
        with pytest.raises((psycopg.OperationalError, pymysql.OperationalError)):
            left.cursor().execute("SELECT 1")
        left.close()
        server.restart()
        assert database.rows("SELECT n FROM t") == [(1,)]
    finally:
        server.process.stop()
