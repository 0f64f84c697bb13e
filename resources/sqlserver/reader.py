"""Reads SQL Server row by row off one snapshot; writes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import resources.sqlserver.client  # isort: skip  # noqa: F401 - first, for it says how to get the driver
import mssql_python as driver
import pyarrow as pa

from dsl.contracts.connectors import BatchReader, ReadRequest, Stream
from dsl.contracts.errors import SchemaError
from dsl.contracts.rows import Rejection
from dsl.contracts.state import State
from resources.sql import TableName, quoted, suggestion
from resources.sql_reader import SEEN_LIMIT, Bound, Chunk, Incremental, Pass, Scanner, SqlReader, stepwise
from resources.sqlserver.client import close_quietly, connect, execute, no_such_table, place_of, query, translated
from resources.sqlserver.types import (
    ROWVERSION,
    TIMES,
    Described,
    comparable,
    decode,
    expression,
    field_of,
    shape,
    stored_type,
    text_expression,
)

if TYPE_CHECKING:
    from resources.sqlserver.resource import SqlServerConnection, SqlServerSource

_DESCRIBE = (
    "SELECT name, system_type_name, is_nullable, error_message FROM sys.dm_exec_describe_first_result_set(?, NULL, 0) "
    "WHERE is_hidden = 0 OR is_hidden IS NULL ORDER BY column_ordinal"
)
_KEY = (
    "SELECT c.name FROM sys.indexes AS i JOIN sys.index_columns AS ic ON ic.object_id = i.object_id AND ic.index_id = i.index_id "
    "JOIN sys.columns AS c ON c.object_id = ic.object_id AND c.column_id = ic.column_id "
    "WHERE i.object_id = OBJECT_ID(?) AND i.is_primary_key = 1 ORDER BY ic.key_ordinal"
)
_TABLES = "SELECT SCHEMA_NAME(schema_id), name FROM sys.objects WHERE type IN ('U', 'V') ORDER BY 1, 2"
# Columns without a zone hold the server's time or UTC, nobody knows which: the earlier of both is behind either.
_UTC = "DATEADD(MINUTE, -DATEDIFF(MINUTE, SYSUTCDATETIME(), SYSDATETIME()), oldest.moment)"
_EARLIER = f"(SELECT MIN(m.moment) FROM (VALUES (oldest.moment), ({_UTC})) AS m(moment))"
# A second below: the list keeps three hundredths of a second, and the clock was read before it.
_OLDEST = (
    "SELECT DATEADD(SECOND, -1, CAST(COALESCE(MIN(a.transaction_begin_time), SYSDATETIME()) AS DATETIME2(7))) "
    "FROM sys.dm_tran_active_transactions AS a "
    "JOIN sys.dm_tran_database_transactions AS d ON d.transaction_id = a.transaction_id AND d.database_id = DB_ID() "
    "LEFT JOIN sys.dm_tran_session_transactions AS s ON s.transaction_id = a.transaction_id "
    "WHERE a.transaction_type <> 2 AND (s.session_id IS NULL OR s.session_id <> @@SPID)"
)


def describe(opened: Any, where: str, relation: str) -> list[Described]:
    """Returns the columns of a relation; raises SchemaError where the server cannot tell them."""
    found = query(opened, where, _DESCRIBE, (f"SELECT * FROM {relation}",))
    faults = [str(row[3]) for row in found if row[3] is not None]
    if faults:
        raise SchemaError(faults[0], where=where, hint="check the query")
    return [Described(str(row[0]), str(row[1]), required=not row[2]) for row in found]


def discover_schema(source: SqlServerSource) -> pa.Schema:
    """Returns the schema that the source will yield; raises as `open_reader` does."""
    opened = connect(source.connection)
    try:
        return _Relation(opened, source, None).schema
    finally:
        close_quietly(opened)


def open_reader(source: SqlServerSource, request: ReadRequest, state: State | None) -> BatchReader:
    """Opens a reader.

    Raises:
        SchemaError: A table or column is not there, or cannot be read exactly.
        UnavailableError: The server cannot be reached.
    """
    opened = connect(source.connection)
    try:
        relation = _Relation(opened, source, request.columns)
        scanner = SqlServerScanner(opened, source, request, relation)
    except BaseException:
        close_quietly(opened)
        raise
    how = None
    if source.incremental_column is not None:
        how = Incremental(source.incremental_column, relation.key, source.null_cursor, source.initial_value)
    return SqlReader(scanner, request, state, key=relation.key, incremental=how)


def list_tables(connection: SqlServerConnection) -> tuple[Stream, ...]:
    """Lists tables and views with their schemas and keys; raises as `connect` does."""
    opened, place = connect(connection), place_of(connection)
    try:
        made = []
        for schema, name in query(opened, place, _TABLES):
            table = TableName(str(schema), str(name))
            if not table.name.startswith("_headrace"):
                known = [each for each in describe(opened, place, table.quoted()) if stored_type(each) is not None]
                fields = pa.schema([field_of(each, place) for each in known])
                made.append(Stream(str(table), fields, key_of(opened, place, table)))
        return tuple(made)
    finally:
        close_quietly(opened)


def key_of(opened: Any, where: str, table: TableName) -> tuple[str, ...]:
    """Returns the columns of a table's primary key, in its order."""
    return tuple(str(row[0]) for row in query(opened, where, _KEY, (table.quoted(),)))


