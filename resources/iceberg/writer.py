"""Writes one stream into an Iceberg table: rows wait on the local disk, a commit is one of the catalog's; changes no row otherwise."""

from __future__ import annotations

import contextlib
import secrets
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import Table, Transaction

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import BatchWriter, Committed, Token
from dsl.contracts.errors import HeadraceError, RejectedRows, SchemaError
from dsl.contracts.rows import Rejection, WriteStats
from dsl.contracts.state import State
from resources.iceberg.client import LostRaceError, connect, load, told
from resources.iceberg.token import StreamToken
from resources.iceberg.types import fitted, plain, stored
from resources.row_spool import Spool
from resources.sql import SchemaEvolution

if TYPE_CHECKING:
    from resources.iceberg.resource import IcebergDestination

_CHUNK: Final = 8 * 2**20


class IcebergWriter(BatchWriter):
    """One stream's writer of a table.

    Args:
        destination: Which table, and how.
        schema: Of the rows that will come.
        token: Which stream.
    """

    def __init__(self, destination: IcebergDestination, schema: pa.Schema, token: Token) -> None:
        self._destination, self._mode = destination, destination.write_mode
        self._key, self._where = list(destination.primary_key), destination.place
        for each in self._key:
            if each not in schema.names:
                raise SchemaError(f"there is no column '{each}'", where=self._where)
        self._catalog = connect(destination.connection, self._where)
        table = load(self._catalog, destination.table, self._where)
        self._schema = self._planned(schema, table)
        if table is None:
            self._create()
        self._token = StreamToken(self._catalog, destination.table, token, self._where)
        self._held = self._token.fence(self._touch)
        self._spool = Spool(self._schema)

    def _planned(self, schema: pa.Schema, table: Table | None) -> pa.Schema:
        """Returns the columns in which rows are written: the table's own, and those that are new.

        Raises:
            SchemaError: The table may not or cannot take them.
        """
        known = [] if table is None else list(table.schema().as_arrow())
        names = {each.name for each in known}
        new = [each for each in schema if each.name not in names]
        if table is not None and new and self._destination.schema_evolution is SchemaEvolution.FREEZE:
            hint = "schema_evolution: evolve would add it"
            raise SchemaError(f"the table has no column '{new[0].name}'", where=self._where, hint=hint)
        lacking = [each.name for each in known if each.name not in schema.names]
        if self._mode is WriteMode.UPSERT and lacking:
            told_text = f"an upsert would empty column '{lacking[0]}', which the rows do not have"
            raise SchemaError(told_text, where=self._where, hint="bring all columns of the table")
        held = [pa.field(each.name, plain(each.type), each.nullable) for each in known]
        return pa.schema([*held, *(stored(each, self._where) for each in new)])

    def _create(self) -> None:
        name = self._destination.table
        with contextlib.suppress(LostRaceError), told(self._where):  # another run has just made it
            self._catalog.create_namespace_if_not_exists(name.rpartition(".")[0])
            self._catalog.create_table(name, schema=self._schema)

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
        act: Any = self._append if rows else self._touch
        if self._mode is WriteMode.OVERWRITE and final:
            act = self._overwrite
        elif self._mode is WriteMode.OVERWRITE:
            staged, act = self._staged(), self._touch
        elif self._mode is WriteMode.UPSERT and rows:
            act = self._merge
        before = self._held.staged
        self._held, merged = self._token.move(self._held, epoch, state, staged, act)
        self._discard(set(before) - set(staged))
        self._spool.close()
        self._spool = Spool(self._schema)
        if merged is None:
            return WriteStats(rows, size, inserted=rows if self._mode is WriteMode.APPEND else -1)
        return WriteStats(merged.rows_inserted + merged.rows_updated, size, merged.rows_inserted, merged.rows_updated)

    def _evolve(self, transaction: Transaction) -> None:
        """Adds the columns that the table has not, in the commit that brings their first rows."""
        names = {each.name for each in transaction.table_metadata.schema().fields}
        new = [each for each in self._schema if each.name not in names]
        if new:
            with transaction.update_schema() as update:
                update.union_by_name(pa.schema(new))

    def _touch(self, transaction: Transaction) -> None:
        """Adds a snapshot without rows: only a snapshot makes the catalog look who came first."""
        transaction.append(pa.schema([]).empty_table())

    def _append(self, transaction: Transaction) -> None:
        self._evolve(transaction)
        transaction.append(self._reader(iter(self._spool)))

    def _merge(self, transaction: Transaction) -> Any:
        self._evolve(transaction)
        rows = pa.Table.from_batches(self._spool.latest(self._key), self._schema)
        found = transaction.upsert(rows, join_cols=self._key)
        if not found.rows_inserted + found.rows_updated:
            self._touch(transaction)
        return found

    def _overwrite(self, transaction: Transaction) -> None:
        self._evolve(transaction)
        with warnings.catch_warnings():
            # The driver warns that an empty table has nothing to delete.
            warnings.filterwarnings("ignore", "Delete operation did not match")
            transaction.overwrite(self._reader(self._whole()))

    def _whole(self) -> Iterator[pa.RecordBatch]:
        table = self._token.table()
        for name in self._held.staged:
            with told(self._where), table.io.new_input(name).open() as file:
                opened: Any = file
                for each in pa.ipc.open_stream(pa.PythonFile(opened, mode="r")):
                    yield fitted(each, self._schema, self._where)
        yield from self._spool

    def _staged(self) -> tuple[str, ...]:
        """Puts the epoch's rows beside the table, where they wait for the end of the load; returns all that wait."""
        if not self._spool.rows:
            return self._held.staged
        table = self._token.table()
        name = f"{table.location()}/_headrace/{self._token.mark}/stage-{secrets.token_hex(8)}.arrows"
        file = self._spool.opened()
        with told(self._where), table.io.new_output(name).create() as stream:
            while chunk := file.read(_CHUNK):
                stream.write(chunk)
        return (*self._held.staged, name)

    def _discard(self, names: set[str]) -> None:
        """Removes files that nothing names any more; one that stays costs a little space."""
        for each in names:
            with contextlib.suppress(HeadraceError, LostRaceError), told(self._where):
                self._token.table().io.delete(each)

    def _reader(self, rows: Iterator[pa.RecordBatch]) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self._schema, rows)

    def close(self) -> None:
        self._spool.close()
        self._catalog.close()
