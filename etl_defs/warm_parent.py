"""The process that runs are forked from: it has imported what a run needs, does nothing else, and starts no thread.

The one thread beside it is that of Arrow's allocator, jemalloc, which takes care of forks itself. It is spoken to on its standard input,
a socket: a line asks for a run (Dagster's own arguments of `dagster api execute_run`), a line answers with the process that was made
for it. When whoever started it is gone it ends; the runs go on.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import NoReturn

WARM = (
    "dagster._cli.api",
    "dagster._core.execution.api",
    "dagster._core.storage.event_log.sqlite",
    "dagster._core.storage.runs.sqlite",
    "pandas",
    "pyarrow.compute",
    "pyarrow.csv",
    "pyarrow.pandas_compat",
    "pyarrow.parquet",
    "sqlglot",
    "upath.implementations.local",
    "watchdog.observers.polling",
    "etl_defs.definitions",
    "engine.run",
    "resources.file_reader",
    "resources.file_writer",
    "resources.registry",
    "resources.sql_writer",
)
"""Imported before any run. DuckDB is not among them: it starts threads, which a fork would not have."""
LOOK_SECONDS = 5.0
_THREADS = "OPENBLAS_NUM_THREADS"


def main() -> None:
    """Serves until the other end closes."""
    # A run that is interrupted before it listens would end without a word: it hears of it once it does.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    with _without_threads():
        for name in WARM:
            import_module(name)
    gc.freeze()  # a copy that looks for garbage among all this would make it its own, page by page
    asking = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    asking.settimeout(LOOK_SECONDS)
    # What a worker of an operator prints goes where this process's output goes; nothing of it may reach the socket.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    waiting = b""
    while True:
        _reap()
        try:
            received = asking.recv(65_536)
        except TimeoutError:
            continue
        if not received:
            return
        *requests, waiting = (waiting + received).split(b"\n")
        for each in requests:
            asking.sendall(json.dumps({"pid": _fork(json.loads(each)["run"], asking)}).encode() + b"\n")


@contextmanager
def _without_threads() -> Iterator[None]:
    """Lets NumPy's library of linear algebra start no threads while it is loaded."""
    os.environ[_THREADS] = "1"
    try:
        yield
    finally:
        del os.environ[_THREADS]


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _fork(arguments: str, asking: socket.socket) -> int:
    pid = os.fork()
    if pid == 0:
        asking.close()
        _work(arguments)
    return pid


def _work(arguments: str) -> NoReturn:
    """Is the run, and ends with it."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        api = import_module("dagster._cli.api")
        with api.capture_interrupts():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            api.execute_run_command.callback(input_json=arguments, compressed_input_json=None)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001 - the process ends here, and its last word is to be seen
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