class _Relation:
    """What is read: its columns and its key."""

    def __init__(self, opened: Any, source: SqlServerSource, columns: Sequence[str] | None) -> None:
        place = place_of(source.connection)
        own: tuple[str, ...] = ()
        if source.table is not None:
            table = source.connection.table_name(source.table)
            self.from_, self.where = table.quoted(), f"{place}: table {table}"
            if query(opened, place, "SELECT OBJECT_ID(?)", (table.quoted(),))[0][0] is None:
                raise no_such_table(opened, table, place)
            own = key_of(opened, place, table)
        else:
            self.from_, self.where = f"({source.query}) AS query", f"{place}: query"
        self.known = {each.name: each for each in describe(opened, self.where, self.from_)}
        self.key = source.primary_key or own
        wanted = columns if columns is not None else source.columns or tuple(self.known)
        for name in (*wanted, *self.key, *((source.incremental_column,) if source.incremental_column else ())):
            if name not in self.known:
                raise SchemaError(f"there is no column '{name}'", where=self.where, hint=suggestion(name, self.known))
        self.schema = pa.schema([field_of(self.known[each], self.where) for each in wanted])
        if not all(self.known[each].orderable for each in self.key):
            self.key = ()  # a state is text


class SqlServerScanner(Scanner):
    """One snapshot of a table or query.

    Args:
        opened: The connection; the scanner closes it.
        source: What to read.
        request: What the plan wants of it.
        relation: Its columns.
    """

    def __init__(self, opened: Any, source: SqlServerSource, request: ReadRequest, relation: _Relation) -> None:
        self._opened, self._request, self._relation = opened, request, relation
        self.where, self.schema = relation.where, relation.schema
        # The bound comes before the snapshot: what ends between the two is below it and is seen.
        self._bound = self._bound_of(source)
        execute(
            opened, self.where, f"SET TRANSACTION ISOLATION LEVEL {source.isolation.replace('_', ' ').upper()}"
        ).close()
        execute(opened, self.where, "BEGIN TRANSACTION").close()

    def quoted(self, column: str) -> str:
        return quoted(column)

    def placeholder(self, column: str) -> str:
        return comparable(self._relation.known[column])

    def beyond(self, names: Sequence[str], places: Sequence[str], values: Sequence[Any]) -> tuple[str, tuple[Any, ...]]:
        return stepwise(names, places, values)

    def excluding(self, key: Sequence[str], known: Sequence[Sequence[str]]) -> tuple[str, list[Any]]:
        """One parameter for all: a statement takes no more than 2,100."""
        if not known:
            return "1 = 1", []
        columns = [(each, self._relation.known[each].type) for each in key]
        same = " AND ".join(f"seen.c{place} = {quoted(name)}" for place, name in enumerate(key))
        held = json.dumps([list(each) for each in known], ensure_ascii=False)
        return f"NOT EXISTS (SELECT 1 FROM OPENJSON(?) {shape(columns)} AS seen WHERE {same})", [held]

    def scan(self, scan: Pass, limit: int | None) -> Iterator[Chunk]:
        columns = [self._relation.known[each] for each in self.schema.names]
        texts = [text_expression(self._relation.known[each]) for each in scan.order]
        top = "" if limit is None else f"TOP ({limit}) "
        statement = f"SELECT {top}{', '.join([*map(expression, columns), *texts])} FROM {self._relation.from_}"
        if scan.condition:
            statement += f" WHERE {scan.condition}"
        if scan.order:
            statement += f" ORDER BY {', '.join(map(quoted, scan.order))}"
        cursor = execute(self._opened, self.where, statement, scan.parameters)
        try:
            while rows := cursor.fetchmany(self._request.batch_rows):
                yield self._chunk([tuple(each) for each in rows], columns)
        except (driver.Error, RuntimeError, OSError) as error:
            raise translated(error, self.where) from error
        finally:
            cursor.close()

    def _chunk(self, rows: list[tuple[Any, ...]], columns: Sequence[Described]) -> Chunk:
        arrays: list[pa.Array[Any]] = []
        failed: dict[int, str] = {}
        for place, (column, field) in enumerate(zip(columns, self.schema, strict=True)):
            array, bad = decode([row[place] for row in rows], column, field.type)
            for index in bad:
                failed.setdefault(index, f"column '{field.name}' has a value that {field.type} cannot hold exactly")
            arrays.append(array)
        batch = pa.RecordBatch.from_arrays(arrays, schema=self.schema)
        size = batch.nbytes
        if failed:
            batch = batch.filter(pa.array([index not in failed for index in range(len(rows))], pa.bool_()))
        rejections = tuple(self._rejection(rows[index], reason) for index, reason in sorted(failed.items()))
        first, last = (tuple(str(each) for each in row[len(columns) :]) for row in (rows[0], rows[-1]))
        return Chunk(batch, len(rows), size, first, last, rejections)

    def _rejection(self, row: Sequence[Any], reason: str) -> Rejection:
        values = zip(self.schema.names, row, strict=False)
        texts = {name: [value.hex() if isinstance(value, bytes) else _text(value)] for name, value in values}
        schema = pa.schema([pa.field(name, pa.string()) for name in texts])
        return Rejection(pa.RecordBatch.from_pydict(texts, schema=schema), reason, "decode", "")

    def count(self, condition: str) -> int:
        found = query(self._opened, self.where, f"SELECT COUNT_BIG(*) FROM {self._relation.from_} WHERE {condition}")
        return int(found[0][0])

    def keys(self, condition: str, parameters: Sequence[Any], key: Sequence[str]) -> list[list[str]]:
        names = ", ".join(text_expression(self._relation.known[each]) for each in key)
        statement = f"SELECT TOP ({SEEN_LIMIT + 1}) {names} FROM {self._relation.from_} WHERE {condition}"
        return [[str(value) for value in row] for row in query(self._opened, self.where, statement, parameters)]

    def bound(self) -> Bound:
        return self._bound

    def close(self) -> None:
        close_quietly(self._opened)

    def _bound_of(self, source: SqlServerSource) -> Bound:
        """Returns a value of the incremental column below which no row can appear any more."""
        if source.incremental_column is None:
            return Bound(None)
        column = self._relation.known[source.incremental_column]
        if column.base == ROWVERSION:
            found = query(self._opened, self.where, "SELECT CAST(MIN_ACTIVE_ROWVERSION() AS BIGINT)")
            return Bound(str(found[0][0]))
        if column.base not in TIMES or column.base == "smalldatetime":  # which is up to half a minute off
            raise SchemaError(
                f"'{column.name}' is {column.type}: nobody can tell which smaller values are still to be committed",
                where=self.where,
                hint="name a rowversion, or a column of time",
            )
        return Bound(str(query(self._opened, self.where, bound_statement(source.lag_seconds, column))[0][0]))


def bound_statement(lag: float | None, column: Described) -> str:
    """Returns the SELECT of the time below which no row can appear: of the oldest transaction, or so many seconds ago."""
    moment = f"({_OLDEST})" if lag is None else f"DATEADD(MILLISECOND, -{round(lag * 1000)}, SYSDATETIME())"
    value = _UTC if column.base == "datetimeoffset" else _EARLIER
    kind, style = ("DATE", 23) if column.base == "date" else ("DATETIME2(7)", 126)
    return f"SELECT CONVERT(VARCHAR(33), CAST({value} AS {kind}), {style}) FROM (SELECT {moment} AS moment) AS oldest"


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
