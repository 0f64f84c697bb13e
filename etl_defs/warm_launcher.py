"""A run launcher for one host: a run is forked from a process that is warm, and starts in a second; knows nothing of workflows.

In dagster.yaml:

    run_launcher:
      module: etl_defs.warm_launcher
      class: WarmRunLauncher

Rests on `dagster api execute_run` and its arguments, which are Dagster's own; `tests/etl_defs/test_warm_launcher.py` fails when an upgrade
changes them. Several hosts want Dagster's K8sRunLauncher instead.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, RunLauncher, WorkerStatus
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import ConfigurableClass, ConfigurableClassData
from dagster_shared.serdes import serialize_value

from etl_defs.leases import PREFIX
from etl_defs.naming import TAG_WORKER
from resources.stores.key_values import KeyValues

PATIENCE_SECONDS = 120.0
_PROCESSES = Path("/proc")
_NOT_YET = {DagsterRunStatus.STARTING, DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED}


class WarmRunLauncher(RunLauncher[DagsterInstance], ConfigurableClass):
    """Launches runs on this host by asking a warm process for a copy of itself.

    Args:
        inst_data: What dagster.yaml says; there is nothing to configure.
    """

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        self._parent = _Parent()

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """What dagster.yaml says."""
        return self._inst_data

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        """Nothing."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Makes one."""
        del config_value
        return cls(inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Starts a run; it has its process when this returns."""
        run = context.dagster_run
        if run.job_code_origin is None:
            raise RuntimeError(f"run {run.run_id} does not say where its code is")
        arguments = ExecuteRunArgs(
            run.job_code_origin, run.run_id, self._instance.get_ref(), set_exit_code_on_failure=True
        )
        pid = self._parent.start(serialize_value(arguments))
        self._instance.add_run_tags(run.run_id, {TAG_WORKER: f"{socket.gethostname()}/{pid}/{_birth(pid)}"})

    def terminate(self, run_id: str) -> bool:
        """Interrupts a run, which ends at its next batch boundary; tells whether it was there."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        pid = _worker(run)
        if pid is None:
            # A run of a terminal or of another host looks at its status each second, as long as it holds its lease.
            listens = KeyValues(self._instance).get(PREFIX + run_id) is not None
            said = "will hear of it by the run's status" if listens else "is not on this host, or has ended"
            self._instance.report_engine_event(f"The process of the run {said}.", run)
            return listens
        if (
            run.status in _NOT_YET
        ):  # Dagster would take no notice of a run that is canceled before it begins, and show it so for minutes
            os.kill(pid, signal.SIGKILL)
            self._instance.report_run_canceled(run, message="The run was canceled before it began.")
        else:
            os.kill(pid, signal.SIGINT)
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        """It is always known whether a process of this host lives."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Tells whether the run's process lives, as far as this host can know."""
        told = run.tags.get(TAG_WORKER, "")
        host = told.partition("/")[0]
        if host != socket.gethostname():
            # A run of a terminal or of another host: Dagster would end it if it were told that nothing is known of it.
            return CheckRunHealthResult(
                WorkerStatus.RUNNING, "started by somebody else: its lease tells whether it lives"
            )
        if _worker(run) is not None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=told)
        return CheckRunHealthResult(WorkerStatus.FAILED, "the run's process has died", run_worker_id=told)

    def dispose(self) -> None:
        """Lets the warm process go; runs go on."""
        self._parent.close()


class _Parent:
    """The warm process of this process, started when the first run is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._asking: socket.socket | None = None

    def start(self, arguments: str) -> int:
        """Asks for a run, once more if the warm process has died meanwhile; returns its process."""
        with self._lock:
            try:
                return self._ask(arguments)
            except (OSError, EOFError):
                self._close()
                return self._ask(arguments)

    def _ask(self, arguments: str) -> int:
        if self._asking is None:
            self._asking, theirs = socket.socketpair()
            self._asking.settimeout(PATIENCE_SECONDS)
            with theirs:
                command = [sys.executable, "-m", "etl_defs.warm_parent"]
                # A session of its own: Ctrl-C in the terminal of whoever launches is not meant for the runs.
                self._process = subprocess.Popen(command, stdin=theirs.fileno(), start_new_session=True)  # noqa: S603 - our own module
        self._asking.sendall(json.dumps({"run": arguments}).encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            received = self._asking.recv(4096)
            if not received:
                raise EOFError("the warm process has ended")
            answer += received
        return int(json.loads(answer)["pid"])

    def close(self) -> None:
        """Ends the warm process."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._asking is not None:
            self._asking.close()
        if self._process is not None:
            self._process.wait()
        self._asking = self._process = None


def _worker(run: DagsterRun) -> int | None:
    """Returns the process of a run if it is on this host and still the one that was started."""
    host, _, rest = run.tags.get(TAG_WORKER, "").partition("/")
    pid, _, birth = rest.partition("/")
    lives = host == socket.gethostname() and pid.isdigit() and birth and _birth(int(pid)) == birth
    return int(pid) if lives else None


def _birth(pid: int) -> str:
    """Returns when a process began, in ticks since the host booted: a number is used again, this with it is not. "" where it is gone."""
    if not _PROCESSES.exists():  # a system that tells nothing of the kind: the number alone must do
        return "unknown" if _is_there(pid) else ""
    try:
        fields = (_PROCESSES / f"{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
