"""PostgreSQL in the words of the shared writer: COPY, temporary tables, transactional DDL."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import resources.postgres.client  # isort: skip  # noqa: F401 - first, for it says how to get the driver
import psycopg
import pyarrow as pa
import pyarrow.csv as pc_csv

from dsl.contracts.connectors import BatchWriter, Token
from dsl.contracts.errors import FatalError, HeadraceError, RejectedRows, RetryableError
from resources.postgres.binary import HEADER, TRAILER, Wire, encode, library
from resources.postgres.client import close_quietly, connect, place_of, table_fields, table_id, translated
from resources.postgres.types import type_name
from resources.postgres.wires import leaving
from resources.sql import ROW_NUMBER, TableName
from resources.sql_refusals import refuse_beyond_calendar
from resources.sql_session import Column, Session
from resources.sql_types import is_bytes
from resources.sql_writer import SqlWriter

if TYPE_CHECKING:
    from resources.postgres.resource import PostgresDestination

_LINE = re.compile(r"^COPY .*, line (\d+)", re.MULTILINE)
_WORK = TableName("", "_headrace_work")
_CARRIES = """
SELECT relacl IS NOT NULL OR relrowsecurity OR EXISTS (
  SELECT FROM pg_trigger WHERE tgrelid = pg_class.oid AND NOT tgisinternal) FROM pg_class WHERE oid = %s::oid
