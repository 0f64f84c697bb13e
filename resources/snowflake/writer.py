"""Snowflake in the words of the shared writer: Parquet files in a stage, COPY INTO, DDL outside of transactions."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dsl.contracts.connectors import BatchWriter, Token
from dsl.contracts.errors import HeadraceError, RetryableError
from resources.snowflake.client import close_quietly, connect, describe, execute, find_table, place_of, query
from resources.snowflake.parts import Parts
from resources.snowflake.types import Described, arriving, check, stored_type, type_name
from resources.sql import ROW_NUMBER, TableName
from resources.sql_gathering import GatheringSession, GatheringWriter
from resources.sql_session import Column, Swap

if TYPE_CHECKING:
    from resources.snowflake.resource import SnowflakeDestination

_WORK = TableName("", "_headrace_work")
_FORMAT = "FILE_FORMAT = (TYPE = PARQUET USE_LOGICAL_TYPE = TRUE BINARY_AS_TEXT = FALSE) ON_ERROR = ABORT_STATEMENT"


def open_writer(destination: SnowflakeDestination, schema: pa.Schema, token: Token) -> BatchWriter:
    """Opens a writer; raises as `Destination.open_writer` says."""
    asked = destination.connection.table_name(destination.table)
    where = place_of(destination.connection)
    opened = connect(destination.connection, asked.schema)
    try:
        target = find_table(opened, where, asked)
    except BaseException:
        close_quietly(opened)
        raise
    return GatheringWriter(
        SnowflakeSession(opened, where),
        target=target,
        schema=schema,
        token=token,
        mode=destination.write_mode,
        key=destination.primary_key,
        evolution=destination.schema_evolution,
    )


class SnowflakeSession(GatheringSession):
    """A session that writes. Its temporary table and its temporary stage end with it, however it ends.

    Args:
        opened: The driver's connection; the session closes it.
        place: How errors name the database.
    """

    swap: Swap = Swap.REFILL

    def __init__(self, opened: Any, place: str) -> None:
        self._opened, self.place = opened, place
        self._stage = f"HEADRACE_{uuid.uuid4().hex.upper()}"
        self._parts = Parts(self._put, place)
        self._described: dict[str, Described] = {}
        self._loaded: list[str] = []

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        return execute(self._opened, self.place, statement, parameters).rowcount or 0

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return query(self._opened, self.place, statement, parameters)

    def begin(self) -> None:
        """Sends what waits first, so that a transaction is no longer open than its statements take."""
        self._parts.send()
        self.run("BEGIN")

    def commit(self) -> None:
        try:
            self.run("COMMIT")
        except HeadraceError as error:
            raise RetryableError(f"unknown whether it was committed: {error.message}", where=self.place) from error
        while self._loaded:
            with suppress(HeadraceError):  # what stays in the stage ends with the session
                self.run(f"REMOVE @{self._stage}/{self._loaded.pop()}/")

    def rollback(self) -> None:
        try:
            self.run("ROLLBACK")
        except HeadraceError:  # closing the session rolls back as well
            close_quietly(self._opened)

    def close(self) -> None:
        self._parts.close()
        close_quietly(self._opened)

    def token_columns(self) -> str:
        return (
            "stream_key VARCHAR NOT NULL, fence NUMBER(19, 0) NOT NULL, epoch NUMBER(19, 0) NOT NULL, state VARCHAR, "
            "run_id VARCHAR, committed_at VARCHAR, staging VARCHAR, owed NUMBER(1, 0) NOT NULL"
        )

    def columns(self, table: TableName) -> tuple[Column, ...] | None:
        found = describe(self._opened, self.place, table)
        return None if found is None else tuple(Column(each.name, stored_type(each), each.type) for each in found)

    def column_type(self, field: pa.Field[Any], *, key: bool = False) -> str:
        del key
        return type_name(field)

    def create(self, table: TableName, fields: Sequence[pa.Field[Any]], key: Sequence[str] = ()) -> None:
        """Creates a table without a primary key: Snowflake would not enforce it."""
        del key
        super().create(table, fields)

    def add_column(self, table: TableName, field: pa.Field[Any]) -> None:
        column = f"{self.quoted(field.name)} {type_name(field)}"
        self.run(f"ALTER TABLE {self.qualified(table)} ADD COLUMN IF NOT EXISTS {column}")

    def widen(self, table: TableName, field: pa.Field[Any]) -> bool:
        """Gives a number more digits; its scale cannot change."""
        have = next(each for each in self.columns(table) or () if each.name == field.name)
        if not pa.types.is_decimal(have.type) or getattr(field.type, "scale", None) != have.type.scale:
            return False
        name = self.quoted(field.name)
        self.run(f"ALTER TABLE {self.qualified(table)} ALTER COLUMN {name} SET DATA TYPE {type_name(field)}")
        return True

    def create_stage(self, stage: TableName, like: TableName) -> None:
        self.run(f"CREATE TRANSIENT TABLE {self.qualified(stage)} LIKE {self.qualified(like)}")

    def take_place(self, stage: TableName, target: TableName, columns: Sequence[str]) -> None:
        """Refills the target in the open transaction."""
        names = self.listed(columns)
        self.run(f"DELETE FROM {self.qualified(target)}")
        self.run(f"INSERT INTO {self.qualified(target)} ({names}) SELECT {names} FROM {self.qualified(stage)}")

    def create_work(self, target: TableName) -> TableName:
        """Creates the temporary stage, and the temporary table that upserts read."""
        self._described = {each.name: each for each in describe(self._opened, self.place, target) or ()}
        self._described[ROW_NUMBER] = Described(ROW_NUMBER, "NUMBER(19,0)", required=True)
        self.run(f"CREATE TEMPORARY STAGE {self._stage}")
        self.run(
            f"CREATE TEMPORARY TABLE {self.qualified(_WORK)} AS SELECT *, 0::NUMBER(19, 0) AS {self.quoted(ROW_NUMBER)} "
            f"FROM {self.qualified(target)} LIMIT 0"
        )
        return _WORK

    def gather(self, work: TableName, into: TableName | None, columns: Sequence[str], rows: pa.RecordBatch) -> int:
        del work, into
        for name, values in zip(columns, rows.columns, strict=True):
            check(self._described[name], values, self.place)
        self._parts.add(rows.columns)
        return int(rows.nbytes)

    def _put(self, file: Path, path: str) -> None:
        uri = str(file).replace("'", "\\'")
        answer = self.rows(f"PUT 'file://{uri}' @{self._stage}/{path} AUTO_COMPRESS = FALSE OVERWRITE = FALSE")
        status = str(answer[0][6]) if answer else "nothing"
        if status != "UPLOADED":
            raise RetryableError(f"a file of rows was not sent: {status}", where=self.place)

    def pour(self, into: TableName, work: TableName, columns: Sequence[str]) -> None:
        del work
        self._copy(into, columns)

    def merge(self, target: TableName, work: TableName, columns: Sequence[str], key: Sequence[str]) -> tuple[int, int]:
        """What MERGE does, in two statements: the emulator that proves this has no MERGE within a transaction."""
        self._copy(work, [*columns, ROW_NUMBER])
        into, latest = self.qualified(target), f"({self.latest(work, columns, key)}) AS latest"
        same = " AND ".join(f"target.{self.quoted(each)} = latest.{self.quoted(each)}" for each in key)
        others = [self.quoted(each) for each in columns if each not in key]
        updated = 0
        if others:
            changes = ", ".join(f"{each} = latest.{each}" for each in others)
            updated = self.run(f"UPDATE {into} AS target SET {changes} FROM {latest} WHERE {same}")
        values = ", ".join(f"latest.{self.quoted(each)}" for each in columns)
        inserted = self.run(
            f"INSERT INTO {into} ({self.listed(columns)}) SELECT {values} FROM {latest} "
            f"WHERE NOT EXISTS (SELECT 1 FROM {into} AS target WHERE {same})"
        )
        self.run(f"DELETE FROM {self.qualified(work)}")
        return inserted, updated

    def _copy(self, into: TableName, columns: Sequence[str]) -> None:
        """Loads the epoch's files into a table, and looks whether each of their rows arrived."""
        values = ", ".join(arriving(self._described[name], f"c{place}") for place, name in enumerate(columns))
        answer = self.rows(
            f"COPY INTO {self.qualified(into)} ({self.listed(columns)}) "
            f"FROM (SELECT {values} FROM @{self._stage}/{self._parts.path}/) {_FORMAT}"
        )
        loaded = {str(row[0]).rpartition("/")[2]: int(row[3]) for row in answer if len(row) > 3 and row[1] == "LOADED"}
        if loaded != self._parts.sent:
            raise RetryableError(
                f"{sum(loaded.values())} of {sum(self._parts.sent.values())} rows were loaded",
                where=f"{self.place}: table {into}",
                hint=f"nothing of this epoch was committed; COPY said {answer[:3]}",
            )
        self._loaded.append(self._parts.path)
        self._parts.next_epoch()
