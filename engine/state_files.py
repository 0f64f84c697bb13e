"""What a step remembers, as a log of hashed Arrow segments beside the exchanges; knows files and bytes, and not what they mean.

A log has a few files. A position in it (each file, how many of its bytes count, their hash) travels with the rows as the step's state,
and so moves with the epoch. What lies behind a position was never committed: nobody reads it, and the next attempt begins another file.
"""

from __future__ import annotations

import hashlib
import io
import secrets
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from dsl.contracts.errors import FatalError
from dsl.contracts.state import Json, State
from engine.exchange_files import HashingFile, disk_faults, is_free, sync_folder

FOLDER = "state"
_SEGMENTS = "segments"


@dataclass(frozen=True)
class Segment:
    """A part of a log.

    Attributes:
        file: Its file's name.
        bytes: How many bytes of it count.
        sha256: Of those.
        rows: Rows in them.
    """

    file: str
    bytes: int
    sha256: str
    rows: int


@dataclass
class _Writing:
    """A file of this attempt."""

    file: HashingFile
    writer: pa.ipc.RecordBatchStreamWriter
    rows: int = 0
    synced: int = 0


@dataclass
class StateLog:
    """The log of one step. One thread writes it, another one commits it.

    Attributes:
        path: Its folder, made when first written.
    """

    path: Path
    _found: frozenset[str] = frozenset()
    _kept: tuple[Segment, ...] = ()
    _committed: frozenset[str] = frozenset()
    _own: dict[str, _Writing] = field(default_factory=dict)
    _open: _Writing | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        # Before the fence: what is there later may be of a run that has taken the stream over.
        self._found = frozenset(each.name for each in self.path.glob("*.arrow"))

    @property
    def files(self) -> int:
        """How many files a position has."""
        return len(self._kept) + (self._open is not None)

    @property
    def rows(self) -> int:
        """Rows in the log."""
        return sum(each.rows for each in self._kept) + (0 if self._open is None else self._open.rows)

    def resume(self, state: State | None) -> None:
        """Goes to a position, and removes what dead attempts wrote behind it; call it behind the stream's fence."""
        self._kept = _segments(state)
        self._committed = frozenset(each.file for each in self._kept)
        for name in self._found - self._committed:
            if is_free(self.path / name):
                (self.path / name).unlink(missing_ok=True)

    def read(self) -> Iterator[pa.RecordBatch]:
        """Yields everything up to the position, in order.

        Raises:
            FatalError: A file is gone or damaged.
        """
        for each in self._kept:
            path = self.path / each.file
            try:
                with path.open("rb") as file:
                    _verify(file, each, path)
                    file.seek(0)
                    with pa.ipc.open_stream(pa.PythonFile(_Beginning(file, each.bytes), mode="r")) as reader:
                        yield from reader
            except FileNotFoundError as error:
                raise _damaged(path, "it is gone") from error

    def append(self, rows: pa.RecordBatch) -> None:
        """Adds rows."""
        if rows.num_rows == 0:
            return
        with disk_faults(self.path):
            writing = self._open = self._open or self._begin(rows.schema)
            writing.writer.write_batch(rows)
            writing.rows += rows.num_rows

    def restart(self, schema: pa.Schema) -> None:
        """Begins anew: what is appended from now on is all there is."""
        with disk_faults(self.path):
            self._kept, self._open = (), self._begin(schema)

    def position(self) -> dict[str, Json]:
        """Where the log is now, as a part of a state; everything before it has been handed to the system."""
        segments = self._kept
        if self._open is not None and self._open.rows:
            with disk_faults(self.path):
                size, digest = self._open.file.reached()
            segments = (*segments, Segment(self._open.file.path.name, size, digest, self._open.rows))
        return {_SEGMENTS: [asdict(each) for each in segments]}

    def settle(self, state: State | None) -> None:
        """Forces to disk what a position refers to, before it is committed."""
        with self._lock, disk_faults(self.path):
            for each in _segments(state):
                writing = self._own.get(each.file)
                if writing is not None and writing.synced < each.bytes:
                    writing.file.sync()
                    writing.synced = each.bytes

    def collect(self, state: State | None) -> None:
        """Removes the files that the last position referred to, or that this attempt wrote before, once another one is committed."""
        named = frozenset(each.file for each in _segments(state))
        with self._lock:
            own = list(self._own)
            older = own[: max((own.index(each) for each in named if each in self._own), default=0)]
            for name in (self._committed | set(older)) - named:
                (self.path / name).unlink(missing_ok=True)
                if (writing := self._own.pop(name, None)) is not None:
                    writing.file.close()
            self._committed = named

    def close(self) -> None:
        """Closes its files; what was not committed is removed by the next attempt."""
        with self._lock:
            for each in self._own.values():
                each.file.close()
            self._own.clear()

    def _begin(self, schema: pa.Schema) -> _Writing:
        self.path.mkdir(parents=True, exist_ok=True)
        # A run that was overtaken may still write: no two attempts may choose the same name.
        file = HashingFile(self.path / f"{secrets.token_hex(12)}.arrow")
        sync_folder(self.path)
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        writing = _Writing(file, pa.ipc.new_stream(pa.PythonFile(file, mode="w"), schema, options=options))
        with self._lock:
            self._own[file.path.name] = writing
        return writing


class _Beginning(io.RawIOBase):
    """The first bytes of a file.

    Args:
        file: The file.
        size: How many.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._file.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)


def _segments(state: State | None) -> tuple[Segment, ...]:
    held: Any = None if state is None else state.get(_SEGMENTS)
    with suppress(TypeError):
        return tuple(Segment(**each) for each in held or ())
    raise FatalError("what a step remembers is not described as this version does it", hint="delete its checkpoints")


def _verify(file: BinaryIO, segment: Segment, path: Path) -> None:
    digest, left = hashlib.sha256(), segment.bytes
    while left and (data := file.read(min(left, 2**20))):
        digest.update(data)
        left -= len(data)
    if left or digest.hexdigest() != segment.sha256:
        raise _damaged(path, "its bytes are not the ones that were committed")


def _damaged(path: Path, why: str) -> FatalError:
    return FatalError(
        f"what a step remembers cannot be read: {why}",
        where=f"{path.parent.name}/{path.name}",
        hint="bring HEADRACE_HOME back from its backup; or name the step otherwise: it then begins with nothing remembered",
    )
