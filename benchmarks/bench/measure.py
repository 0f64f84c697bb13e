"""Runs a command and tells what it took: time, CPU and memory of its process tree, CPU of the servers; judges nothing."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PAUSE = 0.02
LIMIT_SECONDS = 900.0


@dataclass(frozen=True)
class Taken:
    """What one run took.

    Attributes:
        wall: Seconds from its start to its end.
        cpu: Seconds of CPU of the command and all that it started.
        server_cpu: The same of the servers meanwhile.
        peak_mib: The most memory that its processes held together, in MiB (resident, shared pages counted once for each process).
        other_cpu: Seconds of CPU that the machine spent on something else meanwhile: noise.
        failed: Why it counts for nothing, or "".
    """

    wall: float
    cpu: float
    server_cpu: float
    peak_mib: int
    other_cpu: float
    failed: str = ""


def measured(command: Sequence[str], environment: Mapping[str, str], servers: Sequence[int]) -> Taken:
    """Runs a command to its end.

    Args:
        command: With its arguments.
        environment: Variables beside those of this process.
        servers: The first process of each server whose CPU counts.
    """
    busy, served = _machine_cpu(), sum(map(_tree_cpu, servers))
    began = time.perf_counter()
    with subprocess.Popen(
        command,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", **environment},  # as on anybody's machine
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
        errors="replace",
    ) as process:
        watch = _Watch(process.pid)
        watch.start()
        late = threading.Timer(LIMIT_SECONDS, process.kill)
        late.start()
        said = process.stdout.read() if process.stdout is not None else ""
        _, status, usage = os.wait4(process.pid, 0)
        late.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    watch.join()
    cpu, server_cpu = usage.ru_utime + usage.ru_stime, sum(map(_tree_cpu, servers)) - served
    failed = "" if process.returncode == 0 else f"exit {process.returncode}: {said[-600:]}"
    return Taken(wall, cpu, server_cpu, watch.peak >> 20, _machine_cpu() - busy - cpu - server_cpu, failed)


class _Watch(threading.Thread):
    """Looks at the memory of a process tree until its root has ended."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self._root, self.peak = root, 0

    def run(self) -> None:
        while held := sum(map(_resident, _tree(self._root))):
            self.peak = max(self.peak, held)
            time.sleep(_PAUSE)


def _tree(root: int) -> Iterator[int]:
    yield root
    for path in Path(f"/proc/{root}/task").glob("*/children"):
        try:
            children = path.read_text().split()
        except OSError:  # ended between two looks
            continue
        for child in children:
            yield from _tree(int(child))


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _tree_cpu(root: int) -> float:
    """Seconds of CPU of a process, its children, and those of them that have ended."""
    return sum(_used(pid) for pid in _tree(root))


def _used(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS


def _machine_cpu() -> float:
    user, nice, system, _, _, irq, soft, *_ = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + soft) / _TICKS
