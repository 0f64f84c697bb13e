"""Reads MySQL and MariaDB row by row off one consistent snapshot; writes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import resources.mysql.client  # isort: skip  # noqa: F401 - first, for it says how to get the driver
import pyarrow as pa
import pymysql
from pymysql.cursors import SSCursor

from dsl.contracts.connectors import BatchReader, ReadRequest, Stream
from dsl.contracts.errors import ErrorType, FatalError, HeadraceError, SchemaError
from dsl.contracts.rows import Rejection
from dsl.contracts.state import State
from resources.mysql.client import (
    MARK,
    abandon,
    close_quietly,
    connect,
    no_such_table,
    number_of,
    place_of,
    query,
    table_key,
    translated,
)
from resources.mysql.types import TIMES, comparable, decode, expression, field_of
from resources.sql import TableName, quoted, suggestion
from resources.sql_reader import SEEN_LIMIT, Bound, Chunk, Incremental, Pass, Scanner, SqlReader
from resources.sql_types import is_bytes

if TYPE_CHECKING:
    from resources.mysql.resource import MysqlConnection, MysqlSource

# A second below what the server says: NOW() is taken before the transaction is listed, and the list may be 0.1 s old.
_OLDEST = """
SELECT DATE_FORMAT(LEAST(NOW(6), IFNULL(MIN(IFNULL(CONVERT_TZ(trx_started, 'SYSTEM', '+00:00'), trx_started)), NOW(6)))
                   - INTERVAL 1 SECOND, '%Y-%m-%d %H:%i:%s.%f')
FROM information_schema.innodb_trx WHERE trx_mysql_thread_id <> CONNECTION_ID()
"""
_BEHIND = "SELECT DATE_FORMAT(NOW(6) - INTERVAL %s MICROSECOND, '%%Y-%%m-%%d %%H:%%i:%%s.%%f')"
_LOCAL = "SELECT DATE_FORMAT(IFNULL(CONVERT_TZ(%s, '+00:00', @@global.time_zone), %s), '%%Y-%%m-%%d %%H:%%i:%%s.%%f')"
_WRITING = (
    "SELECT trx_id, trx_mysql_thread_id FROM information_schema.innodb_trx "
    "WHERE trx_mysql_thread_id <> CONNECTION_ID() AND (trx_lock_structs > 0 OR trx_rows_modified > 0)"
)
_WAIT_ROUNDS = 300


def discover_schema(source: MysqlSource) -> pa.Schema:
    """Returns the schema that the source will yield; raises as `open_reader` does."""
    opened = connect(source.connection)
    try:
        return _Relation(opened, source, None).schema
    except pymysql.Error as error:
        raise translated(error, place_of(source.connection)) from error
    finally:
        close_quietly(opened)


def open_reader(source: MysqlSource, request: ReadRequest, state: State | None) -> BatchReader:
    """Opens a reader.

    Raises:
        SchemaError: A table or column is not there.
        UnavailableError: The server cannot be reached.
    """
    opened = connect(source.connection)
    try:
        relation = _Relation(opened, source, request.columns)
        scanner = MysqlScanner(opened, source, request, relation)
    except pymysql.Error as error:
        close_quietly(opened)
        raise translated(error, place_of(source.connection)) from error
    except BaseException:
        close_quietly(opened)
        raise
    how = None
    if source.incremental_column is not None:
        how = Incremental(source.incremental_column, relation.key, source.null_cursor, source.initial_value)
    return SqlReader(scanner, request, state, key=relation.key, incremental=how)


def list_tables(connection: MysqlConnection) -> tuple[Stream, ...]:
    """Lists tables and views with their schemas and keys; raises as `connect` does."""
    opened = connect(connection)
    try:
        rows = query(
            opened,
            "SELECT table_name FROM information_schema.tables WHERE table_schema = %s ORDER BY table_name",
            (connection.database,),
        )
        made = []
        for (name,) in rows:
            if not name.startswith("_headrace"):
                table = TableName(connection.database, name)
                fields = [field_of(each.name, each) for each in describe(opened, table.quoted(MARK))]
                made.append(Stream(name, pa.schema(fields), table_key(opened, table)))
        return tuple(made)
    except pymysql.Error as error:
        raise translated(error, place_of(connection)) from error
    finally:
        close_quietly(opened)


def describe(opened: pymysql.connections.Connection[Any], relation: str) -> list[Any]:
    """Returns the descriptions of a relation's columns, as they come on the wire."""
    with opened.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {relation} LIMIT 0")
        return list(cursor._result.fields)  # noqa: SLF001 - flags and character set are offered nowhere else


