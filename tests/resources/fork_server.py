"""Runs code in processes that may be killed, forked from one that has imported what is slow to import; it opens nothing itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO

from tests.kit.process import ROOT

_SERVER = """
import importlib, json, os, sys, traceback
for name in sys.argv[1:]:
    importlib.import_module(name)
print("ready", flush=True)
for line in sys.stdin:
    task = json.loads(line)
    child = os.fork()
    if child == 0:
        sys.stdout = open(task["output"], "w")
        os.environ.update(task["environment"])
        code = 0
        try:
            exec(compile(task["code"], "<child>", "exec"), {"__name__": "__child__"})
        except BaseException:
            traceback.print_exc(file=sys.stdout)
            code = 1
        sys.stdout.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class ForkServer:
    """A process that forks one child after another.

    Args:
        modules: What it imports beforehand.
    """

    def __init__(self, *modules: str) -> None:
        command = [sys.executable, "-c", _SERVER, *modules]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._hear()

    def run(self, code: str, environment: Mapping[str, str]) -> tuple[int, list[str]]:
        """Runs code in a child; returns its exit code, negative for a signal, and the lines that it printed."""
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "output"
            task = {"code": code, "environment": {**os.environ, **environment}, "output": str(output)}
            self._pipe(self._process.stdin).write(json.dumps(task) + "\n")
            self._pipe(self._process.stdin).flush()
            done = int(self._hear())
            return done, output.read_text().splitlines()

    def _hear(self) -> str:
        line = self._pipe(self._process.stdout).readline().strip()
        assert line, "the fork server has ended"
        return line

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


@cache
def fork_server(*modules: str) -> ForkServer:
    """Returns the server that has imported these; it ends with this process, when its input does."""
    return ForkServer(*modules)
