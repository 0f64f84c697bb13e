"""The environment of a command: the `.env` of the current folder, which Dagster reads too, and where the instance is; makes nothing."""

from __future__ import annotations

import os
from pathlib import Path

from dotenv import dotenv_values

from server.home import DEFAULT_HOME

FILE = Path(".env")


def prepare_environment(file: Path = FILE) -> None:
    """Adds the variables of a file to the environment of this process, and names the instance; no file is no fault.

    Variables that are set already win. Naming the instance makes nothing: it lets every command look for dead letters
    and exchanges where runs and the UI keep them.
    """
    if file.is_file():
        for name, value in dotenv_values(file).items():
            if value is not None:
                os.environ.setdefault(name, value)
    if not os.environ.get("DAGSTER_HOME"):
        os.environ["DAGSTER_HOME"] = str(DEFAULT_HOME.absolute())
