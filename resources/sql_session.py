"""What a SQL system must offer for the shared writer to keep its promises on it; each connector writes its own, here is none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

import pyarrow as pa

from dsl.contracts.errors import RejectedRows, RetryableError
from resources.sql import ROW_NUMBER, TableName, listed, quoted


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its name as the system spells it.
        type: The Arrow type its values are read as.
        declared: The system's own words for its type.
    """

    name: str
    type: pa.DataType
    declared: str = ""


class Swap(StrEnum):
    """How a gathered overwrite takes the target's place.

    `in_transaction`: DDL is transactional, the swap commits with the token.
    `refill`: rows are deleted and inserted again in the transaction of the token; grants and views stay.
    `owed`: the rename commits by itself; the token says that it is owed until it is done, and it is done again at the
    next opening when a crash came between.
    """

    IN_TRANSACTION = "in_transaction"
    REFILL = "refill"
    OWED = "owed"


class Session(ABC):
    """One open connection to a SQL system, in the words that the shared writer needs.

    Every method raises the errors of `dsl.contracts.errors`, never the driver's own. Statements mark parameters by `?`.
    """

    mark: ClassVar[str] = '"'
    swap: Swap = Swap.IN_TRANSACTION
    savepoints: ClassVar[bool] = True
    table_options: ClassVar[str] = ""
    place: str = ""

    @abstractmethod
    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        """Executes a statement; returns how many rows it changed."""

    @abstractmethod
    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Executes a query; returns all its rows."""

    @abstractmethod
    def begin(self) -> None:
        """Begins a transaction; outside of one every statement commits by itself."""

    @abstractmethod
    def commit(self) -> None:
        """Commits; a connection lost now is a `RetryableError`, for nobody knows whether it was committed."""

    @abstractmethod
    def rollback(self) -> None:
        """Rolls back; never raises, because a lost connection has rolled back already."""

    @abstractmethod
    def close(self) -> None:
        """Closes the connection; safe to call twice; never raises."""

    @abstractmethod
    def columns(self, table: TableName) -> tuple[Column, ...] | None:
        """Returns a table's columns, or None when there is no such table."""

    @abstractmethod
    def column_type(self, field: pa.Field[Any], *, key: bool = False) -> str:
        """Returns the system's type for a field, in DDL; `key` where it must be fit for an index.

        Raises:
            SchemaError: The system has no type for it.
        """

    @abstractmethod
    def load(self, table: TableName, columns: Sequence[str], rows: pa.RecordBatch) -> int:
        """Adds rows to a table in the open transaction; returns the bytes sent.

        Raises:
            RejectedRows: The system refused some row; nothing of them was added once the savepoint is undone.
        """

    def spell(self, name: str) -> str:
        """Returns how a new column or table of that name is spelled here."""
        return name

    def qualified(self, table: TableName) -> str:
        """Returns a table's name as it stands in a statement."""
        return table.quoted(self.mark)

    def quoted(self, name: str) -> str:
        """Returns an identifier as it stands in a statement."""
        return quoted(name, self.mark)

    def listed(self, names: Sequence[str]) -> str:
        """Returns identifiers with commas between."""
        return listed(names, self.mark)

    @abstractmethod
    def token_columns(self) -> str:
        """Returns the columns of the token table, in DDL: see `resources.sql_token`."""

    def create(self, table: TableName, fields: Sequence[pa.Field[Any]], key: Sequence[str] = ()) -> None:
        """Creates a table unless it is there."""
        made = [f"{self.quoted(each.name)} {self.column_type(each, key=each.name in key)}" for each in fields]
        if key:
            made.append(f"PRIMARY KEY ({self.listed(key)})")
        self.ensure(f"CREATE TABLE IF NOT EXISTS {self.qualified(table)} ({', '.join(made)}){self.table_options}")

    def ensure(self, statement: str) -> None:
        """Executes a `CREATE … IF NOT EXISTS`, once more where another session did the same at this moment."""
        try:
            self.run(statement)
        except (RejectedRows, RetryableError):
            self.run(statement)

    def add_column(self, table: TableName, field: pa.Field[Any]) -> None:
        """Adds a nullable column."""
        self.run(f"ALTER TABLE {self.qualified(table)} ADD COLUMN {self.quoted(field.name)} {self.column_type(field)}")

    @abstractmethod
    def widen(self, table: TableName, field: pa.Field[Any]) -> bool:
        """Changes a column's type to a wider one; False where the system cannot."""

    def create_stage(self, stage: TableName, like: TableName) -> None:
        """Creates the empty table that gathers an overwrite, of the target's columns and constraints."""
        self.run(f"CREATE TABLE {self.qualified(stage)} (LIKE {self.qualified(like)} INCLUDING ALL)")

    def take_place(self, stage: TableName, target: TableName, columns: Sequence[str]) -> None:
        """Puts the gathered rows into the target's place; see `Swap`."""
        del columns
        self.run(f"DROP TABLE {self.qualified(target)}")
        self.run(f"ALTER TABLE {self.qualified(stage)} RENAME TO {self.quoted(target.name)}")

    def sweep(self, stage: TableName) -> None:
        """Removes what a swap that was broken off may have left; nothing, where a swap is one act."""
        del stage

    def check_target(self, target: TableName, key: Sequence[str]) -> None:
        """Looks whether the table can keep the writer's promises; `key` is empty unless rows are upserted.

        Raises:
            SchemaError: It cannot.
        """
        del target, key

    def drop(self, table: TableName) -> None:
        """Drops a table if it is there."""
        self.run(f"DROP TABLE IF EXISTS {self.qualified(table)}")

    @abstractmethod
    def create_work(self, target: TableName) -> TableName:
        """Creates the session's temporary table for upserts: the target's columns and `_headrace_row`."""

    @abstractmethod
    def merge(self, target: TableName, work: TableName, columns: Sequence[str], key: Sequence[str]) -> tuple[int, int]:
        """Upserts the work table's rows, the last of each key; returns (inserted, updated), -1 where unknown."""

    def create_keys(self, target: TableName, key: Sequence[str]) -> TableName:
        """Creates the session's temporary table of keys to delete: the target's key columns."""
        made = self.temporary(target, "_headrace_keys")
        self.run(
            f"CREATE TEMPORARY TABLE {self.qualified(made)} AS SELECT {self.listed(key)} "
            f"FROM {self.qualified(target)} WHERE 1 = 0"
        )
        return made

    def temporary(self, target: TableName, name: str) -> TableName:
        """Returns the name of a temporary table of this session."""
        del target
        return TableName("", name)

    def load_keys(self, table: TableName, key: Sequence[str], keys: pa.RecordBatch) -> None:
        """Adds rows that consist of key columns to a table of keys."""
        self.load(table, key, keys)

    def create_found(self, found: TableName, target: TableName, key: Sequence[str]) -> None:
        """Creates the table of the keys that a comparison finds, unless it is there."""
        self.ensure(
            f"CREATE TABLE IF NOT EXISTS {self.qualified(found)} AS SELECT {self.listed(key)} "
            f"FROM {self.qualified(target)} WHERE 1 = 0"
        )

    def delete_by_key(self, table: TableName, keys: TableName, key: Sequence[str]) -> None:
        """Deletes the rows of a table whose keys another one holds."""
        columns = self.listed(key)
        row = f"({columns})" if len(key) > 1 else columns
        self.run(f"DELETE FROM {self.qualified(table)} WHERE {row} IN (SELECT {columns} FROM {self.qualified(keys)})")

    def delete_others(self, table: TableName, keys: TableName, key: Sequence[str]) -> None:
        """Deletes the rows of a table whose keys another one does not hold."""
        of = self.qualified(table)
        same = " AND ".join(f"{of}.{self.quoted(each)} = known.{self.quoted(each)}" for each in key)
        self.run(f"DELETE FROM {of} WHERE NOT EXISTS (SELECT 1 FROM {self.qualified(keys)} AS known WHERE {same})")

    def latest(self, work: TableName, columns: Sequence[str], key: Sequence[str]) -> str:
        """Returns a SELECT of the last row of each key in the work table."""
        return (
            f"SELECT {self.listed(columns)} FROM (SELECT *, row_number() OVER (PARTITION BY {self.listed(key)} "
            f"ORDER BY {self.quoted(ROW_NUMBER)} DESC) AS headrace_rank FROM {self.qualified(work)}) AS latest "
            "WHERE headrace_rank = 1"
        )
