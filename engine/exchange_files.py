"""The files of an exchange: hashed Arrow segments and the manifests that make them count; knows names and bytes, no stages."""

from __future__ import annotations

import base64
import errno
import fcntl
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from dsl.contracts.errors import FatalError, FencedError, RetryableError
from dsl.contracts.state import Json, State

_MANIFEST = re.compile(r"^(\d{12})\.json$")
_FENCE = re.compile(r"^(\d{12})\.fence$")


@dataclass(frozen=True)
class Manifest:
    """What makes one epoch of an exchange count; its creation is the commit.

    Attributes:
        epoch: Its number, counted over the exchange's life.
        generation: Which full refresh its rows belong to, counted from 1.
        segment: Its number within the generation, counted from 1.
        closes: Whether it ends its generation: the next epoch begins another one.
        file: Name of the segment's file, or "" if the epoch has no rows.
        rows: Rows in it.
        bytes: Bytes of the file.
        sha256: Of the file.
        batches: Record batches in it.
        schema: The schema, as base64 of Arrow IPC.
        state: The producing stage's state after it.
        run_id: The run that wrote it.
    """

    epoch: int
    generation: int
    segment: int
    closes: bool
    file: str
    rows: int
    bytes: int
    sha256: str
    batches: int
    schema: str
    state: State
    run_id: str

    def arrow_schema(self) -> pa.Schema:
        """Its schema."""
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(self.schema)))


def schema_text(schema: pa.Schema) -> str:
    """A schema as text."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


class HashingFile(io.RawIOBase):
    """A new file that is hashed while it is written, and locked until it is closed: so a living writer's is told from a dead one's.

    Args:
        path: Must not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO = path.open("xb")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._hash = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any, /) -> int:
        """Appends bytes."""
        view = memoryview(data)
        self._hash.update(view)
        self._file.write(view)
        self.size += view.nbytes
        return view.nbytes

    def flush(self) -> None:
        """Leaves flushing to `finish`."""

    def finish(self) -> str:
        """Forces the file to disk and returns its sha256; it stays locked."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._hash.hexdigest()

    def reached(self) -> tuple[int, str]:
        """Hands everything to the system and returns how many bytes that is so far, and their sha256."""
        self._file.flush()
        return self.size, self._hash.hexdigest()

    def sync(self) -> None:
        """Forces to disk what was handed to the system; another thread may write on meanwhile."""
        os.fsync(self._file.fileno())

    def discard(self) -> None:
        """Removes the file."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Closes the file, which frees it."""
        super().close()
        # After a failed write the buffer cannot be flushed either; the file is thrown away then.
        with suppress(OSError):
            self._file.close()


