"""The SQLite file behind the local dead letters: its tables, one connection, and rows as text with their types; decides nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from dsl.contracts.errors import UnavailableError
from dsl.contracts.rows import Rejection
from dsl.contracts.stores import DeadLetter
from resources.formats.json_values import from_rows, to_lines

FILE = "dead_letters.sqlite"
VERSION = 2

# Ids are hashes: in a table ordered by them every new row would dirty another page.
_TABLES = """
CREATE TABLE IF NOT EXISTS schemas (id TEXT PRIMARY KEY, arrow TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS letters (
    id TEXT NOT NULL PRIMARY KEY, key TEXT NOT NULL, epoch INTEGER NOT NULL, node TEXT NOT NULL, code TEXT NOT NULL,
    reason TEXT NOT NULL, run_id TEXT NOT NULL, rejected_at TEXT NOT NULL, schema TEXT NOT NULL, row TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS letters_by_stream ON letters (key, code, rejected_at);
"""
_ADDED = {
    "entry": "TEXT NOT NULL DEFAULT ''",
    "fingerprint": "TEXT NOT NULL DEFAULT ''",
    "pattern": "TEXT NOT NULL DEFAULT ''",
    "replay_of": "TEXT NOT NULL DEFAULT ''",
    "status": "TEXT NOT NULL DEFAULT 'kept'",
}
# The first index answers `groups` without touching a row; the others find what a replay or a lineage asks for.
_MORE = """
CREATE INDEX IF NOT EXISTS letters_by_fault ON letters (key, status, node, code, pattern, rejected_at, id);
CREATE INDEX IF NOT EXISTS letters_by_origin ON letters (replay_of) WHERE replay_of <> '';
CREATE INDEX IF NOT EXISTS letters_by_entry ON letters (key, status, entry, fingerprint, schema, epoch);
CREATE TABLE IF NOT EXISTS deliveries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, letter TEXT NOT NULL, done INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS deliveries_by_stream ON deliveries (stream, done, seq);
CREATE UNIQUE INDEX IF NOT EXISTS deliveries_by_letter ON deliveries (letter, stream);
CREATE TABLE IF NOT EXISTS journal (
    number INTEGER PRIMARY KEY AUTOINCREMENT, letter TEXT NOT NULL, at TEXT NOT NULL, action TEXT NOT NULL,
    who TEXT NOT NULL, why TEXT NOT NULL DEFAULT '', schema TEXT, row TEXT
);
CREATE INDEX IF NOT EXISTS journal_by_letter ON journal (letter);
CREATE INDEX IF NOT EXISTS journal_by_who ON journal (who, action);
"""
COLUMNS = (
    "l.id, l.key, l.epoch, l.node, l.code, l.reason, l.run_id, l.rejected_at, l.entry, l.fingerprint, l.replay_of, "
    "s.arrow, l.row"
)
_LITERAL = re.compile(
    r"""'(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" | (?<![A-Za-z_0-9])[-+]?\d[\d.,:eETZ+-]*""", re.VERBOSE
)


class LetterFile:
    """One SQLite file of dead letters. Several threads and processes may use it.

    Args:
        path: The file, or the folder to keep it in; made if absent, with mode 0600.
    """

    def __init__(self, path: str | Path) -> None:
        given = Path(path)
        self.path = given if given.suffix else given / FILE
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """Gives a connection inside one transaction, which is durable once the block has ended.

        Raises:
            UnavailableError: The file cannot be opened, read or written.
        """
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = _connect(self.path)
                with self._connection:
                    yield self._connection
            except (OSError, sqlite3.Error) as error:
                raise UnavailableError(
                    f"dead letters could not be kept or read: {error}",
                    where=str(self.path),
                    hint="is the disk full, or the folder not writable?",
                ) from error

    def close(self) -> None:
        """Closes the file; the next use opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, timeout=30, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA temp_store = FILE")
    if connection.execute("PRAGMA user_version").fetchone()[0] < VERSION:
        _migrate(connection)
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    """Makes the tables, or adds to those of an older version what they lack; all of it or nothing."""
    connection.create_function("pattern_of", 1, pattern_of, deterministic=True)
    connection.execute("BEGIN IMMEDIATE")
    try:
        for each in _statements(_TABLES):
            connection.execute(each)
        have = {row[1] for row in connection.execute("PRAGMA table_info(letters)")}
        for name, kind in _ADDED.items():
            if name not in have:
                connection.execute(f"ALTER TABLE letters ADD COLUMN {name} {kind}")
        connection.execute("UPDATE letters SET pattern = pattern_of(reason) WHERE pattern = ''")
        for each in _statements(_MORE):
            connection.execute(each)
        connection.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def _statements(script: str) -> list[str]:
    return [each for each in script.split(";") if each.strip()]


def pattern_of(reason: str) -> str:
    """A reason without its values, so that a million rows refused for one fault are one line: `could not convert … to INT64`."""
    return _LITERAL.sub("…", reason)


def stored_row(row: pa.RecordBatch) -> tuple[str, str, str]:
    """A row as (name of its schema, its schema, its values as JSON)."""
    schema = base64.b64encode(row.schema.serialize()).decode()
    return hashlib.sha256(schema.encode()).hexdigest()[:32], schema, to_lines(row)[0]


def schema_from(text: str) -> pa.Schema:
    """A schema from the text that is kept of it."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


def row_from(arrow: str, text: str) -> pa.RecordBatch:
    """A row from its schema and its values."""
    return from_rows([json.loads(text)], schema_from(arrow))


def letter_from(row: tuple[Any, ...]) -> DeadLetter:
    """A dead letter from what `COLUMNS` selects."""
    letter_id, key, epoch, node, code, reason, run_id, at, entry, fingerprint, replay_of, arrow, text = row
    rejection = Rejection(row=row_from(arrow, text), reason=reason, code=code, node=node)
    return DeadLetter(
        id=letter_id,
        key=key,
        epoch=epoch,
        rejection=rejection,
        rejected_at=datetime.fromisoformat(at),
        run_id=run_id,
        entry=entry,
        fingerprint=fingerprint,
        replay_of=replay_of,
    )
