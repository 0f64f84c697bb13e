"""Reads PostgreSQL by COPY inside one read-only snapshot; writes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import resources.postgres.client  # isort: skip  # noqa: F401 - first, for it says how to get the driver
import psycopg
import pyarrow as pa

from dsl.contracts.connectors import BatchReader, ReadRequest
from dsl.contracts.errors import ErrorType, FatalError, SchemaError
from dsl.contracts.state import State
from resources.postgres.client import (
    close_quietly,
    connect,
    no_such_table,
    place_of,
    table_fields,
    table_id,
    table_key,
    translated,
)
from resources.postgres.copying import Column, Copying
from resources.postgres.types import field_of
from resources.sql import TableName, quoted, suggestion
from resources.sql_reader import SEEN_LIMIT, Bound, Chunk, Incremental, Pass, Range, Scanner, SqlReader

if TYPE_CHECKING:
    from resources.postgres.resource import PostgresSource

_TYPES = """
SELECT oid, typtype::text, typcategory::text, typbasetype, typtypmod, typelem, format_type(oid, NULL)
FROM pg_type WHERE oid = ANY(%s)
"""
_OLDEST = b"""
SELECT count(*) FILTER (WHERE a.query = '<insufficient privilege>'),
       to_char((least(clock_timestamp(), min(least(a.xact_start, CASE WHEN a.state = 'active' THEN a.query_start END)),
                      (SELECT min(prepared) FROM pg_prepared_xacts WHERE database = current_database()))
                - interval '10 milliseconds') AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')
FROM pg_stat_activity a
WHERE a.pid <> pg_backend_pid() AND a.datname = current_database()
  AND a.backend_type IS DISTINCT FROM 'autovacuum worker' AND a.backend_type IS DISTINCT FROM 'walsender'
"""
_BEHIND = (
    b"SELECT to_char((clock_timestamp() - make_interval(secs => %s)) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
)
_LOCKERS = """
SELECT virtualtransaction, pid FROM pg_locks
WHERE locktype = 'relation' AND relation = %s::oid AND pid <> pg_backend_pid() AND granted
  AND mode IN ('RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_PAGES = "SELECT GREATEST(relpages, 1) FROM pg_class WHERE oid = %s"
_SAMPLED_PAGES = 2_000
_TIMES = {1082, 1114, 1184}
_WAIT_ROUNDS = 600


def discover_schema(source: PostgresSource) -> pa.Schema:
    """Returns the schema that the source will yield; raises as `open_reader` does."""
    opened = connect(source.connection)
    try:
        return _Relation(opened, source, None).schema
    except psycopg.Error as error:
        raise translated(error, place_of(source.connection)) from error
    finally:
        close_quietly(opened)


def open_reader(
    source: PostgresSource, request: ReadRequest, state: State | None, *, snapshot: str = ""
) -> BatchReader:
    """Opens a reader.

    Args:
        source: What to read.
        request: What the plan wants of it.
        state: Where to resume.
        snapshot: The name of a snapshot that another session exports; one of its own if "".

    Raises:
        SchemaError: A table or column is not there.
        UnavailableError: The server cannot be reached.
    """
    opened = connect(source.connection)
    try:
        relation = _Relation(opened, source, request.columns)
        scanner = PostgresScanner(opened, source, request, relation)
        if snapshot:
            opened.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'".encode())
    except psycopg.Error as error:
        close_quietly(opened)
        raise translated(error, place_of(source.connection)) from error
    except BaseException:
        close_quietly(opened)
        raise
    how = None
    if source.incremental_column is not None:
        how = Incremental(source.incremental_column, relation.key, source.null_cursor, source.initial_value)
    within = None if source.within is None else Range(relation.key[0], *source.within)
    return SqlReader(scanner, request, state, key=relation.key, incremental=how, within=within)


def divided(source: PostgresSource, count: int) -> list[str]:
    """Returns the values of the first key column at which a table is divided into at most so many parts, in order.

    Raises:
        SchemaError: A table or column is not there.
        UnavailableError: The server cannot be reached.
    """
    opened = connect(source.connection)
    try:
        relation = _Relation(opened, source, None)
        # A column that is only said to be a key may be NULL, and NULL is in no range.
        if relation.table_id is None or not relation.key or source.primary_key:
            return []
        row = opened.execute(_PAGES, (relation.table_id,)).fetchone()
        share = min(100.0, 100 * _SAMPLED_PAGES / max(1, row[0] if row else 1))
        column = quoted(relation.key[0])
        marks = ", ".join(str(each / count) for each in range(1, count))
        found = opened.execute(
            f"SELECT unnest(percentile_disc(ARRAY[{marks}]) WITHIN GROUP (ORDER BY {column}))::text "
            f"FROM {relation.from_} TABLESAMPLE SYSTEM ({share:.6f})".encode()
        ).fetchall()
        return list(dict.fromkeys(str(each[0]) for each in found if each[0] is not None))
    except psycopg.Error as error:
        raise translated(error, place_of(source.connection)) from error
    finally:
        close_quietly(opened)


@contextmanager
def exported(source: PostgresSource) -> Iterator[str]:
    """Holds a snapshot open that other sessions may read; yields its name.

    Raises:
        UnavailableError: The server cannot be reached.
    """
    opened = connect(source.connection)
    try:
        opened.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = opened.execute("SELECT pg_export_snapshot()").fetchone()
    except psycopg.Error as error:
        close_quietly(opened)
        raise translated(error, place_of(source.connection)) from error
    try:
        yield "" if row is None else str(row[0])
    finally:
        close_quietly(opened)


class _Relation:
    """What is read: its columns, their expressions, its key."""

    def __init__(self, opened: psycopg.Connection[Any], source: PostgresSource, columns: Sequence[str] | None) -> None:
        self.where = place_of(source.connection)
        self.table_id: int | None = None
        if source.table is not None:
            table = TableName.parse(source.table, "public")
            self.where += f": table {table}"
            self.table_id = table_id(opened, table)
            if self.table_id is None:
                raise no_such_table(opened, table, place_of(source.connection))
            self.from_ = table.quoted()
            described = table_fields(opened, self.table_id)
        else:
            self.where += ": query"
            self.from_ = f"({source.query}) AS query"
            described = _described(opened, self.from_)
        self.known = {field.name: (field, declared) for field, declared in described}
        own = table_key(opened, self.table_id) if self.table_id is not None else ()
        self.key = source.primary_key or own
        wanted = columns if columns is not None else source.columns or tuple(self.known)
        for name in (*wanted, *self.key, *((source.incremental_column,) if source.incremental_column else ())):
            if name not in self.known:
                raise SchemaError(f"there is no column '{name}'", where=self.where, hint=suggestion(name, self.known))
        self.schema = pa.schema([self.known[each][0] for each in wanted])


def _described(opened: psycopg.Connection[Any], relation: str) -> list[tuple[pa.Field[Any], str]]:
    """Asks the server for the columns of a query without running it."""
    cursor = opened.execute(f"SELECT * FROM {relation} LIMIT 0".encode())
    result = cursor.pgresult
    if result is None or cursor.description is None:
        return []
    oids = [result.ftype(each) for each in range(result.nfields)]
    modifiers = [result.fmod(each) for each in range(result.nfields)]
    names = [each.name for each in cursor.description]
    types = {row[0]: row[1:] for row in opened.execute(_TYPES, (oids,)).fetchall()}
    made = []
    for name, oid, modifier in zip(names, oids, modifiers, strict=True):
        facts = types[oid]
        made.append((field_of(name, oid, modifier, *facts[:5]), facts[5]))
    return made


class PostgresScanner(Scanner):
    """One snapshot of a table or query.

    Args:
        opened: The connection; the scanner closes it.
        source: What to read.
        request: What the plan wants of it.
        relation: Its columns.
    """

    def __init__(
        self, opened: psycopg.Connection[Any], source: PostgresSource, request: ReadRequest, relation: _Relation
    ) -> None:
        self._opened, self._request, self._relation = opened, request, relation
        self.where, self.schema = relation.where, relation.schema
        # The bound comes before the snapshot: what ends between the two is below it and is seen.
        self._bound = _bound_of(opened, source, relation)
        opened.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def quoted(self, column: str) -> str:
        return quoted(column).replace("%", "%%")

    def placeholder(self, column: str) -> str:
        del column
        return "%s"

    def scan(self, scan: Pass, limit: int | None) -> Iterator[Chunk]:
        tail = f" FROM {self._from()}"
        if scan.condition:
            tail += f" WHERE {scan.condition}"
        if scan.order:
            tail += f" ORDER BY {', '.join(self.quoted(each) for each in scan.order)}"
        if limit is not None:
            tail += f" LIMIT {limit}"
        columns, order = (tuple(self._column(each) for each in names) for names in (self.schema.names, scan.order))
        try:
            yield from Copying(columns, order, tail, scan.parameters).chunks(self._opened, self._request)
        except psycopg.Error as error:
            raise translated(error, self.where) from error

    def _column(self, name: str) -> Column:
        field, declared = self._relation.known[name]
        return Column(field, self.quoted(name), declared)

    def _from(self) -> str:
        return self._relation.from_.replace("%", "%%")

    def count(self, condition: str) -> int:
        row = self._query(f"SELECT count(*) FROM {self._from()} WHERE {condition}", ())
        return int(row[0][0])

    def keys(self, condition: str, parameters: Sequence[Any], key: Sequence[str]) -> list[list[str]]:
        texts = ", ".join(f"{self.quoted(each)}::text" for each in key)
        found = self._query(f"SELECT {texts} FROM {self._from()} WHERE {condition} LIMIT {SEEN_LIMIT + 1}", parameters)
        return [list(each) for each in found]

    def bound(self) -> Bound:
        return self._bound

    def close(self) -> None:
        close_quietly(self._opened)

    def _query(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            return self._opened.execute(statement.encode(), tuple(parameters)).fetchall()
        except psycopg.Error as error:
            raise translated(error, self.where) from error


def _bound_of(opened: psycopg.Connection[Any], source: PostgresSource, relation: _Relation) -> Bound:
    """Returns a value of the incremental column below which no row can appear any more."""
    if source.incremental_column is None:
        return Bound(None)
    oid, modifier = _type_of(opened, relation.from_, source.incremental_column)
    if oid in _TIMES:
        moment = _moment(opened, source, relation)
        return Bound(_cut(opened, moment, oid, modifier))
    if source.lag is not None:
        raise SchemaError(
            f"lag needs a column of time, and '{source.incremental_column}' is none",
            where=relation.where,
            hint="remove lag",
        )
    return _settled_maximum(opened, source, relation)


def _type_of(opened: psycopg.Connection[Any], relation: str, column: str) -> tuple[int, int]:
    result = opened.execute(f"SELECT {quoted(column)} FROM {relation} LIMIT 0".encode()).pgresult
    return (result.ftype(0), result.fmod(0)) if result is not None else (0, -1)


def _moment(opened: psycopg.Connection[Any], source: PostgresSource, relation: _Relation) -> str:
    """Returns the start of the oldest open transaction, or the time `lag` ago, in UTC."""
    if source.lag is not None:
        row = opened.execute(_BEHIND, (source.lag.total_seconds(),)).fetchone()
        return str(row[0]) if row else ""
    row = opened.execute(_OLDEST).fetchone()
    if row is None or row[0]:
        raise FatalError(
            "the role may not see other sessions, so nobody can tell which rows are still to be committed",
            where=relation.where,
            hint=f"GRANT pg_monitor TO {source.connection.username}, or set lag",
            error_type=ErrorType.AUTH,
        )
    return str(row[1])


def _cut(opened: psycopg.Connection[Any], moment: str, oid: int, modifier: int) -> str:
    """Returns the moment as a value of the column's type, rounded down to its precision."""
    digits = modifier if 0 <= modifier < 6 else 6
    if oid == 1082:
        made = "date_trunc('day', local)::date::text"
    else:
        unit = f"make_interval(secs => mod(extract(second FROM local)::numeric, {10**-digits:.{digits}f})::float8)"
        made = f"to_char(local - {unit}, 'YYYY-MM-DD HH24:MI:SS.US')" + ("|| '+00'" if oid == 1184 else "")
    zone = "'UTC'" if oid == 1184 else "current_setting('headrace.timezone')"
    statement = f"SELECT {made} FROM (SELECT (%s::timestamp AT TIME ZONE 'UTC') AT TIME ZONE {zone} AS local) AS bound"
    row = opened.execute(statement.encode(), (moment,)).fetchone()
    return str(row[0]) if row else moment


def _settled_maximum(opened: psycopg.Connection[Any], source: PostgresSource, relation: _Relation) -> Bound:
    """Returns the column's greatest value once every transaction that may still add a smaller one has ended.

    Waits as CREATE INDEX CONCURRENTLY does: for those that hold a writing lock on the table now, not for later ones.
    """
    if relation.table_id is None:
        raise SchemaError(
            f"a query can be read incrementally by a column of time only, and '{source.incremental_column}' is none",
            where=relation.where,
            hint="name a table, or a date or timestamp column",
        )
    statement = f"SELECT max({quoted(source.incremental_column or '')})::text FROM {relation.from_}"
    row = opened.execute(statement.encode()).fetchone()
    waited = {each[0]: each[1] for each in opened.execute(_LOCKERS, (relation.table_id,)).fetchall()}
    for _ in range(_WAIT_ROUNDS):
        now = {each[0] for each in opened.execute(_LOCKERS, (relation.table_id,)).fetchall()}
        waited = {name: pid for name, pid in waited.items() if name in now}
        if not waited:
            return Bound(None if row is None or row[0] is None else str(row[0]), inclusive=True)
        time.sleep(0.05)
    raise FatalError(
        f"session {next(iter(waited.values()))} has been writing to the table for too long",
        where=relation.where,
        hint="end that transaction, or use a timestamp as incremental_column",
    )
