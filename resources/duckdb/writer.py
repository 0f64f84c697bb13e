"""DuckDB in the words of the shared writer: Arrow views, MERGE, transactional DDL."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import duckdb
import pyarrow as pa

from dsl.contracts.connectors import BatchWriter, Token
from dsl.contracts.errors import FatalError, HeadraceError, RejectedRows, RetryableError
from resources.duckdb.client import columns_of, connect, has_table, place_of, translated
from resources.duckdb.types import interval_text, type_name
from resources.sql import ROW_NUMBER, TableName
from resources.sql_refusals import refuse
from resources.sql_session import Column, Session
from resources.sql_types import is_text
from resources.sql_writer import SqlWriter

if TYPE_CHECKING:
    from resources.duckdb.resource import DuckDBDestination

_WORK = TableName("", "_headrace_work")
_ROWS = "_headrace_rows"
_READ = frozenset({"JSON", "UUID", "INTERVAL"})
"""Types that values arrive for as texts."""


def open_writer(destination: DuckDBDestination, schema: pa.Schema, token: Token) -> BatchWriter:
    """Opens a writer; raises as `Destination.open_writer` says."""
    session = DuckDBSession(connect(destination.connection, create=True), place_of(destination.connection))
    return SqlWriter(
        session,
        target=TableName.parse(destination.table, "main"),
        schema=schema,
        token=token,
        mode=destination.write_mode,
        key=destination.primary_key,
        evolution=destination.schema_evolution,
    )


class DuckDBSession(Session):
    """A connection that writes.

    Args:
        opened: The connection; the session closes it.
        place: How errors name the file.
    """

    savepoints: ClassVar[bool] = False

    def __init__(self, opened: duckdb.DuckDBPyConnection, place: str) -> None:
        self._opened, self.place = opened, place

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        found = self._fetched(statement, parameters)
        changes = statement.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE"))
        return int(found[0][0]) if changes and found else 0

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._fetched(statement, parameters)

    def _fetched(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            return self._opened.execute(statement, list(parameters)).fetchall()
        except duckdb.Error as error:
            raise translated(error, self.place) from error

    def begin(self) -> None:
        self.run("BEGIN TRANSACTION")

    def commit(self) -> None:
        try:
            self.run("COMMIT")
        except HeadraceError as error:
            raise RetryableError(f"it was not committed: {error.message}", where=self.place) from error

    def rollback(self) -> None:
        try:
            self._opened.execute("ROLLBACK")
        except duckdb.Error:
            self._opened.close()

    def close(self) -> None:
        self._opened.close()

    def token_columns(self) -> str:
        return (
            "stream_key VARCHAR PRIMARY KEY, fence BIGINT NOT NULL, epoch BIGINT NOT NULL, state VARCHAR, "
            "run_id VARCHAR, committed_at VARCHAR, staging VARCHAR, owed SMALLINT NOT NULL"
        )

    def columns(self, table: TableName) -> tuple[Column, ...] | None:
        try:
            return columns_of(self._opened, self.qualified(table)) if has_table(self._opened, table) else None
        except duckdb.Error as error:
            raise translated(error, self.place) from error

    def column_type(self, field: pa.Field[Any], *, key: bool = False) -> str:
        del key
        return type_name(field)

    def create(self, table: TableName, fields: Sequence[pa.Field[Any]], key: Sequence[str] = ()) -> None:
        """Creates a table without a primary key: MERGE needs none, and its index would slow every load."""
        del key
        self.run(f"CREATE SCHEMA IF NOT EXISTS {self.quoted(table.schema)}")
        super().create(table, fields)

    def widen(self, table: TableName, field: pa.Field[Any]) -> bool:
        name = self.quoted(field.name)
        self.run(f"ALTER TABLE {self.qualified(table)} ALTER COLUMN {name} TYPE {self.column_type(field)}")
        return True

    def create_stage(self, stage: TableName, like: TableName) -> None:
        self.run(f"CREATE TABLE {self.qualified(stage)} AS SELECT * FROM {self.qualified(like)} LIMIT 0")

    def create_work(self, target: TableName) -> TableName:
        self.run(
            f"CREATE OR REPLACE TEMPORARY TABLE {self.qualified(_WORK)} AS "
            f"SELECT *, 0::BIGINT AS {self.quoted(ROW_NUMBER)} FROM {self.qualified(target)} LIMIT 0"
        )
        return _WORK

    def merge(self, target: TableName, work: TableName, columns: Sequence[str], key: Sequence[str]) -> tuple[int, int]:
        self._refuse_null_keys(work, key)
        on = " AND ".join(f"target.{self.quoted(each)} = latest.{self.quoted(each)}" for each in key)
        others = [self.quoted(each) for each in columns if each not in key]
        matched = f"UPDATE SET {', '.join(f'{each} = latest.{each}' for each in others)}" if others else "DO NOTHING"
        names = self.listed(columns)
        values = ", ".join(f"latest.{self.quoted(each)}" for each in columns)
        actions = self._guarded(
            f"MERGE INTO {self.qualified(target)} AS target USING ({self.latest(work, columns, key)}) AS latest ON {on} "
            f"WHEN MATCHED THEN {matched} WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({values}) "
            "RETURNING merge_action"
        )
        inserted = sum(1 for each in actions if each[0] == "INSERT")
        return inserted, len(actions) - inserted

    def _refuse_null_keys(self, work: TableName, key: Sequence[str]) -> None:
        missing = " OR ".join(f"{self.quoted(each)} IS NULL" for each in key)
        number = self.quoted(ROW_NUMBER)
        found = self.rows(f"SELECT {number} FROM {self.qualified(work)} WHERE {missing} ORDER BY {number}")
        if found:
            self.run(f"DELETE FROM {self.qualified(work)}")
            raise RejectedRows("the key is NULL", rows=[int(each[0]) for each in found], where=self.place)

    def load(self, table: TableName, columns: Sequence[str], rows: pa.RecordBatch) -> int:
        read = self._read(table, rows)
        rows = _spelled(rows, read)
        self._opened.register(_ROWS, pa.Table.from_batches([rows]))
        try:
            self._refuse_misread(read)
            names = self.listed(columns)
            self._guarded(f"INSERT INTO {self.qualified(table)} ({names}) SELECT {names} FROM {_ROWS}")
        finally:
            with contextlib.suppress(duckdb.Error):  # an aborted transaction refuses this as well, and ends soon
                self._opened.unregister(_ROWS)
        return rows.nbytes

    def _read(self, table: TableName, rows: pa.RecordBatch) -> dict[str, str]:
        """Returns the columns of texts that DuckDB reads as another type, and which."""
        texts = {field.name for field in rows.schema if is_text(field.type)}
        columns = self.rows(f"DESCRIBE {self.qualified(table)}") if texts else []
        return {str(each[0]): str(each[1]) for each in columns if each[0] in texts and each[1] in _READ}

    def _refuse_misread(self, read: Mapping[str, str]) -> None:
        """Finds the texts that DuckDB cannot read as their columns' type, while there is still time to name them."""
        for name, declared in read.items():
            kept = self.quoted(name)
            query = f"SELECT {kept} IS NOT NULL AND TRY_CAST({kept} AS {declared}) IS NULL FROM {_ROWS}"
            flags = pa.array([bool(each[0]) for each in self._fetched(query, ())])
            refuse(flags, f"column '{name}' has a text that DuckDB cannot read as {declared}", self.place)

    def _guarded(self, statement: str) -> list[tuple[Any, ...]]:
        """Executes a statement whose failure undoes the whole epoch, because there are no savepoints."""
        try:
            return self._fetched(statement, ())
        except RejectedRows as error:
            raise FatalError(
                f"a row breaks the table: {error.message}",
                where=self.place,
                hint="filter such rows, or remove the constraint; nothing of this epoch was written",
            ) from error


def _spelled(rows: pa.RecordBatch, read: Mapping[str, str]) -> pa.RecordBatch:
    """Writes intervals as DuckDB reads them."""
    for name in (each for each, declared in read.items() if declared == "INTERVAL"):
        texts = [None if each is None else interval_text(each) for each in rows.column(name).to_pylist()]
        rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(texts, pa.string()))
    return rows
