"""The command as a person runs it: in a process of its own, in a folder of its own. It may not import the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-m", "server.cli.main")
OWN = ("HEADRACE_", "DAGSTER_HOME", "COLUMNS", "_HEADRACE")


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What stdout holds, which must be one JSON document."""
        return json.loads(self.out)

    @property
    def said(self) -> str:
        """Everything that a person sees."""
        return self.out + self.err


def environment(**more: str) -> dict[str, str]:
    """The environment of this process without what would steer the command, and with what is given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
    return {**kept, "DAGSTER_DISABLE_TELEMETRY": "yes", **more}


def headrace(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> Ended:
    """Runs the command to its end."""
    done = subprocess.run(
        [*COMMAND, *arguments], check=False, cwd=cwd, env=environment(**(env or {})), capture_output=True, text=True
    )
    return Ended(done.returncode, done.stdout, done.stderr)
