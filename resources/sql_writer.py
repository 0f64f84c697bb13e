"""The one writer of every transactional SQL system: rows and token in one commit; knows no system but through its session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.changes import OPERATION, Operation, without_operation
from dsl.contracts.connectors import BatchWriter, Committed, Token
from dsl.contracts.errors import FatalError, RejectedRows, SchemaError
from dsl.contracts.failpoints import Failpoint
from dsl.contracts.rows import Rejection, WriteStats
from dsl.contracts.state import State
from resources.sql import ROW_NUMBER, SchemaEvolution, TableName, stage_name
from resources.sql_changes import Changes, Part, operations_of, parts, refuse_null_keys
from resources.sql_session import Column, Session, Swap
from resources.sql_token import TokenTable
from resources.sql_types import Fit, conform, fit, plain, widened

_FENCED = Failpoint("sql.fenced", "The stream belongs to this writer; no row of it has been written.")
_MOVED = Failpoint(
    "sql.token_moved", "The epoch's rows and its token stand in the transaction, which is not committed."
)
_COMMITTED = Failpoint(
    "sql.committed", "The epoch is committed; the engine has not heard of it, an owed swap is not done."
)

_SWAPPED = Failpoint("sql.swapped", "The target holds the new rows; the token still says that the swap is owed.")


class SqlWriter(BatchWriter):
    """Appends, overwrites, upserts or merges; each epoch is one transaction that moves the token too.

    Overwritten rows gather in a table of their own over any number of epochs, which takes the target's place with the
    final commit. Each batch stands behind a savepoint, so that a refused batch leaves nothing and the rows at fault can
    be found by trying halves.

    Args:
        session: The open connection; the writer closes it.
        target: The table.
        schema: The schema of the rows to come.
        token: The stream.
        mode: How rows arrive.
        key: The columns that identify a row, for upserts and merges.
        evolution: Whether the table may be changed.
    """

    _changes: Changes

    def __init__(
        self,
        session: Session,
        *,
        target: TableName,
        schema: pa.Schema,
        token: Token,
        mode: WriteMode,
        key: tuple[str, ...] = (),
        evolution: SchemaEvolution = SchemaEvolution.EVOLVE,
    ) -> None:
        self._session, self._target, self._mode = session, target, mode
        self._by_key = mode in {WriteMode.UPSERT, WriteMode.MERGE}
        self._merges = mode is WriteMode.MERGE and OPERATION in schema.names
        schema = without_operation(schema) if self._merges else schema
        self._stream = token.key
        self._where = f"{session.place}: table {target}"
        self._open = False
        self._stats = _Stats()
        try:
            self._tokens = TokenTable(session, target, token)
            self._held = self._tokens.fence()
            _FENCED.reach()
            self._finish_swap()
            self._columns = fitted_table(session, target, schema, key, evolution)
            self._names = [each.name for each in self._columns]
            spelled = {name.casefold(): each.name for name, each in zip(schema.names, self._columns, strict=True)}
            self._key = [_spelled_key(name, spelled, self._where) for name in key]
            session.check_target(target, self._key)
            self._into = self._ready_table()
            if self._merges:
                self._changes = Changes(session, target, self._key, self._stream)
        except BaseException:
            session.close()
            raise

    def get_state(self) -> Committed | None:
        return self._held.committed

    def write(self, rows: pa.RecordBatch) -> Sequence[Rejection]:
        if rows.num_rows == 0:
            return ()
        ready, operations = self._conformed(rows), operations_of(rows) if self._merges else ()
        if self._merges:
            refuse_null_keys(operations, ready, self._key, self._where)
        into = self._begin()

        def act() -> None:
            if not self._merges:
                self._load(into, ready)
            for each in parts(operations, ready, self._key):
                self._apply(each, into)

        if self._session.savepoints:
            self._behind_savepoint(act)
        else:
            act()
        self._stats.rows += rows.num_rows
        return ()

    def _apply(self, part: Part, into: TableName) -> None:
        """Does in the open transaction what some changes say."""
        if part.operation is Operation.UPSERT:
            if part.deleted is not None:
                self._changes.delete(part.deleted)
            if part.rows.num_rows:
                with part.placed():
                    self._load(into, part.rows)
        elif part.operation is Operation.PRESENT:
            self._changes.present(part.rows.select(self._key))
            with part.placed():
                self._load(into, part.rows, missing=True)
        elif part.operation is Operation.TRUNCATE:
            self._changes.truncate()
        elif part.operation is Operation.COMPARE:
            self._changes.compare()
        else:
            self._changes.sweep()

    def commit(self, epoch: int, state: State, *, final: bool = False) -> WriteStats:
        if epoch != self._held.epoch + 1:
            raise FatalError(
                f"epoch {epoch} cannot follow epoch {self._held.epoch}", where=self._where, hint="this is a defect"
            )
        swaps = final and self._mode is WriteMode.OVERWRITE
        into = self._begin()
        try:
            self._move(into, epoch, state, swaps=swaps)
        except BaseException:  # nobody waits for the locks of a writer that failed
            self._open = False
            self._session.rollback()
            raise
        _MOVED.reach()
        self._open = False
        self._session.commit()
        _COMMITTED.reach()
        if swaps:
            self._after_swap(into)
        stats, self._stats = self._stats, _Stats()
        return WriteStats(stats.rows, stats.bytes, stats.inserted, stats.updated)

    def _move(self, into: TableName, epoch: int, state: State, *, swaps: bool) -> None:
        """Completes the open transaction: the epoch's rows, the swap that it may end with, the token."""
        self._deliver(into)
        owed = swaps and self._session.swap is Swap.OWED
        if swaps and not owed:
            self._session.take_place(into, self._target, self._names)
        gathers = self._mode is WriteMode.OVERWRITE and (owed or not swaps)
        staging = into.name if gathers else ""
        self._held = self._tokens.move(self._held, epoch, state, staging=staging, owed=owed)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._session.rollback()
        self._session.close()

    def _begin(self) -> TableName:
        """Begins the epoch's transaction unless it is open; returns the table that rows are loaded into."""
        session = self._session
        if not self._open:
            early = session.swap is not Swap.IN_TRANSACTION
            if self._into is None and early:
                self._into = self._fresh_stage()
            session.begin()
            self._open = True
            if self._into is None:
                self._into = self._fresh_stage()
        return self._into or self._target

    def _deliver(self, into: TableName) -> None:
        """Puts rows that were kept aside into the open transaction; here they stand in it already."""

    def _load(self, into: TableName, rows: pa.RecordBatch, *, missing: bool = False) -> None:
        names = list(self._names)
        if self._by_key:
            rows = rows.append_column(ROW_NUMBER, pa.array(range(rows.num_rows), pa.int64()))
            names.append(ROW_NUMBER)
        self._stats.bytes += self._session.load(into, names, rows)
        if missing:
            self._session.delete_by_key(into, self._target, self._key)
        if self._by_key:
            inserted, updated = self._session.merge(self._target, into, self._names, self._key)
            self._session.run(f"DELETE FROM {self._session.qualified(into)}")
            self._stats.count(inserted, updated)
        else:
            self._stats.count(rows.num_rows, 0)

    def _behind_savepoint(self, act: Callable[[], None]) -> None:
        session, before = self._session, self._stats.copy()
        session.run("SAVEPOINT headrace")
        try:
            act()
        except RejectedRows:
            session.run("ROLLBACK TO SAVEPOINT headrace")
            self._stats = before
            raise
        session.run("RELEASE SAVEPOINT headrace")

    def _conformed(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        if self._merges:
            rows = rows.select([each for each in rows.schema.names if each != OPERATION])
        columns = []
        for array, field, column in zip(rows.columns, rows.schema, self._columns, strict=True):
            try:
                columns.append(conform(array, column.type))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise RejectedRows(
                    f"column '{field.name}' has a value that {column.declared or column.type} cannot hold: {error}",
                    where=self._where,
                ) from error
        return pa.RecordBatch.from_arrays(columns, names=self._names)

    def _ready_table(self) -> TableName | None:
        """Returns the table that rows are loaded into; None for a gathering table that is still to be made."""
        session = self._session
        if self._by_key:
            return session.create_work(self._target)
        stage = self._target.beside(self._held.staging) if self._held.staging else None
        if self._mode is not WriteMode.OVERWRITE:
            if stage is not None:
                session.drop(stage)
            return self._target
        if stage is not None:
            fitted_table(session, stage, pa.schema(_fields(self._columns)), (), SchemaEvolution.EVOLVE)
        return stage

    def _fresh_stage(self) -> TableName:
        """Creates an empty gathering table; one of the same name was never committed to."""
        name = stage_name(self._stream, self._target, self._held.epoch + 1)
        stage = self._target.beside(self._session.spell(name))
        self._session.drop(stage)
        self._session.create_stage(stage, self._target)
        return stage

    def _after_swap(self, stage: TableName) -> None:
        if self._session.swap is Swap.OWED:
            self._finish_swap()
        elif self._session.swap is Swap.REFILL:
            self._session.drop(stage)
        self._into = None

    def _finish_swap(self) -> None:
        """Does the swap that the token says is owed, and notes that it is done; safe to repeat after a crash."""
        if not self._held.owed:
            return
        session, stage = self._session, self._target.beside(self._held.staging)
        columns = session.columns(stage)
        if columns is not None:
            session.take_place(stage, self._target, [each.name for each in columns])
        session.sweep(stage)
        _SWAPPED.reach()
        session.begin()
        self._held = self._tokens.settle(self._held)
        session.commit()


class _Stats:
    """Counts of the open epoch."""

    def __init__(self) -> None:
        self.rows = self.bytes = self.inserted = self.updated = 0

    def count(self, inserted: int, updated: int) -> None:
        """Adds what one batch did; unknown once is unknown for the epoch."""
        self.inserted = -1 if inserted < 0 or self.inserted < 0 else self.inserted + inserted
        self.updated = -1 if updated < 0 or self.updated < 0 else self.updated + updated

    def copy(self) -> _Stats:
        """Returns the counts as they are now."""
        made = _Stats()
        made.rows, made.bytes, made.inserted, made.updated = self.rows, self.bytes, self.inserted, self.updated
        return made


def fitted_table(
    session: Session, table: TableName, schema: pa.Schema, key: Sequence[str], evolution: SchemaEvolution
) -> tuple[Column, ...]:
    """Creates the table or makes it fit the rows, each change committed by itself and harmless to repeat.

    Returns:
        The table's column for each field, in the fields' order.

    Raises:
        SchemaError: The table cannot hold these rows, or may not be changed; names every column at fault.
    """
    have = session.columns(table)
    if have is None:
        wanted = [each.with_name(session.spell(each.name)) for each in schema]
        session.create(table, wanted, [session.spell(each) for each in key])
    else:
        _evolve(session, table, schema, have, evolution)
    found = {each.name.casefold(): each for each in session.columns(table) or ()}
    return tuple(found[each.name.casefold()] for each in schema)


def _evolve(
    session: Session, table: TableName, schema: pa.Schema, have: Sequence[Column], evolution: SchemaEvolution
) -> None:
    known = {each.name.casefold(): each for each in have}
    faults: list[str] = []
    for field in schema:
        column = known.get(field.name.casefold())
        fits = fit(column.type, field.type) if column else Fit.WIDEN
        if fits is Fit.YES:
            continue
        if column is None and evolution is SchemaEvolution.EVOLVE:
            session.add_column(table, field.with_name(session.spell(field.name)))
        elif column is None:
            faults.append(f"it has no column '{field.name}'")
        elif fits is Fit.NO or evolution is SchemaEvolution.FREEZE or not _widen(session, table, column, field):
            faults.append(f"column '{column.name}' is {column.declared or column.type}, which cannot hold {field.type}")
    if faults:
        raise SchemaError(
            "; ".join(faults),
            where=f"{session.place}: table {table}",
            hint="change the table, cast the column in a mapping"
            + (", or set schema_evolution: evolve" if evolution is SchemaEvolution.FREEZE else ""),
        )


def _widen(session: Session, table: TableName, column: Column, field: pa.Field[Any]) -> bool:
    wide = widened(column.type, field.type)
    return wide is not None and session.widen(table, pa.field(column.name, wide, metadata=field.metadata))


def _fields(columns: Sequence[Column]) -> list[pa.Field[Any]]:
    return [pa.field(each.name, plain(each.type)) for each in columns]


def _spelled_key(name: str, spelled: dict[str, str], where: str) -> str:
    found = spelled.get(name.casefold())
    if found is None:
        raise SchemaError(f"the rows have no key column '{name}'", where=where, hint=f"there are: {', '.join(spelled)}")
    return found
