"""The writer for systems where an open transaction keeps others waiting: rows enter the target in the commit alone; knows no system."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import pyarrow as pa

from dsl.contracts.changes import Operation
from dsl.contracts.errors import FatalError, RejectedRows
from dsl.contracts.rows import Rejection
from resources.sql import ROW_NUMBER, TableName
from resources.sql_changes import Part, operations_of, parts, refuse_null_keys
from resources.sql_session import Session
from resources.sql_writer import SqlWriter


class GatheringSession(Session):
    """A connection whose rows wait in a place of its own until their epoch is committed.

    `create_work` makes that place, `gather` puts rows there, in no transaction, and `pour` or `merge` empties it, in the
    transaction of the commit.
    """

    @abstractmethod
    def gather(self, work: TableName, into: TableName | None, columns: Sequence[str], rows: pa.RecordBatch) -> int:
        """Keeps rows aside; returns their bytes.

        Args:
            work: Where.
            into: The table they are meant for; None where it is to be empty, or its rows are replaced by key.
            columns: Their columns, of which `_headrace_row` is the last.
            rows: The rows, with their numbers in the epoch.

        Raises:
            RejectedRows: The table will refuse some of them; nothing of them is kept.
        """

    def load(self, table: TableName, columns: Sequence[str], rows: pa.RecordBatch) -> int:
        return self.gather(table, None, columns, rows)

    def create_present(self, target: TableName, key: Sequence[str]) -> TableName:
        """Creates the session's temporary table of keys that a comparison has found in the open epoch."""
        made = self.temporary(target, "_headrace_present")
        self.run(
            f"CREATE TEMPORARY TABLE {self.qualified(made)} AS SELECT {self.listed(key)} "
            f"FROM {self.qualified(target)} WHERE 1 = 0"
        )
        return made

    @abstractmethod
    def pour(self, into: TableName, work: TableName, columns: Sequence[str]) -> None:
        """Adds the gathered rows to a table.

        Raises:
            RejectedRows: A row breaks the table in a way that `gather` could not see.
        """


class GatheringWriter(SqlWriter):
    """Keeps an epoch's rows aside while it is open; target, token and rows meet in one short transaction.

    Two writers of one file, or of one warehouse, then wait for each other's commits only, never for each other's
    sources.
    """

    _session: GatheringSession
    _work: TableName

    def write(self, rows: pa.RecordBatch) -> Sequence[Rejection]:
        if rows.num_rows == 0:
            return ()
        ready = self._conformed(rows)
        operations = operations_of(rows) if self._merges else [Operation.UPSERT] * rows.num_rows
        if self._by_key:
            refuse_null_keys(operations, ready, self._key, self._where)
        if self._merges:
            self._behind_savepoint(lambda: self._gather_changes(operations, ready))
        else:
            self._gather(ready)
        self._stats.rows += rows.num_rows
        return ()

    def _gather(self, rows: pa.RecordBatch) -> None:
        first = self._stats.rows
        numbers = pa.array(range(first, first + rows.num_rows), pa.int64())
        names, numbered = [*self._names, ROW_NUMBER], rows.append_column(ROW_NUMBER, numbers)
        into = None if self._by_key else self._into
        self._stats.bytes += self._session.gather(self._work, into, names, numbered)

    def _gather_changes(self, operations: Sequence[str], rows: pa.RecordBatch) -> None:
        """Keeps changes aside: no key is ever both among those to delete and among the rows to write."""
        for part in parts(operations, rows, self._key):
            if part.operation is Operation.UPSERT:
                self._gather_part(part)
            elif part.operation is Operation.PRESENT:
                self._gather_present(part)
            else:
                self._note(part.operation)

    def _gather_part(self, part: Part) -> None:
        session, keys = self._session, self._changes.keys
        if part.deleted is not None:
            session.load_keys(keys, self._key, part.deleted)
            session.delete_by_key(self._work, keys, self._key)
        if part.rows.num_rows:
            with part.placed():
                self._gather(part.rows)
            session.delete_by_key(keys, self._work, self._key)
            if Operation.SWEEP in self._whole:  # written after the comparison: it could not find them
                session.load_keys(self._present, self._key, part.rows.select(self._key))

    def _gather_present(self, part: Part) -> None:
        session, columns = self._session, self._session.listed(self._key)
        session.load_keys(self._present, self._key, part.rows.select(self._key))
        with part.placed():
            self._gather(part.rows)
        row = f"({columns})" if len(self._key) > 1 else columns
        known = f"SELECT {columns} FROM {session.qualified(self._target)}"
        newest = f"{session.quoted(ROW_NUMBER)} >= {self._stats.rows}"
        session.run(f"DELETE FROM {session.qualified(self._work)} WHERE {newest} AND {row} IN ({known})")

    def _note(self, operation: Operation) -> None:
        gone = {Operation.TRUNCATE: (self._work, self._changes.keys), Operation.COMPARE: (self._present,)}
        for each in gone.get(operation, ()):
            self._session.run(f"DELETE FROM {self._session.qualified(each)}")
        self._whole.add(operation)

    def _ready_table(self) -> TableName | None:
        self._work = self._session.create_work(self._target)
        self._whole: set[Operation] = set()
        if self._merges:
            self._present = self._session.create_present(self._target, self._key)
        return self._target if self._by_key else super()._ready_table()

    def _deliver(self, into: TableName) -> None:
        if self._stats.rows == 0:
            return
        try:
            if self._merges:
                self._deliver_changes()
            elif self._by_key:
                self._stats.count(*self._session.merge(self._target, self._work, self._names, self._key))
            else:
                self._session.pour(into, self._work, self._names)
                self._stats.count(self._stats.rows, 0)
        except RejectedRows as error:
            raise FatalError(
                f"a row breaks the table: {error.message}",
                where=self._where,
                hint="filter such rows, or remove the constraint; nothing of this epoch was written",
            ) from error

    def _deliver_changes(self) -> None:
        session, changes = self._session, self._changes
        if Operation.TRUNCATE in self._whole:
            changes.truncate()
        changes.delete_loaded()
        self._stats.count(*session.merge(self._target, self._work, self._names, self._key))
        if Operation.COMPARE in self._whole:
            changes.compare()
        held, columns = session.qualified(self._present), session.listed(self._key)
        if session.rows(f"SELECT 1 FROM {held} LIMIT 1"):
            session.run(f"INSERT INTO {session.qualified(changes.found)} ({columns}) SELECT {columns} FROM {held}")
            session.run(f"DELETE FROM {held}")
        if Operation.SWEEP in self._whole:
            changes.sweep()
        self._whole = set()
