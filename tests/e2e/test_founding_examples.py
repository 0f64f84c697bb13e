"""Both workflows of the founding document on real servers, compared with an independent computation of what must arrive."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from server.progress import Progress
from server.runs import Ending, Launched, launch
from tests.kit.elasticsearch import ElasticsearchServer
from tests.kit.enrichment import EnrichmentApi, score_of
from tests.kit.mariadb import MariaDBServer
from tests.kit.postgres import PostgresServer
from tests.kit.proxy import fault_proxy
from tests.kit.s3 import Bucket, S3Server
from tests.kit.snowflake import SnowflakeServer

WORKFLOWS = Path(__file__).parent.parent.parent / "etl_defs" / "workflows"
HOST = "127.77.0.2"
"""A loopback address of the test's own, so that the ports which the first example names (5432, 9200) are free on it."""
API = "https://api.example.com/enrich"
USERS = [
    (1, "Ada", "Lovelace", "ada@example.com", "2026-01-01T00:00:00+00:00"),
    (2, "Grace", "Hopper", None, "2026-01-01T00:00:00+00:00"),
    (3, "O'Brien", 'said "hi"', 'x","admin":true,"z":"@example.com', "2026-01-02T00:00:00+00:00"),
    (4, "", "Ünïcode ☃", "u@example.com", "2026-01-02T00:00:00+00:00"),
    (5, None, "Nameless", "n@example.com", "2026-01-03T00:00:00+00:00"),
]


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "dagster"
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.delenv("HEADRACE_HOME", raising=False)
    monkeypatch.delenv("HEADRACE_WORKFLOWS", raising=False)
    return home


def run(file: Path, name: str) -> Launched:
    done = launch(file, name, Progress())
    assert done.ending is Ending.FINISHED, done.fault
    assert all(each.reconciliation.balanced for each in done.report.stages)
    return done


def expected(users: list[tuple[int, str | None, str, str | None, str]]) -> dict[str, dict[str, object]]:
    """What the first example says, computed by hand: nested names, no row without an e-mail, a score for each."""
    return {
        email: {"user": {"firstName": first, "lastName": last, "email": email, "score": score_of(email)}}
        for _, first, last, email, _ in users
        if email is not None
    }


def without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    return value


@pytest.fixture
def first_example(
    instance: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    postgres: PostgresServer,
    elasticsearch: ElasticsearchServer,
    http_api: EnrichmentApi,
) -> Iterator[Path]:
    """The first example with only the address of its API replaced, and its servers at the ports that it names."""
    del instance
    server = postgres.new_database()
    server.execute("DROP DATABASE IF EXISTS example_db WITH (FORCE)", "CREATE DATABASE example_db")
    for name, value in {
        "POSTGRES_HOST": HOST,
        "POSTGRES_USER": server.user,
        "POSTGRES_PASSWORD": server.password,
        "ES_HOST": HOST,
        "HEADRACE_ALLOW_PRIVATE_ADDRESSES": "1",
    }.items():
        monkeypatch.setenv(name, value)
    text = (WORKFLOWS / "example_workflow.yaml").read_text(encoding="utf-8")
    file = tmp_path / "example_workflow.yaml"
    file.write_text(text.replace(API, http_api.url), encoding="utf-8")
    elasticsearch.request("DELETE", "/users?ignore_unavailable=true")
    with ExitStack() as stack:
        stack.enter_context(fault_proxy(server.host, server.port, (HOST, 5432)))
        stack.enter_context(fault_proxy("127.0.0.1", elasticsearch.port, (HOST, 9200)))
        yield file
    server.execute("DROP DATABASE example_db WITH (FORCE)")


@pytest.mark.xdist_group("founding-example")
def test_the_first_example_moves_users_from_postgres_to_elasticsearch(
    first_example: Path, postgres: PostgresServer, elasticsearch: ElasticsearchServer, http_api: EnrichmentApi
) -> None:
    with replace(postgres.new_database(), database="example_db").connect() as source:
        source.execute(
            "CREATE TABLE users (id int PRIMARY KEY, first_name text, last_name text, email text, updated_at timestamptz NOT NULL)"
        )
        source.cursor().executemany("INSERT INTO users VALUES (%s, %s, %s, %s, %s)", USERS)
        source.commit()
        done = run(first_example, "example_workflow")
        documents = elasticsearch.documents("users")
        assert {key: without_nulls(each) for key, each in documents.items()} == without_nulls(expected(USERS))
        books = done.report.stages[0].reconciliation
        assert (books.read, books.filtered, books.written) == (5, 1, 4)
        assert all(body == {"email": body["email"]} for _, _, body in http_api.requests), (
            "a value changed a body's shape"
        )

        late = (6, "Late", "Comer", "late@example.com", "2026-01-04T00:00:00+00:00")
        source.cursor().execute("INSERT INTO users VALUES (%s, %s, %s, %s, %s)", late)
        source.cursor().execute("UPDATE users SET last_name = 'King', updated_at = '2026-01-05' WHERE id = 1")
        source.commit()
    done = run(first_example, "example_workflow")
    assert done.report.stages[0].reconciliation.read == 2, "an incremental run reads what has changed"
    users = [*(each for each in USERS if each[0] != 1), (1, "Ada", "King", "ada@example.com", ""), late]
    documents = elasticsearch.documents("users")
    assert {key: without_nulls(each) for key, each in documents.items()} == without_nulls(expected(users))


