"""A folder of this machine as a store of files: durable before it is visible, atomic by rename and link; follows nothing outside."""

from __future__ import annotations

import io
import os
import secrets
import stat
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, BinaryIO, cast

from dsl.contracts.errors import FatalError
from dsl.contracts.state import Json
from resources.file_paths import LOG_FOLDER
from resources.files.folders import Root, translated
from resources.object_store import ObjectStore, StagedFile, StoredFile

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

TEMPORARY = "tmp"
STALE_SECONDS = 86_400.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class LocalStore(ObjectStore):
    """Files below one folder. What is being written lies in `_headrace/tmp` beside where it will be.

    Args:
        root: The folder.
        create: Whether it is made if it is missing.
    """

    def __init__(self, root: str, *, create: bool = False) -> None:
        self._root = Root(root, create=create)
        self.place = self._root.place

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[StoredFile]:
        above, _, start = prefix.rpartition("/")
        parts = self._root.parts_of(above) if above else []
        found = self._below(parts, start)
        for count, each in enumerate(found):
            if limit is not None and count >= limit:
                return
            yield each

    def _below(self, parts: Sequence[str], start: str) -> Iterator[StoredFile]:
        where = "/".join([self.place, *parts])
        try:
            with self._root.folder(parts) as opened, os.scandir(opened) as entries:
                listed = [
                    (f"{each.name}/" if each.is_dir(follow_symlinks=False) else each.name, each.name)
                    for each in entries
                    if each.name.startswith(start)
                ]
                facts = {name: _facts(name, opened) for key, name in listed if not key.endswith("/")}
        except FileNotFoundError:
            return
        except OSError as error:
            raise translated(error, where) from error
        for key, name in sorted(listed):
            found = facts.get(name)
            if found is not None:
                yield self._stored("/".join([*parts, _printable(name, where)]), found)
            elif not key.endswith("/"):
                continue  # gone since the folder was read
            elif name != LOG_FOLDER and not (name == TEMPORARY and parts[-1:] == [LOG_FOLDER]):
                yield from self._below([*parts, _printable(name, where)], "")

    def _stored(self, key: str, facts: os.stat_result) -> StoredFile:
        real: os.stat_result | None = facts
        if stat.S_ISLNK(facts.st_mode):
            real = self._root.real_stat(key)
        if real is None or not stat.S_ISREG(real.st_mode):
            return StoredFile(key, 0, "no regular file below the root", _time(facts))
        return StoredFile(key, real.st_size, version_of(real), _time(real))

    def open(self, file: StoredFile) -> BinaryIO:
        where = f"{self.place}/{file.key}"
        try:
            opened = self._root.open_file(file.key)
        except FileNotFoundError as error:
            raise _changed(where, "deleted") from error
        except OSError as error:
            raise translated(error, where) from error
        watched = _Watched(opened, file.version, where)
        watched.check()
        return cast("BinaryIO", io.BufferedReader(watched, 1 << 20))

    def read(self, key: str) -> bytes | None:
        try:
            with open(self._root.open_file(key), "rb") as opened:  # noqa: PTH123 - a descriptor has no path
                return opened.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise translated(error, f"{self.place}/{key}") from error

    def create(self, key: str, data: bytes) -> bool:
        *folder, name = self._root.parts_of(key)
        temporary = f"entry-{secrets.token_hex(8)}"
        with self._told(key), self._pair(folder, folder) as (work, target):
            _write_new(temporary, data, work)
            try:
                os.link(temporary, name, src_dir_fd=work, dst_dir_fd=target, follow_symlinks=False)
            except FileExistsError:
                return False
            finally:
                os.unlink(temporary, dir_fd=work)
            os.fsync(target)
        return True

    def stage(self, key: str, home: str = "") -> StagedFile:
        *folder, name = self._root.parts_of(key)
        temporary = f"{name}.{secrets.token_hex(8)}"
        ticket: dict[str, Json] = {"key": key, "temporary": temporary}
        if home:
            ticket["home"] = home
        with self._told(key), self._pair(folder, self._home_of(ticket, folder)) as (work, _):
            return _StagedLocal(self, os.open(temporary, _NEW, 0o644, dir_fd=work), ticket)

    def publish(self, ticket: Mapping[str, Json]) -> None:
        key, temporary = str(ticket["key"]), str(ticket["temporary"])
        *folder, name = self._root.parts_of(key)
        where = f"{self.place}/{key}"
        with self._told(key), self._pair(folder, self._home_of(ticket, folder)) as (work, target):
            if _facts(temporary, work) is None:
                _check_published(name, target, where)
                return
            if _facts(name, target) is not None:
                # Looked at again: another process may have published it just now.
                if _facts(temporary, work) is None:
                    return
                raise FatalError(
                    "there is a file of that name already, which no workflow wrote",
                    where=where,
                    hint="move it away and run again; the committed rows wait",
                )
            try:
                os.rename(temporary, name, src_dir_fd=work, dst_dir_fd=target)
            except FileNotFoundError:  # another process was faster
                _check_published(name, target, where)
            os.fsync(target)
            os.fsync(work)

    def discard(self, ticket: Mapping[str, Json]) -> None:
        key = str(ticket["key"])
        *folder, _ = self._root.parts_of(key)
        home = _base(self._home_of(ticket, folder))
        with self._told(key), suppress(FileNotFoundError), self._root.folder([*home, TEMPORARY]) as work:
            os.unlink(str(ticket["temporary"]), dir_fd=work)

    def sweep(self, prefix: str, kept: Collection[Mapping[str, Json]]) -> None:
        above, _, start = prefix.rpartition("/")
        folder = self._root.parts_of(above) if above else []
        keep = {each.get("temporary") for each in kept}
        with self._told(prefix), suppress(FileNotFoundError), self._root.folder([*_base(folder), TEMPORARY]) as work:
            for name in os.listdir(work):  # noqa: PTH208 - a descriptor has no path
                dead = name.startswith(start) and name not in keep
                if dead or (name.startswith("entry-") and _is_stale(name, work)):
                    with suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=work)

    def delete(self, key: str) -> None:
        *folder, name = self._root.parts_of(key)
        with self._told(key), suppress(FileNotFoundError), self._root.folder(folder) as opened:
            os.unlink(name, dir_fd=opened)
            os.fsync(opened)

    def close(self) -> None:
        self._root.close()

    def _home_of(self, ticket: Mapping[str, Json], folder: Sequence[str]) -> Sequence[str]:
        """Returns the folder beside whose log a file is being written, given the one where it will be."""
        home = str(ticket.get("home", ""))
        return self._root.parts_of(home) if home else folder

    @contextmanager
    def _pair(self, folder: Sequence[str], home: Sequence[str]) -> Iterator[tuple[int, int]]:
        """Opens the folder of what is being written, and the one where it will be; makes both."""
        with (
            self._root.folder([*_base(home), TEMPORARY], create=True) as work,
            self._root.folder(folder, create=True) as target,
        ):
            yield work, target

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise translated(error, f"{self.place}/{key}") from error


