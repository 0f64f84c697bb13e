"""The `.env` of the current folder, which Dagster reads as well; variables that are set already win, and nothing is printed."""

from __future__ import annotations

import os
from pathlib import Path

from dotenv import dotenv_values

FILE = Path(".env")


def read_environment_file(file: Path = FILE) -> None:
    """Adds the variables of a file to the environment of this process; no file is no fault."""
    if not file.is_file():
        return
    for name, value in dotenv_values(file).items():
        if value is not None:
            os.environ.setdefault(name, value)
