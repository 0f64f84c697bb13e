"""A deployment of its own for a test: a folder with Dagster's home and workflow files, and commands run in it. It knows no workflow."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus

from server.home import SETTINGS
from tests.kit.process import ROOT, ServerProcess, free_port, make_folder

BIN = Path(sys.executable).parent
ENDED = frozenset({DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED})


class Deployment:
    """Commands of Dagster in a folder of their own.

    Args:
        folder: An empty folder.
        texts: File name of a workflow -> its text.
        environment: Variables that the workflows may name.
        settings: What dagster.yaml says.
    """

    def __init__(
        self,
        folder: Path,
        texts: Mapping[str, str],
        environment: Mapping[str, str] | None = None,
        *,
        settings: str = SETTINGS,
    ) -> None:
        self.home, self.workflows = folder / "dagster", folder / "workflows"
        self.home.mkdir()
        self.workflows.mkdir()
        (self.home / "dagster.yaml").write_text(settings, encoding="utf-8")
        for name, text in texts.items():
            (self.workflows / name).write_text(text, encoding="utf-8")
        self.environment = {
            **os.environ,
            **(environment or {}),
            "DAGSTER_HOME": str(self.home),
            "HEADRACE_WORKFLOWS": str(self.workflows),
            "PYTHONWARNINGS": "ignore",
        }

    @contextmanager
    def instance(self) -> Iterator[DagsterInstance]:
        """Opens the deployment's instance in this process."""
        with DagsterInstance.from_config(str(self.home)) as found:
            yield found

    def start(self, *command: str) -> "subprocess.Popen[bytes]":
        """Starts a command of Dagster; its output goes to files beside the home."""
        log = self.home.parent / f"{command[0]}-{time.monotonic_ns()}.log"
        with log.open("wb") as opened:
            return subprocess.Popen(
                # A child of a shell that ignores the interrupt would ignore the termination, too: Dagster makes one of the other.
                ["env", "--default-signal=INT", BIN / command[0], *command[1:]],
                env=self.environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=opened,
                stderr=subprocess.STDOUT,
            )

    def run(self, *command: str) -> tuple[int, str]:
        """Runs a command of Dagster to its end; returns its exit code and what it said."""
        done = subprocess.run(
            [BIN / command[0], *command[1:]],
            check=False,
            env=self.environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return done.returncode, done.stdout.decode()

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Runs `dagster dev` (web server, daemon, code server) and gives its address."""
        port = free_port()
        program: list[str | Path] = [
            "env",
            "--default-signal=INT",
            BIN / "dagster",
            "dev",
            "-w",
            ROOT / "workspace.yaml",
        ]
        server = ServerProcess(
            "dagster dev",
            [*program, "-h", "127.0.0.1", "-p", str(port)],
            make_folder("dagster"),
            stop_signal=signal.SIGINT,
            environment={**self.environment, "PYTHONPATH": str(ROOT)},
        )
        address = f"http://127.0.0.1:{port}"
        server.wait_until(lambda: urllib.request.urlopen(f"{address}/server_info").read())
        try:
            yield address
        finally:
            server.stop()


def wait_for(found: Callable[[], object], what: str, *, seconds: float = 180) -> None:
    """Waits until something is true; fails with what it was when it never is."""
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.1)


def ended_run(instance: DagsterInstance, job: str) -> DagsterRun:
    """Waits for the one run of a job to end, and returns it."""

    def over() -> bool:
        runs = [run for run in instance.get_runs() if run.job_name == job]
        return bool(runs) and all(run.status in ENDED for run in runs)

    wait_for(over, f"the end of a run of {job}")
    [run] = [run for run in instance.get_runs() if run.job_name == job]
    return run
