"""One extraction of a resource as batches; its state stands behind the last of them only, and is kept nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dsl.contracts.capabilities import SyncMode
from dsl.contracts.connectors import BatchReader, ReadRequest
from dsl.contracts.errors import SchemaError
from dsl.contracts.rows import Batch, Rejection
from dsl.contracts.state import Json, State, advance, is_complete
from resources.dlt.loading import chosen, items_of, state_from, text_of
from resources.dlt.rows import Rows, inferred
from resources.sql import suggestion

if TYPE_CHECKING:
    from resources.dlt.resource import DltSource


def discover_schema(source: DltSource) -> pa.Schema:
    """Returns the columns: those that are declared, or those that the first rows suggest; they are read on no state."""
    if source.declared is not None:
        return source.declared
    found = chosen(source.connection, source.resource, source.place)
    return _columns(_sample(items_of(found, {}, source.place), source.infer_rows), source)


class DltReader(BatchReader):
    """Reads one resource.

    Args:
        source: Which.
        request: What the plan wants.
        state: Where to resume.
    """

    def __init__(self, source: DltSource, request: ReadRequest, state: State | None) -> None:
        self._request, self._where = request, source.place
        self._full = source.sync_mode is SyncMode.FULL_REFRESH
        self._state: State | None = None if self._full or is_complete(state) else state
        self._dlt = state_from((self._state or {}).get("dlt"))
        self._rejected: list[Rejection] = []
        self._waiting: list[Any] = []
        self._count = 0
        items = items_of(chosen(source.connection, source.resource, source.place), self._dlt, source.place)
        # On a state the first rows are others: columns are told from the start, so that every run has the same.
        sample = [] if source.declared is not None or self._dlt else _sample(items, source.infer_rows)
        whole = _columns(sample, source) if sample else discover_schema(source)
        self._items: Iterator[Any] = chain(sample, items)
        self._schema = _wanted(whole, request.columns, self._where)
        self._rows = Rows(self._schema, frozenset(whole.names), source.declared is not None, self._where)

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    def rejections(self) -> Sequence[Rejection]:
        found, self._rejected = self._rejected, []
        return found

    def close(self) -> None:
        # The generators of the resource end with the last reference to them.
        self._items = iter(())

    def __iter__(self) -> Iterator[Batch]:
        size = max(1, self._request.batch_rows)
        for item in self._items:
            table = _as_table(item)
            if table is None:
                if len(self._waiting) >= size:
                    yield self._cut()
                self._waiting.append(item)
                continue
            if self._waiting:
                yield self._cut()
            for each in self._rows.table(table).to_batches(max_chunksize=size):
                yield self._batch(each, each.num_rows, None)
        rows, count = self._taken()
        yield self._batch(rows, count, self._end())

    def _end(self) -> dict[str, Json]:
        """What the state holds once all is delivered: only now it is known that the resource has yielded what it notes."""
        return {"complete": True} if self._full else {"dlt": text_of(self._dlt, self._where)}

    def _cut(self) -> Batch:
        return self._batch(*self._taken(), None)

    def _taken(self) -> tuple[pa.RecordBatch, int]:
        waiting, self._waiting = self._waiting, []
        rows, rejected = self._rows.of(waiting, self._count + 1)
        self._rejected += rejected
        return rows, len(waiting)

    def _batch(self, rows: pa.RecordBatch, count: int, facts: dict[str, Json] | None) -> Batch:
        self._count += count
        self._state = advance(self._state, count, rows.nbytes, **(facts or {}))
        return Batch(rows, None if facts is None else self._state)


def _sample(items: Iterator[Any], most: int) -> list[Any]:
    """Takes rows until the columns can be told from them: the first Arrow table tells them at once."""
    found: list[Any] = []
    for item in items:
        found.append(item)
        if _as_table(item) is not None or len(found) >= most:
            break
    return found


def _columns(sample: Sequence[Any], source: DltSource) -> pa.Schema:
    table = next((found for each in sample if (found := _as_table(each)) is not None), None)
    if table is not None:
        return table.schema.remove_metadata()
    rows = [each for each in sample if isinstance(each, dict)]
    if not any(rows):
        raise SchemaError("it yields no rows that tell the columns", where=source.place, hint="declare `schema`")
    return inferred(rows)


def _as_table(item: Any) -> pa.Table | None:
    """Returns Arrow and pandas data as a table; None for anything else."""
    if isinstance(item, pa.Table):
        return item
    if isinstance(item, pa.RecordBatch):
        return pa.Table.from_batches([item])
    if type(item).__module__.partition(".")[0] == "pandas":
        return pa.Table.from_pandas(item, preserve_index=False)
    return None


def _wanted(schema: pa.Schema, columns: Sequence[str] | None, where: str) -> pa.Schema:
    missing = [each for each in columns or () if each not in schema.names]
    if missing:
        raise SchemaError(f"column '{missing[0]}' is gone", where=where, hint=suggestion(missing[0], schema.names))
    return schema if columns is None else pa.schema([schema.field(each) for each in columns])
