"""Reads Oracle row by row in one read-only transaction; writes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import resources.oracle.client  # isort: skip  # noqa: F401 - first, for it says how to get the driver
import oracledb as driver
import pyarrow as pa

from dsl.contracts.connectors import BatchReader, ReadRequest, Stream
from dsl.contracts.errors import ErrorType, FatalError, SchemaError
from dsl.contracts.rows import Rejection
from dsl.contracts.state import State
from resources.oracle.client import (
    MISSING,
    close_quietly,
    connect,
    execute,
    find_table,
    no_such_table,
    number_of,
    place_of,
    query,
    translated,
)
from resources.oracle.types import (
    MOMENT,
    SECOND,
    TIMES,
    Described,
    comparable,
    decode,
    described,
    expression,
    field_of,
    stored_type,
    text_expression,
)
from resources.sql import TableName, quoted, suggestion
from resources.sql_reader import SEEN_LIMIT, Bound, Chunk, Incremental, Pass, Scanner, SqlReader, stepwise

if TYPE_CHECKING:
    from resources.oracle.resource import OracleConnection, OracleSource

_KEY = (
    "SELECT c.column_name FROM all_constraints k JOIN all_cons_columns c ON c.owner = k.owner AND c.constraint_name = k.constraint_name "
    "WHERE k.constraint_type = 'P' AND k.owner = ? AND k.table_name = ? ORDER BY c.position"
)
_TABLES = (
    "SELECT owner, table_name FROM all_tables WHERE owner = ? UNION ALL "
    "SELECT owner, view_name FROM all_views WHERE owner = ? ORDER BY 1, 2"
)
# Columns without a zone hold the server's time or UTC, nobody knows which: the earlier of both is behind either.
_UTC = "o.moment + (SYS_EXTRACT_UTC(SYSTIMESTAMP) - CAST(SYSTIMESTAMP AS TIMESTAMP))"
# Two seconds below: the list keeps seconds, and a transaction is listed by its first write, whose clock was read before.
_NOW = "CAST(SYSTIMESTAMP AS TIMESTAMP)"
_OLDEST = (
    f"SELECT LEAST(NVL(MIN(CAST(t.start_date AS TIMESTAMP)), {_NOW}), {_NOW}) - INTERVAL '2' SECOND AS moment "
    "FROM gv$transaction t"
)


def describe(opened: Any, where: str, relation: str) -> list[Described]:
    """Returns the columns of a relation."""
    cursor = execute(opened, where, f"SELECT * FROM {relation} WHERE 1 = 0")
    try:
        return described(cursor.description)
    finally:
        cursor.close()


def discover_schema(source: OracleSource) -> pa.Schema:
    """Returns the schema that the source will yield; raises as `open_reader` does."""
    opened = connect(source.connection)
    try:
        return _Relation(opened, source, None).schema
    finally:
        close_quietly(opened)


def open_reader(source: OracleSource, request: ReadRequest, state: State | None) -> BatchReader:
    """Opens a reader.

    Raises:
        SchemaError: A table or column is not there, or cannot be read exactly.
        UnavailableError: The server cannot be reached.
    """
    opened = connect(source.connection)
    try:
        relation = _Relation(opened, source, request.columns)
        scanner = OracleScanner(opened, source, request, relation)
    except BaseException:
        close_quietly(opened)
        raise
    how = None
    if relation.incremental is not None:
        how = Incremental(relation.incremental, relation.key, source.null_cursor, source.initial_value)
    return SqlReader(scanner, request, state, key=relation.key, incremental=how)


def list_tables(connection: OracleConnection) -> tuple[Stream, ...]:
    """Lists tables and views with their schemas and keys; raises as `connect` does."""
    opened, place = connect(connection), place_of(connection)
    try:
        made = []
        for schema, name in query(opened, place, _TABLES, (connection.home, connection.home)):
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
    return tuple(str(row[0]) for row in query(opened, where, _KEY, (table.schema, table.name)))


class _Relation:
    """What is read: its columns and its key."""

    def __init__(self, opened: Any, source: OracleSource, columns: Sequence[str] | None) -> None:
        place = place_of(source.connection)
        own: tuple[str, ...] = ()
        if source.table is not None:
            table = find_table(opened, place, source.connection.table_name(source.table))
            self.from_, self.where = table.quoted(), f"{place}: table {table}"
            found = _described_table(opened, table, place)
            own = key_of(opened, place, table)
        else:
            self.from_, self.where = f"({source.query}) query", f"{place}: query"
            found = describe(opened, self.where, self.from_)
        self.known = {each.name: each for each in found}
        self.key = tuple(map(self._spelled, source.primary_key)) or own
        self.incremental = None if source.incremental_column is None else self._spelled(source.incremental_column)
        wanted = [self._spelled(each) for each in (source.columns if columns is None else columns) or self.known]
        self.schema = pa.schema([field_of(self.known[each], self.where) for each in wanted])
        if not all(self.known[each].orderable for each in self.key):
            self.key = ()  # a state is text

    def _spelled(self, name: str) -> str:
        """Returns a column's name as it was made: its own, or the only one that differs in case alone."""
        same = [name] if name in self.known else [each for each in self.known if each.upper() == name.upper()]
        if len(same) != 1:
            raise SchemaError(f"there is no column '{name}'", where=self.where, hint=suggestion(name, self.known))
        return same[0]


