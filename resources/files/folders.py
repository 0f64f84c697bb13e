"""A folder that cannot be left: names are walked one by one below an open root and no link is followed unseen; writes nothing.

A symbolic link is followed only if what it finally means lies below the root as well, and then by that real name, again without
following any; so a link that is changed in between leads to an error and never outside.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from dsl.contracts.errors import FatalError, HeadraceError, RetryableError, UnavailableError
from resources.file_paths import fault_of

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = {
    errno.ENOSPC: "no space is left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file may not become that large here",
}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_WRONG = {errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.ENXIO, errno.EEXIST}


def translated(error: OSError, where: str) -> HeadraceError:
    """Puts an error of the system into words."""
    code = error.errno or 0
    if code in _FULL:
        return FatalError(
            f"{_FULL[code]}: nothing of this epoch was committed", where=where, hint="make room, run again"
        )
    said = os.strerror(code).lower() if code else str(error)
    if code in _REFUSED:
        return FatalError(said, where=where, hint="does the user that runs workflows own it?")
    if code in _WRONG:
        return FatalError(said, where=where, hint="is something else of that name in the way?")
    if code == errno.ENOENT:
        return UnavailableError("there is no such file or folder", where=where, hint="was it moved, or unmounted?")
    return RetryableError(f"the system says: {said}", where=where)


class Root:
    """An open root folder.

    Args:
        path: The folder; links on the way to it are followed, because the document names them.
        create: Whether it is made if it is missing.

    Raises:
        UnavailableError: There is no such folder.
        FatalError: It may not be opened.
    """

    def __init__(self, path: str, *, create: bool) -> None:
        self.place = str(path).rstrip("/") or "/"
        self._fd = -1
        try:
            if create:
                Path(path).mkdir(parents=True, exist_ok=True)
            self._real = os.path.realpath(path)
            self._fd = os.open(self._real, _FOLDER)
        except FileNotFoundError as error:
            raise UnavailableError("there is no such folder", where=self.place, hint="check `root`") from error
        except OSError as error:
            raise translated(error, self.place) from error

    def close(self) -> None:
        """Closes it; safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def parts_of(self, key: str) -> list[str]:
        """Returns the names on the way to a file.

        Raises:
            FatalError: It is no name below the root.
        """
        why = fault_of(key)
        if why:
            raise FatalError(f"{key!r} cannot be a file here: {why}", where=self.place)
        return key.split("/")

    @contextmanager
    def folder(self, parts: Sequence[str], *, create: bool = False) -> Iterator[int]:
        """Opens the folder at some names below the root.

        Raises:
            FileNotFoundError: It is not there.
            FatalError: A link on the way leads out of the root.
        """
        try:
            opened = self._walk(parts, create=create)
        except OSError as error:
            if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
                raise
            opened = self._walk(self._resolved(parts), create=create)
        try:
            yield opened
        finally:
            os.close(opened)

    def _walk(self, parts: Sequence[str], *, create: bool) -> int:
        at = os.dup(self._fd)
        try:
            for name in parts:
                below = _enter(at, name, create=create)
                os.close(at)
                at = below
        except BaseException:
            os.close(at)
            raise
        return at

    def _resolved(self, parts: Sequence[str]) -> list[str]:
        """Returns the real names of what some names mean, which may be links."""
        real = os.path.realpath("/".join([self._real, *parts]))
        if real == self._real:
            return []
        below = self._real if self._real.endswith("/") else f"{self._real}/"
        if not real.startswith(below):
            raise FatalError(
                "it is a link that leads out of the root", where=f"{self.place}/{'/'.join(parts)}", hint="move the data"
            )
        return real.removeprefix(below).split("/")

    def open_file(self, key: str) -> int:
        """Opens a regular file for reading, and nothing else: no device, no pipe.

        Raises:
            FileNotFoundError: It is not there.
            FatalError: It is no regular file, or lies outside of the root.
        """
        parts = self.parts_of(key)
        try:
            found = self._open_at(parts)
        except OSError as error:
            if error.errno not in {errno.ELOOP, errno.EMLINK}:
                raise
            found = self._open_at(self._resolved(parts))
        if not stat.S_ISREG(os.fstat(found).st_mode):
            os.close(found)
            raise FatalError("it is no regular file", where=f"{self.place}/{key}", hint="narrow `path`")
        return found

    def _open_at(self, parts: Sequence[str]) -> int:
        with self.folder(parts[:-1]) as folder:
            name = parts[-1] if parts else "."
            return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)

    def real_stat(self, key: str) -> os.stat_result | None:
        """Returns the facts of the regular file that a link means, or None where it means nothing below the root."""
        with suppress(OSError, FatalError):
            found = self.open_file(key)
            try:
                return os.fstat(found)
            finally:
                os.close(found)
        return None


def _enter(at: int, name: str, *, create: bool) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=at)
    except FileNotFoundError:
        if not create:
            raise
    with suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=at)
        os.fsync(at)
    return os.open(name, _FOLDER, dir_fd=at)
