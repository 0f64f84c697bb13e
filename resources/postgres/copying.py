"""Runs COPY (…) TO STDOUT and yields its rows in chunks, in binary form where the compiled half is there; writes nothing."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import resources.postgres.client  # isort: skip  # noqa: F401 - first, for it says how to get the driver
import psycopg
import pyarrow as pa
from psycopg import pq

from dsl.contracts.connectors import ReadRequest
from dsl.contracts.rows import Rejection
from resources.postgres.binary import Kind, Outcome, Rows, Wire, library
from resources.postgres.decode import decode, last_texts
from resources.postgres.texts import fields_of, text_at, text_of_value
from resources.postgres.types import expression
from resources.postgres.wires import arriving, text_of
from resources.sql_reader import Chunk
from resources.sql_types import from_text

_LIBPQ = re.compile(r"/\S+/libpq[-.]\S*")
_TOLD = {Kind.INT2, Kind.INT4, Kind.INT8, Kind.OID, Kind.TEXT, Kind.UUID}
"""Forms whose value says the server's text."""


@dataclass(frozen=True)
class Column:
    """What is read of a column.

    Attributes:
        field: Its Arrow field.
        name: Its name, quoted.
        declared: The server's words for its type.
    """

    field: pa.Field[Any]
    name: str
    declared: str


@dataclass(frozen=True)
class Copying:
    """One COPY.

    Attributes:
        columns: What is read.
        order: The columns whose texts the first and last row of a chunk tell.
        tail: What follows the list of columns, from ` FROM` on.
        parameters: Its parameters.
    """

    columns: tuple[Column, ...]
    order: tuple[Column, ...]
    tail: str
    parameters: Sequence[Any]

    def chunks(self, opened: psycopg.Connection[Any], request: ReadRequest) -> Iterator[Chunk]:
        """Yields the rows; raises what the driver raises, and `RetryableError` where the server sends something else."""
        calls = _calls() if opened.pgconn.parameter_status(b"server_encoding") != b"SQL_ASCII" else None
        yield from self._texts(opened, request) if calls is None else self._binary(opened, request, calls)

    # ---- as text --------------------------------------------------------------------------------

    def _texts(self, opened: psycopg.Connection[Any], request: ReadRequest) -> Iterator[Chunk]:
        selected = [expression(each.field, each.name, each.declared) for each in self.columns]
        hidden = [each.name for each in self.order if each.name not in selected]
        fields = [*(each.field for each in self.columns), *(pa.field(f"\0{each}", pa.string()) for each in hidden)]
        places = [[*selected, *hidden].index(each.name) for each in self.order]
        lines: list[bytes] = []
        size = 0
        with opened.cursor() as cursor, self._started(cursor, [*selected, *hidden], "csv") as copy:
            for line in copy:
                lines.append(bytes(line))
                size += len(line)
                if len(lines) >= request.batch_rows or size >= request.batch_bytes:
                    yield self._decoded(pa.schema(fields), lines, size, places)
                    lines, size = [], 0
        if lines:
            yield self._decoded(pa.schema(fields), lines, size, places)

    def _decoded(self, schema: pa.Schema, lines: list[bytes], size: int, places: Sequence[int]) -> Chunk:
        rows, rejections = decode(schema, b"".join(lines), len(lines))
        asked = rows.select(range(len(self.columns)))
        first, last = last_texts(lines[0], places), last_texts(lines[-1], places)
        return Chunk(asked, len(lines), size, first, last, rejections)

    # ---- in binary form -------------------------------------------------------------------------

    def _binary(self, opened: psycopg.Connection[Any], request: ReadRequest, calls: Sequence[Any]) -> Iterator[Chunk]:
        read = [arriving(each.field, each.name, each.declared) for each in self.columns]
        wires, selected = [each for each, _ in read], [each for _, each in read]
        places = self._places(wires, selected)
        with opened.cursor() as cursor, self._started(cursor, selected, "binary"):
            outcome, began = Outcome.FULL, False
            while outcome is not Outcome.ENDED:
                rows = Rows(wires, request.batch_rows, request.batch_bytes, began=began)
                outcome = _fill(rows, opened, calls)
                began = True
                if rows.count:
                    yield self._wrapped(rows, wires, places)

    def _wrapped(self, rows: Rows, wires: Sequence[Wire], places: Sequence[int]) -> Chunk:
        count = len(self.columns)
        sent = rows.arrays()
        first, last = (tuple(str(sent[each][at].as_py()) for each in places) for at in (0, rows.count - 1))
        faults = {(row, place): place for row, place in rows.faults()}
        columns = []
        for place, (each, array) in enumerate(zip(self.columns, sent, strict=False)):
            column = array
            if array.type != each.field.type:
                column, bad = from_text(array, each.field.type)
                faults |= {(row, place): place for row in bad}
            columns.append(column)
        schema = pa.schema([each.field for each in self.columns])
        batch = pa.RecordBatch.from_arrays(columns, schema=schema)
        if not faults:
            return Chunk(batch, rows.count, rows.size, first, last)
        rejections = _rejected(batch.schema, rows, wires[:count], sent[:count], sorted(faults))
        keep = pa.array([row not in rejections for row in range(rows.count)], pa.bool_())
        return Chunk(batch.filter(keep), rows.count, rows.size, first, last, tuple(rejections.values()))

    def _places(self, wires: list[Wire], selected: list[str]) -> list[int]:
        """Returns where the texts of the order's columns are found, adding columns for those that no other one tells."""
        found = []
        for each in self.order:
            place = selected.index(each.name) if each.name in selected else -1
            if place < 0 or wires[place].kind not in _TOLD:
                place = len(wires)
                wires.append(Wire(Kind.TEXT, pa.string()))
                selected.append(text_of(each.name))
            found.append(place)
        return found

    def _started(
        self, cursor: psycopg.Cursor[Any], selected: Sequence[str], form: str
    ) -> AbstractContextManager[psycopg.Copy]:
        command = f"COPY (SELECT {', '.join(selected)}{self.tail}) TO STDOUT (FORMAT {form})"
        if not self.parameters:  # then the driver takes a percent sign for what it is
            return cursor.copy(command.replace("%%", "%").encode())
        return cursor.copy(command.encode(), tuple(self.parameters))


