"""SQL Server in the words of the shared writer: rows as one JSON text, a temporary table, MERGE, DDL outside of transactions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import resources.sqlserver.client  # isort: skip  # noqa: F401 - first, for it says how to get the driver
import pyarrow as pa

from dsl.contracts.connectors import BatchWriter, Token
from dsl.contracts.errors import HeadraceError, RetryableError, SchemaError
from resources.sql import ROW_NUMBER, TableName
from resources.sql_gathering import GatheringSession, GatheringWriter
from resources.sql_session import Column, Swap
from resources.sqlserver.client import close_quietly, connect, execute, place_of, query
from resources.sqlserver.reader import describe
from resources.sqlserver.types import Described, arriving, rows_json, shape, stored_type, type_name

if TYPE_CHECKING:
    from resources.sqlserver.resource import SqlServerDestination

_WORK = TableName("", "#_headrace_work")
_NAME = r'(?:"(?:[^"]|"")+"\.)*"(?:[^"]|"")+"'
_CREATE = re.compile(rf"CREATE TABLE IF NOT EXISTS ({_NAME}) (.*)", re.DOTALL)
_UNIQUE = (
    "SELECT i.index_id, c.name FROM sys.indexes AS i JOIN sys.index_columns AS ic ON ic.object_id = i.object_id "
    "AND ic.index_id = i.index_id AND ic.is_included_column = 0 JOIN sys.columns AS c ON c.object_id = ic.object_id "
    "AND c.column_id = ic.column_id WHERE i.object_id = OBJECT_ID(?) AND i.is_unique = 1 AND i.has_filter = 0"
)


def open_writer(destination: SqlServerDestination, schema: pa.Schema, token: Token) -> BatchWriter:
    """Opens a writer; raises as `Destination.open_writer` says."""
    session = SqlServerSession(connect(destination.connection), place_of(destination.connection))
    return GatheringWriter(
        session,
        target=destination.connection.table_name(destination.table),
        schema=schema,
        token=token,
        mode=destination.write_mode,
        key=destination.primary_key,
        evolution=destination.schema_evolution,
    )


class SqlServerSession(GatheringSession):
    """A connection that writes.

    Args:
        opened: The connection; the session closes it.
        place: How errors name the database.
    """

    swap: Swap = Swap.REFILL

    def __init__(self, opened: Any, place: str) -> None:
        self._opened, self.place = opened, place
        self._declared: dict[str, str] = {}
        self._target, self._made = TableName("", "target"), False

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        cursor = execute(self._opened, self.place, statement, parameters)
        changed = cursor.rowcount
        cursor.close()
        return int(changed or 0)

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return query(self._opened, self.place, statement, parameters)

    def begin(self) -> None:
        self.run("BEGIN TRANSACTION")

    def commit(self) -> None:
        try:
            self.run("COMMIT TRANSACTION")
        except HeadraceError as error:
            raise RetryableError(f"unknown whether it was committed: {error.message}", where=self.place) from error

    def rollback(self) -> None:
        """Rolls back; XACT_ABORT has done so already where a statement failed."""
        try:
            self.run("IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION")
        except HeadraceError:
            close_quietly(self._opened)

    def close(self) -> None:
        close_quietly(self._opened)

    def token_columns(self) -> str:
        return (
            "stream_key NVARCHAR(440) COLLATE Latin1_General_100_BIN2 NOT NULL PRIMARY KEY, fence BIGINT NOT NULL, "
            "epoch BIGINT NOT NULL, state NVARCHAR(MAX), run_id NVARCHAR(255), committed_at NVARCHAR(40), "
            "staging NVARCHAR(128), owed SMALLINT NOT NULL"
        )

    def ensure(self, statement: str) -> None:
        """Executes a `CREATE TABLE IF NOT EXISTS`, of which SQL Server knows the parts only."""
        super().ensure(unless_there(statement))

    def columns(self, table: TableName) -> tuple[Column, ...] | None:
        found = self._describe(table)
        return None if found is None else tuple(Column(each.name, _kept(each), each.type) for each in found)

    def _describe(self, table: TableName) -> list[Described] | None:
        if self.rows("SELECT OBJECT_ID(?)", (self.qualified(table),))[0][0] is None:
            return None
        return describe(self._opened, f"{self.place}: table {table}", self.qualified(table))

    def column_type(self, field: pa.Field[Any], *, key: bool = False) -> str:
        return type_name(field, key=key) + (" NOT NULL" if key else "")

    def add_column(self, table: TableName, field: pa.Field[Any]) -> None:
        name = self.quoted(field.name)
        self.run(f"ALTER TABLE {self.qualified(table)} ADD {name} {self.column_type(field)} NULL")

    def widen(self, table: TableName, field: pa.Field[Any]) -> bool:
        required = any(each.required for each in self._describe(table) or () if each.name == field.name)
        name, null = self.quoted(field.name), "NOT NULL" if required else "NULL"
        self.run(f"ALTER TABLE {self.qualified(table)} ALTER COLUMN {name} {self.column_type(field)} {null}")
        return True

    def check_target(self, target: TableName, key: Sequence[str]) -> None:
        unique: dict[int, set[str]] = {}
        for index, name in self.rows(_UNIQUE, (self.qualified(target),)):
            unique.setdefault(int(index), set()).add(str(name))
        if key and set(key) not in unique.values():
            raise SchemaError(
                f"no unique index on ({', '.join(key)}): another writer could double a row",
                where=f"{self.place}: table {target}",
                hint="create a unique index on the key",
            )

    def create_stage(self, stage: TableName, like: TableName) -> None:
        """Creates it by a join, which makes a column that counts by itself an ordinary one."""
        self.run(
            f"SELECT origin.* INTO {self.qualified(stage)} FROM {self.qualified(like)} AS origin "
            "LEFT JOIN (SELECT 1 AS one) AS nothing ON 1 = 0 WHERE 1 = 0"
        )

    def take_place(self, stage: TableName, target: TableName, columns: Sequence[str]) -> None:
        """Refills the target in the open transaction."""
        names = self.listed(columns)
        self.run(f"DELETE FROM {self.qualified(target)}")
        self.run(f"INSERT INTO {self.qualified(target)} ({names}) SELECT {names} FROM {self.qualified(stage)}")

    def create_work(self, target: TableName) -> TableName:
        """Names the temporary table, which the first rows make: of their columns only, for others have defaults that it would lack."""
        self._declared = {each.name: each.type for each in self._describe(target) or ()}
        self._declared[ROW_NUMBER] = "bigint"
        self._target, self._made = target, False
        return _WORK

    def gather(self, work: TableName, into: TableName | None, columns: Sequence[str], rows: pa.RecordBatch) -> int:
        del into
        if not self._made:
            self.run(self.work_statement(work, columns))
            self._made = True
        named = pa.RecordBatch.from_arrays(rows.columns, names=list(columns))
        held = rows_json(named, f"{self.place}: table {self._target}")
        self.run(insert_statement(self.qualified(work), [(each, self._declared[each]) for each in columns]), (held,))
        return len(held)

    def work_statement(self, work: TableName, columns: Sequence[str]) -> str:
        """Returns what makes the temporary table, whose columns refuse what the target's would."""
        names = ", ".join(f"target.{self.quoted(each)}" for each in columns if each != ROW_NUMBER)
        return (
            f"SELECT {names}, CAST(0 AS BIGINT) AS {self.quoted(ROW_NUMBER)} INTO {self.qualified(work)} "
            f"FROM {self.qualified(self._target)} AS target LEFT JOIN (SELECT 1 AS one) AS nothing ON 1 = 0 WHERE 1 = 0"
        )

    def pour(self, into: TableName, work: TableName, columns: Sequence[str]) -> None:
        names = self.listed(columns)
        self.run(
            f"INSERT INTO {self.qualified(into)} ({names}) SELECT {names} FROM {self.qualified(work)} "
            f"ORDER BY {self.quoted(ROW_NUMBER)}"
        )
        self.run(f"DELETE FROM {self.qualified(work)}")

    def merge(self, target: TableName, work: TableName, columns: Sequence[str], key: Sequence[str]) -> tuple[int, int]:
        self.run(self.merge_statement(target, work, columns, key))
        self.run(f"DELETE FROM {self.qualified(work)}")
        return -1, -1

    def merge_statement(self, target: TableName, work: TableName, columns: Sequence[str], key: Sequence[str]) -> str:
        """Returns the MERGE; HOLDLOCK keeps another one from adding the same key between looking and writing."""
        same = " AND ".join(f"target.{self.quoted(each)} = latest.{self.quoted(each)}" for each in key)
        changed = ", ".join(f"{self.quoted(each)} = latest.{self.quoted(each)}" for each in columns if each not in key)
        update = f"WHEN MATCHED THEN UPDATE SET {changed} " if changed else ""
        values = ", ".join(f"latest.{self.quoted(each)}" for each in columns)
        return (
            f"MERGE INTO {self.qualified(target)} WITH (HOLDLOCK) AS target USING ({self.latest(work, columns, key)}) AS latest "
            f"ON {same} {update}WHEN NOT MATCHED THEN INSERT ({self.listed(columns)}) VALUES ({values});"
        )


def unless_there(statement: str) -> str:
    """Returns a `CREATE TABLE IF NOT EXISTS` in SQL Server's words."""
    found = _CREATE.fullmatch(statement)
    if found is None:
        return statement
    literal = found[1].replace("'", "''")
    return f"IF OBJECT_ID(N'{literal}') IS NULL CREATE TABLE {found[1]} {found[2]}"


def insert_statement(table: str, columns: Sequence[tuple[str, str]]) -> str:
    """Returns the INSERT of rows that come as one JSON parameter; columns are given with their declared types."""
    names = ", ".join('"' + name.replace('"', '""') + '"' for name, _ in columns)
    return f"INSERT INTO {table} ({names}) SELECT {arriving(columns)} FROM OPENJSON(CAST(? AS NVARCHAR(MAX))) {shape(columns)}"


def _kept(column: Described) -> pa.DataType:
    return stored_type(column) or pa.string()
