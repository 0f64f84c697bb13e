"""A folder of an SFTP server as a store of files: links create, renames publish; follows nothing outside, knows no format and no log."""

from __future__ import annotations

import io
import secrets
import stat
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from dsl.contracts.errors import FatalError, RetryableError, UnavailableError
from dsl.contracts.state import Json
from resources.file_paths import LOG_FOLDER, fault_of
from resources.object_bytes import FIRST, ObjectBytes
from resources.object_store import ObjectStore, StagedFile, StoredFile
from resources.sftp.client import Session
from resources.staging import TEMPORARY, staged_key

if TYPE_CHECKING:
    from resources.sftp.resource import SftpConnection

BUFFER = 128 * 2**10
WRITTEN_AT_ONCE = 2 * 2**20
STALE_SECONDS = 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ENTRY = "entry-"


class SftpStore(ObjectStore):
    """Files below one folder. What is being written lies in `_headrace/tmp` beside where it will be.

    Args:
        connection: Its options.
        create: Whether the folder is made if it is missing.
    """

    def __init__(self, connection: SftpConnection, *, create: bool = False) -> None:
        self.place = connection.place
        self._session = Session(connection)
        self._moves_hold = False
        # Looked at once: the server resolves names itself, so that a link made later is its matter either way.
        self._folders: dict[str, str] = {}
        try:
            self._root = self._rooted(connection.root, create=create)
        except BaseException:
            self._session.close()
            raise

    def _rooted(self, root: str, *, create: bool) -> str:
        absolute = root if root.startswith("/") else f"{self._session.real('.').rstrip('/')}/{root}"
        if create:
            self._session.make_folder(absolute.rstrip("/"))
        facts = self._session.stat(absolute)
        if facts is None or not stat.S_ISDIR(facts.st_mode):
            raise UnavailableError("there is no such folder", where=self.place, hint="check root")
        return self._session.real(absolute).rstrip("/")

    # ---- names ----------------------------------------------------------------------------------

    def _path(self, key: str) -> str:
        """Returns the path of a file, its folder resolved and below the root.

        Raises:
            FatalError: It is no name below the root, or a link leads out of it.
        """
        why = fault_of(key)
        if why:
            raise FatalError(f"{key!r} cannot be a file here: {why}", where=self.place)
        folder, _, name = key.rpartition("/")
        return f"{self._folder(folder)}/{name}"

    def _folder(self, folder: str, *, create: bool = False) -> str:
        if not folder:
            return self._root
        if folder in self._folders:
            return self._folders[folder]
        path = f"{self._root}/{folder}"
        # The part that exists is resolved first, so that nothing is made beyond a link that leads out.
        above, rest = path, list[str]()
        while self._session.lstat(above) is None:
            above, _, name = above.rpartition("/")
            rest.insert(0, name)
        real = self._below(above, folder)
        if rest:
            real = "/".join([real, *rest])
            if not create:
                return real
            self._session.make_folder(real)
        self._folders[folder] = real
        return real

    def _below(self, path: str, key: str) -> str:
        real = self._session.real(path).rstrip("/")
        if real != self._root and not real.startswith(f"{self._root}/"):
            raise FatalError(
                "it is a link that leads out of the root", where=f"{self.place}/{key}", hint="move the data"
            )
        return real

    def _ready(self, key: str) -> str:
        """Returns the path of a file whose folder is there, made if need be."""
        why = fault_of(key)
        if why:
            raise FatalError(f"{key!r} cannot be a file here: {why}", where=self.place)
        folder, _, name = key.rpartition("/")
        return f"{self._folder(folder, create=True)}/{name}"

    # ---- reading --------------------------------------------------------------------------------

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[StoredFile]:
        above, _, start = prefix.rpartition("/")
        if above and fault_of(above):
            raise FatalError(f"{prefix!r} names no files here: {fault_of(above)}", where=self.place)
        for count, each in enumerate(self._listed(above, start)):
            if limit is not None and count >= limit:
                return
            yield each

    def _listed(self, folder: str, start: str) -> Iterator[StoredFile]:
        entries = [each for each in self._session.listed(self._folder(folder)) if each.filename.startswith(start)]
        named = {f"{each.filename}/" if stat.S_ISDIR(each.st_mode) else each.filename: each for each in entries}
        for name in sorted(named):
            facts = named[name]
            key = f"{folder}/{name}" if folder else name
            if not key.endswith("/"):
                yield self._stored(key, facts)
            elif name != f"{LOG_FOLDER}/" and not (name == f"{TEMPORARY}/" and folder.endswith(LOG_FOLDER)):
                yield from self._listed(key.removesuffix("/"), "")

    def _stored(self, key: str, facts: Any) -> StoredFile:
        real: Any = facts
        if stat.S_ISLNK(facts.st_mode):
            real = self._meant(key)
        if real is None or not stat.S_ISREG(real.st_mode):
            return StoredFile(key, 0, "no regular file below the root", _time(facts))
        return StoredFile(key, real.st_size, _version(real), _time(real))

    def _meant(self, key: str) -> Any | None:
        """Returns the facts of what a link means, or None where it means nothing below the root."""
        with suppress(FatalError, FileNotFoundError):
            return self._session.stat(self._below(f"{self._root}/{key}", key))
        return None

    def open(self, file: StoredFile) -> BinaryIO:
        where = f"{self.place}/{file.key}"
        path = self._path(file.key)
        try:
            if stat.S_ISLNK(self._known(path).st_mode):
                path = self._below(path, file.key)
            if not stat.S_ISREG(self._known(path).st_mode):
                raise FatalError("it is no regular file", where=where, hint="narrow `path`")
            opened = self._session.open(path)
        except FileNotFoundError as error:
            raise _changed(where, "deleted") from error

        def fetch(start: int, size: int) -> bytes:
            data = self._session.fetch(path, opened, start, size) if size else b""
            if len(data) != size or _version(self._session.facts(path, opened)) != file.version:
                raise _changed(where, "replaced or changed")
            return data

        stream = _OpenFile(fetch, file.size, self._session, path, opened)
        try:
            # The first bytes are fetched now, so that a file which is another one is told when it is opened.
            stream.load(min(file.size, FIRST))
        except BaseException:
            stream.close()
            raise
        return cast("BinaryIO", io.BufferedReader(stream, BUFFER))

    def _known(self, path: str) -> Any:
        facts = self._session.lstat(path)
        if facts is None:
            raise FileNotFoundError(path)
        return facts

    def read(self, key: str) -> bytes | None:
        path = self._path(key)
        facts = self._session.lstat(path)
        if facts is None:
            return None
        if not stat.S_ISREG(facts.st_mode):
            raise FatalError("it is no regular file", where=f"{self.place}/{key}", hint="is a link in the way?")
        try:
            opened = self._session.open(path)
        except FileNotFoundError:
            return None
        try:
            return self._session.fetch(path, opened, 0, facts.st_size) if facts.st_size else b""
        finally:
            self._session.finish(path, opened)

    # ---- writing --------------------------------------------------------------------------------

    def create(self, key: str, data: bytes) -> bool:
        target = self._ready(key)
        temporary = self._entry(key, data)
        try:
            created = self._place(temporary, target)
        finally:
            self._session.remove(temporary)
        return created

    def _entry(self, key: str, data: bytes) -> str:
        folder, _, _ = key.partition(f"{LOG_FOLDER}/")
        path = self._ready(f"{folder}{LOG_FOLDER}/{TEMPORARY}/{_ENTRY}{secrets.token_hex(8)}")
        opened = self._session.begin(path)
        if data:
            self._session.append(path, opened, data)
        self._session.sync(path, opened)
        self._session.finish(path, opened)
        return path

    def _place(self, temporary: str, target: str) -> bool:
        """Gives a whole file its name, if nothing has it: of many who try one succeeds."""
        try:
            self._session.link(temporary, target)
        except UnavailableError:
            raise
        except RetryableError:
            # The protocol does not say why it failed.
            if self._session.lstat(target) is not None:
                return False
            return self._moved(temporary, target)
        return True

    def _moved(self, temporary: str, target: str) -> bool:
        """Does the same by a rename, for servers without hard links: they must refuse a name that is taken."""
        self._check_moves(temporary)
        try:
            self._session.move(temporary, target)
        except UnavailableError:
            raise
        except RetryableError:
            if self._session.lstat(target) is None:
                raise
            return False
        return True

    def _check_moves(self, temporary: str) -> None:
        """Tries once whether the server refuses a rename onto a file: if not, two runs could both commit."""
        if self._moves_hold:
            return
        pair = [f"{temporary}.{each}" for each in ("a", "b")]
        try:
            for each in pair:
                self._session.finish(each, self._session.begin(each))
            with suppress(RetryableError):
                self._session.move(*pair)
            if self._session.lstat(pair[0]) is None:
                raise FatalError(
                    "the server has no hard links and renames onto existing files: two runs at once could double rows",
                    where=self.place,
                    hint="use a server of OpenSSH's kind, or write to another store",
                )
        finally:
            for each in pair:
                self._session.remove(each)
        self._moves_hold = True

    def stage(self, key: str, home: str = "") -> StagedFile:
        mark = secrets.token_hex(8)
        self._ready(key)
        staged = staged_key(key, mark, home)
        return _StagedRemote(self._session, self._ready(staged), {"key": key, "staged": staged})

    def publish(self, ticket: Mapping[str, Json]) -> None:
        key = str(ticket["key"])
        staged, target = self._path(str(ticket["staged"])), self._path(key)
        if self._session.lstat(staged) is None:
            self._check_published(key, target)
            return
        if self._session.lstat(target) is not None:
            # Looked at again: another process may have published it just now.
            if self._session.lstat(staged) is None:
                return
            raise FatalError(
                "there is a file of that name already, which no workflow wrote",
                where=f"{self.place}/{key}",
                hint="move it away and run again; the committed rows wait",
            )
        try:
            self._session.replace(staged, target)
        except (FileNotFoundError, RetryableError) as error:
            # Another process was faster, or the server will not.
            if isinstance(error, UnavailableError) or self._session.lstat(staged) is not None:
                raise
            self._check_published(key, target)

    def _check_published(self, key: str, target: str) -> None:
        if self._session.lstat(target) is None:
            raise FatalError(
                f"a committed file cannot appear: it is gone from {LOG_FOLDER}/{TEMPORARY}",
                where=f"{self.place}/{key}",
                hint="restore it there, or load these rows again",
            )

    def discard(self, ticket: Mapping[str, Json]) -> None:
        self._session.remove(self._path(str(ticket["staged"])))

    def sweep(self, prefix: str, kept: Collection[Mapping[str, Json]]) -> None:
        folder, slash, start = prefix.rpartition("/")
        hidden = f"{folder}{slash}{LOG_FOLDER}/{TEMPORARY}"
        keep = {str(each["staged"]).rpartition("/")[2] for each in kept}
        path = self._folder(hidden)
        for each in self._session.listed(path):
            name = each.filename
            stale = name.startswith(_ENTRY) and each.st_mtime < time.time() - STALE_SECONDS
            if stale or (name.startswith(start) and not name.startswith(_ENTRY) and name not in keep):
                self._session.remove(f"{path}/{name}")

    def delete(self, key: str) -> None:
        self._session.remove(self._path(key))

    def close(self) -> None:
        self._session.close()


