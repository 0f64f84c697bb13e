"""Reads SQLite row by row inside one snapshot of a file that is open for reading only; writes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dsl.contracts.connectors import BatchReader, ReadRequest, Stream
from dsl.contracts.errors import SchemaError
from dsl.contracts.rows import Rejection
from dsl.contracts.state import State
from resources.sql import TableName, quoted, suggestion
from resources.sql_reader import SEEN_LIMIT, Bound, Chunk, Incremental, Pass, Scanner, SqlReader
from resources.sqlite.client import (
    Declared,
    close_quietly,
    columns_of,
    connect,
    find_table,
    key_of,
    no_such_table,
    place_of,
    query,
    table_names,
    translated,
)
from resources.sqlite.order import Ordered, cursor_order, is_counted, key_order, parameter_of, place_for, text_of
from resources.sqlite.resource import table_name
from resources.sqlite.types import decode, field_for, field_of, zoned

if TYPE_CHECKING:
    from resources.sqlite.resource import SQLiteConnection, SQLiteSource

_QUERY = TableName("temp", "_headrace_query")
_COPY = "_headrace_pass"
_FIRST_ROWS, _GROWTH = 64, 8


def discover_schema(source: SQLiteSource) -> pa.Schema:
    """Returns the schema that the source will yield; raises as `open_reader` does."""
    opened = connect(source.connection)
    try:
        return _Relation(opened, source, None).schema
    finally:
        close_quietly(opened)


def open_reader(source: SQLiteSource, request: ReadRequest, state: State | None) -> BatchReader:
    """Opens a reader.

    Raises:
        SchemaError: A table or column is not there, or the rows cannot be read in the order asked for.
        UnavailableError: The file cannot be opened.
    """
    opened = connect(source.connection)
    try:
        scanner = SQLiteScanner(opened, source, request)
    except BaseException:
        close_quietly(opened)
        raise
    how = None
    if source.incremental_column is not None:
        how = Incremental(source.incremental_column, scanner.key, source.null_cursor, source.initial_value)
    return SqlReader(scanner, request, state, key=scanner.key, incremental=how)


def list_tables(connection: SQLiteConnection) -> tuple[Stream, ...]:
    """Lists tables and views with their schemas and keys; raises as `connect` does."""
    opened, where = connect(connection), place_of(connection)
    try:
        made = []
        for name in table_names(opened):
            table = TableName("main", name)
            declared = columns_of(opened, table)
            schema = pa.schema([_field(opened, table.quoted(), each, where) for each in declared])
            made.append(Stream(name, schema, key_of(declared)))
        return tuple(made)
    except sqlite3.Error as error:
        raise translated(error, where) from error
    finally:
        close_quietly(opened)


def _field(opened: sqlite3.Connection, relation: str, column: Declared, where: str) -> pa.Field[Any]:
    """Returns a column's field; where its declaration leaves it open, its values are looked at."""
    field, name = field_of(column.name, column.type), quoted(column.name)
    if field is None:
        classes = query(opened, where, f"SELECT DISTINCT typeof({name}) FROM {relation}")
        return field_for(column.name, (str(each[0]) for each in classes))
    if pa.types.is_timestamp(field.type):
        first = query(opened, where, f"SELECT {name} FROM {relation} WHERE {name} IS NOT NULL LIMIT 1")
        return zoned(field, first[0][0] if first else None)
    return field


