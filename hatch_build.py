"""Compiles the C beside the PostgreSQL connector while the package is built; where there is no compiler, the package does without."""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = "resources/postgres/copy_binary.c"


class CompileHook(BuildHookInterface[Any]):
    """Makes `copy_binary.so`, which ctypes opens: it knows no Python, so one wheel serves every version of it."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles; `version` is `standard` or `editable`."""
        del version
        source = Path(self.root, SOURCE)
        target = source.with_suffix(".so")
        made = target.with_suffix(".new")
        compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
        command = [
            *shlex.split(compiler)[:1],
            "-O2",
            "-Wall",
            "-Wextra",
            "-shared",
            "-fPIC",
            "-o",
            str(made),
            str(source),
        ]
        try:
            subprocess.run(command, check=True)  # noqa: S603 - the compiler that the machine has
        except (OSError, subprocess.CalledProcessError) as error:
            self.app.display_warning(f"PostgreSQL will be read and written as text, more slowly: {error}")
            return
        made.replace(target)
        build_data["artifacts"].append(str(target.relative_to(self.root)))
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
