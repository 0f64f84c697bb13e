"""Dead letters in one SQLite file that only its owner may read: kept once each, found by reason, given back as rows.

A row is kept as JSON beside its exact Arrow schema, so that people can read and edit it and a replay gets its types back.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from dsl.contracts.errors import FatalError, UnavailableError
from dsl.contracts.rows import Rejection
from dsl.contracts.stores import DeadLetter
from resources.formats.json_values import from_rows, to_lines

FILE = "dead_letters.sqlite"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS schemas (id TEXT PRIMARY KEY, arrow TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS letters (
    id TEXT PRIMARY KEY, key TEXT NOT NULL, epoch INTEGER NOT NULL, node TEXT NOT NULL, code TEXT NOT NULL,
    reason TEXT NOT NULL, run_id TEXT NOT NULL, rejected_at TEXT NOT NULL, schema TEXT NOT NULL, row TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS letters_by_stream ON letters (key, code, rejected_at);
PRAGMA user_version = 1;
"""
_COLUMNS = "l.id, l.key, l.epoch, l.node, l.code, l.reason, l.run_id, l.rejected_at, s.arrow, l.row"


@dataclass(frozen=True)
class Group:
    """Dead letters of one stream that were rejected for the same fault.

    Attributes:
        key: The stream's key: workflow, stage, split.
        node: The node that refused them.
        code: The fault's short name.
        reason: The sentence of the latest one.
        count: How many there are.
        first: When the earliest was rejected.
        last: When the latest was rejected.
    """

    key: str
    node: str
    code: str
    reason: str
    count: int
    first: datetime
    last: datetime


