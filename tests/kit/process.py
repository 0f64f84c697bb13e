"""Start a server on this machine, wait until it answers, and end it with the tests. It may not know any particular server."""

import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ROOT / ".svc-venv" / "bin"
NOBODY = 65534
_PR_SET_PDEATHSIG = 1
# Below the range the kernel hands out for outgoing connections, so that nobody takes a port between our look and the server's bind.
_PORTS = range(10_000, 32_000)
_used_ports: set[int] = set()
_choice = random.SystemRandom()
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class Unavailable(Exception):
    """A server that cannot be had on this machine. The reason says how to get it."""


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on and that this process has not handed out before."""
    for _ in range(1000):
        port = _choice.choice(_PORTS)
        if port in _used_ports:
            continue
        _used_ports.add(port)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    msg = "no free port between 10000 and 32000"
    raise Unavailable(msg)


def find_program(name: str, *folders: str | Path) -> Path:
    """Return the path of a program from the folders given, the services' environment or PATH; raise Unavailable otherwise."""
    for folder in (*folders, SERVICES):
        if os.access(Path(folder) / name, os.X_OK):
            return Path(folder) / name
    found = shutil.which(name)
    if found is None:
        msg = f"{name} is not installed: run 'make services'"
        raise Unavailable(msg)
    return Path(found)


def make_folder(name: str) -> Path:
    """Return a new temporary folder that every user may traverse: a server that drops root cannot enter pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix=f"headrace-{name}-"))
    folder.chmod(0o755)
    return folder


def server_user() -> int | None:
    """Return the user id a server must drop to, or None where the tests do not run as root."""
    return NOBODY if os.geteuid() == 0 else None


def give_to_server(folder: Path) -> None:
    """Make a tree belong to the user that the server runs as."""
    if server_user() is None:
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def run_as_server(command: Sequence[str | Path], *, timeout: float = 120) -> None:
    """Run a preparing command to its end as the server's user; raise Unavailable with its output when it fails."""
    user = server_user()
    done = subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        timeout=timeout,
        cwd="/",
    )
    if done.returncode != 0:
        msg = f"{Path(command[0]).name} failed with {done.returncode}:\n{done.stdout.decode(errors='replace')[-2000:]}"
        raise Unavailable(msg)


def folder_from_template(name: str, build: Callable[[Path], None]) -> Path:
    """Return a new folder filled from a template that is built once for a name and kept between sessions.

    Args:
        name: What the template is of, with the version that it belongs to.
        build: Fills an empty folder that belongs to the server's user.
    """
    template = ROOT / ".cache" / "kit" / name
    if not template.exists():
        made = make_folder(name)
        give_to_server(made)
        build(made)
        template.parent.mkdir(parents=True, exist_ok=True)
        finished = template.with_name(f"{name}.{uuid.uuid4().hex}")
        shutil.copytree(made, finished)
        shutil.rmtree(made)
        try:
            finished.rename(template)
        except OSError:
            # Another worker was first; its template is as good.
            shutil.rmtree(finished)
    folder = make_folder(name)
    shutil.copytree(template, folder, dirs_exist_ok=True)
    folder.chmod(0o755)
    return folder


def die_with_parent(death_signal: int, parent: int) -> Callable[[], None]:
    def arrange() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, death_signal)
            if os.getppid() != parent:
                os._exit(1)

    return arrange


def _descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except (FileNotFoundError, ProcessLookupError):  # it has ended since
        return []
    return [each for child in map(int, children) for each in (child, *_descendants(child))]


class ServerProcess:
    """A server in a process group of its own, with its log in a file; dies with this process, however that ends.

    Args:
        name: What to call it in errors.
        command: Program and arguments.
        folder: Its temporary folder, deleted when it stops.
        drop_root: Run as nobody when the tests run as root.
        stop_signal: What ends it: SIGKILL unless the server leaks something then.
        environment: Variables on top of this process's own.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        folder: Path,
        *,
        drop_root: bool = False,
        stop_signal: signal.Signals = signal.SIGKILL,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.folder = folder
        self.tail = ""
        self._log = folder / "log"
        self._stop_signal = stop_signal
        self._command = [str(part) for part in command]
        self._user = server_user() if drop_root else None
        self._environment = {**os.environ, **(environment or {})}
        self._process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self._environment,
                start_new_session=True,
                user=self._user,
                group=self._user,
                extra_groups=None if self._user is None else [],
                preexec_fn=die_with_parent(self._stop_signal, os.getpid()),  # noqa: PLW1509 - sets one flag, takes no lock
            )

    @property
    def pid(self) -> int:
        """The process id, for tests that pause or kill the server."""
        return self._process.pid

    def log_tail(self, size: int = 2000) -> str:
        """Return the end of what the server wrote."""
        return self._log.read_bytes()[-size:].decode(errors="replace")

    def wait_until(self, ready: Callable[[], object], *, seconds: float = 90) -> None:
        """Call `ready` until it returns without an error.

        Args:
            ready: A question in the server's own protocol; raises while there is no answer.
            seconds: When to give up.

        Raises:
            Unavailable: The server ended or did not answer in time; carries the end of its log.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                ready()
            except Exception as error:
                ended = self._process.poll()
                if ended is None and time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                state = "is not ready" if ended is None else f"ended with {ended}"
                self.stop()
                msg = f"{self.name} {state}: {error}\n{self.tail}"
                raise Unavailable(msg) from error
            return

    def crash(self) -> None:
        """Kill the server and all it has started at once, as the end of a machine does; what it wrote to files is kept."""
        # Standing still it starts nothing that would be missed.
        self._process.send_signal(signal.SIGSTOP)
        for pid in (*_descendants(self._process.pid), self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def processor(self) -> float:
        """Return the seconds of a processor that the server and all it has started have used."""
        ticks = 0
        for pid in (*_descendants(self._process.pid), self._process.pid):
            # What has ended is counted with its parent; see proc_pid_stat(5) for the places.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                spent = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
                ticks += sum(map(int, spent[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def restart(self) -> None:
        """Start the server again where it was; `wait_until` says when it answers."""
        self._process = self._started()

    def stop(self) -> None:
        """End the server and delete its folder. A second call does nothing."""
        if self._log.exists():
            self.tail = self.log_tail()
        if self._process.poll() is None:
            self._signal(self._stop_signal)
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, which: signal.Signals) -> None:
        # A graceful signal goes to the server alone (postgres tells its children); a kill goes to all of the group.
        if which is signal.SIGKILL:
            os.killpg(self._process.pid, which)
        else:
            self._process.send_signal(which)
