"""The bound of 512 MiB for the whole process, with all that a run imports, at a million rows; `benchmarks/memory.py` goes on to twenty."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.memory import LIMIT_MIB

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("case", ["join", "sort", "fan_out"])
def test_a_million_rows_stay_within_the_bound(case: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.memory", case, "1", "--home", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    measured = json.loads(done.stdout)
    assert measured["rows_out"] > 200_000
    assert measured["peak_mib"] <= LIMIT_MIB
