"""Folders for what does not fit into memory: one for each session, locked while it lives, swept when its process died; reads nothing."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path


class SpillFolder:
    """A folder of its own under a common one; folders there whose process died are removed first.

    Args:
        home: The common folder, made if absent.
        name: Begins its name, for people who look there.
    """

    def __init__(self, home: Path, name: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        _sweep(home)
        self.path, self._handle = _taken(home, name)

    def close(self) -> None:
        """Removes it."""
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):
            os.close(self._handle)


def _taken(home: Path, name: str) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=home))
        # The kernel drops the lock with the process, however that ends.
        with suppress(FileNotFoundError):
            handle = os.open(path, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX)
            if path.exists():
                return path, handle
            # Another session swept it in between.
            os.close(handle)


def _sweep(home: Path) -> None:
    for each in home.iterdir():
        with suppress(OSError):
            handle = os.open(each, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(each, ignore_errors=True)
            finally:
                os.close(handle)
