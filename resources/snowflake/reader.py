"""Reads Snowflake as Arrow result batches, each pass one statement and so one snapshot; writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import resources.snowflake.client  # isort: skip  # noqa: F401 - first, for it says how to get the driver
import pyarrow as pa
from snowflake.connector.errors import Error

from dsl.contracts.connectors import BatchReader, ReadRequest
from dsl.contracts.errors import FatalError, SchemaError
from dsl.contracts.state import State
from resources.snowflake.client import (
    close_quietly,
    connect,
    describe,
    execute,
    find_table,
    place_of,
    query,
    table_names,
    translated,
)
from resources.snowflake.incoming import decoded, described, is_exact, orderable, rejections, selected
from resources.snowflake.types import Described, field_of
from resources.sql import TableName, quoted, suggestion
from resources.sql_reader import SEEN_LIMIT, Bound, Chunk, Incremental, Pass, Scanner, SqlReader, stepwise

if TYPE_CHECKING:
    from resources.snowflake.resource import SnowflakeSource

_TIMES = frozenset({"DATE", "TIMESTAMP_NTZ", "TIMESTAMP_TZ", "TIMESTAMP_LTZ"})
_BEHIND = "SELECT CAST(CAST(DATEADD('microsecond', ?, SYSDATE()) AS {kind}) AS VARCHAR)"


def discover_schema(source: SnowflakeSource) -> pa.Schema:
    """Returns the schema that the source will yield; raises as `open_reader` does."""
    opened = connect(source.connection)
    try:
        return _Relation(opened, source, None).schema
    finally:
        close_quietly(opened)


def open_reader(source: SnowflakeSource, request: ReadRequest, state: State | None) -> BatchReader:
    """Opens a reader.

    Raises:
        SchemaError: A table or column is not there, or cannot be read exactly.
        UnavailableError: The account cannot be reached.
    """
    opened = connect(source.connection)
    try:
        relation = _Relation(opened, source, request.columns)
        scanner = SnowflakeScanner(opened, source, request, relation)
    except BaseException:
        close_quietly(opened)
        raise
    how = None
    if relation.incremental is not None:
        how = Incremental(relation.incremental, relation.key, source.null_cursor, source.initial_value)
    return SqlReader(scanner, request, state, key=relation.key, incremental=how)


class _Relation:
    """What is read: its columns and its key, each under the name that the account knows."""

    def __init__(self, opened: Any, source: SnowflakeSource, columns: Sequence[str] | None) -> None:
        place = place_of(source.connection)
        if source.table is not None:
            table = find_table(opened, place, source.connection.table_name(source.table))
            self.from_, self.where = table.quoted(), f"{place}: table {table}"
            found = describe(opened, place, table)
            if found is None:
                raise _no_such_table(opened, table, place)
        else:
            self.from_, self.where = f"({source.query}) AS query", f"{place}: query"
            found = described(execute(opened, self.where, f"SELECT * FROM {self.from_} LIMIT 0").description)
        self.known = {each.name: each for each in found}
        wanted = [self._spelled(each) for each in (source.columns if columns is None else columns) or self.known]
        self.schema = pa.schema([field_of(self.known[each]) for each in wanted])
        for each in wanted:
            if not is_exact(self.known[each]):
                raise SchemaError(
                    f"column '{each}' is {self.known[each].type}, which cannot be read exactly",
                    where=self.where,
                    hint="cast it in a query, or leave it out of columns",
                )
        self.incremental = None if source.incremental_column is None else self._spelled(source.incremental_column)
        key = tuple(self._spelled(each) for each in source.primary_key)
        self._refuse_null(opened, key)
        self.key = key if all(orderable(self.known[each]) for each in key) else ()

    def _spelled(self, name: str) -> str:
        if name in self.known:
            return name
        same = [each for each in self.known if each.upper() == name.upper()]
        if len(same) != 1:
            raise SchemaError(f"there is no column '{name}'", where=self.where, hint=suggestion(name, self.known))
        return same[0]

    def _refuse_null(self, opened: Any, key: Sequence[str]) -> None:
        """Refuses a key with NULLs: a pass that is resumed could not find their place."""
        open_ = [each for each in key if not self.known[each].required]
        if not open_:
            return
        null = " OR ".join(f"{quoted(each)} IS NULL" for each in open_)
        count = int(query(opened, self.where, f"SELECT COUNT(*) FROM {self.from_} WHERE {null}")[0][0])
        if count:
            raise FatalError(
                f"{count} rows have no value in the key ({', '.join(key)})",
                where=self.where,
                hint="choose other columns as primary_key, or leave it out",
            )


def _no_such_table(opened: Any, table: TableName, place: str) -> SchemaError:
    names = table_names(opened, place, table.schema)
    return SchemaError(f"there is no table '{table}'", where=place, hint=suggestion(table.name, names))


class SnowflakeScanner(Scanner):
    """A table or query, each pass over it in a snapshot of its own.

    Args:
        opened: The session; the scanner closes it.
        source: What to read.
        request: What the plan wants of it.
        relation: Its columns.
    """

    def __init__(self, opened: Any, source: SnowflakeSource, request: ReadRequest, relation: _Relation) -> None:
        self._opened, self._request, self._relation = opened, request, relation
        self.where, self.schema = relation.where, relation.schema
        self._bound = self._bound_of(source)

    def quoted(self, column: str) -> str:
        return quoted(column)

    def placeholder(self, column: str) -> str:
        return f"CAST(? AS {self._column(column).type})"

    def beyond(self, names: Sequence[str], places: Sequence[str], values: Sequence[Any]) -> tuple[str, tuple[Any, ...]]:
        return stepwise(names, places, values)

    def scan(self, scan: Pass, limit: int | None) -> Iterator[Chunk]:
        columns = [self._column(each) for each in self.schema.names]
        texts = [f"CAST({quoted(each)} AS VARCHAR)" for each in scan.order]
        statement = f"SELECT {', '.join([*selected(columns), *texts])} FROM {self._relation.from_}"
        if scan.condition:
            statement += f" WHERE {scan.condition}"
        if scan.order:
            statement += f" ORDER BY {', '.join(map(quoted, scan.order))}"
        if limit is not None:
            statement += f" LIMIT {limit}"
        cursor = execute(self._opened, self.where, statement, scan.parameters)
        try:
            for table in cursor.fetch_arrow_batches():
                for rows in table.to_batches(max_chunksize=self._request.batch_rows):
                    if rows.num_rows:
                        yield self._chunk(rows, columns, len(scan.order))
        except (Error, OSError) as error:
            raise translated(error, self.where) from error
        finally:
            cursor.close()

    def _chunk(self, rows: pa.RecordBatch, columns: Sequence[Described], order: int) -> Chunk:
        values, failed = decoded(rows.columns[: rows.num_columns - order], columns, self.schema)
        batch = pa.RecordBatch.from_arrays(values, schema=self.schema)
        size = batch.nbytes
        if failed:
            batch = batch.filter(pa.array([index not in failed for index in range(rows.num_rows)], pa.bool_()))
        places = rows.columns[rows.num_columns - order :] if order else []
        first, last = (tuple(str(each[at].as_py()) for each in places) for at in (0, -1))
        return Chunk(batch, rows.num_rows, size, first, last, rejections(rows, columns, failed))

    def count(self, condition: str) -> int:
        return int(self._query(f"SELECT COUNT(*) FROM {self._relation.from_} WHERE {condition}", ())[0][0])

    def keys(self, condition: str, parameters: Sequence[Any], key: Sequence[str]) -> list[list[str]]:
        texts = ", ".join(f"CAST({quoted(each)} AS VARCHAR)" for each in key)
        found = self._query(
            f"SELECT {texts} FROM {self._relation.from_} WHERE {condition} LIMIT {SEEN_LIMIT + 1}", parameters
        )
        return [[str(value) for value in row] for row in found]

    def bound(self) -> Bound:
        return self._bound

    def close(self) -> None:
        close_quietly(self._opened)

    def _column(self, name: str) -> Described:
        return self._relation.known[name]

    def _query(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        return query(self._opened, self.where, statement, parameters)

    def _bound_of(self, source: SnowflakeSource) -> Bound:
        """Returns the time `lag` ago: an account does not show who else has a transaction open."""
        if self._relation.incremental is None or source.lag is None:
            return Bound(None)
        column = self._column(self._relation.incremental)
        if column.base not in _TIMES:
            raise SchemaError(
                f"'{column.name}' is {column.type}, and only a column of time can be read incrementally: Snowflake does "
                "not say which rows are still to be committed",
                where=self.where,
                hint="name a column of time that is set when a row is written",
            )
        kind = "DATE" if column.base == "DATE" else "TIMESTAMP_NTZ(6)"
        behind = -int(source.lag.total_seconds() * 1_000_000)
        return Bound(str(self._query(_BEHIND.format(kind=kind), (behind,))[0][0]))
