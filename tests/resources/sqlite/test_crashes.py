"""A writer of SQLite that is killed anywhere goes on where its token says: every row once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dsl.contracts.capabilities import WriteMode
from resources.sqlite.resource import SQLiteConnection
from tests.kit.process import ROOT
from tests.resources.sqlite.conftest import Query
from tests.resources.sqlite.crashing import EPOCHS, expected

MODES = [WriteMode.APPEND, WriteMode.OVERWRITE, WriteMode.UPSERT]
SHORT = [WriteMode.APPEND, *(pytest.param(each, marks=pytest.mark.slow) for each in MODES[1:])]


def start(path: str, mode: WriteMode, failpoints: str = "") -> subprocess.Popen[bytes]:
    environment = {**os.environ, "HEADRACE_TEST": "1", "HEADRACE_FAILPOINTS": failpoints}
    command = [sys.executable, "-m", "tests.resources.sqlite.crashing", path, mode]
    return subprocess.Popen(command, cwd=ROOT, env=environment)


PLACES = (
    "sql.fenced=kill",
    "sql.token_moved=kill",
    "sql.committed=kill@3",
    "sql.token_moved=kill@3",
    "sql.committed=kill@5",
)


@pytest.mark.parametrize("mode", SHORT)
def test_kills_at_each_place_of_an_epoch(connection: SQLiteConnection, query: Query, mode: WriteMode) -> None:
    """One life after another; the last of them has committed everything and could not say so."""
    for place, epochs in zip(PLACES, (0, 0, 3, 5, 10), strict=True):
        assert start(connection.path, mode, place).wait() == -signal.SIGKILL
        found = query("SELECT epoch FROM _headrace_tokens")
        assert found == [(epochs,)], place
        assert query("PRAGMA integrity_check") == [("ok",)]
    assert start(connection.path, mode).wait() == 0
    assert query("SELECT id, epoch FROM target ORDER BY id") == expected()
    assert query("SELECT epoch, staging, owed FROM _headrace_tokens") == [(EPOCHS, None, 0)]
    assert query("SELECT name FROM sqlite_schema WHERE name LIKE '%stage%'") == []


@pytest.mark.parametrize("mode", SHORT)
def test_kills_at_any_moment(connection: SQLiteConnection, query: Query, mode: WriteMode) -> None:
    dice, killed = random.Random(7), 0
    for _ in range(5):
        process = start(connection.path, mode)
        while process.poll() is None and not Path(connection.path).exists():
            time.sleep(0.01)
        time.sleep(dice.random() * 0.08)
        process.kill()
        killed += process.wait() == -signal.SIGKILL
    assert killed
    assert start(connection.path, mode).wait() == 0
    assert query("SELECT id, epoch FROM target ORDER BY id") == expected()
    assert query("PRAGMA integrity_check") == [("ok",)]