def test_the_second_example_joins_two_databases_into_snowflake_and_s3(
    instance: Path,
    monkeypatch: pytest.MonkeyPatch,
    postgres: PostgresServer,
    mariadb: MariaDBServer,
    snowflake: SnowflakeServer,
    s3_server: S3Server,
) -> None:
    del instance
    users, orders = postgres.new_database(), mariadb.new_database()
    warehouse, lake = snowflake.new_database(), s3_server.new_bucket()
    users.execute("CREATE TABLE users (id int PRIMARY KEY, first_name text, last_name text, email text)")
    orders.execute(
        "CREATE TABLE orders (id int PRIMARY KEY, user_id int NOT NULL, amount decimal(12,2), placed_at datetime(6))"
    )
    with users.connect() as source:
        source.cursor().executemany("INSERT INTO users VALUES (%s, %s, %s, %s)", [each[:4] for each in USERS])
        source.commit()
    placed = [(n, 1 + n % 7, f"{n}.{n % 100:02}", f"2026-02-{1 + n % 28:02} 10:00:00") for n in range(1, 201)]
    with orders.connect() as shop, shop.cursor() as cursor:
        cursor.executemany("INSERT INTO orders VALUES (%s, %s, %s, %s)", placed)
        shop.commit()
    for name, value in {
        "POSTGRES_HOST": users.host,
        "POSTGRES_PORT": users.port,
        "POSTGRES_DATABASE": users.database,
        "POSTGRES_USER": users.user,
        "POSTGRES_PASSWORD": users.password,
        "MYSQL_HOST": orders.host,
        "MYSQL_PORT": orders.port,
        "MYSQL_DATABASE": orders.database,
        "MYSQL_USER": orders.user,
        "MYSQL_PASSWORD": orders.password,
        "SNOWFLAKE_ACCOUNT": warehouse.account,
        "SNOWFLAKE_HOST": warehouse.host,
        "SNOWFLAKE_PORT": warehouse.port,
        "SNOWFLAKE_PROTOCOL": warehouse.protocol,
        "SNOWFLAKE_USER": warehouse.user,
        "SNOWFLAKE_PASSWORD": warehouse.password,
        "SNOWFLAKE_DATABASE": warehouse.database,
        "S3_ENDPOINT": lake.endpoint,
        "S3_BUCKET": lake.bucket,
        "AWS_REGION": lake.region,
        "AWS_ACCESS_KEY_ID": lake.access_key,
        "AWS_SECRET_ACCESS_KEY": lake.secret_key,
    }.items():
        monkeypatch.setenv(name, str(value))
    done = run(WORKFLOWS / "complex_workflow.yaml", "complex_workflow")
    assert len(done.report.stages) == 5, "two exchanges, a join, two prefixes"

    names = {each[0]: each[3] for each in USERS}
    joined = sorted((n, user, names[user]) for n, user, _, _ in placed if user in names)
    rows = warehouse.rows('SELECT "order_id", "user_id", "email" FROM "PUBLIC"."user_orders"')
    assert sorted((int(order), int(user), email) for order, user, email in rows) == joined

    written = {prefix: parquet_rows(lake, f"complex/{prefix}/") for prefix in ("user_transform", "order_transform")}
    assert sorted(each["user_id"] for each in written["user_transform"]) == sorted(names)
    assert sorted(each["order_id"] for each in written["order_transform"]) == list(range(1, 201))


def parquet_rows(bucket: Bucket, prefix: str) -> list[dict[str, Any]]:
    keys = [each for each in bucket.keys(prefix) if each.endswith(".parquet")]
    return [row for key in keys for row in pq.read_table(io.BytesIO(bucket.get(key))).to_pylist()]