class LocalDeadLetters:
    """Dead letters below HEADRACE_HOME. Several processes may use the same file.

    Args:
        path: The SQLite file, or the folder to keep it in; made if absent, with mode 0600.
    """

    def __init__(self, path: str | Path) -> None:
        given = Path(path)
        self.path = given if given.suffix else given / FILE
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def add(self, letters: Iterable[DeadLetter]) -> int:
        """Keeps them durably before returning; tells how many were new.

        Raises:
            UnavailableError: They could not be kept; the epoch may not commit.
        """
        rows = [(letter, *_stored(letter)) for letter in letters]
        if not rows:
            return 0
        with self._open() as database:
            before = database.total_changes
            schemas = {(schema_id, schema) for _, schema_id, schema, _ in rows}
            added_schemas = database.executemany("INSERT OR IGNORE INTO schemas VALUES (?, ?)", schemas).rowcount
            database.executemany(
                "INSERT OR IGNORE INTO letters VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [_values(letter, schema_id, row) for letter, schema_id, _, row in rows],
            )
            return database.total_changes - before - max(added_schemas, 0)

    def discard(self, key: str, epoch: int) -> int:
        """Forgets what a stream rejected in an epoch that never committed; tells how many there were."""
        with self._open() as database:
            return database.execute("DELETE FROM letters WHERE key = ? AND epoch = ?", (key, epoch)).rowcount

    def count(self, key: str) -> int:
        """Returns how many are kept for a stream."""
        with self._open() as database:
            return int(database.execute("SELECT count(*) FROM letters WHERE key = ?", (key,)).fetchone()[0])

    def groups(self, workflow: str | None = None) -> Sequence[Group]:
        """Returns what is kept, by stream, node and code, the largest group first.

        Args:
            workflow: Only this workflow's, or None for all.
        """
        where, values = _selection(workflow=workflow)
        # SQLite takes bare columns from the row that max() found.
        found = (
            "SELECT key, node, code, reason, count(*), min(rejected_at), max(rejected_at) "
            f"FROM letters l {where} GROUP BY key, node, code ORDER BY count(*) DESC, key, node, code"
        )
        with self._open() as database:
            return [
                Group(key, node, code, reason, count, datetime.fromisoformat(first), datetime.fromisoformat(last))
                for key, node, code, reason, count, first, last in database.execute(found, values)
            ]

    def list(
        self,
        workflow: str | None = None,
        *,
        key: str | None = None,
        code: str | None = None,
        reason: str | None = None,
        limit: int = 100,
    ) -> Sequence[DeadLetter]:
        """Returns dead letters, the latest first.

        Args:
            workflow: Only this workflow's.
            key: Only this stream's.
            code: Only those rejected for this fault.
            reason: Only those whose reason holds this text.
            limit: How many at most.
        """
        where, values = _selection(workflow=workflow, key=key, code=code, reason=reason)
        found = f"SELECT {_COLUMNS} FROM letters l JOIN schemas s ON s.id = l.schema {where} ORDER BY rejected_at DESC, l.id LIMIT ?"
        with self._open() as database:
            return [_letter(row) for row in database.execute(found, (*values, limit))]

    def get(self, letter_id: str) -> DeadLetter | None:
        """Returns one dead letter, or None."""
        found = f"SELECT {_COLUMNS} FROM letters l JOIN schemas s ON s.id = l.schema WHERE l.id = ?"
        with self._open() as database:
            row = database.execute(found, (letter_id,)).fetchone()
        return None if row is None else _letter(row)

    def edit(self, letter_id: str, row: pa.RecordBatch) -> DeadLetter:
        """Replaces the row of a dead letter, so that a replay takes the corrected one; its id stays.

        Raises:
            FatalError: There is no such dead letter, or `row` is not one row.
        """
        held = self.get(letter_id)
        if held is None or row.num_rows != 1:
            raise FatalError("there is no such dead letter, or not one row", where=f"dead letter '{letter_id}'")
        edited = replace(held, rejection=replace(held.rejection, row=row))
        schema_id, schema, text = _stored(edited)
        with self._open() as database:
            database.execute("INSERT OR IGNORE INTO schemas VALUES (?, ?)", (schema_id, schema))
            database.execute("UPDATE letters SET schema = ?, row = ? WHERE id = ?", (schema_id, text, letter_id))
        return edited

    def delete(self, ids: Iterable[str]) -> int:
        """Forgets dead letters; tells how many were there."""
        with self._open() as database:
            before = database.total_changes
            database.executemany("DELETE FROM letters WHERE id = ?", [(each,) for each in ids])
            return database.total_changes - before

    def close(self) -> None:
        """Closes the file; the next call opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Gives a connection inside one transaction, which is durable once the block has ended."""
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


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, timeout=30, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.executescript(_SCHEMA)
    return connection


def _selection(**wanted: str | None) -> tuple[str, tuple[str, ...]]:
    conditions: list[str] = []
    values: list[str] = []
    for name, value in wanted.items():
        if value is None:
            continue
        if name == "workflow":
            conditions.append("substr(l.key, 1, length(?)) = ?")
            values += [f"{value}/"] * 2
        elif name == "reason":
            conditions.append("instr(l.reason, ?) > 0")
            values.append(value)
        else:
            conditions.append(f"l.{name} = ?")
            values.append(value)
    return (f"WHERE {' AND '.join(conditions)}" if conditions else ""), tuple(values)


def _stored(letter: DeadLetter) -> tuple[str, str, str]:
    row = letter.rejection.row
    schema = base64.b64encode(row.schema.serialize()).decode()
    return hashlib.sha256(schema.encode()).hexdigest()[:32], schema, to_lines(row)[0]


def _values(letter: DeadLetter, schema_id: str, row: str) -> tuple[str | int, ...]:
    held = letter.rejection
    at = letter.rejected_at.isoformat()
    return (letter.id, letter.key, letter.epoch, held.node, held.code, held.reason, letter.run_id, at, schema_id, row)


def _letter(row: tuple[Any, ...]) -> DeadLetter:
    letter_id, key, epoch, node, code, reason, run_id, at, arrow, text = row
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(arrow)))
    rejection = Rejection(row=from_rows([json.loads(text)], schema), reason=reason, code=code, node=node)
    return DeadLetter(letter_id, key, epoch, rejection, datetime.fromisoformat(at), run_id)
