"""A load that dies at any step of a commit is gone on with by the next run: every row is there once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from tests.kit.process import ROOT
from tests.resources.delta.crashing import load

WHOLE = [each for epoch in range(1, 5) for each in range(epoch * 10, epoch * 10 + 10)]


class Died(BaseException):
    """Stands for the end of the process: nothing more is written or removed."""


def die() -> None:
    raise Died


def ids(folder: Path) -> list[int]:
    found: Any = DeltaTable(str(folder / "t")).to_pyarrow_table().column("id").to_pylist()
    return sorted(found)


def test_dying_at_any_step_leaves_each_row_once(tmp_path: Path) -> None:
    for call in range(1, 100):
        folder = tmp_path / str(call)
        try:
            load(str(folder), call, die)
        except Died:
            load(str(folder), 0, die)
            assert ids(folder) == WHOLE, f"died at step {call}"
            continue
        assert ids(folder) == WHOLE
        assert call > 20, "too few steps were tried"
        return
    pytest.fail("it never came to its end")


@pytest.mark.slow
def test_processes_that_die_at_any_step_leave_each_row_once(tmp_path: Path) -> None:
    for call in range(1, 100):
        folder = tmp_path / str(call)
        command = [sys.executable, "-m", "tests.resources.delta.crashing", str(folder)]
        ended = subprocess.run([*command, str(call)], check=False, cwd=ROOT).returncode
        assert ended in {0, 9}
        if ended == 0:
            assert call > 20
            return
        assert subprocess.run([*command, "0"], check=False, cwd=ROOT).returncode == 0
        assert ids(folder) == WHOLE, f"died at step {call}"
    pytest.fail("it never came to its end")
