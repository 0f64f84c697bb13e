"""Dead letters in one SQLite file that only its owner may read: kept once each, counted, shown, edited, discarded; replays none.

A row is kept as JSON beside its exact Arrow schema, so that people can read and edit it and a replay gets its types back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from dsl.contracts.errors import FatalError
from dsl.contracts.stores import DeadLetter
from resources.stores.letter_choice import OPEN, Choice, Status
from resources.stores.letter_file import COLUMNS, LetterFile, letter_from, pattern_of, row_from, stored_row

GROUPS = 1_000
ANY = tuple(Status)


@dataclass(frozen=True)
class Group:
    """Dead letters of one stream that were rejected for the same fault and of which the same has become.

    Attributes:
        key: The stream's key: workflow, stage, split.
        node: The node that refused them.
        code: The fault's short name.
        reason: The sentence of one of them.
        count: How many there are.
        first: When the earliest was rejected.
        last: When the latest was rejected.
        pattern: What their reasons have in common: the sentence without its values.
        status: What has become of them.
        sample: Id of the one whose reason is given.
    """

    key: str
    node: str
    code: str
    reason: str
    count: int
    first: datetime
    last: datetime
    pattern: str = ""
    status: Status = Status.KEPT
    sample: str = ""


@dataclass(frozen=True)
class Change:
    """Something that was done to a dead letter.

    Attributes:
        at: When, in UTC.
        action: `edited`, `replayed` or `discarded`.
        who: The run that replayed it, or the person.
        why: Why it was discarded, or "".
        row: The row as it was before an edit, or None.
    """

    at: datetime
    action: str
    who: str
    why: str
    row: pa.RecordBatch | None


@dataclass(frozen=True)
class Held:
    """A dead letter with what has become of it.

    Attributes:
        letter: The letter, with its latest row.
        status: What has become of it.
        changes: What was done to it, the earliest first.
        refused_again: Ids of the letters that came of replaying it.
    """

    letter: DeadLetter
    status: Status
    changes: tuple[Change, ...] = ()
    refused_again: tuple[str, ...] = ()


class LocalDeadLetters:
    """Dead letters below HEADRACE_HOME. Several processes may use the same file.

    Args:
        path: The SQLite file, or the folder to keep it in; made if absent, with mode 0600.
    """

    def __init__(self, path: str | Path) -> None:
        self.file = LetterFile(path)
        self.path = self.file.path

    def add(self, letters: Iterable[DeadLetter]) -> int:
        """Keeps them durably before returning; tells how many were new.

        Raises:
            UnavailableError: They could not be kept; the epoch may not commit.
        """
        rows = [(letter, *stored_row(letter.rejection.row)) for letter in letters]
        if not rows:
            return 0
        with self.file.open() as database:
            schemas = {(schema_id, schema) for _, schema_id, schema, _ in rows}
            database.executemany("INSERT OR IGNORE INTO schemas VALUES (?, ?)", schemas)
            before = database.total_changes
            database.executemany(
                "INSERT OR IGNORE INTO letters (id, key, epoch, node, code, reason, run_id, rejected_at, entry, "
                "fingerprint, replay_of, pattern, schema, row) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(*_values(letter), schema_id, row) for letter, schema_id, _, row in rows],
            )
            return database.total_changes - before

    def known(self, key: str) -> Mapping[str, datetime]:
        """Returns when each run rejected its last row of a stream that is kept."""
        last = "SELECT run_id, max(rejected_at) FROM letters WHERE key = ? AND status = 'kept' GROUP BY run_id"
        with self.file.open() as database:
            return {str(run): datetime.fromisoformat(at) for run, at in database.execute(last, (key,))}

    def discard(self, key: str, epoch: int, known: Mapping[str, datetime]) -> int:
        """Forgets what runs that were known rejected in an epoch that never committed; tells how many there were."""
        forget = (
            "DELETE FROM letters WHERE key = ? AND epoch = ? AND status = 'kept' AND run_id = ? AND rejected_at <= ?"
        )
        with self.file.open() as database:
            each = [(key, epoch, run, at.isoformat()) for run, at in known.items()]
            return sum(database.execute(forget, values).rowcount for values in each)

    def count(self, key: str) -> int:
        """Returns how many are kept for a stream."""
        return self.total(Choice(key=key, statuses=ANY))

    def total(self, choice: Choice) -> int:
        """Returns how many there are."""
        where, values = choice.where()
        with self.file.open() as database:
            return int(database.execute(f"SELECT count(*) FROM letters l {where}", values).fetchone()[0])

    def groups(self, workflow: str | None = None, *, statuses: Sequence[Status] = OPEN) -> Sequence[Group]:
        """Returns what is kept, by stream, status, node, code and reason, the largest group first; at most `GROUPS` of them.

        Args:
            workflow: Only this workflow's, or None for all.
            statuses: Only those of which this has become.
        """
        where, values = Choice(workflow=workflow, statuses=tuple(statuses)).where()
        counted = (
            "SELECT key, status, node, code, pattern, count(*) AS letters, min(rejected_at) AS first, "
            f"max(rejected_at) AS last, max(id) AS sample FROM letters l {where} "
            f"GROUP BY key, status, node, code, pattern ORDER BY letters DESC, key, node, code, pattern LIMIT {GROUPS}"
        )
        found = (
            "SELECT g.key, g.node, g.code, l.reason, g.letters, g.first, g.last, g.pattern, g.status, g.sample "
            f"FROM ({counted}) g JOIN letters l ON l.id = g.sample "
            "ORDER BY g.letters DESC, g.key, g.node, g.code, g.pattern"
        )
        with self.file.open() as database:
            return [_group(row) for row in database.execute(found, values)]

    def list(
        self,
        workflow: str | None = None,
        *,
        key: str | None = None,
        code: str | None = None,
        reason: str | None = None,
        limit: int = 100,
    ) -> Sequence[DeadLetter]:
        """Returns dead letters that are still open, the latest first; see `Choice` for the arguments."""
        choice = Choice(workflow=workflow, key=key, code=code, reason=reason, statuses=OPEN)
        return [each.letter for each in self.page(choice, limit=limit)]

    def page(self, choice: Choice, *, limit: int, after: str | None = None) -> Sequence[Held]:
        """Returns dead letters with what was done to them, the latest first.

        Args:
            choice: Which ones.
            limit: How many at most.
            after: Only those that follow this one: the last of the page before.
        """
        where, values = choice.where()
        with self.file.open() as database:
            if after is not None:
                at = database.execute("SELECT rejected_at FROM letters WHERE id = ?", (after,)).fetchone()
                if at is None:
                    raise FatalError("there is no such dead letter", where=f"dead letter '{after}'")
                where += " AND (l.rejected_at < ? OR (l.rejected_at = ? AND l.id > ?))"
                values = (*values, at[0], at[0], after)
            ids = f"SELECT l.id FROM letters l {where} ORDER BY l.rejected_at DESC, l.id LIMIT ?"
            chosen = [row[0] for row in database.execute(ids, (*values, limit))]
            return [_held(database, each) for each in chosen]

    def get(self, letter_id: str) -> DeadLetter | None:
        """Returns one dead letter, or None."""
        found = self.page(Choice(ids=(letter_id,), statuses=ANY), limit=1)
        return found[0].letter if found and found[0].letter.id == letter_id else None

    def edit(self, letter_id: str, row: pa.RecordBatch, *, who: str = "") -> DeadLetter:
        """Replaces the row of a dead letter, so that a replay takes the corrected one; its id stays, and so does what it was.

        Raises:
            FatalError: There is no such dead letter, `row` is not one row, or the letter is not there to be edited any more.
        """
        where = f"dead letter '{letter_id}'"
        schema_id, schema, text = stored_row(row) if row.num_rows == 1 else ("", "", "")
        with self.file.open() as database:
            held = database.execute("SELECT status, schema, row FROM letters WHERE id = ?", (letter_id,)).fetchone()
            if held is None or row.num_rows != 1:
                raise FatalError("there is no such dead letter, or not one row", where=where)
            if held[0] != Status.KEPT:
                raise FatalError(f"it is {held[0]}, so it cannot be edited", where=where, hint=_HINTS[Status(held[0])])
            if (schema_id, text) != held[1:]:
                database.execute("INSERT OR IGNORE INTO schemas VALUES (?, ?)", (schema_id, schema))
                _note(database, letter_id, "edited", who, schema=held[1], row=held[2])
                database.execute("UPDATE letters SET schema = ?, row = ? WHERE id = ?", (schema_id, text, letter_id))
            edited = _held(database, letter_id).letter
        return replace(edited, rejection=replace(edited.rejection, row=row))

    def give_up(self, choice: Choice, *, who: str, why: str) -> int:
        """Discards dead letters: they stay on record and are never replayed. Tells how many; doing it again changes nothing.

        Args:
            choice: Which ones; those that are replayed or discarded already are left as they are.
            who: The person.
            why: Their reason.
        """
        open_ones = tuple(each for each in choice.statuses if each in OPEN)
        if not open_ones:
            return 0
        where, values = replace(choice, statuses=open_ones).where()
        with self.file.open() as database:
            database.execute(
                "INSERT INTO journal (letter, at, action, who, why) "
                f"SELECT l.id, ?, 'discarded', ?, ? FROM letters l {where}",
                (_now(), who, why, *values),
            )
            changed = f"UPDATE letters AS l SET status = 'discarded' {where}"
            return database.execute(changed, values).rowcount

    def delete(self, ids: Iterable[str]) -> int:
        """Forgets dead letters; tells how many were there."""
        with self.file.open() as database:
            before = database.total_changes
            database.executemany("DELETE FROM letters WHERE id = ?", [(each,) for each in ids])
            return database.total_changes - before

    def close(self) -> None:
        """Closes the file; the next call opens it again."""
        self.file.close()


_HINTS = {
    Status.REPLAYING: "a replay of it has not ended: `headrace dlq replay` goes on with it",
    Status.REPLAYED: "it has been applied; what was refused again is a letter of its own",
    Status.DISCARDED: "somebody gave it up; `headrace dlq show --all` says who and why",
}


def _group(row: tuple[Any, ...]) -> Group:
    key, node, code, reason, count, first, last, pattern, status, sample = row
    at = datetime.fromisoformat
    return Group(key, node, code, reason, count, at(first), at(last), pattern, Status(status), sample)


def _held(database: sqlite3.Connection, letter_id: str) -> Held:
    found = f"SELECT l.status, {COLUMNS} FROM letters l JOIN schemas s ON s.id = l.schema WHERE l.id = ?"
    status, *row = database.execute(found, (letter_id,)).fetchone()
    made = (
        "SELECT j.at, j.action, j.who, j.why, s.arrow, j.row FROM journal j LEFT JOIN schemas s ON s.id = j.schema "
        "WHERE j.letter = ? ORDER BY j.number"
    )
    changes = tuple(
        Change(
            datetime.fromisoformat(at),
            action,
            who,
            why,
            None if arrow is None or text is None else row_from(arrow, text),
        )
        for at, action, who, why, arrow, text in database.execute(made, (letter_id,))
    )
    again = database.execute("SELECT id FROM letters WHERE replay_of = ? ORDER BY id", (letter_id,)).fetchall()
    return Held(letter_from(tuple(row)), Status(status), changes, tuple(each[0] for each in again))


def _note(
    database: sqlite3.Connection,
    letter_id: str,
    action: str,
    who: str,
    *,
    schema: str | None = None,
    row: str | None = None,
) -> None:
    database.execute(
        "INSERT INTO journal (letter, at, action, who, schema, row) VALUES (?, ?, ?, ?, ?, ?)",
        (letter_id, _now(), action, who, schema, row),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _values(letter: DeadLetter) -> tuple[str | int, ...]:
    held, at = letter.rejection, letter.rejected_at.isoformat()
    facts = (letter.id, letter.key, letter.epoch, held.node, held.code, held.reason, letter.run_id, at)
    return (*facts, letter.entry, letter.fingerprint, letter.replay_of, pattern_of(held.reason))
