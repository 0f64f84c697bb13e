"""Reads a table and then every change of it, from PostgreSQL's logical log; confirms only what is committed at the destination.

First the table is read as the slot's snapshot shows it, in the order of its key; what is resumed is read from a newer snapshot, and its
changes since the slot was made are told again, which ends at the same rows. Then come the changes, one transaction after the other: a
state never stands inside one. States: `{"slot", "lsn", "snapshot", "behind"}`: `snapshot` is the table reader's own state while it is
being read, `lsn` the place in the log behind the last change, `behind` how many bytes the server had written beyond it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import resources.postgres.client  # isort: skip  # noqa: F401 - first, for it says how to get the driver
import psycopg
import pyarrow as pa

from dsl.contracts.changes import OPERATION, Deletes, Operation, with_operation
from dsl.contracts.connectors import Batch, BatchReader, ReadRequest
from dsl.contracts.errors import FatalError, RetryableError, SchemaError
from dsl.contracts.failpoints import Failpoint
from dsl.contracts.rows import Rejection
from dsl.contracts.state import Json, State, advance, is_complete
from resources.postgres.changes import TableChangedError, Translator
from resources.postgres.client import close_quietly, connect, place_of, translated
from resources.postgres.pgoutput import message_of
from resources.postgres.reader import open_reader as open_table
from resources.postgres.replication import Frame, Replication, number_of, text_of
from resources.postgres.slots import Watched, check_identity, check_place, default_name, publish, slot_of, watched

if TYPE_CHECKING:
    from resources.postgres.resource import PostgresSource

_MADE = Failpoint("cdc.slot_made", "The slot is made, and no row has been read: nobody but the server knows of it.")
_CONFIRMED = Failpoint("cdc.confirmed", "The server has been told that it may forget what is committed.")
_FREE_ROUNDS = 50
_WAIT_SECONDS = 0.2


def discover_schema(source: PostgresSource) -> pa.Schema:
    """Returns the columns that the source will yield; raises as `open_changes` does."""
    opened = connect(source.connection)
    try:
        return watched(opened, source, None).schema
    except psycopg.Error as error:
        raise translated(error, place_of(source.connection)) from error
    finally:
        close_quietly(opened)


def open_changes(source: PostgresSource, request: ReadRequest, state: State | None) -> BatchReader:
    """Opens a reader.

    Raises:
        SchemaError: A table or column is not there.
        RegressionError: What follows the state can no longer be read.
        FatalError: The server does not keep what is needed, or does not let us.
    """
    opened = connect(source.connection)
    try:
        return ChangeReader(opened, source, request, state)
    except psycopg.Error as error:
        close_quietly(opened)
        raise translated(error, place_of(source.connection)) from error
    except BaseException:
        close_quietly(opened)
        raise


class ChangeReader(BatchReader):
    """The table, then its changes.

    Args:
        opened: A connection to ask by; the reader closes it.
        source: What to read.
        request: What the plan wants of it; `follow` to go on for ever, else up to where the log ends now.
        state: Where to resume.
    """

    def __init__(
        self, opened: psycopg.Connection[Any], source: PostgresSource, request: ReadRequest, state: State | None
    ) -> None:
        columns = None if request.columns is None else [each for each in request.columns if each != OPERATION]
        self._opened, self._source = opened, source
        self._request = dataclasses.replace(request, columns=None if columns is None else tuple(columns))
        self._table: Watched = watched(opened, source, columns)
        self._tells = source.tells is not Deletes.IGNORED
        self._slot = source.slot or default_name(self._table.name)
        if not request.dry:
            check_identity(opened, self._table)
            self._publication = publish(opened, source, self._table)
        self._snapshot = ""
        self._wire: Replication | None = None
        self._inner: BatchReader | None = None
        self._rejected: list[Rejection] = []
        self._state: State = self._begun(state)
        self._streams, self._known = False, 0

    @property
    def schema(self) -> pa.Schema:
        return with_operation(self._table.schema) if self._tells else self._table.schema

    def rejections(self) -> Sequence[Rejection]:
        taken, self._rejected = self._rejected, []
        return taken

    def close(self) -> None:
        for each in (self._inner, self._wire):
            if each is not None:
                each.close()
        close_quietly(self._opened)

    def acknowledge(self, state: State) -> None:
        if self._wire is not None and self._streams:
            self._wire.confirm(number_of(str(state["lsn"])))
            _CONFIRMED.reach()

    def _begun(self, state: State | None) -> State:
        """Returns where to begin: after the state, or at the slot's first change, with the whole table still to read."""
        if self._request.dry:
            return advance(None, 0, 0, slot=self._slot, lsn="0/0", snapshot={}, behind=0)
        slot = slot_of(self._opened, self._slot, self._table.where)
        if state is not None:
            held = str(state.get("slot"))
            if held != self._slot:
                raise FatalError(
                    f"the state is of slot '{held}', and the source names '{self._slot}'",
                    where=self._table.where,
                    hint=f"write slot: {held}",
                )
            check_place(slot, self._slot, str(state["lsn"]), self._table.where)
            return state
        if slot is not None:  # a run made it that ended before its first commit
            return advance(None, 0, 0, slot=self._slot, lsn=slot.confirmed, snapshot={}, behind=0)
        self._wire = Replication(self._source.connection)
        lsn, self._snapshot = self._wire.create_slot(self._slot)
        _MADE.reach()
        return advance(None, 0, 0, slot=self._slot, lsn=lsn, snapshot={}, behind=0)

    def __iter__(self) -> Iterator[Batch]:
        if self._state.get("snapshot") is not None:
            yield from self._rows()
        if not self._request.dry:
            yield from self._changes()

    def _rows(self) -> Iterator[Batch]:
        """Yields the table as it stands, each row as one that came."""
        held = self._state["snapshot"]
        plain = dataclasses.replace(self._source, sync_mode=None, deletes=None, slot=None, publication=None)
        request = dataclasses.replace(self._request, follow=False)
        inner = held if isinstance(held, dict) and held else None
        self._inner = open_table(plain, request, inner, snapshot=self._snapshot)
        for batch in self._inner:
            self._rejected.extend(self._inner.rejections())
            rows, reached = batch.rows, batch.state
            if self._tells:
                operations = pa.array([str(Operation.INSERT)] * rows.num_rows, pa.string())
                rows = pa.RecordBatch.from_arrays([*rows.columns, operations], schema=self.schema)
            snapshot: Json = None if reached is None or is_complete(reached) else dict(reached)
            moved: dict[str, Json] = {} if reached is None else {"snapshot": snapshot}
            self._state = advance(self._state, rows.num_rows, rows.nbytes, **moved)
            yield Batch(rows, None if reached is None else self._state)
        self._inner.close()
        if self._wire is not None:  # it kept the snapshot, and has been silent since
            self._wire.close()

    def _changes(self) -> Iterator[Batch]:
        """Yields the changes up to where the log ends now, or for ever."""
        goal = None if self._request.follow else self._log_ends()
        self._wire = wire = self._started()
        self._streams = True
        place = number_of(str(self._state["lsn"]))
        held = Translator(self._opened, self._table, self._request, tells=self._tells, place=place)
        beaten = time.monotonic()
        while True:
            frame = wire.receive(0)
            if frame is None:  # those who follow get what there is, however little it is
                yield from self._passed_on(held, all_of_it=goal is None)
                wire.confirm(0, ask=True)
                frame = wire.receive(_WAIT_SECONDS)
            if frame is not None and not self._take(frame, held):
                yield from self._passed_on(held, all_of_it=True)
                return
            ended = goal is not None and held.place >= goal and not held.inside
            yield from self._passed_on(held, all_of_it=ended)
            if ended or (goal is None and time.monotonic() - beaten >= 1 and not held.inside):
                beaten = time.monotonic()
                yield self._still(held)
            if ended:
                return

    def _take(self, frame: Frame, held: Translator) -> bool:
        """Takes what the server sent; returns whether it can be held, or the read ends before it, for the next run to know the columns.

        Raises:
            SchemaError: Part of the transaction that it belongs to has been passed on already.
        """
        self._known = max(self._known, frame.end)
        message = message_of(frame.data) if frame.data else None
        if not frame.data:
            held.alive(frame.end)
        if message is None:
            return True
        try:
            held.take(message)
        except TableChangedError as changed:
            if held.buffer.torn:
                hint = "run it again: it knows the columns then"
                raise SchemaError(
                    f"within a large transaction, {changed}", where=self._table.where, hint=hint
                ) from changed
            return False
        return True

    def _passed_on(self, held: Translator, *, all_of_it: bool) -> Iterator[Batch]:
        for rows, whole in held.buffer.ready(all_of_it=all_of_it):
            self._rejected.extend(held.rejections())
            self._state = advance(self._state, rows.num_rows, rows.nbytes, **(self._place(held.place) if whole else {}))
            yield Batch(rows, self._state if whole else None)

    def _still(self, held: Translator) -> Batch:
        """Returns a batch without rows: nothing has come, but the place has moved, and with it what the server must keep."""
        self._state = advance(self._state, 0, 0, **self._place(held.place))
        return Batch(pa.RecordBatch.from_pylist([], schema=self.schema), self._state)

    def _place(self, place: int) -> dict[str, Json]:
        return {"lsn": text_of(place), "snapshot": None, "behind": max(0, self._known - place)}

    def _started(self) -> Replication:
        """Streams from the slot; waits a little for a session that is just leaving it."""
        for left in range(_FREE_ROUNDS, 0, -1):
            wire = Replication(self._source.connection)
            try:
                wire.start(self._slot, self._publication, str(self._state["lsn"]))
            except RetryableError:
                wire.close()
                if left == 1:
                    raise
                time.sleep(_WAIT_SECONDS)
            except BaseException:
                wire.close()
                raise
            else:
                return wire
        raise AssertionError("unreachable")  # the last round has raised

    def _log_ends(self) -> int:
        """Returns where the log ends now; a mark of ours behind it is read even if nothing else happens on the server."""
        row = self._opened.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
        self._opened.execute("SELECT pg_logical_emit_message(true, 'headrace', '')")
        return number_of(str(row[0])) if row else 0
