"""What was sent of an epoch, beside the place of its stream, in a file that a crash does not lose; sends nothing itself.

A request is noted before it is sent, with the digests of its rows and, until it is answered, its bytes. So whoever goes on
after a crash knows which of the rows that come again have arrived, and repeats the one request that nobody heard the end of.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from dsl.contracts.connectors import Committed, Token
from dsl.contracts.errors import FatalError, FencedError, UnavailableError
from dsl.contracts.state import State

DIGEST: Final = 16
"""Bytes of a row's digest."""
_BUSY_SECONDS: Final = 30.0
_STREAMS: Final = "CREATE TABLE IF NOT EXISTS streams (key TEXT PRIMARY KEY, fence INTEGER, epoch INTEGER, state TEXT)"
_REQUESTS: Final = (
    "CREATE TABLE IF NOT EXISTS requests "
    "(number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT, rows BLOB, url TEXT, idempotency TEXT, body BLOB, refused TEXT)"
)


@dataclass(frozen=True)
class Noted:
    """A request as it was noted.

    Attributes:
        rows: The digests of its rows, one behind the other.
        url: Where it goes.
        idempotency: The key that a repetition has as well.
        body: Its bytes; None once it is answered.
        refused: Once it is answered, the rows that were refused: number in the request -> code and reason.
        number: Where it stands among the others; 0 until it is noted.
    """

    rows: bytes = field(repr=False)
    url: str
    idempotency: str
    body: bytes | None = field(repr=False)
    refused: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    number: int = 0

    @property
    def count(self) -> int:
        """How many rows it has."""
        return len(self.rows) // DIGEST

    def digest(self, row: int) -> bytes:
        """The digest of one of its rows."""
        return self.rows[row * DIGEST : (row + 1) * DIGEST]


def digest_of(text: str) -> bytes:
    """Returns the digest of a row."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:DIGEST]


class Journal:
    """The journal of one stream, whose only owner is whoever opened it last.

    Args:
        folder: Where journals are kept; below HEADRACE_HOME if None.
        token: The stream.
        target: What it writes.

    Raises:
        UnavailableError: The file cannot be used.
    """

    def __init__(self, folder: str | None, token: Token, target: str) -> None:
        name = hashlib.sha256(f"{token.key}\0{target}".encode()).hexdigest()[:32]
        root = Path(folder) if folder is not None else _home() / "journals"
        self.path, self._key = root / f"rest-{name}.sqlite", token.key
        self._where = f"journal {self.path}"
        with self._told():
            root.mkdir(parents=True, exist_ok=True)
            self.path.touch(mode=0o600)
            self._file = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._file.execute("PRAGMA synchronous=FULL")
            self._file.execute("PRAGMA secure_delete=ON")
        self._fence, self.committed = self._taken()

    def _taken(self) -> tuple[int, Committed | None]:
        with self._told(), self._whole():
            for each in (_STREAMS, _REQUESTS):
                self._file.execute(each)
            self._file.execute("INSERT OR IGNORE INTO streams VALUES (?, 0, 0, NULL)", (self._key,))
            self._file.execute("UPDATE streams SET fence = fence + 1 WHERE key = ?", (self._key,))
            found = self._file.execute("SELECT fence, epoch, state FROM streams WHERE key = ?", (self._key,))
            fence, epoch, state = found.fetchone()
        return int(fence), None if state is None else Committed(int(epoch), json.loads(state))

    def left(self) -> list[Noted]:
        """Returns the requests of the epoch that was left open, in order."""
        with self._told():
            found = self._file.execute(
                "SELECT rows, url, idempotency, body, refused, number FROM requests WHERE key = ? ORDER BY number",
                (self._key,),
            ).fetchall()
        return [
            Noted(rows, url, key, body, _refusals(refused), number) for rows, url, key, body, refused, number in found
        ]

    def note(self, request: Noted) -> Noted:
        """Notes a request that is about to be sent; returns it with its number.

        Raises:
            FencedError: Another run owns the stream.
        """
        values = (self._key, request.rows, request.url, request.idempotency, request.body)
        with self._told(), self._owned():
            added = self._file.execute(
                "INSERT INTO requests (key, rows, url, idempotency, body) VALUES (?, ?, ?, ?, ?)", values
            )
            return replace(request, number=added.lastrowid or 0)

    def answer(self, request: Noted, refused: Mapping[int, tuple[str, str]]) -> Noted:
        """Notes that a request was answered; its bytes are forgotten."""
        said = json.dumps({str(row): list(each) for row, each in refused.items()})
        with self._told(), self._owned():
            self._file.execute("UPDATE requests SET body = NULL, refused = ? WHERE number = ?", (said, request.number))
        return replace(request, body=None, refused=dict(refused))

    def cut(self, request: Noted, rows: int) -> None:
        """Forgets a request from one of its rows on, and all that were noted after it."""
        with self._told(), self._owned():
            self._file.execute("DELETE FROM requests WHERE key = ? AND number > ?", (self._key, request.number))
            if rows:
                kept = request.rows[: rows * DIGEST]
                self._file.execute("UPDATE requests SET rows = ? WHERE number = ?", (kept, request.number))
            else:
                self._file.execute("DELETE FROM requests WHERE number = ?", (request.number,))

    def check(self) -> None:
        """Makes sure that this run still owns the stream.

        Raises:
            FencedError: It does not.
        """
        with self._told(), self._owned():
            pass

    def commit(self, epoch: int, state: State) -> None:
        """Moves the stream's place and forgets the epoch's requests, in one act.

        Raises:
            FatalError: The epoch is not the next.
            FencedError: Another run owns the stream.
        """
        last = 0 if self.committed is None else self.committed.epoch
        if epoch != last + 1:
            raise FatalError(f"epoch {epoch} cannot follow epoch {last}", where=self._where, hint="this is a defect")
        with self._told(), self._owned():
            said = json.dumps(dict(state), sort_keys=True)
            self._file.execute("UPDATE streams SET epoch = ?, state = ? WHERE key = ?", (epoch, said, self._key))
            self._file.execute("DELETE FROM requests WHERE key = ?", (self._key,))
        self.committed = Committed(epoch, dict(state))

    def close(self) -> None:
        """Closes the file; safe to call twice."""
        self._file.close()

    @contextmanager
    def _owned(self) -> Iterator[None]:
        with self._whole():
            found = self._file.execute("SELECT fence FROM streams WHERE key = ?", (self._key,)).fetchone()
            if found is None or int(found[0]) != self._fence:
                raise FencedError(
                    "another run owns this stream now, or its journal was deleted; nothing more was sent",
                    where=self._where,
                )
            yield

    @contextmanager
    def _whole(self) -> Iterator[None]:
        self._file.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._file.execute("ROLLBACK")
            raise
        self._file.execute("COMMIT")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            hint = "free space and check permissions; a journal that is damaged may be deleted, then rows may be sent twice"
            raise UnavailableError(f"it cannot be used: {error}", where=self._where, hint=hint) from error


def _home() -> Path:
    """Returns the folder of a deployment's own files, by the rules that all of it follows."""
    dagster = os.environ.get("DAGSTER_HOME")
    return Path(os.environ.get("HEADRACE_HOME") or (Path(dagster) / "headrace" if dagster else ".headrace")).absolute()


def _refusals(text: str | None) -> dict[int, tuple[str, str]]:
    found = {} if text is None else json.loads(text)
    return {int(row): (str(code), str(reason)) for row, (code, reason) in found.items()}
