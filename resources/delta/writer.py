"""Writes one stream into a Delta table: rows wait on the local disk, a commit is one entry of the log; changes no row otherwise."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, write_deltalake

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import BatchWriter, Committed, Token
from dsl.contracts.errors import RejectedRows, SchemaError
from dsl.contracts.rows import Rejection, WriteStats
from dsl.contracts.state import State
from resources.delta.client import TableStore
from resources.delta.token import StreamToken
from resources.delta.types import fitted, stored
from resources.row_spool import Spool
from resources.sql import SchemaEvolution

if TYPE_CHECKING:
    from resources.delta.resource import DeltaDestination


class DeltaWriter(BatchWriter):
    """One stream's writer of a table.

    Args:
        destination: Which table, and how.
        schema: Of the rows that will come.
        token: Which stream.
    """

    def __init__(self, destination: DeltaDestination, schema: pa.Schema, token: Token) -> None:
        self._destination, self._mode = destination, destination.write_mode
        self._key, self._where = list(destination.primary_key), destination.place
        self._store = TableStore(destination)
        self._schema = self._planned(schema, self._store.load())
        self._token = StreamToken(self._store, token)
        self._held = self._token.fence(self._create, _touch)
        self._spool = Spool(self._schema)

    def _planned(self, schema: pa.Schema, table: DeltaTable | None) -> pa.Schema:
        """Returns the columns in which rows are written: the table's own types, where it has the column.

        Raises:
            SchemaError: The table may not or cannot take them.
        """
        known = {} if table is None else {each.name: each for each in _columns(table)}
        new = [each.name for each in schema if each.name not in known]
        if table is not None and new and self._destination.schema_evolution is SchemaEvolution.FREEZE:
            hint = "schema_evolution: evolve would add it"
            raise SchemaError(f"the table has no column '{new[0]}'", where=self._where, hint=hint)
        by = list(self._destination.partition_by)
        held = by if table is None else list(table.metadata().partition_columns)
        if by and held != by:
            raise SchemaError(f"the table is partitioned by {held or 'nothing'}, not by {by}", where=self._where)
        for name in (*self._key, *by):
            if name not in schema.names:
                raise SchemaError(f"there is no column '{name}'", where=self._where)
        return pa.schema([known[each.name] if each.name in known else stored(each, self._where) for each in schema])

    def _create(self, table: Any, properties: CommitProperties) -> None:
        del table
        DeltaTable.create(
            self._store.uri,
            self._schema,
            mode="error",
            partition_by=list(self._destination.partition_by),
            storage_options=self._store.options,
            commit_properties=properties,
        )

    def get_state(self) -> Committed | None:
        return self._held.committed

    def write(self, rows: pa.RecordBatch) -> Sequence[Rejection]:
        unknown = [each for each in rows.schema.names if each not in self._schema.names]
        if unknown:
            raise SchemaError(f"column '{unknown[0]}' was not announced", where=self._where)
        if rows.num_rows:
            self._refuse_null_keys(rows)
            self._spool.add(fitted(rows, self._schema, self._where))
        return ()

    def _refuse_null_keys(self, rows: pa.RecordBatch) -> None:
        wrong: set[Any] = set()
        for each in self._key:
            wrong.update(pc.indices_nonzero(pc.is_null(rows.column(each))).to_pylist())
        if wrong:
            raise RejectedRows("the key is NULL", rows=sorted(wrong), where=self._where)

    def commit(self, epoch: int, state: State, *, final: bool = False) -> WriteStats:
        rows, size = self._spool.rows, self._spool.bytes
        staged: tuple[str, ...] = ()
        act: Any = self._append if rows else _touch
        if self._mode is WriteMode.OVERWRITE and final:
            act = self._overwrite
        elif self._mode is WriteMode.OVERWRITE:
            staged, act = self._staged(), _touch
        elif self._mode is WriteMode.UPSERT and rows:
            act = self._merge
        before = self._held.staged
        self._held, merged = self._token.move(self._held, epoch, state, staged, act)
        self._store.discard(*(set(before) - set(staged)))
        self._spool.close()
        self._spool = Spool(self._schema)
        if merged is None:
            return WriteStats(rows, size, inserted=rows if self._mode is WriteMode.APPEND else -1)
        inserted, updated = merged["num_target_rows_inserted"], merged["num_target_rows_updated"]
        return WriteStats(inserted + updated, size, inserted, updated)

    def _staged(self) -> tuple[str, ...]:
        """Puts the epoch's rows beside the table, where they wait for the end of the load; returns all that wait."""
        if not self._spool.rows:
            return self._held.staged
        name = f"{self._token.folder}/stage-{secrets.token_hex(8)}.arrows"
        self._store.put(name, self._spool.opened())
        return (*self._held.staged, name)

    def _append(self, table: DeltaTable, properties: CommitProperties) -> None:
        write_deltalake(
            table, self._reader(iter(self._spool)), mode="append", schema_mode="merge", commit_properties=properties
        )

    def _overwrite(self, table: DeltaTable, properties: CommitProperties) -> None:
        whole = Spool(self._schema)
        try:
            # The driver asks for rows from threads of its own, where its store cannot be read.
            for each in chain.from_iterable(map(self._store.batches, self._held.staged)):
                whole.add(fitted(each, self._schema, self._where))
            for each in self._spool:
                whole.add(each)
            rows = self._reader(iter(whole))
            write_deltalake(table, rows, mode="overwrite", schema_mode="merge", commit_properties=properties)
        finally:
            whole.close()

    def _merge(self, table: DeltaTable, properties: CommitProperties) -> dict[str, Any]:
        on = " AND ".join(f"target.{_quoted(each)} = source.{_quoted(each)}" for each in self._key)
        names = {_quoted(each): f"source.{_quoted(each)}" for each in self._schema.names}
        others = {name: value for name, value in names.items() if name not in set(map(_quoted, self._key))}
        merging = table.merge(
            self._reader(self._spool.latest(self._key)),
            on,
            source_alias="source",
            target_alias="target",
            merge_schema=True,
            commit_properties=properties,
        )
        merging = merging.when_matched_update(others or names)
        return dict(merging.when_not_matched_insert(names).execute())

    def _reader(self, rows: Iterator[pa.RecordBatch]) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self._schema, rows)

    def close(self) -> None:
        self._spool.close()


def _touch(table: DeltaTable, properties: CommitProperties) -> None:
    """Adds an entry without rows to the log."""
    by = list(table.metadata().partition_columns)
    table.create_write_transaction([], "append", table.schema(), by, commit_properties=properties)


def _columns(table: DeltaTable) -> pa.Schema:
    told: Any = table.schema().to_arrow()
    return pa.schema(told)


def _quoted(name: str) -> str:
    escaped = name.replace("`", "``")
    return f"`{escaped}`"
