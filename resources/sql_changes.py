"""Changes applied to a table by key: what a batch of them comes to, and the statements that do it; knows no system and commits nothing.

A full comparison notes the keys that it finds in a table of its own beside the target, over any number of epochs; what is not among them
when it ends is deleted in the target. So neither side holds all keys in memory, and a comparison that is broken off goes on where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from dsl.contracts.changes import OPERATION, WHOLE, WRITTEN, Operation
from dsl.contracts.errors import RejectedRows
from resources.sql import TableName
from resources.sql_session import Session, Swap

KEYS_PREFIX = "_headrace_keys_"
_AT = "_headrace_at"


@dataclass(frozen=True)
class Part:
    """Changes that stand next to each other and can be applied at once.

    Attributes:
        operation: `upsert` for rows to write and to delete, or `present`, or one of the whole table.
        rows: The rows to write, or those that are present; one for each key.
        places: Where they stand in the batch.
        deleted: The rows whose keys are to be deleted, none of which is written as well.
    """

    operation: Operation
    rows: pa.RecordBatch
    places: Sequence[int] = ()
    deleted: pa.RecordBatch | None = None

    @contextmanager
    def placed(self) -> Iterator[None]:
        """Names the rows that are refused within by their places in the batch."""
        try:
            yield
        except RejectedRows as error:
            if error.rows is None:
                raise
            rows = [self.places[each] for each in error.rows]
            raise RejectedRows(error.message, rows=rows, where=error.where) from error


def parts(operations: Sequence[str], rows: pa.RecordBatch, key: Sequence[str]) -> Iterator[Part]:
    """Yields what a batch of changes comes to, in order.

    Of the changes of one key the last one counts. Keys are the same if their values are: where the system thinks otherwise (`a` and `A`), a
    deletion still comes before the row that is written.

    Args:
        operations: The operation of each row.
        rows: The rows, without it.
        key: The columns that identify a row.
    """
    start = 0
    while start < len(operations):
        kind, end = _kind(operations[start]), start + 1
        while end < len(operations) and kind not in WHOLE and _kind(operations[end]) is kind:
            end += 1
        some = rows.slice(start, end - start)
        yield _part(kind, operations[start:end], some, key, start)
        start = end


def _kind(operation: str) -> Operation:
    found = Operation(operation)
    return Operation.UPSERT if found in WRITTEN or found is Operation.DELETE else found


def _part(kind: Operation, operations: Sequence[str], rows: pa.RecordBatch, key: Sequence[str], start: int) -> Part:
    if kind in WHOLE:
        return Part(kind, rows.slice(0, 0))
    last = _last_of_each(rows.select(list(key)))
    written = [each for each in last if operations[each] != Operation.DELETE]
    gone = [each for each in last if operations[each] == Operation.DELETE]
    deleted = rows.select(list(key)).take(pa.array(gone, pa.int64())) if gone else None
    return Part(kind, rows.take(pa.array(written, pa.int64())), [start + each for each in written], deleted)


def _last_of_each(keys: pa.RecordBatch) -> list[int]:
    numbered = pa.Table.from_batches([keys]).append_column(_AT, pa.array(range(keys.num_rows), pa.int64()))
    found = numbered.group_by(keys.schema.names, use_threads=False).aggregate([(_AT, "max")])
    return sorted(int(each) for each in found.column(f"{_AT}_max").to_pylist() if each is not None)


def refuse_null_keys(operations: Sequence[str], rows: pa.RecordBatch, key: Sequence[str], where: str) -> None:
    """Refuses rows that nothing identifies.

    Raises:
        RejectedRows: There are such, and they are no word about the whole table.
    """
    missing = {at for name in key for at in _nulls(rows.column(rows.schema.get_field_index(name)))}
    refused = sorted(at for at in missing if operations[at] not in WHOLE)
    if refused:
        raise RejectedRows("the key is NULL", rows=refused, where=where)


def _nulls(column: pa.Array[pa.Scalar[pa.DataType]]) -> list[int]:
    return [at for at, valid in enumerate(column.is_valid().to_pylist()) if not valid] if column.null_count else []


def operations_of(rows: pa.RecordBatch) -> list[str]:
    """Returns the operation of each row of a batch of changes."""
    return [str(each) for each in rows.column(rows.schema.get_field_index(OPERATION)).to_pylist()]


class Changes:
    """What changes do to a table, inside the open transaction.

    Args:
        session: The connection.
        target: The table.
        key: The columns that identify a row, as the table spells them.
        stream: The stream's key, which names the comparison.
    """

    def __init__(self, session: Session, target: TableName, key: Sequence[str], stream: str) -> None:
        self._session, self._target, self._key = session, target, list(key)
        digest = hashlib.sha256(f"{stream}\0{target}".encode()).hexdigest()[:16]
        self._found = target.beside(session.spell(f"{KEYS_PREFIX}{digest}"))
        self._keys = session.create_keys(target, self._key)
        if session.swap is not Swap.IN_TRANSACTION:
            session.create_found(self._found, target, self._key)

    @property
    def keys(self) -> TableName:
        """The session's temporary table of keys to delete."""
        return self._keys

    @property
    def found(self) -> TableName:
        """The table of the keys that a comparison has found."""
        return self._found

    def delete(self, keys: pa.RecordBatch) -> None:
        """Deletes the rows of some keys."""
        self._session.load_keys(self._keys, self._key, keys)
        self.delete_loaded()

    def delete_loaded(self) -> None:
        """Deletes the rows whose keys stand in the temporary table, and empties it."""
        self._session.delete_by_key(self._target, self._keys, self._key)
        self._session.run(f"DELETE FROM {self._session.qualified(self._keys)}")

    def present(self, keys: pa.RecordBatch) -> None:
        """Notes keys that a comparison has found."""
        self._session.load_keys(self._found, self._key, keys)

    def truncate(self) -> None:
        """Deletes all rows."""
        self._session.run(f"DELETE FROM {self._session.qualified(self._target)}")

    def compare(self) -> None:
        """Begins a comparison; one that was broken off before is forgotten."""
        if self._session.swap is Swap.IN_TRANSACTION:
            self._session.create_found(self._found, self._target, self._key)
        self._session.run(f"DELETE FROM {self._session.qualified(self._found)}")

    def sweep(self) -> None:
        """Ends a comparison: deletes the rows that it has not found."""
        self._session.delete_others(self._target, self._found, self._key)
        if self._session.swap is Swap.IN_TRANSACTION:
            self._session.drop(self._found)
        else:
            self._session.run(f"DELETE FROM {self._session.qualified(self._found)}")