"""


def open_writer(destination: PostgresDestination, schema: pa.Schema, token: Token) -> BatchWriter:
    """Opens a writer; raises as `Destination.open_writer` says."""
    session = PostgresSession(connect(destination.connection), place_of(destination.connection))
    return SqlWriter(
        session,
        target=TableName.parse(destination.table, "public"),
        schema=schema,
        token=token,
        mode=destination.write_mode,
        key=destination.primary_key,
        evolution=destination.schema_evolution,
    )


class PostgresSession(Session):
    """A connection that writes.

    Args:
        opened: The connection; the session closes it.
        place: How errors name the database.
    """

    mark: ClassVar[str] = '"'

    def __init__(self, opened: psycopg.Connection[Any], place: str) -> None:
        self._opened, self.place = opened, place
        self._wires: tuple[Any, tuple[Wire, ...] | None] = (None, None)

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        return self._execute(statement, parameters).rowcount

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._execute(statement, parameters).fetchall()

    def _execute(self, statement: str, parameters: Sequence[Any]) -> psycopg.Cursor[Any]:
        try:
            if not parameters:
                return self._opened.execute(statement.encode())
            marked = statement.replace("%", "%%").replace("?", "%s")
            return self._opened.execute(marked.encode(), tuple(parameters))
        except psycopg.Error as error:
            raise translated(error, self.place) from error

    def begin(self) -> None:
        self._wires = (None, None)  # between transactions somebody may have changed a column's type
        self.run("BEGIN")

    def commit(self) -> None:
        try:
            self.run("COMMIT")
        except RejectedRows as error:
            raise FatalError(
                f"a deferred constraint refuses the epoch: {error.message}",
                where=self.place,
                hint="make the constraint immediate, so that the row at fault can be found",
            ) from error
        except HeadraceError as error:
            raise RetryableError(f"unknown whether it was committed: {error.message}", where=self.place) from error

    def rollback(self) -> None:
        try:
            self._opened.execute("ROLLBACK")
        except psycopg.Error:
            close_quietly(self._opened)

    def close(self) -> None:
        close_quietly(self._opened)

    def token_columns(self) -> str:
        return (
            "stream_key text PRIMARY KEY, fence bigint NOT NULL, epoch bigint NOT NULL, state text, run_id text, "
            "committed_at timestamptz, staging text, owed smallint NOT NULL"
        )

    def columns(self, table: TableName) -> tuple[Column, ...] | None:
        try:
            oid = table_id(self._opened, table)
            if oid is None:
                return None
            return tuple(Column(each.name, each.type, said) for each, said in table_fields(self._opened, oid))
        except psycopg.Error as error:
            raise translated(error, self.place) from error

    def column_type(self, field: pa.Field[Any], *, key: bool = False) -> str:
        del key
        return type_name(field)

    def widen(self, table: TableName, field: pa.Field[Any]) -> bool:
        self.run(
            f"ALTER TABLE {self.qualified(table)} ALTER COLUMN {self.quoted(field.name)} TYPE {self.column_type(field)}"
        )
        return True

    def take_place(self, stage: TableName, target: TableName, columns: Sequence[str]) -> None:
        """Renames; where the target carries grants, triggers, policies or views, refills it so that they stay."""
        carries = self._opened.execute(_CARRIES, (table_id(self._opened, target),)).fetchone()
        if carries is not None and not carries[0]:
            self.run("SAVEPOINT swap")
            try:
                super().take_place(stage, target, columns)
            except FatalError:  # views or keys depend on the target
                self.run("ROLLBACK TO SAVEPOINT swap")
            else:
                return
        names = self.listed(columns)
        self.run(f"DELETE FROM {self.qualified(target)}")
        self.run(f"INSERT INTO {self.qualified(target)} ({names}) SELECT {names} FROM {self.qualified(stage)}")
        self.drop(stage)

    def create_work(self, target: TableName) -> TableName:
        self.run(
            f"CREATE TEMPORARY TABLE {self.qualified(_WORK)} "
            f"(LIKE {self.qualified(target)} INCLUDING DEFAULTS INCLUDING CONSTRAINTS, {self.quoted(ROW_NUMBER)} bigint)"
        )
        return _WORK

    def merge(self, target: TableName, work: TableName, columns: Sequence[str], key: Sequence[str]) -> tuple[int, int]:
        others = [self.quoted(each) for each in columns if each not in key]
        act = f"UPDATE SET {', '.join(f'{each} = EXCLUDED.{each}' for each in others)}" if others else "NOTHING"
        found = self.rows(
            f"WITH applied AS (INSERT INTO {self.qualified(target)} ({self.listed(columns)}) "
            f"{self.latest(work, columns, key)} ON CONFLICT ({self.listed(key)}) DO {act} RETURNING (xmax = 0) AS fresh) "
            "SELECT count(*) FILTER (WHERE fresh), count(*) FILTER (WHERE NOT fresh) FROM applied"
        )
        return int(found[0][0]), int(found[0][1])

    def load(self, table: TableName, columns: Sequence[str], rows: pa.RecordBatch) -> int:
        for name, column in zip(columns, rows.columns, strict=True):
            refuse_beyond_calendar(column, name, self.place)
        block, form = self._encoded(table, columns, rows)
        command = f"COPY {self.qualified(table)} ({self.listed(columns)}) FROM STDIN (FORMAT {form})"
        try:
            with self._opened.cursor() as cursor, cursor.copy(command.encode()) as copy:
                copy.write(block)
        except psycopg.Error as error:
            verdict = translated(error, f"{self.place}: table {table}")
            if isinstance(verdict, RejectedRows):
                lines = rows.num_rows if form == "binary" else block.count(b"\n")
                raise RejectedRows(
                    error.diag.message_primary or verdict.message,
                    rows=_row_at_fault(error, lines, rows.num_rows),
                    where=f"{self.place}: table {table}",
                ) from error
            raise verdict from error
        return len(block)

    def _encoded(self, table: TableName, columns: Sequence[str], rows: pa.RecordBatch) -> tuple[bytes, str]:
        """Returns rows as COPY reads them, and in which form: the binary one where every column has it."""
        known = (str(table), tuple(columns), rows.schema)
        if self._wires[0] != known:
            self._wires = known, self._wires_of(table, columns, rows.schema)
        wires = self._wires[1]
        tuples = encode(wires, rows) if wires is not None else None
        return (_csv(rows), "csv") if tuples is None else (HEADER + tuples + TRAILER, "binary")

    def _wires_of(self, table: TableName, columns: Sequence[str], schema: pa.Schema) -> tuple[Wire, ...] | None:
        declared = {each.name: each.declared for each in self.columns(table) or ()}
        found = [leaving(kind, declared.get(name, "")) for name, kind in zip(columns, schema.types, strict=True)]
        wires = tuple(each for each in found if each is not None)
        return wires if library() is not None and len(wires) == len(found) else None


def _row_at_fault(error: psycopg.Error, lines: int, count: int) -> tuple[int] | None:
    """Returns the row that COPY names, where lines are rows; None where text with line breaks hides which it is."""
    found = _LINE.search(error.diag.context or "")
    if found is None or lines != count:
        return None
    index = int(found.group(1)) - 1
    return (index,) if 0 <= index < count else None


def _csv(rows: pa.RecordBatch) -> bytes:
    columns = [_rendered(each) for each in rows.columns]
    into = io.BytesIO()
    batch = pa.RecordBatch.from_arrays(columns, names=rows.schema.names)
    pc_csv.write_csv(batch, into, pc_csv.WriteOptions(include_header=False, quoting_style="needed"))
    return into.getvalue()


def _rendered(column: pa.Array[Any]) -> pa.Array[Any]:
    if is_bytes(column.type):
        return pa.array([None if each is None else "\\x" + each.hex() for each in column.to_pylist()], pa.string())
    if pa.types.is_list(column.type):
        return pa.array([None if each is None else _array(each) for each in column.to_pylist()], pa.string())
    if pa.types.is_null(column.type):
        return column.cast(pa.string())
    return column


def _array(values: Sequence[Any]) -> str:
    """Returns PostgreSQL's text of an array, every element quoted."""
    return "{" + ",".join("NULL" if each is None else _quoted_element(each) for each in values) + "}"


def _quoted_element(value: Any) -> str:
    text = "\\x" + value.hex() if isinstance(value, bytes) else str(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
