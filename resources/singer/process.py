"""A tap as a process: started without a shell, read line by line, killed with all it started; its secrets are in no error."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dsl.contracts.errors import ErrorType, FatalError, RetryableError
from resources.code_wall import check_code_allowed

LONGEST_LINE: Final = 64 * 2**20
_CHUNK: Final = 2**18
_TOLD_LINES: Final = 20
_TOLD_CHARS: Final = 500
_PATIENCE: Final = 5.0
# What programs need to find their files and the way out; everything else of this process' environment is not theirs to see.
_PASSED: Final = frozenset(
    {
        "PATH",
        "HOME",
        "LANG",
        "LC_ALL",
        "TZ",
        "TMPDIR",
        "VIRTUAL_ENV",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
    }
    | {each for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY") for each in (name, name.lower())}
)


class TapFolder:
    """A folder for what a tap is given, that only this user may enter; it is gone when it is closed."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="headrace-singer-")

    def put(self, name: str, content: Any) -> str:
        """Writes a JSON file that only this user may read; returns its path."""
        path = Path(self._folder.name) / name
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(content, file)
        return str(path)

    def close(self) -> None:
        """Removes the folder and all in it."""
        self._folder.cleanup()


class TapProcess:
    """A tap that runs.

    Args:
        command: Its program and arguments; no shell sees them.
        where: Names it in errors.
        environment: Variables that it gets beside the few that every program needs.
        silence: Seconds it may say nothing.

    Raises:
        FatalError: It may not be run, or there is no such program.
    """

    def __init__(self, command: Sequence[str], where: str, environment: Mapping[str, str], silence: float) -> None:
        check_code_allowed(where)
        self._where, self._silence = where, silence
        held = {name: value for name, value in os.environ.items() if name in _PASSED}
        try:
            self._process = subprocess.Popen(  # noqa: S603 - running it is what the node is for, where it is allowed
                [check_program(command[0], where), *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**held, **environment},
                start_new_session=True,
            )
        except OSError as error:
            raise FatalError(f"it cannot be started: {error.strerror}", where=where, hint="check `command`") from error
        self._told: deque[str] = deque(maxlen=_TOLD_LINES)
        self._listener = threading.Thread(target=self._listen, name="singer-stderr", daemon=True)
        self._listener.start()

    def lines(self) -> Iterator[bytes]:
        """Yields what it says, line by line, until it ends well.

        Raises:
            RetryableError: It ended with an error, or was silent for too long.
            FatalError: A line is too long.
        """
        rest = bytearray()
        while chunk := self._chunk():
            start = len(rest)
            rest += chunk
            if rest.find(b"\n", start) >= 0:
                *whole, tail = bytes(rest).split(b"\n")
                yield from whole
                rest = bytearray(tail)
            if len(rest) > LONGEST_LINE:
                raise FatalError(f"a message is longer than {LONGEST_LINE} bytes", where=self._where)
        self._check_end()
        if rest:
            yield bytes(rest)

    def _chunk(self) -> bytes:
        stream = self._process.stdout
        assert stream is not None  # noqa: S101 - it was asked for
        ready, _, _ = select.select([stream], [], [], self._silence)
        if not ready:
            self.stop()
            raise RetryableError(
                f"it said nothing for {self._silence:g} s and was ended{self._last_words()}",
                where=self._where,
                hint="raise `silence` if that is how it works",
                error_type=ErrorType.TIMEOUT,
            )
        return os.read(stream.fileno(), _CHUNK)

    def _check_end(self) -> None:
        code = self._process.wait()
        self._listener.join(_PATIENCE)
        if code:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise RetryableError(f"it {how}{self._last_words()}", where=self._where, hint="see what it said last")

    def _last_words(self) -> str:
        told = list(self._told)
        return ", having said: " + " | ".join(told) if told else " without a word"

    def _listen(self) -> None:
        stream = self._process.stderr
        assert stream is not None  # noqa: S101 - it was asked for
        with contextlib.suppress(ValueError, OSError):  # closed while it was read: nobody waits for more
            while line := stream.readline(_CHUNK):
                self._told.append(line.decode(errors="replace").strip()[:_TOLD_CHARS])

    def stop(self) -> None:
        """Ends it and what it started, first by asking; safe to call twice."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)
        # What it started may outlive it.
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._listener.join(_PATIENCE)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def check_program(name: str, where: str) -> str:
    """Returns the path of a program.

    Raises:
        FatalError: There is none.
    """
    found = shutil.which(name)
    if found is None:
        raise FatalError(
            f"there is no program '{name}'", where=where, hint="install the tap, or write the whole path to it"
        )
    return found
