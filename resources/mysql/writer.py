"""MySQL and MariaDB in the words of the shared writer: InnoDB, multi-row INSERT, a rename that the token owes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

import resources.mysql.client  # isort: skip  # noqa: F401 - first, for it says how to get the driver
import pyarrow as pa
import pyarrow.compute as pc
import pymysql

from dsl.contracts.connectors import BatchWriter, Token
from dsl.contracts.errors import FatalError, HeadraceError, RejectedRows, RetryableError, SchemaError
from resources.mysql.client import MARK, close_quietly, connect, number_of, place_of, translated
from resources.mysql.reader import describe
from resources.mysql.types import field_of, type_name
from resources.sql import ROW_NUMBER, TableName
from resources.sql_refusals import refuse, refuse_beyond_calendar, refuse_minus_zero
from resources.sql_session import Column, Session, Swap
from resources.sql_types import is_bytes, is_text
from resources.sql_writer import SqlWriter

if TYPE_CHECKING:
    from resources.mysql.resource import MysqlDestination

_ROWS_A_STATEMENT = 1000
_CARRIES = """
SELECT (SELECT COUNT(*) FROM information_schema.triggers WHERE event_object_schema = ? AND event_object_table = ?)
     + (SELECT COUNT(*) FROM information_schema.key_column_usage
        WHERE referenced_table_schema = ? AND referenced_table_name = ?)
