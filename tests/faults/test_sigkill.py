"""SIGKILL at random moments of a real process with real files: exchange, two DuckDB files, dead letters; every row exactly once."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import duckdb

from resources.stores.dead_letters import LocalDeadLetters
from tests.faults.loader import poison_of

ROOT = Path(__file__).resolve().parents[2]
ROWS = 4_000
KILLS = 8


def _start(home: Path, run: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.faults.loader", str(home), str(ROWS), run]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _kill_after(process: subprocess.Popen[str], events: int, pause: float) -> bool:
    assert process.stdout is not None
    for _ in range(events):
        if process.stdout.readline().strip() in {"", "done"}:
            return False
    time.sleep(pause)
    process.kill()
    return True


def test_killed_at_random_moments(tmp_path: Path) -> None:
    seed = time.time_ns()
    luck, killed = random.Random(seed), 0
    for number in range(KILLS):
        with _start(tmp_path, f"run-{number}") as process:
            killed += _kill_after(process, luck.randint(1, 9), luck.uniform(0, 0.05))
    out, said = _start(tmp_path, "run-last").communicate()
    assert out.splitlines()[-1:] == ["done"], (seed, said)
    assert killed >= KILLS // 2, seed
    expected = [each for each in range(ROWS) if each not in poison_of(ROWS)]
    for name in ("one", "two"):
        with duckdb.connect(str(tmp_path / f"{name}.duckdb"), read_only=True) as file:
            assert [row[0] for row in file.sql("SELECT id FROM t ORDER BY id").fetchall()] == expected, (seed, name)
    letters = LocalDeadLetters(tmp_path / "letters")
    kept = sorted(each.rejection.row.to_pylist()[0]["id"] for each in letters.list(limit=ROWS))
    letters.close()
    assert kept == sorted(poison_of(ROWS)), seed
