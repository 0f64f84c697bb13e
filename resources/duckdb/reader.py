"""Reads DuckDB as a stream of Arrow batches; writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from dsl.contracts.connectors import BatchReader, ReadRequest
from dsl.contracts.errors import SchemaError
from dsl.contracts.state import State
from resources.duckdb.client import connect, fields_of, has_table, key_of, place_of, table_names, translated
from resources.duckdb.types import as_text
from resources.sql import TableName, quoted, suggestion
from resources.sql_reader import SEEN_LIMIT, Bound, Chunk, Incremental, Pass, Scanner, SqlReader

if TYPE_CHECKING:
    from resources.duckdb.resource import DuckDBSource


def discover_schema(source: DuckDBSource) -> pa.Schema:
    """Returns the schema that the source will yield; raises as `open_reader` does."""
    with connect(source.connection) as opened:
        return _guarded(opened, source, None).schema


def open_reader(source: DuckDBSource, request: ReadRequest, state: State | None) -> BatchReader:
    """Opens a reader.

    Raises:
        SchemaError: A table or column is not there.
        UnavailableError: The file cannot be opened.
    """
    opened = connect(source.connection)
    try:
        relation = _guarded(opened, source, request.columns)
    except BaseException:
        opened.close()
        raise
    scanner = DuckDBScanner(opened, source, request, relation)
    how = None
    if source.incremental_column is not None:
        how = Incremental(source.incremental_column, relation.key, source.null_cursor, source.initial_value)
    return SqlReader(scanner, request, state, key=relation.key, incremental=how)


def _guarded(opened: duckdb.DuckDBPyConnection, source: DuckDBSource, columns: Sequence[str] | None) -> _Relation:
    try:
        return _Relation(opened, source, columns)
    except duckdb.Error as error:
        raise translated(error, place_of(source.connection)) from error


class _Relation:
    """What is read: its columns and its key."""

    def __init__(self, opened: duckdb.DuckDBPyConnection, source: DuckDBSource, columns: Sequence[str] | None) -> None:
        self.where = place_of(source.connection)
        own: tuple[str, ...] = ()
        if source.table is not None:
            table = TableName.parse(source.table, "main")
            if not has_table(opened, table):
                raise SchemaError(
                    f"there is no table '{table}'", where=self.where, hint=suggestion(str(table), table_names(opened))
                )
            self.where += f": table {table}"
            self.from_, own = table.quoted(), key_of(opened, table)
        else:
            self.where += ": query"
            self.from_ = f"({source.query}) AS query"
        self.declared = {
            str(row[0]): str(row[1]) for row in opened.execute(f"DESCRIBE SELECT * FROM {self.from_}").fetchall()
        }
        known = {each.name: each for each in fields_of(opened, self.from_)}
        self.key = source.primary_key or own
        wanted = columns if columns is not None else source.columns or tuple(known)
        for name in (*wanted, *self.key, *((source.incremental_column,) if source.incremental_column else ())):
            if name not in known:
                raise SchemaError(f"there is no column '{name}'", where=self.where, hint=suggestion(name, known))
        self.schema = pa.schema([known[each] for each in wanted])


class DuckDBScanner(Scanner):
    """One table or query of an open file.

    Args:
        opened: The connection; the scanner closes it.
        source: What to read.
        request: What the plan wants of it.
        relation: Its columns.
    """

    def __init__(
        self, opened: duckdb.DuckDBPyConnection, source: DuckDBSource, request: ReadRequest, relation: _Relation
    ) -> None:
        self._opened, self._source, self._request, self._relation = opened, source, request, relation
        self.where, self.schema = relation.where, relation.schema

    def quoted(self, column: str) -> str:
        return quoted(column)

    def placeholder(self, column: str) -> str:
        return f"CAST(? AS {self._relation.declared[column]})"

    def scan(self, scan: Pass, limit: int | None) -> Iterator[Chunk]:
        texts = [f"CAST({quoted(each)} AS VARCHAR)" for each in scan.order]
        statement = f"SELECT {', '.join([*map(self._rendered, self.schema.names), *texts])} FROM {self._relation.from_}"
        if scan.condition:
            statement += f" WHERE {scan.condition}"
        if scan.order:
            statement += f" ORDER BY {', '.join(map(quoted, scan.order))}"
        if limit is not None:
            statement += f" LIMIT {limit}"
        cursor = self._opened.cursor()
        try:
            cursor.execute("SET TimeZone = 'UTC'")
            reader = cursor.sql(statement, params=list(scan.parameters)).to_arrow_reader(self._request.batch_rows)
            for rows in reader:
                if rows.num_rows:
                    yield self._chunk(rows)
        except (duckdb.Error, pa.ArrowException) as error:
            raise translated(error, self.where) from error
        finally:
            cursor.close()

    def _rendered(self, name: str) -> str:
        return f"CAST({quoted(name)} AS VARCHAR)" if as_text(self._relation.declared[name]) else quoted(name)

    def _chunk(self, rows: pa.RecordBatch) -> Chunk:
        count = len(self.schema)
        columns = [each.cast(field.type) for each, field in zip(rows.columns[:count], self.schema, strict=True)]
        asked = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        order = rows.columns[count:]
        first, last = (tuple(str(each[at].as_py()) for each in order) for at in (0, -1))
        return Chunk(asked, asked.num_rows, asked.nbytes, first, last)

    def count(self, condition: str) -> int:
        return int(self._query(f"SELECT count(*) FROM {self._relation.from_} WHERE {condition}", ())[0][0])

    def keys(self, condition: str, parameters: Sequence[Any], key: Sequence[str]) -> list[list[str]]:
        texts = ", ".join(f"CAST({quoted(each)} AS VARCHAR)" for each in key)
        statement = f"SELECT {texts} FROM {self._relation.from_} WHERE {condition} LIMIT {SEEN_LIMIT + 1}"
        return [list(each) for each in self._query(statement, parameters)]

    def bound(self) -> Bound:
        """Returns the greatest value: a file has one writer, but rows equal to it may still come, if they have keys."""
        column = quoted(self._source.incremental_column or "")
        found = self._query(f"SELECT CAST(max({column}) AS VARCHAR) FROM {self._relation.from_}", ())[0][0]
        return Bound(None if found is None else str(found), inclusive=True, ties=bool(self._relation.key))

    def close(self) -> None:
        self._opened.close()

    def _query(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            return self._opened.execute(statement, list(parameters)).fetchall()
        except duckdb.Error as error:
            raise translated(error, self.where) from error