def _version(facts: Any) -> str:
    return f"{facts.st_size:x}-{facts.st_mtime:x}"


def _time(facts: Any) -> datetime:
    return _EPOCH + timedelta(seconds=facts.st_mtime or 0)


def _changed(where: str, what: str) -> FatalError:
    return FatalError(
        f"it was {what} since it was listed",
        where=where,
        hint="write files under another name, and rename them when whole",
    )


class _OpenFile(ObjectBytes):
    """A file that is open at the server."""

    def __init__(self, fetch: Any, size: int, session: Session, path: str, opened: Any) -> None:
        super().__init__(fetch, size)
        self._session, self._path, self._opened = session, path, opened

    def close(self) -> None:
        if not self.closed:
            # Nothing was written: what the server thinks of its end does not matter.
            with suppress(RetryableError):
                self._session.finish(self._path, self._opened)
        super().close()


class _StagedRemote(StagedFile):
    """A file in the folder for what is being written."""

    def __init__(self, session: Session, path: str, ticket: Mapping[str, Json]) -> None:
        self._session, self._path, self._ticket = session, path, ticket
        self._opened = session.begin(path)
        self._filling = bytearray()
        self._ended = False

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        if self._ended:
            raise ValueError(f"{self._ticket['key']} is sealed or discarded")
        rest = memoryview(data).cast("B")
        written = len(rest)
        while rest:
            room = WRITTEN_AT_ONCE - len(self._filling)
            self._filling += rest[:room]
            rest = rest[room:]
            if len(self._filling) == WRITTEN_AT_ONCE:
                self._flush()
        return written

    def _flush(self) -> None:
        data, self._filling = bytes(self._filling), bytearray()
        self._session.append(self._path, self._opened, data)

    def seal(self) -> Mapping[str, Json]:
        if not self._ended:
            if self._filling:
                self._flush()
            self._session.sync(self._path, self._opened)
            self._session.finish(self._path, self._opened)
            self._ended = True
        return self._ticket

    def discard(self) -> None:
        self._filling = bytearray()
        # What cannot be removed now is swept by the next run; nobody sees it until then.
        with suppress(RetryableError):
            if not self._ended:
                self._ended = True
                self._session.finish(self._path, self._opened)
            self._session.remove(self._path)
