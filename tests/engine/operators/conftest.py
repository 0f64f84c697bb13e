"""A workbench for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.operators.opened import Workbench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    """Opens operators and closes them at the end."""
    made = Workbench(tmp_path)
    yield made
    made.close()