class _Relation:
    """What is read: its columns, its key, and how those it is ordered by are ordered.

    Raises:
        SchemaError: A table or column is not there.
    """

    def __init__(self, opened: sqlite3.Connection, source: SQLiteSource, columns: Sequence[str] | None) -> None:
        self.where, self._opened = place_of(source.connection), opened
        try:
            opened.execute("BEGIN")  # one snapshot for all that follows
            table = self._find(source)
            declared = columns_of(opened, table)
            counted = is_counted(opened, (table.name, table.schema), declared)
        except sqlite3.Error as error:
            raise translated(error, self.where) from error
        self.from_, known = table.quoted(), {each.name: each for each in declared}
        self.key = source.primary_key or key_of(declared)
        wanted = columns if columns is not None else source.columns or tuple(known)
        for name in (*wanted, *self.key, *((source.incremental_column,) if source.incremental_column else ())):
            if name not in known:
                raise SchemaError(f"there is no column '{name}'", where=self.where, hint=suggestion(name, known))
        self.schema = pa.schema([_field(opened, self.from_, known[each], self.where) for each in wanted])
        self.order: dict[str, Ordered] = {}
        self._order_key(known, counted=counted and self.key == key_of(declared))
        if source.incremental_column is not None:
            self._order_cursor(known[source.incremental_column])

    def _find(self, source: SQLiteSource) -> TableName:
        if source.table is None:
            self.where += ": query"
            self._opened.execute(f"CREATE TEMP VIEW {_QUERY.name} AS {source.query}")
            return _QUERY
        asked = table_name(source.table)
        table = find_table(self._opened, asked)
        if table is None:
            raise no_such_table(self._opened, asked, self.where)
        self.where += f": table {table.name}"
        return table

    def _order_key(self, known: dict[str, Declared], *, counted: bool) -> None:
        """A key that no state can remember is as good as none."""
        if counted:
            self.order = dict.fromkeys(self.key, Ordered.NUMBER)
        elif self.key:
            found = key_order(self._opened, self.from_, self.key, self.where, known)
            self.key, self.order = ((), {}) if found is None else (self.key, found)

    def _order_cursor(self, column: Declared) -> None:
        if not self.key:
            raise SchemaError(
                f"rows that tie in '{column.name}' could be lost, because no key tells them apart",
                where=self.where,
                hint="add primary_key: [...], of columns that are never NULL",
            )
        self.order[column.name] = cursor_order(self._opened, self.from_, column, self.where)