"""
_UNIQUE = """
SELECT GROUP_CONCAT(column_name) FROM information_schema.statistics
WHERE table_schema = ? AND table_name = ? AND non_unique = 0 GROUP BY index_name
"""


def open_writer(destination: MysqlDestination, schema: pa.Schema, token: Token) -> BatchWriter:
    """Opens a writer; raises as `Destination.open_writer` says."""
    session = MysqlSession(connect(destination.connection), place_of(destination.connection))
    return SqlWriter(
        session,
        target=destination.connection.table_name(destination.table),
        schema=schema,
        token=token,
        mode=destination.write_mode,
        key=destination.primary_key,
        evolution=destination.schema_evolution,
    )


class MysqlSession(Session):
    """A connection that writes.

    Args:
        opened: The connection; the session closes it.
        place: How errors name the database.
    """

    mark: ClassVar[str] = MARK
    table_options: ClassVar[str] = " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"

    def __init__(self, opened: pymysql.connections.Connection[Any], place: str) -> None:
        self._opened, self.place, self.swap = opened, place, Swap.OWED
        self._most = 0

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        return self._execute(statement, parameters)[0]

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._execute(statement, parameters)[1]

    def _execute(self, statement: str, parameters: Sequence[Any]) -> tuple[int, list[tuple[Any, ...]]]:
        try:
            with self._opened.cursor() as cursor:
                if parameters:
                    cursor.execute(statement.replace("%", "%%").replace("?", "%s"), list(parameters))
                else:
                    cursor.execute(statement)
                return cursor.rowcount, list(cursor.fetchall()) if cursor.description else []
        except (pymysql.Error, OSError) as error:
            raise translated(error, self.place) from error

    def begin(self) -> None:
        self.run("START TRANSACTION")

    def commit(self) -> None:
        try:
            self.run("COMMIT")
        except HeadraceError as error:
            raise RetryableError(f"unknown whether it was committed: {error.message}", where=self.place) from error

    def rollback(self) -> None:
        try:
            self._opened.rollback()
        except (pymysql.Error, OSError):
            close_quietly(self._opened)

    def close(self) -> None:
        close_quietly(self._opened)

    def token_columns(self) -> str:
        return (
            "stream_key VARCHAR(512) PRIMARY KEY, fence BIGINT NOT NULL, epoch BIGINT NOT NULL, state LONGTEXT, "
            "run_id VARCHAR(255), committed_at VARCHAR(40), staging VARCHAR(64), owed SMALLINT NOT NULL"
        )

    def columns(self, table: TableName) -> tuple[Column, ...] | None:
        try:
            packets = describe(self._opened, self.qualified(table))
        except pymysql.Error as error:
            if number_of(error) == 1146:
                return None
            raise translated(error, self.place) from error
        declared = {row[0]: str(row[1]) for row in self.rows(f"SHOW COLUMNS FROM {self.qualified(table)}")}
        return tuple(Column(each.name, field_of(each.name, each).type, declared[each.name]) for each in packets)

    def column_type(self, field: pa.Field[Any], *, key: bool = False) -> str:
        return type_name(field, key=key)

    def check_target(self, target: TableName, key: Sequence[str]) -> None:
        where = f"{self.place}: table {target}"
        engine = self.rows(
            "SELECT engine FROM information_schema.tables WHERE table_schema = ? AND table_name = ?",
            (target.schema, target.name),
        )
        if not engine or str(engine[0][0]).lower() != "innodb":
            raise SchemaError("it is not an InnoDB table, so nothing could be rolled back", where=where,
                              hint=f"ALTER TABLE {self.qualified(target)} ENGINE=InnoDB")  # fmt: skip
        unique = [set(str(row[0]).split(",")) for row in self.rows(_UNIQUE, (target.schema, target.name))]
        if key and set(key) not in unique:
            raise SchemaError(
                f"no unique index on ({', '.join(key)}): rows would be doubled", where=where,
                hint="create a unique index on the key",
            )  # fmt: skip
        if int(self.rows(_CARRIES, (target.schema, target.name) * 2)[0][0]):
            self.swap = Swap.REFILL

    def widen(self, table: TableName, field: pa.Field[Any]) -> bool:
        self.run(f"ALTER TABLE {self.qualified(table)} MODIFY {self.quoted(field.name)} {self.column_type(field)}")
        return True

    def create_stage(self, stage: TableName, like: TableName) -> None:
        self.run(f"CREATE TABLE {self.qualified(stage)} LIKE {self.qualified(like)}")

    def take_place(self, stage: TableName, target: TableName, columns: Sequence[str]) -> None:
        """Renames both in one statement; where triggers or foreign keys hang on the target, refills it instead."""
        names, new, old = self.listed(columns), self.qualified(stage), self.qualified(target)
        if self.swap is Swap.REFILL:
            self.run(f"DELETE FROM {old}")
            self.run(f"INSERT INTO {old} ({names}) SELECT {names} FROM {new}")
            return
        aside = self.qualified(_aside(stage))
        self.run(f"DROP TABLE IF EXISTS {aside}")
        self.run(f"RENAME TABLE {old} TO {aside}, {new} TO {old}")

    def sweep(self, stage: TableName) -> None:
        self.drop(_aside(stage))

    def create_work(self, target: TableName) -> TableName:
        work = target.beside("_headrace_work")
        self.run(f"CREATE TEMPORARY TABLE {self.qualified(work)} AS SELECT * FROM {self.qualified(target)} LIMIT 0")
        self.run(f"ALTER TABLE {self.qualified(work)} ADD COLUMN {self.quoted(ROW_NUMBER)} BIGINT")
        return work

    def temporary(self, target: TableName, name: str) -> TableName:
        return target.beside(name)

    def create_found(self, found: TableName, target: TableName, key: Sequence[str]) -> None:
        columns = self.listed(key)
        self.ensure(
            f"CREATE TABLE IF NOT EXISTS {self.qualified(found)} (INDEX ({columns})) ENGINE=InnoDB "
            f"AS SELECT {columns} FROM {self.qualified(target)} WHERE 1 = 0"
        )

    def delete_by_key(self, table: TableName, keys: TableName, key: Sequence[str]) -> None:
        self.run(f"DELETE gone FROM {self._joined('JOIN', table, keys, key)}")

    def delete_others(self, table: TableName, keys: TableName, key: Sequence[str]) -> None:
        joined = self._joined("LEFT JOIN", table, keys, key)
        self.run(f"DELETE gone FROM {joined} WHERE known.{self.quoted(key[0])} IS NULL")

    def _joined(self, join: str, table: TableName, keys: TableName, key: Sequence[str]) -> str:
        """Returns a join that an index of either table serves, as a sub-query in a DELETE would not."""
        same = " AND ".join(f"gone.{self.quoted(each)} = known.{self.quoted(each)}" for each in key)
        return f"{self.qualified(table)} AS gone {join} {self.qualified(keys)} AS known ON {same}"

    def merge(self, target: TableName, work: TableName, columns: Sequence[str], key: Sequence[str]) -> tuple[int, int]:
        names = self.listed(columns)
        changed = [self.quoted(each) for each in columns if each not in key] or [self.quoted(key[0])]
        self.run(
            f"INSERT INTO {self.qualified(target)} ({names}) SELECT {names} FROM {self.qualified(work)} "
            f"ORDER BY {self.quoted(ROW_NUMBER)} ON DUPLICATE KEY UPDATE "
            + ", ".join(f"{each} = VALUES({each})" for each in changed)
        )
        return -1, -1

    def load(self, table: TableName, columns: Sequence[str], rows: pa.RecordBatch) -> int:
        for name, column in zip(columns, rows.columns, strict=True):
            refuse_minus_zero(column, name, self.place, "the server turns into 0")
            refuse_beyond_calendar(column, name, self.place)
        values = list(zip(*(_rendered(each) for each in rows.columns), strict=True))
        places = ", ".join(["%s"] * len(columns))
        head = f"INSERT INTO {self.qualified(table)} ({self.listed(columns)}) VALUES ".replace("%", "%%")
        try:
            with self._opened.cursor() as cursor:
                if _longest_row(rows) >= self._packet():
                    self._refuse_long(cursor, f"{head}({places})", values)
                for start in range(0, len(values), _ROWS_A_STATEMENT):
                    cursor.executemany(f"{head}({places})", values[start : start + _ROWS_A_STATEMENT])
        except (pymysql.Error, OSError) as error:
            verdict = translated(error, f"{self.place}: table {table}")
            if number_of(error) in {1153, 2020}:
                raise FatalError(
                    "a row is larger than the server accepts", where=self.place, hint="raise max_allowed_packet"
                ) from error
            if isinstance(verdict, RejectedRows):
                raise RejectedRows(verdict.message, where=f"{self.place}: table {table}") from error
            raise verdict from error
        return int(rows.nbytes)

    def _packet(self) -> int:
        """Returns the bytes of the longest statement that the server takes; it hangs up on a longer one."""
        if not self._most:
            self._most = int(self.rows("SELECT @@max_allowed_packet")[0][0])
        return self._most

    def _refuse_long(self, cursor: Any, statement: str, values: Sequence[tuple[Any, ...]]) -> None:
        most = self._packet()
        sizes = [len(cursor.mogrify(statement, row).encode("utf-8", "surrogateescape")) + 1 for row in values]
        refuse(
            pa.array([size >= most for size in sizes]),
            f"its statement is longer than the {most:,} bytes that the server takes (max_allowed_packet)",
            self.place,
        )


def _longest_row(rows: pa.RecordBatch) -> int:
    """Returns what the longest row of a batch may need in a statement: bytes are written as two digits, texts may be escaped."""
    long: list[Any] = [each for each in rows.columns if is_text(each.type) or is_bytes(each.type)]
    lengths = [pc.max(pc.binary_length(each)).as_py() or 0 for each in long]
    return 2 * sum(lengths) + 100 * rows.num_columns


def _aside(stage: TableName) -> TableName:
    return stage.beside(f"{stage.name}_old")


def _rendered(column: pa.Array[Any]) -> list[Any]:
    """Returns what the driver writes exactly: decimals digit by digit, instants without their zone (it is UTC)."""
    values = column.to_pylist()
    if pa.types.is_decimal(column.type):
        return [None if each is None else _Digits(each) for each in values]
    if pa.types.is_timestamp(column.type):
        return [None if each is None else each.replace(tzinfo=None) if isinstance(each, dt.datetime) else each
                for each in values]  # fmt: skip
    return values


class _Digits(Decimal):
    """A decimal whose text never has an exponent, which the server would read as floating point."""

    def __str__(self) -> str:
        return format(Decimal(self), "f")
