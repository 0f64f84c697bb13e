"""Writes a table of this process; rows and token change under one lock, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.changes import OPERATION, WRITTEN, Operation, without_operation
from dsl.contracts.connectors import BatchWriter, Committed, Token
from dsl.contracts.errors import FatalError, FencedError
from dsl.contracts.rows import Rejection, WriteStats
from dsl.contracts.state import State
from resources.memory.tables import MemoryTable
from resources.sql_changes import operations_of, refuse_null_keys


class MemoryWriter(BatchWriter):
    """One stream's writer of a table."""

    def __init__(
        self, table: MemoryTable, schema: pa.Schema, token: Token, mode: WriteMode, key: tuple[str, ...]
    ) -> None:
        self._merges = mode is WriteMode.MERGE and OPERATION in schema.names
        self._schema = without_operation(schema) if self._merges else schema
        self._table, self._mode, self._key = table, mode, key
        self._rows: list[pa.RecordBatch] = []
        with table.lock:
            self._token = table.token(token.key)
            self._token.fence += 1
            self._fence = self._token.fence
            self._committed = self._token.committed
            if table.schema is None:
                table.schema = self._schema

    def get_state(self) -> Committed | None:
        return self._committed

    def write(self, rows: pa.RecordBatch) -> Sequence[Rejection]:
        self._table.reach("write")
        if self._merges:
            refuse_null_keys(operations_of(rows), rows, self._key, f"memory table '{self._table.name}'")
        refuse = self._table.refuse
        if refuse is None:
            self._rows.append(rows)
            return ()
        reasons = [refuse(row) for row in rows.to_pylist()]
        self._rows.append(rows.filter(pa.array([reason is None for reason in reasons], pa.bool_())))
        return [
            Rejection(rows.slice(at, 1), reason, "refused", self._table.name)
            for at, reason in enumerate(reasons)
            if reason is not None
        ]

    def commit(self, epoch: int, state: State, *, final: bool = False) -> WriteStats:
        self._table.reach("commit")
        with self._table.lock:
            self._check(epoch)
            rows, self._rows = self._rows, []
            self._apply(rows, final=final)
            self._committed = self._token.committed = Committed(epoch, dict(state))
        self._table.reach("committed")
        return WriteStats(sum(each.num_rows for each in rows), sum(each.nbytes for each in rows))

    def close(self) -> None:
        self._rows = []

    def _check(self, epoch: int) -> None:
        where = f"memory table '{self._table.name}'"
        if self._token.fence != self._fence:
            raise FencedError("a newer run writes this stream", where=where)
        expected = 1 if self._committed is None else self._committed.epoch + 1
        if epoch != expected:
            raise FatalError(f"epoch {epoch} was to be committed, but {expected} is next", where=where)

    def _apply(self, rows: list[pa.RecordBatch], *, final: bool) -> None:
        if self._mode is WriteMode.APPEND:
            self._table.batches.extend(rows)
            self._table.schema = self._schema
        elif self._mode in {WriteMode.UPSERT, WriteMode.MERGE}:
            self._merge(rows)
        else:
            self._token.staged.extend(rows)
            if final:
                self._table.batches, self._token.staged = self._token.staged, []
                self._table.schema = self._schema

    def _merge(self, rows: list[pa.RecordBatch]) -> None:
        held = {self._key_of(row): row for batch in self._table.batches for row in batch.to_pylist()}
        found = self._token.found
        for row in [each for batch in rows for each in batch.to_pylist()]:
            operation, key = row.pop(OPERATION, Operation.UPSERT), self._key_of(row)
            if operation in WRITTEN:
                held[key] = row
            elif operation == Operation.DELETE:
                held.pop(key, None)
            elif operation == Operation.PRESENT:
                found.add(key)
                held.setdefault(key, row)
            elif operation == Operation.COMPARE:
                found.clear()
            elif operation == Operation.TRUNCATE:
                held = {}
            else:
                held = {each: row for each, row in held.items() if each in found}
        self._table.schema = self._schema
        self._table.batches = pa.Table.from_pylist(list(held.values()), self._schema).to_batches()

    def _key_of(self, row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in self._key)