class _Relation:
    """What is read: its columns and its key."""

    def __init__(
        self, opened: pymysql.connections.Connection[Any], source: MysqlSource, columns: Sequence[str] | None
    ) -> None:
        place = place_of(source.connection)
        own: tuple[str, ...] = ()
        if source.table is not None:
            table = source.connection.table_name(source.table)
            self.from_, self.where = table.quoted(MARK), f"{place}: table {table}"
        else:
            self.from_, self.where = f"({source.query}) AS query", f"{place}: query"
        try:
            self.known = {each.name: each for each in describe(opened, self.from_)}
        except pymysql.Error as error:
            if source.table is not None and number_of(error) == 1146:
                raise no_such_table(opened, table, place) from error
            raise
        if source.table is not None:
            own = table_key(opened, table)
        self.key = source.primary_key or own
        wanted = columns if columns is not None else source.columns or tuple(self.known)
        for name in (*wanted, *self.key, *((source.incremental_column,) if source.incremental_column else ())):
            if name not in self.known:
                raise SchemaError(f"there is no column '{name}'", where=self.where, hint=suggestion(name, self.known))
        self.schema = pa.schema([field_of(each, self.known[each]) for each in wanted])
        if any(is_bytes(field_of(each, self.known[each]).type) for each in self.key):
            self.key = ()  # a state is text


