"""SIGKILL at random moments of a stream with keys and windows, from SQLite to SQLite: each window once, as one gets it by hand."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from resources.stores.dead_letters import LocalDeadLetters

ROOT = Path(__file__).resolve().parents[2]
START = datetime(2026, 1, 5)  # noqa: DTZ001 - SQLite's timestamps have no zone
SIZE, EVERY, LATENESS, REMEMBER = 60, 20, 30, 600
Event = tuple[int, str, int, int]
"""Its number, name and kind, and the second at which it happened."""


def _events(luck: random.Random, count: int) -> list[Event]:
    now = 0
    found: list[Event] = []
    for number in range(1, count + 1):
        now += luck.randint(0, 3)
        again = luck.random() < 0.2
        name = luck.choice(found)[1] if again and found else f"n{number}"
        late = luck.choice([0, 0, 0, luck.randint(0, 40), luck.randint(0, 200)])
        found.append((number, name, luck.randint(0, 2), now - late))
    return found


def _by_hand(events: list[Event]) -> tuple[dict[tuple[int, int], list[int]], set[int]]:
    """The windows with what is in them, and what is refused."""
    seen: dict[str, int] = {}
    held: dict[tuple[int, int], list[int]] = {}
    refused = set[int]()
    newest = passed = -(10**9)
    for number, name, kind, at in events:
        newest = max(newest, at)
        if at < newest - REMEMBER:
            refused.add(number)
            continue
        again = seen.get(name, -(10**9)) >= newest - REMEMBER
        seen[name] = max(at, seen.get(name, at))
        if again:
            continue
        passed = max(passed, at)
        starts = [each for each in range(at // EVERY * EVERY, at - SIZE, -EVERY) if each + SIZE > passed - LATENESS]
        if not starts:
            refused.add(number)
        for start in starts:
            held.setdefault((kind, start), []).append(number)
    return {name: ids for name, ids in held.items() if name[1] + SIZE <= passed - LATENESS}, refused


def _add(home: Path, events: list[Event]) -> None:
    rows = [(number, str(number), name, kind, str(START + timedelta(seconds=at))) for number, name, kind, at in events]
    with closing(sqlite3.connect(home / "source.db", timeout=60)) as file, file:
        file.execute(
            "CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, label TEXT, name TEXT, kind INTEGER, at TIMESTAMP)"
        )
        file.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", rows)


def _start(home: Path, run: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.faults.streaming", str(home), run]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _kill_after(process: subprocess.Popen[str], events: int, pause: float) -> bool:
    assert process.stdout is not None
    for _ in range(events):
        if process.stdout.readline().strip() in {"", "done", "idle"}:
            return False
    time.sleep(pause)
    process.kill()
    return True


def _campaign(home: Path, kills: int, seed: int) -> None:
    luck, killed = random.Random(seed), 0
    events = _events(luck, 120 * (kills + 1))
    for number in range(kills):
        _add(home, events[number * 120 : (number + 1) * 120])
        with _start(home, f"run-{number}") as process:
            killed += _kill_after(process, luck.randint(1, 3), luck.uniform(0, 0.3))
    _add(home, events[kills * 120 :])
    out, said = _start(home, "run-last").communicate()
    assert out.splitlines()[-1:] == ["done"], (seed, said)
    assert killed >= kills // 2, seed
    expected, refused = _by_hand(events)
    with closing(sqlite3.connect(home / "target.db")) as file:
        rows = file.execute("SELECT kind, window_start, n, ids FROM sums").fetchall()
    found = {
        (kind, (datetime.fromisoformat(start) - START) // timedelta(seconds=1)): [int(each) for each in ids.split()]
        for kind, start, _, ids in rows
    }
    assert len(found) == len(rows), (seed, "a window came twice")
    assert expected, seed
    assert found == expected, seed
    assert [row[2] for row in rows] == [len(found[kind, _seconds(start)]) for kind, start, _, _ in rows], seed
    letters = LocalDeadLetters(home / "letters")
    kept = Counter(each.rejection.row.to_pylist()[0]["id"] for each in letters.list(limit=len(events)))
    letters.close()
    assert kept == Counter(refused), seed


def _seconds(start: str) -> int:
    return (datetime.fromisoformat(start) - START) // timedelta(seconds=1)


def test_killed_at_random_moments(tmp_path: Path) -> None:
    _campaign(tmp_path, 2, time.time_ns())


@pytest.mark.slow
def test_killed_often(tmp_path: Path) -> None:
    _campaign(tmp_path, 15, time.time_ns())