def version_of(facts: os.stat_result) -> str:
    """Names the content of a file: other bytes have another."""
    return f"{facts.st_ino:x}-{facts.st_size:x}-{facts.st_mtime_ns:x}"


def _time(facts: os.stat_result) -> datetime:
    # The time that the system sets, so that a file which is moved or copied here with its old time is new all the same.
    return _EPOCH + timedelta(microseconds=facts.st_ctime_ns // 1000)


def _base(folder: Sequence[str]) -> list[str]:
    """Returns the folder of the log and of what is being written, for files in a folder or in the log itself."""
    above = list(folder)
    return [*above[: above.index(LOG_FOLDER) if LOG_FOLDER in above else len(above)], LOG_FOLDER]


def _printable(name: str, where: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise FatalError(f"the name {name!r} is not UTF-8", where=where, hint="rename the file") from error
    return name


def _facts(name: str, folder: int) -> os.stat_result | None:
    with suppress(FileNotFoundError):
        return os.lstat(name, dir_fd=folder)
    return None


def _check_published(name: str, folder: int, where: str) -> None:
    if _facts(name, folder) is None:
        raise FatalError(
            f"a committed file cannot appear: it is gone from {LOG_FOLDER}/{TEMPORARY}",
            where=where,
            hint="restore it there, or load these rows again",
        )


def _is_stale(name: str, folder: int) -> bool:
    facts = _facts(name, folder)
    return facts is not None and facts.st_mtime < time.time() - STALE_SECONDS


def _write_new(name: str, data: bytes, folder: int) -> None:
    with open(os.open(name, _NEW, 0o600, dir_fd=folder), "wb") as opened:  # noqa: PTH123 - a descriptor has no path
        try:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        except OSError:
            os.unlink(name, dir_fd=folder)
            raise


def _changed(where: str, what: str) -> FatalError:
    return FatalError(
        f"it was {what} since it was listed",
        where=where,
        hint="write files under another name, and rename them when whole",
    )


class _Watched(io.RawIOBase):
    """A file that must not change while it is read."""

    def __init__(self, opened: int, version: str, where: str) -> None:
        self._file = io.FileIO(opened, "rb")
        self._version, self._where = version, where

    def check(self) -> None:
        """Compares the file with what was listed.

        Raises:
            FatalError: It is another one by now.
        """
        facts = os.fstat(self._file.fileno())
        if not facts.st_nlink or version_of(facts) != self._version:
            what = "changed" if facts.st_nlink else "deleted or replaced"
            self.close()
            raise _changed(self._where, what)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        try:
            count = self._file.readinto(buffer)
        except OSError as error:
            raise translated(error, self._where) from error
        self.check()
        return count or 0

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


class _StagedLocal(StagedFile):
    """A file in the folder for what is being written."""

    def __init__(self, store: LocalStore, opened: int, ticket: Mapping[str, Json]) -> None:
        self._store, self._ticket = store, ticket
        self._where = f"{store.place}/{ticket['key']}"
        self._file = io.BufferedWriter(io.FileIO(opened, "wb"), 1 << 18)

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            raise translated(error, self._where) from error

    def seal(self) -> Mapping[str, Json]:
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise translated(error, self._where) from error
        return self._ticket

    def discard(self) -> None:
        # What cannot be flushed any more (a full disk) is not wanted either.
        with suppress(OSError):
            self._file.close()
        self._store.discard(self._ticket)
