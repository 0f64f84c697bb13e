"""What a deployment lets Headrace use, read from environment variables in one place; opens and creates nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

WORKFLOWS = Path(__file__).parent / "workflows"
MEMORY = 128 * 2**20
THREADS = 4
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class SettingError(ValueError):
    """An environment variable holds a value that it may not have."""


@dataclass(frozen=True)
class Settings:
    """A deployment's choices.

    Attributes:
        workflows: The folder of the workflow files, searched with its sub-folders.
        home: Where exchanges, dead letters and spilled data are kept.
        allow_python: Whether `python` nodes may run.
        allow_private_addresses: Whether `enrich` may call addresses inside the own network although its options do not say so.
        memory: Bytes that the DuckDB sessions of a run may use.
        threads: Threads that the DuckDB sessions of a run may use.
    """

    workflows: Path
    home: Path
    allow_python: bool = False
    allow_private_addresses: bool = False
    memory: int = MEMORY
    threads: int = THREADS


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Reads the settings from `HEADRACE_…` variables.

    Raises:
        SettingError: A value cannot be read.
    """
    given = os.environ if environment is None else environment
    dagster_home = given.get("DAGSTER_HOME")
    home = Path(dagster_home) / "headrace" if dagster_home else Path(".headrace")
    return Settings(
        workflows=Path(given.get("HEADRACE_WORKFLOWS") or WORKFLOWS),
        home=Path(given.get("HEADRACE_HOME") or home).absolute(),
        allow_python=_says_yes(given, "HEADRACE_ALLOW_PYTHON"),
        allow_private_addresses=_says_yes(given, "HEADRACE_ALLOW_PRIVATE_ADDRESSES"),
        memory=_size("HEADRACE_MEMORY", given.get("HEADRACE_MEMORY"), MEMORY),
        threads=_size("HEADRACE_THREADS", given.get("HEADRACE_THREADS"), min(THREADS, os.cpu_count() or 1)),
    )


def existing_workflows(settings: Settings) -> Settings:
    """Returns the settings, now that the folder of the workflows has been seen.

    Raises:
        SettingError: It is not there; a location without workflows would look as if all were well.
    """
    if not settings.workflows.exists():
        raise SettingError(
            f"HEADRACE_WORKFLOWS={str(settings.workflows)!r}: there is no such folder "
            f"(seen from {Path.cwd()}; reload the location once it is there)"
        )
    return settings


def _says_yes(given: Mapping[str, str], name: str) -> bool:
    return given.get(name, "").lower() in {"1", "true", "yes"}


def _size(name: str, text: str | None, default: int) -> int:
    if not text:
        return default
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].upper() not in _UNITS or float(match[1]) == 0:
        raise SettingError(f"{name}={text!r} is not a size (write a number, or a number with KiB, MiB or GiB)")
    return int(float(match[1]) * _UNITS[match[2].upper()])
