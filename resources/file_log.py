"""The log beside the files that a stream wrote: fences and commits, each created once and never changed; moves no rows.

`<path>/_headrace/<stream>/<inverted number>.json`, so that the newest entry is the first of a listing. Whoever opens a writer
takes the next number with a `fence`; an older writer finds its next number taken, and knows that it is fenced. The creation of
a `commit` is what commits its rows. Entries are never deleted: a writer that was asleep could take a number that is free again.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dsl.contracts.connectors import Committed, Token
from dsl.contracts.errors import FatalError, FencedError, RetryableError
from dsl.contracts.state import Json, State
from resources.file_paths import LOG_FOLDER
from resources.object_store import ObjectStore

VERSION = 1
_LAST = 10**12


@dataclass(frozen=True)
class Part:
    """A file of rows that is sealed.

    Attributes:
        key: Its name once it is visible.
        ticket: What publishes or discards it.
        sha256: Of its bytes.
        rows: Rows in it.
        bytes: Its size.
    """

    key: str
    ticket: Mapping[str, Json]
    sha256: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class Commit:
    """What an epoch left.

    Attributes:
        epoch: Its number.
        state: The stage's state after it.
        run_id: The run that committed it.
        schema: Of its rows, as text.
        parts: Its files.
        gathers: Whether they stay unseen until an overwrite ends.
        previous: Number of the entry whose parts belong to the same overwrite, or 0.
        removed: Files that disappear with it.
    """

    epoch: int
    state: State
    run_id: str
    schema: str
    parts: tuple[Part, ...] = ()
    gathers: bool = False
    previous: int = 0
    removed: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Entry:
    """One file of the log.

    Attributes:
        kind: `fence` or `commit`.
        number: Counted from 1.
        writer: Who created it.
        birth: Names this log: one that was deleted and begun anew has another.
        last: Number of the newest commit before it, or 0.
        stream: The stream's key, for people.
        commit: What was committed, or None.
    """

    kind: str
    number: int
    writer: str
    birth: str
    last: int
    stream: str
    commit: Commit | None = None
    v: int = field(default=VERSION)

    def as_bytes(self) -> bytes:
        return json.dumps(asdict(self), ensure_ascii=False).encode()


class StreamLog:
    """One stream's log, fenced for one writer when it is made.

    Args:
        store: Where it is.
        folder: The folder of the data.
        token: The stream.

    Raises:
        RetryableError: It is not known whether the fence stands.
    """

    def __init__(self, store: ObjectStore, folder: str, token: Token) -> None:
        self._store, self._token = store, token
        stream = hashlib.sha256(token.key.encode()).hexdigest()[:16]
        self._folder = f"{folder}/{LOG_FOLDER}/{stream}"
        self.where = f"{store.place}/{folder}"
        self._writer = secrets.token_hex(8)
        self._newest = self._fence()

    @property
    def short(self) -> str:
        """Names this log in the names of its files: no other stream and no later log of this one has the same."""
        return hashlib.sha256(f"{self._token.key}\0{self._newest.birth}".encode()).hexdigest()[:8]

    @property
    def number(self) -> int:
        """The number of the newest commit, or 0."""
        return self._newest.number if self._newest.kind == "commit" else self._newest.last

    def newest(self) -> Commit | None:
        """Returns the newest commit."""
        return self._commit(self.number) if self.number else None

    def committed(self) -> Committed | None:
        """Returns what the stream remembers of its last commit."""
        newest = self.newest()
        return None if newest is None else Committed(newest.epoch, newest.state)

    def chain(self, number: int) -> Iterator[Commit]:
        """Yields an overwrite's commits, the newest first, beginning with one."""
        while number:
            found = self._commit(number)
            yield found
            number = found.previous

    def shown(self) -> bool:
        """Tells whether all files of the newest commit have appeared: since then others may have moved them away."""
        return self._store.read(self._shown) is not None

    def note_shown(self) -> None:
        """Notes that all files of the newest commit have appeared."""
        self._store.create(self._shown, b"")

    @property
    def _shown(self) -> str:
        # Digits sort before it, so that the newest entry stays the first of the listing.
        return f"{self._folder}/shown/{self._newest.birth}-{self.number}"

    def append(self, commit: Commit) -> None:
        """Commits.

        Raises:
            FencedError: A newer writer has taken the number; nothing was committed.
            RetryableError: It is not known whether it was committed.
        """
        before = self._newest
        entry = _Entry("commit", before.number + 1, self._writer, before.birth, self.number, self._token.key, commit)
        if not self._create(entry):
            raise FencedError("a newer run writes this stream", where=self.where)
        self._newest = entry

    def overtaken(self) -> bool:
        """Tells whether a newer writer has taken the number that this one would commit under."""
        found = self._read(self._newest.number + 1)
        return found is not None and found.writer != self._writer

    def _fence(self) -> _Entry:
        while True:
            newest = self._first()
            birth = secrets.token_hex(8) if newest is None else newest.birth
            number = 1 if newest is None else newest.number + 1
            last = 0 if newest is None else newest.number if newest.kind == "commit" else newest.last
            entry = _Entry("fence", number, self._writer, birth, last, self._token.key)
            if self._create(entry):
                return entry

    def _create(self, entry: _Entry) -> bool:
        """Creates an entry; tells whether the one of that number is ours, also when the answer was lost."""
        key = self._key(entry.number)
        try:
            if self._store.create(key, entry.as_bytes()):
                return True
        except RetryableError:
            found = self._read(entry.number)
            if found is None:
                raise
            return found.writer == self._writer
        found = self._read(entry.number)
        return found is not None and found.writer == self._writer

    def _first(self) -> _Entry | None:
        newest = next(iter(self._store.list(f"{self._folder}/", limit=1)), None)
        if newest is None:
            return None
        number = _LAST - int(newest.key.rpartition("/")[2].removesuffix(".json"))
        return self._read(number)

    def _commit(self, number: int) -> Commit:
        if self._newest.number == number and self._newest.commit is not None:
            return self._newest.commit
        found = self._read(number)
        if found is None or found.commit is None:
            raise FatalError(
                f"entry {self._key(number)} of its log is missing",
                where=self.where,
                hint=f"restore it, or delete the whole folder {self._folder} to begin anew",
            )
        return found.commit

    def _key(self, number: int) -> str:
        return f"{self._folder}/{_LAST - number:012d}.json"

    def _read(self, number: int) -> _Entry | None:
        data = self._store.read(self._key(number))
        if data is None:
            return None
        try:
            return _entry_of(json.loads(data))
        except (ValueError, TypeError, KeyError) as error:
            raise FatalError(
                f"entry {self._key(number)} of its log cannot be read: {error}", where=self.where, hint="restore it"
            ) from error


def _entry_of(found: dict[str, Any]) -> _Entry:
    if found["v"] != VERSION:
        raise ValueError(f"its version is {found['v']}, not {VERSION}")
    held = found["commit"]
    commit = None
    if held is not None:
        parts = tuple(Part(**each) for each in held["parts"])
        commit = Commit(**{**held, "parts": parts, "removed": tuple(held["removed"])})
    return _Entry(**{**found, "commit": commit})


def parts_of(commits: Sequence[Commit]) -> list[Part]:
    """Returns the files of an overwrite's commits, the newest first, in the order they were written."""
    return [part for each in reversed(commits) for part in each.parts]
