"""Dead letters on their way back into a workflow: claimed into streams, delivered in order, settled once committed; runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from dsl.contracts.stores import DeadLetter
from resources.stores.dead_letters import LocalDeadLetters
from resources.stores.letter_choice import OPEN, Choice, Status
from resources.stores.letter_file import COLUMNS, letter_from, schema_from


@dataclass(frozen=True)
class Shape:
    """What dead letters have in common that can be replayed by one plan.

    Attributes:
        key: The stream that refused them.
        entry: The node that their rows had come to.
        fingerprint: The code that refused them.
        schema_id: Names the columns of their rows.
        schema: Those columns.
        letters: How many there are.
        runs: The runs that refused them: id -> how many of these letters.
        edited: How many of them were edited.
    """

    key: str
    entry: str
    fingerprint: str
    schema_id: str
    schema: pa.Schema
    letters: int
    runs: Mapping[str, int]
    edited: int = 0


class LocalDeliveries:
    """The deliveries of a deployment's own dead letters.

    A stream delivers its letters in the order of a number that only grows, and the number is the state that the target commits with
    the rows: so whoever goes on after a crash, or beside another replay, knows from the target what has arrived.

    Args:
        letters: The dead letters.
    """

    def __init__(self, letters: LocalDeadLetters) -> None:
        self._letters = letters

    def shapes(self, choice: Choice) -> Sequence[Shape]:
        """Returns the shapes of the letters that are kept, or on their way since a replay that did not end."""
        where, values = _open(choice).where()
        found = (
            "SELECT l.key, l.entry, l.fingerprint, l.schema, s.arrow, l.run_id, count(*), "
            "count(CASE WHEN EXISTS (SELECT 1 FROM journal j WHERE j.letter = l.id AND j.action = 'edited') THEN 1 END) "
            f"FROM letters l JOIN schemas s ON s.id = l.schema {where} "
            "GROUP BY l.key, l.entry, l.fingerprint, l.schema, l.run_id ORDER BY min(l.rejected_at)"
        )
        runs: dict[tuple[str, str, str, str, str], dict[str, int]] = {}
        edited: dict[tuple[str, str, str, str, str], int] = {}
        with self._letters.file.open() as database:
            for key, entry, fingerprint, schema, arrow, run_id, count, changed in database.execute(found, values):
                shape = (key, entry, fingerprint, schema, arrow)
                runs.setdefault(shape, {})[run_id] = count
                edited[shape] = edited.get(shape, 0) + changed
        return [
            Shape(*each[:4], schema_from(each[4]), sum(counts.values()), counts, edited[each])
            for each, counts in runs.items()
        ]

    def waiting(self, choice: Choice, shape: Shape, committed: int) -> int:
        """Returns how many letters of a shape the run that refused them has not committed yet."""
        where, values = _of(choice, shape).where()
        counted = f"SELECT count(*) FROM letters l {where} AND {_SHAPE} AND l.epoch > ?"
        with self._letters.file.open() as database:
            return int(database.execute(counted, (*values, *_shape(shape), committed)).fetchone()[0])

    def claim(self, choice: Choice, shape: Shape, streams: Sequence[str], committed: int) -> int:
        """Puts the letters of a shape that are kept into streams, one for each target; tells how many.

        Args:
            choice: Which letters.
            shape: Of which shape.
            streams: Where to.
            committed: The last committed epoch of the stream that refused them: what came later may be refused anew.
        """
        where, values = _of(choice, shape).where()
        chosen = f"FROM letters l {where} AND {_SHAPE} AND l.epoch <= ?"
        held = (*values, *_shape(shape), committed)
        with self._letters.file.open() as database:
            for each in streams:
                database.execute(
                    "INSERT OR IGNORE INTO deliveries (stream, letter) "
                    f"SELECT ?, l.id {chosen} ORDER BY l.rejected_at, l.id",
                    (each, *held),
                )
            marked = f"UPDATE letters SET status = 'replaying' WHERE id IN (SELECT l.id {chosen})"
            return database.execute(marked, held).rowcount

    def deliver(self, stream: str, after: int, count: int) -> Sequence[tuple[int, DeadLetter]]:
        """Returns the next letters of a stream behind a number, with theirs; those that were discarded are left out."""
        found = (
            f"SELECT d.seq, {COLUMNS} FROM deliveries d JOIN letters l ON l.id = d.letter JOIN schemas s ON s.id = l.schema "
            "WHERE d.stream = ? AND d.done = 0 AND d.seq > ? AND l.status = 'replaying' ORDER BY d.seq LIMIT ?"
        )
        with self._letters.file.open() as database:
            return [(row[0], letter_from(row[1:])) for row in database.execute(found, (stream, after, count))]

    def settle(self, stream: str, number: int, run_id: str) -> int:
        """Notes that a stream's target has committed everything up to a number; a letter is replayed once all its targets have."""
        arrived = "SELECT letter FROM deliveries WHERE stream = ? AND done = 0 AND seq <= ?"
        missing = "SELECT 1 FROM deliveries o WHERE o.letter = letters.id AND o.done = 0 AND NOT (o.stream = ? AND o.seq <= ?)"
        replayed = f"status = 'replaying' AND id IN ({arrived}) AND NOT EXISTS ({missing})"
        held = (stream, number, stream, number)
        with self._letters.file.open() as database:
            database.execute(
                "INSERT INTO journal (letter, at, action, who) "
                f"SELECT id, ?, 'replayed', ? FROM letters WHERE {replayed}",
                (datetime.now(UTC).isoformat(), run_id, *held),
            )
            settled = database.execute(f"UPDATE letters SET status = 'replayed' WHERE {replayed}", held).rowcount
            database.execute(
                "UPDATE deliveries SET done = 1 WHERE stream = ? AND done = 0 AND seq <= ?", (stream, number)
            )
            return settled

    def of_run(self, run_id: str) -> tuple[int, int]:
        """Returns how many letters a run has replayed, and how many rows of them were refused again."""
        replayed = "SELECT count(*) FROM journal WHERE who = ? AND action = 'replayed'"
        again = "SELECT count(*) FROM letters WHERE run_id = ? AND replay_of <> ''"
        with self._letters.file.open() as database:
            return tuple(int(database.execute(each, (run_id,)).fetchone()[0]) for each in (replayed, again))  # type: ignore[return-value]  # two of them


_SHAPE = "l.key = ? AND l.entry = ? AND l.fingerprint = ? AND l.schema = ?"


def _shape(shape: Shape) -> tuple[str, str, str, str]:
    return shape.key, shape.entry, shape.fingerprint, shape.schema_id


def _open(choice: Choice) -> Choice:
    return Choice(**{**vars(choice), "statuses": OPEN})


def _of(choice: Choice, shape: Shape) -> Choice:
    return Choice(**{**vars(choice), "key": shape.key, "statuses": (Status.KEPT,)})
