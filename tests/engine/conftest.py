"""A home for runs whose files need not outlive the machine: fsync costs nothing there. It may not be used where the disk is the subject."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_IN_MEMORY = Path("/dev/shm")


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder in memory where the system has such, else on disk."""
    with tempfile.TemporaryDirectory(dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None) as path:
        yield Path(path)
