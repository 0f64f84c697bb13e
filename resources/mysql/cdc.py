"""Reads a table and then every change of it, from the binary log of MySQL or MariaDB; moves nothing on the server.

First the table is read in the order of its key, then the log from a place before that: rows may be told twice, and end the same. A state
stands between two transactions only: `{"at", "snapshot"}`: `at` is the place in the log, `snapshot` the table reader's own state while
it is being read. What the library reads otherwise than the server writes it is refused, or the row is rejected.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import resources.mysql.client  # isort: skip  # noqa: F401 - first, for it says how to get the driver
import pyarrow as pa
import pymysql

from dsl.contracts.changes import OPERATION, Deletes, Operation, with_operation
from dsl.contracts.connectors import Batch, BatchReader, ReadRequest
from dsl.contracts.errors import FatalError, SchemaError
from dsl.contracts.rows import Rejection
from dsl.contracts.state import Json, State, advance, is_complete
from resources.change_buffer import ChangeBuffer
from resources.mysql.binlog import (
    Binlog,
    DeleteRowsEvent,
    MariadbGtidEvent,
    QueryEvent,
    UpdateRowsEvent,
    WriteRowsEvent,
    check_log,
    log_end,
    moved,
    place_now,
    reached,
)
from resources.mysql.client import close_quietly, connect, place_of, translated
from resources.mysql.reader import open_reader as open_table
from resources.mysql.types import decode
from resources.mysql.watched import Watched, columns_now, watched

if TYPE_CHECKING:
    from resources.mysql.resource import MysqlSource

_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - as the library reads it: what the server means by no moment at all
_ZERO_YEAR = 1900
_FIXED_BYTES = 254
_ROW_BYTES = 64
_NULL = "null"
_NOTHING = object()
"""Stands for a date or a moment that the server has and a calendar has not (`0000-00-00`)."""
Row = list[Any]


def discover_schema(source: MysqlSource) -> pa.Schema:
    """Returns the columns that the source will yield; raises as `open_changes` does."""
    opened = connect(source.connection)
    try:
        return watched(opened, source, None).schema
    except pymysql.Error as error:
        raise translated(error, place_of(source.connection)) from error
    finally:
        close_quietly(opened)


def open_changes(source: MysqlSource, request: ReadRequest, state: State | None) -> BatchReader:
    """Opens a reader.

    Raises:
        SchemaError: A table or column is not there, or cannot be read from the log.
        FatalError: The server's log does not tell what is needed.
    """
    opened = connect(source.connection)
    try:
        return ChangeReader(opened, source, request, state)
    except pymysql.Error as error:
        close_quietly(opened)
        raise translated(error, place_of(source.connection)) from error
    except BaseException:
        close_quietly(opened)
        raise


class ChangeReader(BatchReader):
    """The table, then its changes up to where the log ends now.

    Args:
        opened: A connection to ask by; the reader closes it.
        source: What to read.
        request: What the plan wants of it.
        state: Where to resume.
    """

    def __init__(
        self,
        opened: pymysql.connections.Connection[Any],
        source: MysqlSource,
        request: ReadRequest,
        state: State | None,
    ) -> None:
        columns = None if request.columns is None else tuple(each for each in request.columns if each != OPERATION)
        self._opened, self._source = opened, source
        self._request = dataclasses.replace(request, columns=columns)
        self._table: Watched = watched(opened, source, columns)
        self._tells = source.tells is not Deletes.IGNORED
        self._plain = self._table.schema
        if not request.dry:
            check_log(opened, self._table.where)
        self._inner: BatchReader | None = None
        self._log: Binlog | None = None
        self._rejected: list[Rejection] = []
        self._buffer: ChangeBuffer[Row] = ChangeBuffer(self._request, self._batch)
        name = re.escape(self._table.name.name)
        self._emptied = re.compile(
            rf"\s*TRUNCATE\s+(TABLE\s+)?(`?\w+`?\.)?`?{name}`?\s*;?\s*(/\*.*)?", re.IGNORECASE | re.DOTALL
        )
        if state is None:
            place = {} if request.dry else place_now(opened, self._table.name, self._table.where)
            state = advance(None, 0, 0, at=place, snapshot={})
        self._state: State = state

    @property
    def schema(self) -> pa.Schema:
        return with_operation(self._plain) if self._tells else self._plain

    def rejections(self) -> Sequence[Rejection]:
        taken, self._rejected = self._rejected, []
        return taken

    def close(self) -> None:
        for each in (self._inner, self._log):
            if each is not None:
                each.close()
        close_quietly(self._opened)

    def __iter__(self) -> Iterator[Batch]:
        if self._state.get("snapshot") is not None:
            yield from self._rows()
        if not self._request.dry:
            yield from self._changes()

    def _rows(self) -> Iterator[Batch]:
        """Yields the table as it stands, each row as one that came."""
        held = self._state["snapshot"]
        plain = dataclasses.replace(self._source, sync_mode=None, deletes=None)
        self._inner = open_table(plain, self._request, held if isinstance(held, dict) and held else None)
        for batch in self._inner:
            self._rejected.extend(self._inner.rejections())
            rows, inner = batch.rows, batch.state
            if self._tells:
                operations = pa.array([str(Operation.INSERT)] * rows.num_rows, pa.string())
                rows = pa.RecordBatch.from_arrays([*rows.columns, operations], schema=self.schema)
            snapshot: Json = None if inner is None or is_complete(inner) else dict(inner)
            going: dict[str, Json] = {} if inner is None else {"snapshot": snapshot}
            self._state = advance(self._state, rows.num_rows, rows.nbytes, **going)
            yield Batch(rows, None if inner is None else self._state)
        self._inner.close()

    def _changes(self) -> Iterator[Batch]:
        """Yields the changes up to where the log ends now."""
        end = log_end(self._opened, self._table.where)
        at = self._state["at"]
        begun: dict[str, Json] = dict(at) if isinstance(at, dict) else {}
        self._log = log = Binlog(self._source.connection, self._table.name, begun)
        place, gtids, gtid = begun, dict[int, str](), None
        for event in log:
            if isinstance(event, MariadbGtidEvent):
                gtid = event
            elif isinstance(event, WriteRowsEvent | UpdateRowsEvent | DeleteRowsEvent):
                self._take(event)
            elif not _inside(event):
                if isinstance(event, QueryEvent) and not self._understood(event):
                    break
                if gtid is not None:
                    gtids[gtid.domain_id] = gtid.gtid
                self._buffer.commit()
                place = moved(begun, gtids, log.end)
                if reached(end, log.end):
                    break
            yield from self._passed_on(place, all_of_it=False)
        self._buffer.drop()
        yield from self._passed_on(place, all_of_it=True)
        self._state = advance(self._state, 0, 0, at=place, snapshot=None)
        yield Batch(pa.RecordBatch.from_pylist([], schema=self.schema), self._state)

    def _passed_on(self, place: dict[str, Json], *, all_of_it: bool) -> Iterator[Batch]:
        for rows, whole in self._buffer.ready(all_of_it=all_of_it):
            there: dict[str, Json] = {"at": place, "snapshot": None} if whole else {}
            self._state = advance(self._state, rows.num_rows, rows.nbytes, **there)
            yield Batch(rows, self._state if whole else None)

    def _understood(self, event: Any) -> bool:
        """Hears a statement; returns whether what follows can be held, or the next run must know the columns first.

        Raises:
            SchemaError: Part of the transaction that it ends has been passed on already.
        """
        said = _said(event)
        if said.upper().startswith("XA "):
            hint = "leave XA out of programs that write to it, or read it without cdc"
            raise FatalError(
                "the log holds a distributed transaction, whose end it does not tell",
                where=self._table.where,
                hint=hint,
            )
        if said.strip().upper() in {"COMMIT", "ROLLBACK"}:
            return True
        schema = event.schema.decode() if isinstance(event.schema, bytes) else str(event.schema)
        if self._emptied.fullmatch(said) and (
            schema == self._table.name.schema or f"{self._table.name.schema}`." in said
        ):
            if self._tells:
                self._buffer.add([*[None] * len(self._plain), str(Operation.TRUNCATE)], _ROW_BYTES)
            return True
        now = {name: kind[1] for name, kind in columns_now(self._opened, self._table.name).items()}
        if now == dict(self._table.declared):
            return True
        if self._buffer.torn:
            hint = "run it again: it knows the columns then"
            raise SchemaError("the table changed within a large transaction", where=self._table.where, hint=hint)
        return False

    def _take(self, event: Any) -> None:
        for row in event.rows:
            if isinstance(event, WriteRowsEvent):
                self._add(Operation.INSERT, row["values"], row["none_sources"])
            elif isinstance(event, DeleteRowsEvent):
                self._add(Operation.DELETE, row["values"], row["none_sources"])
            else:
                before, after = row["before_values"], row["after_values"]
                if any(before.get(each) != after.get(each) for each in self._table.key):
                    self._add(Operation.DELETE, before, row["before_none_sources"])
                self._add(Operation.UPDATE, after, row["after_none_sources"])

    def _add(self, operation: Operation, values: Mapping[str, Any], nothing: Mapping[str, str]) -> None:
        if operation is Operation.DELETE and not self._tells:
            return
        if any(name.startswith("UNKNOWN_COL") for name in values):
            raise FatalError(
                "the log does not name the columns of its rows",
                where=self._table.where,
                hint="it was written before binlog_row_metadata was FULL: empty the target, and give the workflow another name",
            )
        row = [_NOTHING if nothing.get(name, _NULL) != _NULL else values.get(name) for name in self._plain.names]
        size = _ROW_BYTES + sum(len(each) for each in row if isinstance(each, str | bytes))
        self._buffer.add([*row, str(operation)] if self._tells else row, size)

    def _batch(self, rows: list[Row]) -> pa.RecordBatch:
        columns: list[pa.Array[Any]] = []
        failed: dict[int, str] = {}
        given = list(zip(*rows, strict=True)) or [()] * len(self.schema)
        for field, values in zip(self.schema, given, strict=True):
            packet = self._table.packets.get(field.name)
            texts = [_text(each, packet) for each in values]
            column, bad = decode([None if each is _NOTHING else each for each in texts], field.type)
            for at in (*bad, *(at for at, each in enumerate(texts) if each is _NOTHING)):
                failed.setdefault(at, f"column '{field.name}' has a value that {field.type} cannot hold exactly")
            columns.append(column)
        batch = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        for at, reason in sorted(failed.items()):
            texts = [None if each is None else "no date" if each is _NOTHING else str(each) for each in rows[at]]
            shown = [pa.array([each], pa.string()) for each in texts]
            row = pa.RecordBatch.from_arrays(shown, names=self.schema.names)
            self._rejected.append(Rejection(row, reason, "decode", ""))
        if failed:
            batch = batch.filter(pa.array([at not in failed for at in range(len(rows))], pa.bool_()))
        return batch


def _said(event: Any) -> str:
    return event.query.decode(errors="replace") if isinstance(event.query, bytes) else str(event.query)


def _inside(event: Any) -> bool:
    """Tells whether a statement neither ends a transaction nor is one of its own."""
    return isinstance(event, QueryEvent) and _said(event).upper().startswith(("BEGIN", "SAVEPOINT", "ROLLBACK TO"))


def _text(value: Any, packet: Any) -> Any:
    """Returns a value as the server would write it."""
    if value is None or value is _NOTHING or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        fixed = packet is not None and packet.type_code == _FIXED_BYTES
        return value.ljust(packet.length, b"\0") if fixed else value
    if isinstance(value, dt.datetime):
        return _NOTHING if packet.type_code == 7 and value == _EPOCH else value.isoformat(" ")
    if isinstance(value, dt.timedelta):
        seconds, micros = divmod(value // dt.timedelta(microseconds=1), 1_000_000)
        return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{micros:06d}"
    if packet is not None and packet.type_code == 13 and value == _ZERO_YEAR:
        return "0000"
    return format(value, "f") if isinstance(value, Decimal) else repr(value) if isinstance(value, float) else str(value)
