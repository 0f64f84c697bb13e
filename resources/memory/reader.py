"""Reads a table of this process in batches that can be resumed; changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from dsl.contracts.connectors import BatchReader, ReadRequest
from dsl.contracts.errors import SchemaError
from dsl.contracts.rows import Batch
from dsl.contracts.state import State, advance
from resources.memory.tables import MemoryTable

MAX_ROW = 2**63 - 1
_BEAT_SECONDS = 0.5


class MemoryReader(BatchReader):
    """The rows of a table as they stand when it is opened, or, followed, as they come; the state counts them."""

    def __init__(
        self,
        table: MemoryTable,
        schema: pa.Schema,
        request: ReadRequest,
        state: State | None,
        *,
        incremental: bool,
        rows: tuple[int, int] | None = None,
    ) -> None:
        missing = [each for each in request.columns or () if each not in schema.names]
        if missing:
            raise SchemaError(f"column '{missing[0]}' is gone", where=f"memory table '{table.name}'")
        self._table, self._request, self._incremental = table, request, incremental
        self._schema = (
            schema if request.columns is None else pa.schema([schema.field(each) for each in request.columns])
        )
        self._state = state
        first, self._end = rows or (0, MAX_ROW)
        at = (state or {}).get("row", first)
        self._at = at if isinstance(at, int) else first

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    def __iter__(self) -> Iterator[Batch]:
        while True:
            at = self._at
            yield from self._pass()
            if not self._request.follow:
                return
            if self._at == at:
                self._table.wait(_BEAT_SECONDS)

    def _pass(self) -> Iterator[Batch]:
        rows = self._table.to_table()
        limit = MAX_ROW if self._request.limit is None else self._request.limit
        end = min(rows.num_rows, limit, self._end)
        while True:
            self._table.reach("read")
            count = max(0, min(self._request.batch_rows, end - self._at))
            taken = rows.slice(self._at, count).select(self._schema.names).combine_chunks()
            self._at += count
            ended = self._at >= end
            facts = {"complete": True} if ended and not self._incremental else {}
            self._state = advance(self._state, count, taken.nbytes, row=self._at, **facts)
            yield Batch(_one_batch(taken, self._schema), self._state)
            if ended:
                return

    def close(self) -> None:
        """Owns nothing."""


def _one_batch(rows: pa.Table, schema: pa.Schema) -> pa.RecordBatch:
    batches = rows.to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema)
