"""Tables read in parts: every row once, whatever its key, in one snapshot, also while others change it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.connectors import ReadRequest, Source
from dsl.contracts.errors import RetryableError
from dsl.contracts.policies import CheckpointPolicy, Policies
from dsl.plan.physical import Scan, Stage, Write
from engine.run import run_stage
from resources.postgres.resource import PostgresConnection, PostgresDestination, PostgresSource
from tests.engine.fakes import Table, TableDestination, context
from tests.kit.postgres import PostgresDatabase

KEYS = {
    "number": ("id bigint", "n * 7 - 2000"),
    "text": ("id text", "'k' || n || chr(200 + n % 50)"),
    "uuid": ("id uuid", "md5(n::text)::uuid"),
    "time": ("id timestamptz", "'2024-01-01'::timestamptz + n * interval '1 minute'"),
    "decimal": ("id numeric(12, 3)", "n / 8.0"),
    "float": ("id float8", "CASE WHEN n = 7 THEN 'NaN' WHEN n = 9 THEN '-Infinity' ELSE n / 3.0 END"),
}


def _fill(database: PostgresDatabase, kind: str, rows: int) -> None:
    column, value = KEYS[kind]
    database.execute(
        f"CREATE TABLE many ({column} PRIMARY KEY, n int)",
        f"INSERT INTO many SELECT {value}, n FROM generate_series(1, {rows}) AS n",
    )


def _values(source: Source) -> list[int]:
    with source.read(ReadRequest(batch_rows=100), None) as reader:
        return [int(each or 0) for batch in reader for each in batch.rows.column("n").to_pylist()]


@pytest.mark.parametrize("kind", KEYS)
def test_the_parts_are_the_whole_whatever_the_key(
    database: PostgresDatabase, connection: PostgresConnection, kind: str
) -> None:
    _fill(database, kind, 1000)
    source = PostgresSource(connection=connection, table="many")
    splits = source.splits(4)
    assert len(splits) == 4
    parts = [_values(source.part(each)) for each in splits]
    assert all(len(each) > 100 for each in parts)
    assert sorted(each for part in parts for each in part) == list(range(1, 1001))


@pytest.mark.parametrize(
    ("made", "options"),
    [
        ("CREATE TABLE many (id int, n int)", {}),
        ("CREATE TABLE many (id int, n int)", {"primary_key": ("id",)}),
        ("CREATE TABLE many (id int PRIMARY KEY, n int)", {"incremental_column": "n", "lag": None}),
        ("CREATE VIEW many AS SELECT 1 AS id, 2 AS n", {}),
    ],
)
def test_what_cannot_be_divided_is_read_as_a_whole(
    database: PostgresDatabase, connection: PostgresConnection, made: str, options: dict[str, Any]
) -> None:
    database.execute(made)
    assert len(PostgresSource(connection=connection, table="many", **options).splits(4)) <= 1


def test_all_parts_see_one_moment(database: PostgresDatabase, connection: PostgresConnection) -> None:
    """Between two parts rows move from one into the other, in both directions."""
    _fill(database, "number", 1000)
    source = PostgresSource(connection=connection, table="many")
    splits = source.splits(2)
    with source.together() as shared:
        first = _values(shared.part(splits[0]))
        database.execute("UPDATE many SET id = -id * 1000 - 1", "DELETE FROM many WHERE n % 2 = 0")
        second = _values(shared.part(splits[1]))
    assert sorted(first + second) == list(range(1, 1001))
    assert database.rows("SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'") == [(0,)]


@pytest.mark.parametrize("into", ["memory", "postgres"])
def test_a_stage_reads_in_parts_and_goes_on_after_a_fault(
    database: PostgresDatabase, connection: PostgresConnection, tmp_path: Path, into: str
) -> None:
    _fill(database, "number", 3000)
    database.execute("CREATE TABLE copied (id bigint, n int)")
    left = [4]

    def fail(point: str) -> None:
        left[0] -= point == "write"
        if left[0] == 0:
            left[0] = -1
            raise RetryableError("the connection broke")

    held = Policies(checkpoint=CheckpointPolicy(rows=300, period=None), partitions=6, parallelism=3)
    table, request = Table(before=fail), ReadRequest(batch_rows=100)
    scan = Scan("many", PostgresSource(connection=connection, table="many"), request, None, held)
    target = TableDestination(table=table)
    if into == "postgres":
        stage = Stage(
            "copy", scan, Write("copy", "many", PostgresDestination(connection=connection, table="copied"), held)
        )
    else:
        stage = Stage("copy", scan, Write("copy", "many", target, held))
    given = replace(context(tmp_path), logical_time=datetime.now(UTC))
    report = run_stage(stage, given)
    found = database.rows("SELECT n FROM copied") if into == "postgres" else [(each["n"],) for each in table.rows()]
    assert sorted(each for (each,) in found) == list(range(1, 3001))
    assert report.reconciliation.balanced
    assert report.attempts == (1 if into == "postgres" else 2)
    assert pa.schema([pa.field("id", pa.int64()), pa.field("n", pa.int32())]).equals(report.schema)