class SQLiteScanner(Scanner):
    """One snapshot of a table, view or query.

    Args:
        opened: The connection; the scanner closes it.
        source: What to read.
        request: What the plan wants of it.
    """

    def __init__(self, opened: sqlite3.Connection, source: SQLiteSource, request: ReadRequest) -> None:
        self._opened, self._source, self._request = opened, source, request
        self._relation = relation = _Relation(opened, source, request.columns)
        self.where, self.schema, self.key = relation.where, relation.schema, relation.key
        self._ties: dict[tuple[str, tuple[Any, ...]], list[list[str]]] = {}
        self._blocks = query(opened, self.where, "PRAGMA journal_mode")[0][0] != "wal"
        self.settle()

    def quoted(self, column: str) -> str:
        return quoted(column)

    def placeholder(self, column: str) -> str:
        return place_for(self._relation.order[column])

    def parameter(self, column: str, text: str) -> Any:
        return parameter_of(self._relation.order[column], text)

    def excluding(self, key: Sequence[str], known: Sequence[Sequence[str]]) -> tuple[str, list[Any]]:
        """One set, because SQLite allows an expression no more than a thousand levels."""
        if not known:
            return "true", []
        row = f"({', '.join(map(self.placeholder, key))})"
        parameters = [self.parameter(name, text) for each in known for name, text in zip(key, each, strict=True)]
        return f"({', '.join(map(quoted, key))}) NOT IN (VALUES {', '.join([row] * len(known))})", parameters

    def not_after(self, column: str, low: str, high: str) -> bool:
        return bool(self.parameter(column, low) <= self.parameter(column, high))

    def scan(self, scan: Pass, limit: int | None) -> Iterator[Chunk]:
        names = list(self.schema.names)
        hidden = [each for each in scan.order if each not in names]
        statement = f"SELECT {', '.join(map(quoted, [*names, *hidden]))} FROM {self._relation.from_}"
        if scan.condition:
            statement += f" WHERE {scan.condition}"
        if scan.order:
            statement += f" ORDER BY {', '.join(map(quoted, scan.order))}"
        if limit is not None:
            statement += f" LIMIT {limit}"
        places = [[*names, *hidden].index(each) for each in scan.order]
        rows = min(_FIRST_ROWS, self._request.batch_rows)
        try:
            if self._blocks:
                statement = self._copied(statement, scan, places)
            cursor = self._opened.execute(statement, () if self._blocks else scan.parameters)
            while found := cursor.fetchmany(rows):
                chunk = self._chunk(found, places)
                yield chunk
                rows = self._next_size(rows, chunk)
        except sqlite3.Error as error:
            raise translated(error, self.where) from error

    def _copied(self, statement: str, scan: Pass, places: Sequence[int]) -> str:
        """Copies a pass's rows, and returns the query that reads them there: writers wait for everyone who reads the file."""
        self._ties.clear()
        width = len({*self.schema.names, *scan.order})
        self._opened.execute(f"DROP TABLE IF EXISTS temp.{_COPY}")
        self._opened.execute(f"CREATE TEMP TABLE {_COPY} ({', '.join(f'c{place}' for place in range(width))})")
        self._opened.execute(f"INSERT INTO temp.{_COPY} {statement}", scan.parameters)
        if self._source.incremental_column is not None and scan.tracked:
            last = f"SELECT c{places[0]} FROM temp.{_COPY} ORDER BY rowid DESC LIMIT 1"
            for (value,) in self._opened.execute(last).fetchall():
                self._remember_ties(self._source.incremental_column, text_of(value))
        self.settle()
        return f"SELECT * FROM temp.{_COPY} ORDER BY rowid"

    def _remember_ties(self, column: str, text: str) -> None:
        """Asks while the snapshot lasts for what is asked at the pass's end: later, rows would show that were not read."""
        condition, parameters = f"{quoted(column)} = {self.placeholder(column)}", (self.parameter(column, text),)
        self._ties[condition, parameters] = self.keys(condition, parameters, self.key)

    def settle(self) -> None:
        """Ends the snapshot where others wait for it; the next one begins with the next query."""
        if self._blocks:
            query(self._opened, self.where, "COMMIT")
            query(self._opened, self.where, "BEGIN")

    def _next_size(self, rows: int, chunk: Chunk) -> int:
        """Nobody knows the width of rows before they are read, so chunks grow."""
        fitting = self._request.batch_bytes * chunk.count // max(1, chunk.size)
        return max(1, min(self._request.batch_rows, rows * _GROWTH, fitting))

    def _chunk(self, rows: list[tuple[Any, ...]], places: Sequence[int]) -> Chunk:
        columns: list[pa.Array[Any]] = []
        failed: dict[int, str] = {}
        values = list(zip(*rows, strict=True))
        for field, given in zip(self.schema, values, strict=False):
            column, bad = decode(given, field)
            for index in bad:
                failed.setdefault(index, f"column '{field.name}' has a value that {field.type} cannot hold exactly")
            columns.append(column)
        batch = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        size = batch.nbytes
        if failed:
            batch = batch.filter(pa.array([index not in failed for index in range(len(rows))], pa.bool_()))
        rejections = tuple(self._rejection(rows[index], reason) for index, reason in sorted(failed.items()))
        first, last = (tuple(text_of(row[each]) for each in places) for row in (rows[0], rows[-1]))
        return Chunk(batch, len(rows), size, first, last, rejections)

    def _rejection(self, row: Sequence[Any], reason: str) -> Rejection:
        texts = [None if each is None else _shown(each) for each in row[: len(self.schema)]]
        arrays = [pa.array([each], pa.string()) for each in texts]
        return Rejection(pa.RecordBatch.from_arrays(arrays, names=self.schema.names), reason, "decode", "")

    def count(self, condition: str) -> int:
        return int(self._query(f"SELECT count(*) FROM {self._relation.from_} WHERE {condition}", ())[0][0])

    def keys(self, condition: str, parameters: Sequence[Any], key: Sequence[str]) -> list[list[str]]:
        known = self._ties.get((condition, tuple(parameters)))
        if known is not None:
            return known
        names = ", ".join(map(quoted, key))
        statement = f"SELECT {names} FROM {self._relation.from_} WHERE {condition} LIMIT {SEEN_LIMIT + 1}"
        return [[text_of(each) for each in row] for row in self._query(statement, parameters)]

    def bound(self) -> Bound:
        """Returns the greatest value: nothing is under way beside the snapshot, but rows that tie with it may come."""
        column = quoted(self._source.incremental_column or "")
        found = self._query(f"SELECT max({column}) FROM {self._relation.from_}", ())[0][0]
        return Bound(None if found is None else text_of(found), inclusive=True, ties=True)

    def close(self) -> None:
        close_quietly(self._opened)

    def _query(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        return query(self._opened, self.where, statement, tuple(parameters))


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else repr(value)