class ExchangeFolder:
    """The folder of one exchange.

    Args:
        path: Made when first written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Makes the folder."""
        with disk_faults(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    def manifests(self) -> list[Manifest]:
        """Every manifest that is still kept, oldest first.

        Raises:
            FatalError: One of them is damaged.
        """
        found = []
        for epoch in self._numbers(_MANIFEST):
            # Another run may collect what every consumer has read, between the listing and the reading.
            with suppress(FileNotFoundError):
                found.append(self._read(epoch))
        return found

    def has(self, epoch: int) -> bool:
        """Whether an epoch is committed, by whomever."""
        return self._manifest_path(epoch).exists()

    def last(self) -> Manifest | None:
        """The newest manifest: the exchange's token."""
        numbers = self._numbers(_MANIFEST)
        return self._read(numbers[-1]) if numbers else None

    def fence(self) -> int:
        """Takes the exchange over: every writer that took it before is refused from now on. Returns the new fence."""
        while True:
            fence = max(self._numbers(_FENCE), default=0) + 1
            try:
                with disk_faults(self.path):
                    (self.path / f"{fence:012}.fence").open("x").close()
            except FileExistsError:
                continue
            sync_folder(self.path)
            for older in self._numbers(_FENCE):
                if older < fence:
                    (self.path / f"{older:012}.fence").unlink(missing_ok=True)
            return fence

    def check_fence(self, fence: int) -> None:
        """Refuses a writer whose exchange was taken over.

        Raises:
            FencedError: It was.
        """
        if max(self._numbers(_FENCE), default=0) != fence:
            raise FencedError("a newer run writes this exchange", where=str(self.path.name))

    def publish(self, manifest: Manifest, fence: int) -> None:
        """Creates a manifest, atomically and only once: the commit.

        Raises:
            FencedError: The exchange was taken over.
            RetryableError: The writer before this one committed the epoch while it was being fenced.
            FatalError: The disk is full.
        """
        final = self._manifest_path(manifest.epoch)
        partial = final.with_suffix(f".{os.getpid()}.{id(manifest)}.partial")
        try:
            with disk_faults(self.path):
                with partial.open("xb") as file:
                    file.write(_encoded(manifest))
                    file.flush()
                    os.fsync(file.fileno())
                # A link fails where a rename would silently replace what a newer run wrote.
                os.link(partial, final)
        except FileExistsError as error:
            self.check_fence(fence)
            late = f"epoch {manifest.epoch} was committed by the run before, just as this one took over"
            raise RetryableError(late, where=self.path.name) from error
        except FileNotFoundError as error:
            raise FencedError("a newer run cleaned this exchange", where=self.path.name) from error
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(self.path)

    def verified(self, manifest: Manifest) -> Path:
        """The segment's file, after comparing its hash.

        Raises:
            FatalError: It is gone or damaged.
        """
        path = self.path / manifest.file
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError as error:
            raise damaged(path, "it is gone") from error
        if found != manifest.sha256:
            raise damaged(path, "its sha256 is not the one in its manifest")
        return path

    def remove(self, manifest: Manifest) -> None:
        """Removes a segment and its manifest, the segment first: a manifest without a segment is found, never the reverse."""
        if manifest.file:
            (self.path / manifest.file).unlink(missing_ok=True)
        self._manifest_path(manifest.epoch).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Removes what dead writers left: segments that belong to no manifest and that nobody holds, and half-made manifests."""
        known = {each.file for each in self.manifests()}
        for each in self.path.glob("*.arrow"):
            if each.name not in known and is_free(each):
                each.unlink(missing_ok=True)
        for each in self.path.glob("*.partial"):
            each.unlink(missing_ok=True)

    def _numbers(self, pattern: re.Pattern[str]) -> list[int]:
        try:
            names = [each.name for each in self.path.iterdir()]
        except FileNotFoundError:
            return []
        return sorted(int(found.group(1)) for name in names if (found := pattern.match(name)))

    def _manifest_path(self, epoch: int) -> Path:
        return self.path / f"{epoch:012}.json"

    def _read(self, epoch: int) -> Manifest:
        path = self._manifest_path(epoch)
        try:
            held = json.loads(path.read_bytes())
            body, claimed = held["manifest"], held["sha256"]
            if hashlib.sha256(_canonical(body)).hexdigest() != claimed:
                raise damaged(path, "its sha256 is wrong")
            return Manifest(**body)
        except (ValueError, KeyError, TypeError) as error:
            raise damaged(path, f"it cannot be read: {error}") from error


def is_free(path: Path) -> bool:
    """Whether no living process writes a file. One that was taken over still may publish it, if it asked before."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True
    return True


def _canonical(body: Json | dict[str, object]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _encoded(manifest: Manifest) -> bytes:
    body = asdict(manifest) | {"state": dict(manifest.state)}
    return json.dumps({"manifest": body, "sha256": hashlib.sha256(_canonical(body)).hexdigest()}).encode()


def damaged(path: Path, why: str) -> FatalError:
    """The error for a file of an exchange that cannot be trusted."""
    return FatalError(
        f"a file of the exchange is damaged: {why}",
        where=f"{path.parent.name}/{path.name}",
        hint="remove the exchange's folder and its stages' checkpoints, and run the workflow again from the beginning",
    )


@contextmanager
def disk_faults(path: Path) -> Iterator[None]:
    """Turns a full disk into a sentence.

    Raises:
        FatalError: There is no space left.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise
        raise FatalError(
            f"the disk is full: {error.strerror}",
            where=f"exchange {path.name}",
            hint="free space in HEADRACE_HOME and run again: nothing of the open epoch was committed, nothing is lost",
        ) from error


def sync_folder(path: Path) -> None:
    """Forces a folder's entries to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