def _rejected(
    schema: pa.Schema,
    rows: Rows,
    wires: Sequence[Wire],
    sent: Sequence[pa.Array[Any]],
    faults: Sequence[tuple[int, int]],
) -> dict[int, Rejection]:
    """Returns each row that could not be read as its texts, by its place."""
    raw = dict(zip(dict.fromkeys(row for row, _ in rows.faults()), rows.raw(), strict=True))
    texts = pa.schema([pa.field(each.name, pa.string()) for each in schema])
    found: dict[int, Rejection] = {}
    for row, place in faults:
        if row in found:
            continue
        said = [text_at(each, row) for each in sent]
        if row in raw:
            fields = list(fields_of(raw[row]))
            for at in [at for faulty, at in rows.faults() if faulty == row]:
                said[at] = text_of_value(wires[at].kind, fields[at] or b"")
        values = pa.RecordBatch.from_arrays([pa.array([each], pa.string()) for each in said], schema=texts)
        reason = f"column '{schema.names[place]}' has a value that {schema.types[place]} cannot hold exactly"
        found[row] = Rejection(values, reason, "decode", "")
    return found


def _fill(rows: Rows, opened: psycopg.Connection[Any], calls: Sequence[Any]) -> Outcome:
    connection = opened.pgconn
    outcome = Outcome.WAITING
    while outcome is Outcome.WAITING:
        outcome = rows.fill(getattr(connection, "pgconn_ptr", None) or 0, connection.socket, calls)
    if outcome is Outcome.BROKEN:
        raise psycopg.OperationalError(connection.get_error_message())
    if outcome is Outcome.ENDED:
        while (result := connection.get_result()) is not None:
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise psycopg.errors.error_from_result(result)
    return outcome


@cache
def _calls() -> Sequence[Any] | None:
    """Returns what the compiled half calls of the libpq that the driver loaded; None where either cannot be had."""
    maps = Path("/proc/self/maps")
    if library() is None or not maps.exists():
        return None
    paths = dict.fromkeys(_LIBPQ.findall(maps.read_text(encoding="utf-8", errors="replace")))
    for path in sorted(paths, key=lambda each: "psycopg_" not in each):
        found = ctypes.CDLL(path)
        if "psycopg2" not in path and found.PQlibVersion() == pq.version():
            calls = (found.PQgetCopyData, found.PQconsumeInput, found.PQfreemem)
            return [ctypes.cast(each, ctypes.c_void_p) for each in calls]
    return None
