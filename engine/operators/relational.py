"""Relational work in DuckDB: the only module that imports it; a locked and bounded session that touches no file but its spill."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa

from dsl.contracts.errors import FatalError
from dsl.plan.physical import INPUT_VIEW
from engine.operators.query_faults import DataFaultError, first_line, judged
from engine.shape import check_names, in_utc
from engine.spill import SpillFolder

Inputs: TypeAlias = Mapping[str, tuple[pa.Schema, Callable[[], Iterator[pa.RecordBatch]]]]

READ_ROWS = 65_536
FEW_ROWS = 1_024
_SCAN = "PYTHON_ARROW_SCAN"
_SETTINGS = (
    "SET TimeZone = 'UTC'",
    "SET python_enable_replacements = false",
    "SET enable_progress_bar = false",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)


@dataclass(frozen=True)
class Limits:
    """What a session may use.

    Attributes:
        memory: Bytes before it spills.
        threads: Threads that work on one query.
        spill: Folder in which every session has one of its own for what does not fit.
        spill_bytes: Bytes in it, at most.
        name: Begins the name of the session's own.
    """

    memory: int
    threads: int
    spill: Path
    spill_bytes: int
    name: str = "session"


class Session:
    """One DuckDB instance for one stage: no file system but its spill, no network, no extensions, settings locked.

    It opens when something relational is first asked of it: a stage that only copies needs none.

    Args:
        limits: What it may use.
        now: The run's logical time: the parameter `$now`.
    """

    def __init__(self, limits: Limits, now: datetime) -> None:
        self._limits, self._now = limits, now
        self._open: list[duckdb.DuckDBPyConnection] = []
        self._lock = threading.Lock()
        self._spill: SpillFolder | None = None
        self._root: duckdb.DuckDBPyConnection | None = None

    def chunk(self, sql: str, *, uses_now: bool, where: str) -> Chunk:
        """Opens a query that runs over one batch at a time.

        Raises:
            FatalError: It is not one SELECT.
        """
        connect = partial(self._connection_for, sql, where)
        return Chunk(connect, sql, {"now": self._now} if uses_now else {}, where)

    def stream(self, sql: str, *, uses_now: bool, where: str) -> StreamRun:
        """Opens a query that runs once over whole inputs.

        Raises:
            FatalError: It is not one SELECT.
        """
        return StreamRun(self._connection_for(sql, where), sql, {"now": self._now} if uses_now else {}, where)

    def tables(self, where: str) -> Tables:
        """Opens a connection with tables of its own, for what an operator remembers."""
        return Tables(self._connection_for("SELECT 1", where), where)

    def interrupt(self) -> None:
        """Makes every running query of the session fail soon; may be called from any thread."""
        with self._lock:
            for each in self._open:
                with suppress(duckdb.Error):
                    each.interrupt()

    def close(self) -> None:
        """Closes everything and removes the spill."""
        with self._lock:
            for each in (*self._open, *([] if self._root is None else [self._root])):
                with suppress(duckdb.Error):
                    each.close()
            self._open.clear()
            self._root = None
            if self._spill is not None:
                self._spill.close()
                self._spill = None

    def _connection_for(self, sql: str, where: str) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._root is None:
                self._spill = SpillFolder(self._limits.spill, self._limits.name)
                self._root = _locked(self._limits, self._spill.path)
            _check_select(self._root, sql, where)
            connection = self._root.cursor()
            self._open.append(connection)
            return connection


def _check_select(connection: duckdb.DuckDBPyConnection, sql: str, where: str) -> None:
    """Refuses what is no query: the lock keeps it from most harm, but COPY may still write into the spill folder."""
    try:
        kinds = [each.type for each in connection.extract_statements(sql)]
    except duckdb.Error as error:
        raise FatalError(f"the query cannot be read: {first_line(error)}", where=where) from error
    if kinds != [duckdb.StatementType.SELECT]:
        raise FatalError("the query is not one SELECT", where=where)


def _locked(limits: Limits, spill: Path) -> duckdb.DuckDBPyConnection:
    root = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": f"{limits.memory // 2**20}MiB",
            "threads": limits.threads,
            "temp_directory": str(spill),
            "max_temp_directory_size": f"{limits.spill_bytes // 2**20}MiB",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    for each in _SETTINGS:
        root.execute(each)
    return root


class Chunk:
    """One query over one batch at a time; the batch is the view `input`.

    Args:
        connect: Opens a connection of its own.
        sql: A SELECT.
        parameters: Values of its `$` parameters.
        where: The nodes it stands for, for errors.
    """

    def __init__(
        self,
        connect: Callable[[], duckdb.DuckDBPyConnection],
        sql: str,
        parameters: Mapping[str, object],
        where: str,
    ) -> None:
        self._connect, self._sql, self._parameters, self._where = connect, sql, dict(parameters), where
        self._connection = connect()
        self._few: _Few | None = None

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        """The schema that leaves, given the one that enters.

        Raises:
            FatalError: The query does not fit the schema.
        """
        check_names(schema, self._where)
        try:
            return in_utc(self._over(schema.empty_table()).schema)
        except DataFaultError as error:
            raise FatalError(f"the query cannot be planned: {error}", where=self._where) from error

    def run(self, rows: pa.RecordBatch) -> pa.Table:
        """Runs the query over a batch.

        Raises:
            DataFaultError: A value of some row made it fail; nothing came out.
            FatalError: The query itself or the machine is at fault.
        """
        if rows.num_rows > FEW_ROWS:
            return self._over(rows)
        try:
            if self._few is None or not self._few.fits(rows):
                self._few = _Few(self._connect(), self._sql, self._parameters, rows)
            return self._few.run(rows)
        except duckdb.Error as error:
            raise judged(error, self._where) from error

    def _over(self, rows: pa.RecordBatch | pa.Table) -> pa.Table:
        try:
            self._connection.register(INPUT_VIEW, rows)
            return _table(self._connection.sql(self._sql, params=self._parameters or None))
        except duckdb.Error as error:
            raise judged(error, self._where) from error
        finally:
            self._connection.unregister(INPUT_VIEW)


class _Few:
    """The same query prepared, for batches of a few rows: a tenth of the cost of planning it anew for each.

    Looking for poison rows asks up to twice for each of them.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, object], rows: pa.RecordBatch
    ) -> None:
        self._connection, self._held = connection, _Held(rows)
        connection.register(INPUT_VIEW, self._held)
        connection.execute(f"PREPARE few AS {sql}")
        given = ", ".join(f"{name} := TIMESTAMPTZ '{value}'" for name, value in parameters.items())
        self._call = f"EXECUTE few({given})" if given else "EXECUTE few"

    def fits(self, rows: pa.RecordBatch) -> bool:
        """Whether rows are of the kind that it was prepared for."""
        return self._held.rows.schema.equals(rows.schema)

    def run(self, rows: pa.RecordBatch) -> pa.Table:
        """Runs the query over them."""
        self._held.rows = rows
        return _table(self._connection.sql(self._call))