class MysqlScanner(Scanner):
    """One snapshot of a table or query.

    Args:
        opened: The connection; the scanner closes it.
        source: What to read.
        request: What the plan wants of it.
        relation: Its columns.
    """

    def __init__(
        self,
        opened: pymysql.connections.Connection[Any],
        source: MysqlSource,
        request: ReadRequest,
        relation: _Relation,
    ) -> None:
        self._opened, self._request, self._relation = opened, request, relation
        self._cursor: SSCursor | None = None
        self.where, self.schema = relation.where, relation.schema
        # The bound comes before the snapshot: what ends between the two is below it and is seen.
        self._bound = _bound_of(opened, source, relation)
        query(opened, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")

    def quoted(self, column: str) -> str:
        return quoted(column, MARK).replace("%", "%%")

    def placeholder(self, column: str) -> str:
        return comparable(self._relation.known[column])

    def scan(self, scan: Pass, limit: int | None) -> Iterator[Chunk]:
        names = list(self.schema.names)
        rendered = {name: expression(name, packet) for name, packet in self._relation.known.items()}
        hidden = [each for each in scan.order if each not in names or rendered[each] != quoted(each, MARK)]
        selected = [rendered[each].replace("%", "%%") for each in names] + [self.quoted(each) for each in hidden]
        places = [len(names) + hidden.index(each) if each in hidden else names.index(each) for each in scan.order]
        statement = f"SELECT {', '.join(selected)} FROM {self._from()}"
        if scan.condition:
            statement += f" WHERE {scan.condition}"
        if scan.order:
            statement += f" ORDER BY {', '.join(self.quoted(each) for each in scan.order)}"
        if limit is not None:
            statement += f" LIMIT {limit}"
        try:
            self._cursor = self._opened.cursor(SSCursor)
            # An empty mapping is a parameter too: `%%` is always one `%`.
            self._cursor.execute(statement, list(scan.parameters) if scan.parameters else {})
            while rows := self._cursor.fetchmany(self._request.batch_rows):
                yield self._chunk(list(rows), places)
            self._cursor.close()
            self._cursor = None
        except pymysql.Error as error:
            raise translated(error, self.where) from error

    def _chunk(self, rows: list[tuple[Any, ...]], places: Sequence[int]) -> Chunk:
        columns: list[pa.Array[Any]] = []
        failed: dict[int, str] = {}
        for place, field in enumerate(self.schema):
            column, bad = decode([row[place] for row in rows], field.type)
            for index in bad:
                failed.setdefault(index, f"column '{field.name}' has a value that {field.type} cannot hold exactly")
            columns.append(column)
        batch = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        size = batch.nbytes
        if failed:
            batch = batch.filter(pa.array([index not in failed for index in range(len(rows))], pa.bool_()))
        rejections = tuple(self._rejection(rows[index], reason) for index, reason in sorted(failed.items()))
        first, last = (tuple(str(row[each]) for each in places) for row in (rows[0], rows[-1]))
        return Chunk(batch, len(rows), size, first, last, rejections)

    def _rejection(self, row: Sequence[Any], reason: str) -> Rejection:
        texts = {
            name: [value.hex() if isinstance(value, bytes) else value]
            for name, value in zip(self.schema.names, row, strict=False)
        }
        schema = pa.schema([pa.field(name, pa.string()) for name in texts])
        return Rejection(pa.RecordBatch.from_pydict(texts, schema=schema), reason, "decode", "")

    def _from(self) -> str:
        return self._relation.from_.replace("%", "%%")

    def count(self, condition: str) -> int:
        return int(self._query(f"SELECT COUNT(*) FROM {self._from()} WHERE {condition}", ())[0][0])

    def keys(self, condition: str, parameters: Sequence[Any], key: Sequence[str]) -> list[list[str]]:
        names = ", ".join(self.quoted(each) for each in key)
        found = self._query(
            f"SELECT {names} FROM {self._from()} WHERE {condition} LIMIT {SEEN_LIMIT + 1}", tuple(parameters)
        )
        return [[str(value) for value in row] for row in found]

    def bound(self) -> Bound:
        return self._bound

    def close(self) -> None:
        abandon(self._opened, self._cursor)

    def _query(self, statement: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        try:
            with self._opened.cursor() as cursor:
                cursor.execute(statement, parameters or {})
                return list(cursor.fetchall())
        except pymysql.Error as error:
            raise translated(error, self.where) from error


def _bound_of(opened: pymysql.connections.Connection[Any], source: MysqlSource, relation: _Relation) -> Bound:
    """Returns a value of the incremental column below which no row can appear any more."""
    if source.incremental_column is None:
        return Bound(None)
    packet = relation.known[source.incremental_column]
    if packet.type_code in TIMES:
        return Bound(_cut(opened, _moment(opened, source, relation), packet))
    if source.lag is not None:
        raise SchemaError(
            f"lag needs a column of time, and '{source.incremental_column}' is none",
            where=relation.where,
            hint="remove lag",
        )
    return _settled_maximum(opened, source, relation)


def _moment(opened: pymysql.connections.Connection[Any], source: MysqlSource, relation: _Relation) -> str:
    """Returns the start of the oldest open transaction, or the time `lag` ago, in UTC."""
    if source.lag is not None:
        return str(query(opened, _BEHIND, (int(source.lag.total_seconds() * 1e6),))[0][0])
    try:
        return str(query(opened, _OLDEST)[0][0])
    except pymysql.Error as error:
        if number_of(error) == 1227:
            raise _may_not_look(source, relation) from error
        raise


def _may_not_look(source: MysqlSource, relation: _Relation) -> HeadraceError:
    return FatalError(
        "the user may not see other sessions, so nobody can tell which rows are still to be committed",
        where=relation.where,
        hint=f"GRANT PROCESS ON *.* TO {source.connection.username}, or set lag",
        error_type=ErrorType.AUTH,
    )


def _cut(opened: pymysql.connections.Connection[Any], moment: str, packet: Any) -> str:
    """Returns the moment as a value of the column's type, rounded down to its precision.

    DATETIME and DATE have no zone: what fills them with NOW() writes the server's own zone.
    """
    text = moment if packet.type_code == 7 else str(query(opened, _LOCAL, (moment, moment))[0][0])
    if packet.type_code in {10, 14}:
        return text[:10]
    digits = packet.scale if 0 < packet.scale <= 6 else 0
    return text[: 20 + digits] if digits else text[:19]


def _settled_maximum(opened: pymysql.connections.Connection[Any], source: MysqlSource, relation: _Relation) -> Bound:
    """Returns the column's greatest value once every transaction that may still add a smaller one has ended."""
    name = quoted(source.incremental_column or "", MARK)
    found = query(opened, f"SELECT MAX({name}) FROM {relation.from_}")[0][0]
    time.sleep(0.15)  # the list of transactions may be 0.1 s old
    try:
        waited = dict(query(opened, _WRITING))
        for _ in range(_WAIT_ROUNDS):
            if not waited:
                return Bound(None if found is None else str(found), inclusive=True)
            time.sleep(0.11)
            now = {row[0] for row in query(opened, _WRITING)}
            waited = {trx: thread for trx, thread in waited.items() if trx in now}
    except pymysql.Error as error:
        if number_of(error) == 1227:
            raise _may_not_look(source, relation) from error
        raise
    raise FatalError(
        f"session {next(iter(waited.values()))} has had a writing transaction open for too long",
        where=relation.where,
        hint="end that transaction, or use a timestamp as incremental_column",
    )
