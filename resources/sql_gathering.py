"""The writer for systems where an open transaction keeps others waiting: rows enter the target in the commit alone; knows no system."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import pyarrow as pa

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.errors import FatalError, RejectedRows
from dsl.contracts.rows import Rejection
from resources.sql import ROW_NUMBER, TableName
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
        if self._mode is WriteMode.UPSERT:
            self._refuse_null_keys(ready)
        first = self._stats.rows
        numbers = pa.array(range(first, first + rows.num_rows), pa.int64())
        names, numbered = [*self._names, ROW_NUMBER], ready.append_column(ROW_NUMBER, numbers)
        into = None if self._mode is WriteMode.UPSERT else self._into
        self._stats.bytes += self._session.gather(self._work, into, names, numbered)
        self._stats.rows += rows.num_rows
        return ()

    def _ready_table(self) -> TableName | None:
        self._work = self._session.create_work(self._target)
        return self._target if self._mode is WriteMode.UPSERT else super()._ready_table()

    def _deliver(self, into: TableName) -> None:
        if self._stats.rows == 0:
            return
        try:
            if self._mode is WriteMode.UPSERT:
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

    def _refuse_null_keys(self, rows: pa.RecordBatch) -> None:
        missing = {row for name in self._key for row in _nulls(rows.column(name))}
        if missing:
            raise RejectedRows("the key is NULL", rows=sorted(missing), where=self._where)


def _nulls(column: pa.Array[pa.Scalar[pa.DataType]]) -> list[int]:
    return (
        [index for index, valid in enumerate(column.is_valid().to_pylist()) if not valid] if column.null_count else []
    )