class _Held:
    """What DuckDB scans as `input`; asked for its rows each time the query runs."""

    def __init__(self, rows: pa.RecordBatch) -> None:
        self.rows = rows

    def __arrow_c_schema__(self) -> object:
        return self.rows.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        reader = pa.RecordBatchReader.from_batches(self.rows.schema, [self.rows])
        return reader.__arrow_c_stream__(requested_schema)  # type: ignore[no-untyped-call]


class StreamRun:
    """One query over whole inputs, streamed and spilling.

    Args:
        connection: Its own connection.
        sql: A SELECT.
        parameters: Values of its `$` parameters.
        where: The nodes it stands for, for errors.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, object], where: str
    ) -> None:
        self._connection, self._sql, self._parameters, self._where = connection, sql, dict(parameters), where

    def run(self, inputs: Inputs) -> Iterator[pa.RecordBatch]:
        """Yields the result while the inputs are being read.

        An input that the plan scans twice (a self-join) is kept in a table first: a stream can be read only once.

        Args:
            inputs: View name -> its schema, and what starts reading it.

        Raises:
            FatalError: The query, a value in it or the machine is at fault.
        """
        try:
            yield from self._batches(inputs)
        except DataFaultError as error:
            raise FatalError(
                error.message,
                where=self._where,
                hint="a query over whole inputs cannot set one row aside: clean it in a mapping or filter before",
            ) from error

    def _batches(self, inputs: Inputs) -> Iterator[pa.RecordBatch]:
        reader = self._start(inputs)
        try:
            while (rows := _next(reader)) is not None:
                yield rows
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise judged(error, self._where) from error
        finally:
            # Readers left open are reported as leaks by DuckDB 2.0 when the interpreter ends; closing drains a query.
            with suppress(pa.ArrowException, OSError, duckdb.Error):
                reader.close()

    def _start(self, inputs: Inputs) -> pa.RecordBatchReader:
        try:
            twice = self._reads_twice({name: schema for name, (schema, _) in inputs.items()})
            for name, (schema, start) in inputs.items():
                self._connection.register(name, pa.RecordBatchReader.from_batches(schema, start()))
                if twice:
                    self._keep(name)
            return _reader(self._query(self._sql))
        except duckdb.Error as error:
            raise judged(error, self._where) from error

    def output_schema(self, inputs: Mapping[str, pa.Schema]) -> pa.Schema:
        """The schema that leaves, given those that enter.

        Raises:
            FatalError: The query does not fit the schemas.
        """
        for schema in inputs.values():
            check_names(schema, self._where)
        try:
            for name, schema in inputs.items():
                self._connection.register(name, schema.empty_table())
            return in_utc(_table(self._query(self._sql)).schema)
        except duckdb.Error as error:
            raise FatalError(f"the query cannot be planned: {first_line(error)}", where=self._where) from error
        finally:
            for name in inputs:
                self._connection.unregister(name)

    def _reads_twice(self, schemas: Mapping[str, pa.Schema]) -> bool:
        def register(name: str) -> None:
            self._connection.register(name, pa.RecordBatchReader.from_batches(schemas[name], iter(())))

        for name in schemas:
            register(name)
        plan = json.loads(self._query(self._sql).explain(format="json"))
        used = 0
        for name in schemas:
            self._connection.unregister(name)
            try:
                self._query(self._sql)
            except duckdb.Error:
                used += 1
            register(name)
        # Where this counts too few, DuckDB refuses to read a stream again: an error, never rows that are missing.
        return _scans(plan) > used

    def _keep(self, name: str) -> None:
        view, table = quoted(name), quoted(f"{name} kept")
        self._connection.execute(f"CREATE TEMP TABLE {table} AS SELECT * FROM {view}")
        self._connection.unregister(name)
        self._connection.execute(f"CREATE TEMP VIEW {view} AS SELECT * FROM {table}")

    def _query(self, sql: str) -> duckdb.DuckDBPyRelation:
        return self._connection.sql(sql, params=self._parameters or None)


class Tables:
    """A connection with tables of its own, which spill and live as long as the session.

    Args:
        connection: Its own connection.
        where: The node it works for, for errors.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, where: str) -> None:
        self._connection, self._where = connection, where

    def change(self, sql: str, **views: pa.RecordBatch | pa.Table) -> None:
        """Runs a statement that makes, fills or drops tables.

        Args:
            sql: The statement.
            views: Rows it may read, by name.

        Raises:
            DataFaultError: A value of some row made it fail; nothing was changed.
            FatalError: The statement itself or the machine is at fault.
        """
        with self._seeing(views):
            self._connection.execute(sql)

    def ask(self, sql: str, **views: pa.RecordBatch | pa.Table) -> pa.Table:
        """Runs a query, as `change` does."""
        with self._seeing(views):
            return _table(self._connection.sql(sql))

    def read(self, sql: str) -> Iterator[pa.RecordBatch]:
        """Runs a query over tables and yields its result while it goes on; ask nothing else meanwhile."""
        with self._seeing({}), _reader(self._connection.sql(sql)) as reader:
            while (rows := _next(reader)) is not None:
                yield rows

    @contextmanager
    def _seeing(self, views: Mapping[str, pa.RecordBatch | pa.Table]) -> Iterator[None]:
        try:
            for name, rows in views.items():
                self._connection.register(name, rows)
            yield
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise judged(error, self._where) from error
        finally:
            for name in views:
                self._connection.unregister(name)


def _scans(plan: Any) -> int:
    if isinstance(plan, list):
        return sum(_scans(each) for each in plan)
    return int(plan.get("name") == _SCAN) + _scans(plan.get("children", []))


def _table(relation: duckdb.DuckDBPyRelation) -> pa.Table:
    table: pa.Table = relation.to_arrow_table()
    return table


def _reader(relation: duckdb.DuckDBPyRelation) -> pa.RecordBatchReader:
    reader: pa.RecordBatchReader = relation.to_arrow_reader(READ_ROWS)
    return reader


def _next(reader: pa.RecordBatchReader) -> pa.RecordBatch | None:
    try:
        return reader.read_next_batch()
    except StopIteration:
        return None


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
