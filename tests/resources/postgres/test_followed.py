"""Tables of PostgreSQL read again and again: what comes arrives, and where nothing comes nothing is committed."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dsl.contracts.connectors import ReadRequest
from dsl.contracts.policies import CheckpointPolicy, Policies
from dsl.plan.physical import Scan, Stage, Write
from engine.context import SystemClock
from engine.report import StageOutcome
from engine.run import Control
from resources.postgres.resource import PostgresConnection, PostgresSource
from tests.engine.fakes import Checkpoints, Table, TableDestination
from tests.engine.test_streams import running
from tests.kit.postgres import PostgresDatabase

MADE = {
    "number with a key": ("id bigint PRIMARY KEY, at timestamptz DEFAULT clock_timestamp()", "id"),
    "time with a key": ("id bigint PRIMARY KEY, at timestamptz DEFAULT clock_timestamp()", "at"),
    "time without a key": ("id bigint, at timestamptz DEFAULT clock_timestamp()", "at"),
}


@pytest.mark.parametrize("made", MADE)
def test_rows_arrive_as_they_come_and_idle_times_commit_nothing(
    database: PostgresDatabase, connection: PostgresConnection, tmp_path: Path, made: str
) -> None:
    columns, cursor = MADE[made]
    database.execute(f"CREATE TABLE growing ({columns})", "INSERT INTO growing SELECT generate_series(1, 50)")
    held = Policies(checkpoint=CheckpointPolicy(period=timedelta(milliseconds=20)))
    source = PostgresSource(connection=connection, table="growing", incremental_column=cursor)
    table, kept = Table(), Checkpoints()
    scan = Scan(
        "growing", source, ReadRequest(logical_time=datetime.now(UTC)), None, held, poll=timedelta(milliseconds=5)
    )
    stage = Stage("sink", scan, Write("sink", "growing", TableDestination(table=table), held))
    with running(tmp_path, stage, table, kept) as run:
        run.until(lambda: len(table.ids()) == 50)
        database.execute("INSERT INTO growing SELECT generate_series(51, 80)")
        run.until(lambda: len(table.ids()) == 80)
        threading.Event().wait(0.5)
        commits = len(table.commits)
        threading.Event().wait(1.0)
        assert len(table.commits) == commits
        report = run.end()
    assert (report.outcome, report.reconciliation.read) == (StageOutcome.STOPPED, 80)
    assert sorted(table.ids()) == list(range(1, 81))
    database.execute("INSERT INTO growing VALUES (81)")
    with running(tmp_path, replace(stage), table, kept, clock=SystemClock(), control=Control()) as run:
        run.until(lambda: len(table.ids()) == 81)
        assert run.end().reconciliation.read == 1
    assert sorted(table.ids()) == list(range(1, 82))
