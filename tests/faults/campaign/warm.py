"""Processes that may be killed, forked from one that has imported what is slow to import; knows nothing of what they do.

`python -m tests.faults.campaign.warm` reads lines of JSON: `{"start": {...}}` forks an attempt and answers its pid, `{"wait": pid}`
answers its exit code once it has ended. Between the two the pid belongs to that attempt alone, so that it can be signalled.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from tests.faults.campaign.load import Attempt, Ended
from tests.kit.process import ROOT, die_with_parent

_DRIVERS = (
    "_strptime",
    "alembic.config",
    "boto3",
    "dagster._core.instance.factory",
    "dagster._core.launcher",
    "dagster._core.run_coordinator",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.storage.migration",
    "dagster._core.storage.root",
    "dagster._core.storage.sqlite_storage",
    "dateutil.easter",
    "dsl.expressions.compile",
    "duckdb",
    "encodings.idna",
    "lz4.frame",
    "pandas",
    "psycopg",
    "pymysql",
    "pyarrow.csv",
    "pyarrow.pandas_compat",
    "pyarrow.parquet",
    "urllib3",
    "resources.duckdb.writer",
    "resources.elasticsearch.writer",
    "resources.files.resource",
    "resources.mysql.writer",
    "resources.postgres.reader",
    "resources.postgres.writer",
    "resources.s3.store",
    "resources.sqlite.writer",
    "resources.stores.key_values",
    "resources.sql_writer",
    "resources.file_writer",
    "upath.implementations.local",
)
"""Whatever an attempt would import: it then takes a fifth of the time, and what is killed is the protocol, not an import."""


class Child:
    """One attempt under way.

    Args:
        server: Has forked it.
        pid: Its process.
        answer: Where it will say how it ended.
    """

    def __init__(self, server: Warm, pid: int, answer: Path) -> None:
        self._server, self.pid, self._answer = server, pid, answer
        self._end = os.pidfd_open(pid)
        self.code: int | None = None

    def signal(self, which: signal.Signals) -> None:
        """Sends a signal, unless it was waited for."""
        if self.code is None:
            os.kill(self.pid, which)

    def ended(self, seconds: float) -> bool:
        """Waits for its end, at most so long; tells whether it has ended."""
        if self.code is None and select.select([self._end], [], [], seconds)[0]:
            self._reap()
        return self.code is not None

    def _reap(self) -> None:
        self.code = self._server.ask({"wait": self.pid})
        os.close(self._end)

    def spent(self, seconds: float, *, patience: float = 60.0) -> bool:
        """Waits until it has used so much of a processor, which says how far it is however busy the machine is; tells whether it has ended.

        Args:
            seconds: Of a processor.
            patience: Seconds after which it is taken to wait for something.
        """
        until, left = time.monotonic() + patience, seconds
        # Half of what is left: two threads of it may run at once.
        while not self.ended(max(0.002, left / 2)):
            left = seconds - _used(self.pid)
            if left <= 0 or time.monotonic() > until:
                return False
        return True

    def waits(self, seconds: float) -> bool:
        """Waits until it does next to nothing for so long, as what waits for a lock does, or has ended; tells whether it has ended."""
        used = -1.0
        while not self.ended(seconds):
            before, used = used, _used(self.pid)
            if used - before < seconds / 50:
                return False
        return True

    def frozen(self) -> bool:
        """Waits until it stands still; tells whether it does, and has not ended instead."""
        while not self.ended(0.005):
            state = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
            if state == "T":
                return True
        return False

    def wait(self) -> Ended | None:
        """Waits for its end; returns what it said, None if it was killed."""
        if self.code is None:
            self._reap()
        if self.code == -signal.SIGKILL:
            return None
        if not self._answer.exists():
            return Ended("ended", f"it ended with {self.code} and said nothing")
        return Ended(**json.loads(self._answer.read_text(encoding="utf-8")))


def _used(pid: int) -> float:
    """Seconds of a processor that a process has used, with all the threads it ever had."""
    # The number of a process's own clock, as clock_getcpuclockid(3) makes it on Linux.
    return time.clock_gettime((~pid << 3) | 2)


class Warm:
    """The process that forks attempts; ends with this one."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.faults.campaign.warm"],
            cwd=ROOT,
            env={**os.environ, "HEADRACE_TEST": "1", "ARROW_IO_THREADS": "2", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent(signal.SIGKILL, os.getpid()),  # noqa: PLW1509 - sets one flag, takes no lock
        )
        self._count = 0
        self.ask({"wait": 0})

    def start(self, home: Path, run_id: str, faults: dict[str, str] | None = None) -> Child:
        """Starts an attempt."""
        self._count += 1
        answer = home / f"answer-{self._count}.json"
        pid = self.ask({"start": {"home": str(home), "run_id": run_id, "answer": str(answer), "faults": faults or {}}})
        assert pid is not None
        return Child(self, pid, answer)

    def ask(self, question: dict[str, Any]) -> int | None:
        """Asks the process; returns the number that it answers."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(question) + "\n")
        stdin.flush()
        line = stdout.readline()
        assert line, "the process that forks has ended"
        answer: int | None = json.loads(line)
        return answer

    def close(self) -> None:
        """Ends the process."""
        with self._process:  # closes both pipes, which ends it
            pass


def _serve(asked: IO[str], answers: IO[str]) -> None:
    parent = os.getpid()
    for line in asked:
        [(verb, given)] = json.loads(line).items()
        if verb == "start":
            answer: int | None = os.fork() or _child(Attempt(**given), parent)
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(given, 0)[1]) if given else 0
        answers.write(f"{json.dumps(answer)}\n")
        answers.flush()


def _child(attempt: Attempt, parent: int) -> int:
    code = 1
    with contextlib.suppress(BaseException):
        die_with_parent(signal.SIGKILL, parent)()
        quiet = os.open(f"{attempt.answer}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        attempt.run()
        code = 0
    os._exit(code)


def main() -> None:
    """Imports everything, and serves until the input ends."""
    for each in _DRIVERS:
        importlib.import_module(each)
    # What is collected in a child would copy every page that it shares with this process.
    gc.collect()
    gc.freeze()
    _serve(sys.stdin, sys.stdout)


if __name__ == "__main__":
    main()
