"""Oracle in the words of the shared writer: arrays of parameters, a private temporary table, MERGE, DDL outside of transactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import resources.oracle.client  # isort: skip  # noqa: F401 - first, for it says how to get the driver
import oracledb as driver
import pyarrow as pa

from dsl.contracts.connectors import BatchWriter, Token
from dsl.contracts.errors import HeadraceError, RejectedRows, RetryableError, SchemaError
from resources.oracle.client import (
    EXISTS,
    MISSING,
    close_quietly,
    connect,
    execute,
    find_table,
    number_of,
    numbered,
    place_of,
    query,
    translated,
)
from resources.oracle.reader import describe
from resources.oracle.resource import EmptyText
from resources.oracle.types import Described, parameters, place, sizes, stored_type, type_name
from resources.sql import ROW_NUMBER, TableName
from resources.sql_session import Column, Session, Swap
from resources.sql_writer import SqlWriter

if TYPE_CHECKING:
    from resources.oracle.resource import OracleDestination

_WORK = TableName("", "ORA$PTT_HEADRACE")
_UNIQUE = (
    "SELECT i.index_name, c.column_name FROM all_indexes i JOIN all_ind_columns c ON c.index_owner = i.owner "
    "AND c.index_name = i.index_name WHERE i.uniqueness = 'UNIQUE' AND i.table_owner = ? AND i.table_name = ?"
)


def open_writer(destination: OracleDestination, schema: pa.Schema, token: Token) -> BatchWriter:
    """Opens a writer; raises as `Destination.open_writer` says."""
    where = place_of(destination.connection)
    opened = connect(destination.connection)
    try:
        target = find_table(opened, where, destination.connection.table_name(destination.table))
    except BaseException:
        close_quietly(opened)
        raise
    return SqlWriter(
        OracleSession(opened, where, empty_is_null=destination.empty_text is EmptyText.NULL),
        target=target,
        schema=schema,
        token=token,
        mode=destination.write_mode,
        key=destination.primary_key,
        evolution=destination.schema_evolution,
    )


class OracleSession(Session):
    """A connection that writes.

    Args:
        opened: The connection; the session closes it.
        place: How errors name the database.
        empty_is_null: Whether an empty text may become NULL.
    """

    swap: Swap = Swap.REFILL

    def __init__(self, opened: Any, place: str, *, empty_is_null: bool = False) -> None:
        self._opened, self.place, self._empty_is_null = opened, place, empty_is_null

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        if statement.startswith("RELEASE SAVEPOINT"):  # Oracle has no such statement, and needs none
            return 0
        cursor = execute(self._opened, self.place, statement, parameters)
        changed = cursor.rowcount
        cursor.close()
        return int(changed or 0)

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return query(self._opened, self.place, statement, parameters)

    def begin(self) -> None:
        """Begins by ending the habit that every statement commits by itself; Oracle has no other word for it."""
        self._opened.autocommit = False

    def commit(self) -> None:
        try:
            self._opened.commit()
        except (driver.Error, OSError) as error:
            said = translated(error, self.place).message
            raise RetryableError(f"unknown whether it was committed: {said}", where=self.place) from error
        self._opened.autocommit = True

    def rollback(self) -> None:
        try:
            self._opened.rollback()
            self._opened.autocommit = True
        except (driver.Error, OSError):
            close_quietly(self._opened)

    def close(self) -> None:
        close_quietly(self._opened)

    def token_columns(self) -> str:
        return (
            "stream_key VARCHAR2(512 CHAR) PRIMARY KEY, fence NUMBER(19) NOT NULL, epoch NUMBER(19) NOT NULL, state CLOB, "
            "run_id VARCHAR2(255 CHAR), committed_at VARCHAR2(40), staging VARCHAR2(128), owed NUMBER(1) NOT NULL"
        )

    def ensure(self, statement: str) -> None:
        """Executes a CREATE without IF NOT EXISTS, which Oracle has only since 23ai, and minds no table that is there."""
        self._unless(EXISTS, statement.replace("CREATE TABLE IF NOT EXISTS", "CREATE TABLE", 1))

    def drop(self, table: TableName) -> None:
        self._unless(MISSING, f"DROP TABLE {self.qualified(table)} PURGE")

    def _unless(self, number: int, statement: str) -> None:
        try:
            self.run(statement)
        except HeadraceError as error:
            if not isinstance(error.__cause__, driver.Error) or number_of(error.__cause__) != number:
                raise

    def columns(self, table: TableName) -> tuple[Column, ...] | None:
        found = self._describe(table)
        return None if found is None else tuple(Column(each.name, _kept(each), each.words) for each in found)

    def _describe(self, table: TableName) -> list[Described] | None:
        try:
            return describe(self._opened, f"{self.place}: table {table}", self.qualified(table))
        except SchemaError as error:
            if isinstance(error.__cause__, driver.Error) and number_of(error.__cause__) == MISSING:
                return None
            raise

    def column_type(self, field: pa.Field[Any], *, key: bool = False) -> str:
        return type_name(field, key=key)

    def add_column(self, table: TableName, field: pa.Field[Any]) -> None:
        self.run(f"ALTER TABLE {self.qualified(table)} ADD ({self.quoted(field.name)} {self.column_type(field)})")

    def widen(self, table: TableName, field: pa.Field[Any]) -> bool:
        """Gives a number more digits; Oracle changes neither a scale nor a kind while there are rows."""
        have = next(each for each in self.columns(table) or () if each.name == field.name).type
        wide: Any = field.type
        if not pa.types.is_decimal(have) or getattr(wide, "scale", 0) != have.scale:
            return False
        self.run(f"ALTER TABLE {self.qualified(table)} MODIFY ({self.quoted(field.name)} {self.column_type(field)})")
        return True

    def check_target(self, target: TableName, key: Sequence[str]) -> None:
        unique: dict[str, set[str]] = {}
        for index, name in self.rows(_UNIQUE, (target.schema, target.name)):
            unique.setdefault(str(index), set()).add(str(name))
        if key and set(key) not in unique.values():
            raise SchemaError(
                f"no unique index on ({', '.join(key)}): another writer could double a row",
                where=f"{self.place}: table {target}",
                hint="create a unique index on the key",
            )

    def create_stage(self, stage: TableName, like: TableName) -> None:
        self.run(f"CREATE TABLE {self.qualified(stage)} AS SELECT * FROM {self.qualified(like)} WHERE 1 = 0")

    def take_place(self, stage: TableName, target: TableName, columns: Sequence[str]) -> None:
        """Refills the target in the open transaction."""
        names = self.listed(columns)
        self.run(f"DELETE FROM {self.qualified(target)}")
        self.run(f"INSERT INTO {self.qualified(target)} ({names}) SELECT {names} FROM {self.qualified(stage)}")

    def create_work(self, target: TableName) -> TableName:
        self.run(
            f"CREATE PRIVATE TEMPORARY TABLE {self.qualified(_WORK)} ON COMMIT PRESERVE DEFINITION AS "
            f"SELECT target.*, CAST(0 AS NUMBER(19)) AS {self.quoted(ROW_NUMBER)} FROM {self.qualified(target)} target WHERE 1 = 0"
        )
        return _WORK

    def merge(self, target: TableName, work: TableName, columns: Sequence[str], key: Sequence[str]) -> tuple[int, int]:
        self.run(self.merge_statement(target, work, columns, key))
        return -1, -1

    def merge_statement(self, target: TableName, work: TableName, columns: Sequence[str], key: Sequence[str]) -> str:
        """Returns the MERGE of the last row of each key."""
        same = " AND ".join(f"target.{self.quoted(each)} = latest.{self.quoted(each)}" for each in key)
        changed = ", ".join(
            f"target.{self.quoted(each)} = latest.{self.quoted(each)}" for each in columns if each not in key
        )
        update = f"WHEN MATCHED THEN UPDATE SET {changed} " if changed else ""
        values = ", ".join(f"latest.{self.quoted(each)}" for each in columns)
        return (
            f"MERGE INTO {self.qualified(target)} target USING ({self.latest(work, columns, key)}) latest ON ({same}) "
            f"{update}WHEN NOT MATCHED THEN INSERT ({self.listed(columns)}) VALUES ({values})"
        )

    def latest(self, work: TableName, columns: Sequence[str], key: Sequence[str]) -> str:
        """Oracle takes no AS before the name of a table, and no `*` beside an expression."""
        return (
            f"SELECT {self.listed(columns)} FROM (SELECT work.*, ROW_NUMBER() OVER (PARTITION BY {self.listed(key)} "
            f"ORDER BY {self.quoted(ROW_NUMBER)} DESC) AS headrace_rank FROM {self.qualified(work)} work) WHERE headrace_rank = 1"
        )

    def load(self, table: TableName, columns: Sequence[str], rows: pa.RecordBatch) -> int:
        where = f"{self.place}: table {table}"
        held = [
            parameters(each, name, where, empty_is_null=self._empty_is_null)
            for each, name in zip(rows.columns, columns, strict=True)
        ]
        told = [sizes(each.type, values) for each, values in zip(rows.columns, held, strict=True)]
        try:
            with self._opened.cursor() as cursor:
                cursor.setinputsizes(*(getattr(driver, each) if isinstance(each, str) else each for each in told))
                cursor.executemany(
                    numbered(self.insert_statement(table, columns, [each.type for each in rows.columns])),
                    list(zip(*held, strict=True)),
                    batcherrors=True,
                )
                faults = list(cursor.getbatcherrors())
        except (driver.Error, OSError) as error:
            raise translated(error, where) from error
        if faults:
            raise _verdict(faults, where)
        return int(rows.nbytes)

    def insert_statement(self, table: TableName, columns: Sequence[str], kinds: Sequence[pa.DataType]) -> str:
        """Returns the INSERT of one row of parameters."""
        return f"INSERT INTO {self.qualified(table)} ({self.listed(columns)}) VALUES ({', '.join(map(place, kinds))})"


def _verdict(faults: Sequence[Any], where: str) -> HeadraceError:
    """Returns what the faults of some rows of an array mean: the worst of them, or that the rows are rejected."""
    found = [translated(driver.DatabaseError(each), where) for each in faults]
    worse = [each for each in found if not isinstance(each, RejectedRows)]
    return worse[0] if worse else RejectedRows(found[0].message, rows=[each.offset for each in faults], where=where)


def _kept(column: Described) -> pa.DataType:
    return stored_type(column) or pa.string()
