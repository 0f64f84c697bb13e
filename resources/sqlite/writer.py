"""SQLite in the words of the shared writer: a temporary table, ON CONFLICT, transactional DDL."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from dsl.contracts.connectors import BatchWriter, Token
from dsl.contracts.errors import FatalError, HeadraceError, RejectedRows, RetryableError, SchemaError
from resources.sql import ROW_NUMBER, TableName, quoted
from resources.sql_gathering import GatheringSession, GatheringWriter
from resources.sql_refusals import refuse
from resources.sql_session import Column
from resources.sql_types import is_text
from resources.sqlite.client import Declared, close_quietly, columns_of, connect, key_of, place_of, query, translated
from resources.sqlite.order import is_counted
from resources.sqlite.resource import table_name
from resources.sqlite.types import affinity, encode, field_of, stored_type, type_name

if TYPE_CHECKING:
    from resources.sqlite.resource import SQLiteDestination

_WORK = TableName("temp", "_headrace_work")
_UNIQUE = """
SELECT list.name, info.name FROM pragma_index_list(?, ?) AS list, pragma_index_info(list.name, ?) AS info
WHERE list."unique" AND NOT list.partial ORDER BY list.seq, info.seqno
"""


def open_writer(destination: SQLiteDestination, schema: pa.Schema, token: Token) -> BatchWriter:
    """Opens a writer; raises as `Destination.open_writer` says."""
    session = SQLiteSession(connect(destination.connection, create=True), place_of(destination.connection))
    return GatheringWriter(
        session,
        target=table_name(destination.table),
        schema=schema,
        token=token,
        mode=destination.write_mode,
        key=destination.primary_key,
        evolution=destination.schema_evolution,
    )


class SQLiteSession(GatheringSession):
    """A connection that writes.

    Args:
        opened: The connection; the session closes it.
        place: How errors name the file.
    """

    def __init__(self, opened: sqlite3.Connection, place: str) -> None:
        self._opened, self.place = opened, place
        self._required: list[str] = []
        self._numeric: list[str] = []
        self._unique: list[tuple[str, ...]] = []
        self._upserts = False

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        try:
            return self._opened.execute(statement, tuple(parameters)).rowcount
        except sqlite3.Error as error:
            raise translated(error, self.place) from error

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return query(self._opened, self.place, statement, tuple(parameters))

    def begin(self) -> None:
        """Takes the write lock at once: a transaction that begins by reading may find it taken in its middle."""
        self.run("BEGIN IMMEDIATE")

    def commit(self) -> None:
        try:
            self.run("COMMIT")
        except RetryableError:
            raise
        except HeadraceError as error:
            raise RetryableError(f"it was not committed: {error.message}", where=self.place) from error

    def rollback(self) -> None:
        with suppress(sqlite3.Error):  # a full disk has rolled back already
            self._opened.execute("ROLLBACK")

    def close(self) -> None:
        close_quietly(self._opened)

    def token_columns(self) -> str:
        return (
            "stream_key TEXT PRIMARY KEY NOT NULL, fence INTEGER NOT NULL, epoch INTEGER NOT NULL, state TEXT, "
            "run_id TEXT, committed_at TEXT, staging TEXT, owed INTEGER NOT NULL"
        )

    def columns(self, table: TableName) -> tuple[Column, ...] | None:
        return tuple(Column(each.name, stored_type(each.type), each.type) for each in self._declared(table)) or None

    def column_type(self, field: pa.Field[Any], *, key: bool = False) -> str:
        return type_name(field) + (" NOT NULL" if key else "")

    def check_target(self, target: TableName, key: Sequence[str]) -> None:
        where = f"{self.place}: table {target.name}"
        declared = self._declared(target)
        if self.rows(
            "SELECT 1 FROM main.sqlite_schema WHERE type = 'view' AND name = ? COLLATE NOCASE", (target.name,)
        ):
            raise SchemaError("it is a view, which cannot be written", where=where, hint="name a table")
        counted = {key_of(declared)} if is_counted(self._opened, (target.name, target.schema), declared) else set()
        self._unique, self._upserts = [*counted, *self._indexes(target)], bool(key)
        if key and set(key) not in [set(each) for each in self._unique]:
            raise SchemaError(
                f"no unique index on ({', '.join(key)}): rows would be doubled",
                where=where,
                hint=f"CREATE UNIQUE INDEX ... ON {self.quoted(target.name)} ({self.listed(key)})",
            )
        self._required = [each.name for each in declared if each.required and (each.name,) not in counted]
        self._numeric = [each.name for each in declared if affinity(each.type) in {"INTEGER", "REAL", "NUMERIC"}]

    def _declared(self, table: TableName) -> tuple[Declared, ...]:
        try:
            return columns_of(self._opened, table)
        except sqlite3.Error as error:
            raise translated(error, self.place) from error

    def _indexes(self, table: TableName) -> list[tuple[str, ...]]:
        found: dict[str, list[Any]] = {}
        for index, column in self.rows(_UNIQUE, (table.name, table.schema, table.schema)):
            found.setdefault(str(index), []).append(column)
        return [tuple(each) for each in found.values() if None not in each]  # None is an expression

    def widen(self, table: TableName, field: pa.Field[Any]) -> bool:
        """Replaces a decimal's column by a wider one, which then stands last; no other type is widened by force."""
        found = next(each for each in self._declared(table) if each.name == field.name)
        old = field_of(found.name, found.type)
        decimal = old is not None and pa.types.is_decimal(old.type)
        if not decimal or found.required or found.default or found.key or found.generated:
            return False
        name, aside, of = self.quoted(found.name), self.quoted(f"{found.name}_headrace_wide"), self.qualified(table)
        self.begin()
        try:
            self.run(f"ALTER TABLE {of} ADD COLUMN {aside} {type_name(field)}")
            self.run(f"UPDATE {of} SET {aside} = {name}")
            self.run(f"ALTER TABLE {of} DROP COLUMN {name}")
            self.run(f"ALTER TABLE {of} RENAME COLUMN {aside} TO {name}")
            self.commit()
        except FatalError:  # an index, a view or a trigger rests on the column
            self.rollback()
            return False
        return True

    def create_stage(self, stage: TableName, like: TableName) -> None:
        self._create_like(stage, like)
        for number, columns in enumerate(self._unique):
            index = stage.beside(f"{stage.name}_{number}")
            self.run(f"CREATE INDEX {self.qualified(index)} ON {self.quoted(stage.name)} ({self.listed(columns)})")

    def _create_like(self, table: TableName, like: TableName, *more: str) -> None:
        """Creates a table of the same columns, without their constraints."""
        made = [f"{self.quoted(each.name)} {_words(each.type)}" for each in self._declared(like) if not each.generated]
        self.run(f"CREATE TABLE {self.qualified(table)} ({', '.join([*made, *more])})")

    def take_place(self, stage: TableName, target: TableName, columns: Sequence[str]) -> None:
        """Refills the target in the open transaction, so that its indexes, triggers and views stay as they are."""
        names = self.listed(columns)
        try:
            self.run(f"DELETE FROM {self.qualified(target)}")
            self.run(f"INSERT INTO {self.qualified(target)} ({names}) SELECT {names} FROM {self.qualified(stage)}")
        except RejectedRows as error:
            raise FatalError(
                f"a row breaks the table: {error.message}",
                where=f"{self.place}: table {target.name}",
                hint="filter such rows, or remove the constraint; the table is as it was",
            ) from error
        self.drop(stage)

    def create_work(self, target: TableName) -> TableName:
        self._create_like(_WORK, target, f"{self.quoted(ROW_NUMBER)} INTEGER PRIMARY KEY")
        for number, columns in enumerate(self._unique):
            name = f'temp."{_WORK.name}_{number}"'
            self.run(f"CREATE INDEX {name} ON {self.quoted(_WORK.name)} ({self.listed(columns)})")
        return _WORK

    def temporary(self, target: TableName, name: str) -> TableName:
        del target
        return TableName("temp", name)

    def load_keys(self, table: TableName, key: Sequence[str], keys: pa.RecordBatch) -> None:
        values = [encode(column, name, self.place) for name, column in zip(key, keys.columns, strict=True)]
        self._insert(table, key, values)

    def create_found(self, found: TableName, target: TableName, key: Sequence[str]) -> None:
        super().create_found(found, target, key)
        index = self.qualified(found.beside(f"{found.name}_0"))
        self.run(f"CREATE INDEX IF NOT EXISTS {index} ON {self.quoted(found.name)} ({self.listed(key)})")

    def gather(self, work: TableName, into: TableName | None, columns: Sequence[str], rows: pa.RecordBatch) -> int:
        names = columns[:-1]
        for name, column in zip(names, rows.columns, strict=False):
            if name in self._required:
                refuse(pc.is_null(column), f"column '{name}' may not be NULL", self.place)
        values = [encode(column, name, self.place) for name, column in zip(columns, rows.columns, strict=True)]
        first = int(rows.column(rows.num_columns - 1)[0].as_py())
        texts = [name for name, column in zip(names, rows.columns, strict=False) if is_text(column.type)]
        self.run("SAVEPOINT headrace_batch")
        try:
            self._insert(work, columns, values)
            self._refuse_changed(work, [each for each in texts if each in self._numeric], first)
            self._refuse_doubles(work, into, first)
        except BaseException:
            self._undo_batch()
            raise
        self.run("RELEASE headrace_batch")
        return int(rows.nbytes)

    def _undo_batch(self) -> None:
        with suppress(sqlite3.Error):  # a full disk has rolled back already
            self._opened.execute("ROLLBACK TO headrace_batch")
            self._opened.execute("RELEASE headrace_batch")

    def _insert(self, table: TableName, columns: Sequence[str], values: Sequence[Sequence[Any]]) -> None:
        places = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {self.qualified(table)} ({self.listed(columns)}) VALUES ({places})"
        try:
            self._opened.executemany(statement, zip(*values, strict=True))
        except UnicodeEncodeError as error:
            raise RejectedRows("a text is not valid Unicode", where=self.place) from error
        except sqlite3.Error as error:
            raise translated(error, self.place) from error

    def _refuse_changed(self, work: TableName, columns: Sequence[str], first: int) -> None:
        """A column with numeric affinity turns the text `007` into the number 7."""
        for name in columns:
            column, number = self.quoted(name), self.quoted(ROW_NUMBER)
            changed = f"{number} >= ? AND typeof({column}) NOT IN ('text', 'null')"
            found = self.rows(f"SELECT {number} FROM {self.qualified(work)} WHERE {changed}", (first,))
            _refuse_rows(found, first, f"column '{name}' would turn a text into a number", self.place)

    def _refuse_doubles(self, work: TableName, into: TableName | None, first: int) -> None:
        """Finds the rows that a unique index will refuse, while there is still time to name them."""
        number, mine = self.quoted(ROW_NUMBER), self.qualified(work)
        for columns in self._unique if not self._upserts else ():
            same = " AND ".join(f"other.{self.quoted(each)} = mine.{self.quoted(each)}" for each in columns)
            exists = f"EXISTS (SELECT 1 FROM {mine} AS other WHERE {same} AND other.{number} < mine.{number})"
            if into is not None:
                exists += f" OR EXISTS (SELECT 1 FROM {self.qualified(into)} AS other WHERE {same})"
            found = self.rows(f"SELECT {number} FROM {mine} AS mine WHERE {number} >= ? AND ({exists})", (first,))
            _refuse_rows(found, first, f"there is a row of this ({', '.join(columns)}) already", self.place)

    def pour(self, into: TableName, work: TableName, columns: Sequence[str]) -> None:
        names, order = self.listed(columns), self.quoted(ROW_NUMBER)
        source = f"SELECT {names} FROM {self.qualified(work)} ORDER BY {order}"
        self.run(f"INSERT INTO {self.qualified(into)} ({names}) {source}")
        self.run(f"DELETE FROM {self.qualified(work)}")

    def merge(self, target: TableName, work: TableName, columns: Sequence[str], key: Sequence[str]) -> tuple[int, int]:
        keys, names, mine = self.listed(key), self.listed(columns), self.qualified(work)
        same = " AND ".join(f"other.{self.quoted(each)} = mine.{self.quoted(each)}" for each in key)
        known = f"EXISTS (SELECT 1 FROM {self.qualified(target)} AS other WHERE {same})"
        rows, old = self.rows(f"SELECT count(*), sum({known}) FROM (SELECT DISTINCT {keys} FROM {mine}) AS mine")[0]
        others = [self.quoted(each) for each in columns if each not in key]
        act = f"UPDATE SET {', '.join(f'{each} = excluded.{each}' for each in others)}" if others else "NOTHING"
        self.run(
            f"INSERT INTO {self.qualified(target)} ({names}) SELECT {names} FROM {mine} WHERE true "
            f"ORDER BY {self.quoted(ROW_NUMBER)} ON CONFLICT ({keys}) DO {act}"
        )
        self.run(f"DELETE FROM {mine}")
        known_rows = int(old or 0)
        return int(rows) - known_rows, known_rows


def _words(declared: str) -> str:
    """Returns a declared type as it may stand in DDL, whatever characters it holds."""
    return quoted(declared) if declared else ""


def _refuse_rows(numbers: Sequence[tuple[Any, ...]], first: int, reason: str, where: str) -> None:
    if numbers:
        raise RejectedRows(reason, rows=sorted(int(each[0]) - first for each in numbers), where=where)