def _described_table(opened: Any, table: TableName, place: str) -> list[Described]:
    try:
        return describe(opened, f"{place}: table {table}", table.quoted())
    except SchemaError as error:
        if isinstance(error.__cause__, driver.Error) and number_of(error.__cause__) == MISSING:
            raise no_such_table(opened, table, place) from error
        raise


class OracleScanner(Scanner):
    """One snapshot of a table or query.

    Args:
        opened: The connection; the scanner closes it.
        source: What to read.
        request: What the plan wants of it.
        relation: Its columns.
    """

    def __init__(self, opened: Any, source: OracleSource, request: ReadRequest, relation: _Relation) -> None:
        self._opened, self._request, self._relation = opened, request, relation
        self.where, self.schema = relation.where, relation.schema
        # The bound comes before the snapshot: what ends between the two is below it and is seen.
        self._bound = self._bound_of(source)
        opened.autocommit = False
        execute(opened, self.where, "SET TRANSACTION READ ONLY").close()

    def quoted(self, column: str) -> str:
        return quoted(column)

    def placeholder(self, column: str) -> str:
        return comparable(self._relation.known[column])

    def beyond(self, names: Sequence[str], places: Sequence[str], values: Sequence[Any]) -> tuple[str, tuple[Any, ...]]:
        return stepwise(names, places, values)

    def excluding(self, key: Sequence[str], known: Sequence[Sequence[str]]) -> tuple[str, list[Any]]:
        """One parameter for all: a statement takes no more than 65,535."""
        if not known:
            return "1 = 1", []
        columns = ", ".join(f"c{place} VARCHAR2(4000) PATH '$[{place}]'" for place in range(len(key)))
        texts = [text_expression(self._relation.known[each]) for each in key]
        same = " AND ".join(f"seen.c{place} = {text}" for place, text in enumerate(texts))
        held = json.dumps([list(each) for each in known], ensure_ascii=False)
        return f"NOT EXISTS (SELECT 1 FROM JSON_TABLE(?, '$[*]' COLUMNS ({columns})) seen WHERE {same})", [held]

    def scan(self, scan: Pass, limit: int | None) -> Iterator[Chunk]:
        columns = [self._relation.known[each] for each in self.schema.names]
        texts = [text_expression(self._relation.known[each]) for each in scan.order]
        statement = f"SELECT {', '.join([*map(expression, columns), *texts])} FROM {self._relation.from_}"
        if scan.condition:
            statement += f" WHERE {scan.condition}"
        if scan.order:
            statement += f" ORDER BY {', '.join(map(quoted, scan.order))}"
        if limit is not None:
            statement += f" FETCH FIRST {limit} ROWS ONLY"
        cursor = execute(self._opened, self.where, statement, scan.parameters)
        try:
            while rows := cursor.fetchmany(self._request.batch_rows):
                yield self._chunk(rows, columns)
        except (driver.Error, OSError) as error:
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
        found = query(self._opened, self.where, f"SELECT COUNT(*) FROM {self._relation.from_} WHERE {condition}")
        return int(found[0][0])

    def keys(self, condition: str, parameters: Sequence[Any], key: Sequence[str]) -> list[list[str]]:
        names = ", ".join(text_expression(self._relation.known[each]) for each in key)
        statement = (
            f"SELECT {names} FROM {self._relation.from_} WHERE {condition} FETCH FIRST {SEEN_LIMIT + 1} ROWS ONLY"
        )
        return [[str(value) for value in row] for row in query(self._opened, self.where, statement, parameters)]

    def bound(self) -> Bound:
        return self._bound

    def close(self) -> None:
        close_quietly(self._opened)

    def _bound_of(self, source: OracleSource) -> Bound:
        """Returns a value of the incremental column below which no row can appear any more."""
        if self._relation.incremental is None:
            return Bound(None)
        column = self._relation.known[self._relation.incremental]
        if column.base not in TIMES:
            raise SchemaError(
                f"'{column.name}' is {column.words}: nobody can tell which smaller values are still to be committed",
                where=self.where,
                hint="name a column of time",
            )
        try:
            return Bound(
                str(query(self._opened, self.where, bound_statement(source.lag_seconds, column))[0][0]).strip()
            )
        except SchemaError as error:  # a view that one may not see is as if it were not there
            raise FatalError(
                "the user may not see other sessions, so nobody can tell which rows are still to be committed",
                where=self.where,
                hint=f"GRANT SELECT ON sys.gv_$transaction TO {source.connection.username}, or set lag",
                error_type=ErrorType.AUTH,
            ) from error


def bound_statement(lag: float | None, column: Described) -> str:
    """Returns the SELECT of the time below which no row can appear: of the oldest transaction, or so many seconds ago."""
    behind = f"SELECT {_NOW} - NUMTODSINTERVAL({lag}, 'SECOND') AS moment FROM dual"
    value = _UTC if column.base in {"TIMESTAMP_TZ", "TIMESTAMP_LTZ"} else f"LEAST(o.moment, {_UTC})"
    shown = SECOND if column.base == "DATE" else MOMENT
    return f"SELECT TO_CHAR({value}, '{shown}') FROM ({_OLDEST if lag is None else behind}) o"


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
