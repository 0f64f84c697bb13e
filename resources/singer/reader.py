"""A tap's messages as batches: a state stands only where the tap said one; writes nothing but the tap's own temporary files."""

from __future__ import annotations

import decimal
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from dsl.contracts.capabilities import SyncMode
from dsl.contracts.connectors import BatchReader, ReadRequest
from dsl.contracts.errors import FatalError, SchemaError
from dsl.contracts.rows import Batch, Rejection
from dsl.contracts.state import Json, State, advance, is_complete
from resources.singer.catalog import catalog_of, chosen, first_schema, name_of, schema_in, selecting, start
from resources.singer.process import TapFolder, TapProcess
from resources.singer.schemas import Record, Records, columns_of
from resources.sql import suggestion

if TYPE_CHECKING:
    from resources.singer.resource import SingerSource

LARGEST_STATE: Final = 64 * 2**10
_PASSED_OVER: Final = frozenset({"ACTIVATE_VERSION"})


@dataclass(frozen=True)
class Planned:
    """What is known of a stream before it is read.

    Attributes:
        columns: Its columns.
        schema: Its JSON Schema, as far as it is known.
        name: What the tap's messages call it.
        catalog: What the tap is given to select it, or None.
    """

    columns: pa.Schema
    schema: dict[str, Any]
    name: str
    catalog: dict[str, Any] | None


def planned(source: SingerSource) -> Planned:
    """Asks the tap for the stream.

    Raises:
        SchemaError: There is no such stream, or it does not say what is in it.
        RetryableError: The tap failed.
    """
    connection, where = source.connection, place_of(source)
    if not connection.discover_streams:
        schema = {} if source.declared is not None else first_schema(connection, source.stream)
        return Planned(source.declared or columns_of(schema, where), schema, source.stream, None)
    entry = chosen(catalog_of(connection), source.stream, connection.place)
    schema = schema_in(entry)
    return Planned(source.declared or columns_of(schema, where), schema, name_of(entry), selecting(entry))


def place_of(source: SingerSource) -> str:
    """Returns how errors name the stream."""
    return f"{source.connection.place}: stream '{source.stream}'"


class SingerReader(BatchReader):
    """Reads one stream.

    Args:
        source: Which.
        request: What the plan wants.
        state: Where to resume.
    """

    def __init__(self, source: SingerSource, request: ReadRequest, state: State | None) -> None:
        self._request, self._where = request, place_of(source)
        self._full = source.sync_mode is SyncMode.FULL_REFRESH
        self._state: State | None = None if is_complete(state) else state
        self._singer: Json = (self._state or {}).get("singer")
        self._rejected: list[Rejection] = []
        self._waiting: list[Record] = []
        self._size = self._marked = 0  # bytes that wait, and how many records of them a STATE has followed
        plan = planned(source)
        self._whole, self._name = plan.columns, plan.name
        self._schema = _wanted(plan.columns, request.columns, self._where)
        self._records = Records(self._schema, frozenset(plan.columns.names), loose=source.declared is not None)
        self._records.hold_to(plan.schema)
        self._folder = TapFolder()
        try:
            self._process: TapProcess = start(source.connection, self._folder, *self._arguments(plan))
        except BaseException:
            self._folder.close()
            raise

    def _arguments(self, plan: Planned) -> list[str]:
        found = [] if plan.catalog is None else ["--catalog", self._folder.put("catalog.json", plan.catalog)]
        return found if self._singer is None else [*found, "--state", self._folder.put("state.json", self._singer)]

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    def rejections(self) -> Sequence[Rejection]:
        found, self._rejected = self._rejected, []
        return found

    def close(self) -> None:
        self._process.stop()
        self._folder.close()

    def __iter__(self) -> Iterator[Batch]:
        for number, line in enumerate(self._process.lines(), 1):
            found = self._taken(number, line) if line.strip() else None
            if found is None:
                continue
            # Only now that another one has come: a STATE may have followed the last.
            if self._waiting and self._is_full():
                yield self._cut()
            self._waiting.append(found)
            self._size += found.size
        if len(self._waiting) > self._marked > 0:
            yield self._cut()
        # The tap ended well: what it said of its state last holds for all that came.
        yield self._batch(len(self._waiting), {"complete": True} if self._full else {})

    def _is_full(self) -> bool:
        return len(self._waiting) >= self._request.batch_rows or self._size >= self._request.batch_bytes

    def _taken(self, number: int, line: bytes) -> Record | None:
        """Returns the record in a message, or None where there is none of this stream."""
        try:
            message = json.loads(line, parse_float=decimal.Decimal, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            return _unreadable(number, line, f"it is not JSON: {error}")
        kind = message.get("type") if isinstance(message, dict) else None
        if kind == "RECORD":
            mine = message.get("stream") == self._name
            return Record(number, message.get("record"), len(line)) if mine else None
        if kind == "STATE":
            self._mark(message.get("value"))
        elif kind == "SCHEMA":
            self._check(message)
        elif kind == "BATCH":
            hint = "turn its `batch_config` off"
            raise FatalError("it sends records in files (BATCH), which are not read", where=self._where, hint=hint)
        elif kind not in _PASSED_OVER:
            return _unreadable(number, line, f"it is no message of Singer: its type is {kind!r}")
        return None

    def _mark(self, value: Any) -> None:
        try:
            text = json.dumps(value, default=float, allow_nan=False)
        except ValueError as error:
            raise FatalError(f"its STATE is no JSON: {error}", where=self._where) from error
        if len(text) > LARGEST_STATE:
            told = f"its STATE has {len(text)} bytes, more than {LARGEST_STATE}"
            raise FatalError(told, where=self._where, hint="does it keep every id there? then it cannot be read so")
        self._singer, self._marked = json.loads(text), len(self._waiting)

    def _check(self, message: Mapping[str, Any]) -> None:
        """Holds a SCHEMA message against the columns that were planned.

        Raises:
            SchemaError: A column is of another type now.
        """
        if message.get("stream") != self._name:
            return
        schema = schema_in(dict(message))
        self._records.hold_to(schema)
        if self._records.loose or not schema.get("properties"):
            return
        for each in columns_of(schema, self._where):
            if each.name in self._whole.names and not self._whole.field(each.name).type.equals(each.type):
                before = self._whole.field(each.name).type
                told = f"column '{each.name}' was {before} and is {each.type} now"
                raise SchemaError(told, where=self._where, hint="run again, or declare `schema`")

    def _cut(self) -> Batch:
        """Takes what waits up to the last STATE, with it; or all of it without one."""
        return self._batch(self._marked, {}) if self._marked else self._batch(len(self._waiting), None)

    def _batch(self, count: int, facts: Mapping[str, Json] | None) -> Batch:
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        self._size = sum(each.size for each in self._waiting)
        self._marked = 0
        rows, rejected = self._records.of(taken)
        self._rejected += rejected
        place: dict[str, Json] = {} if facts is None or self._singer is None else {"singer": self._singer}
        self._state = advance(self._state, count, rows.nbytes, **place, **(facts or {}))
        return Batch(rows, None if facts is None else self._state)


def _wanted(schema: pa.Schema, columns: Sequence[str] | None, where: str) -> pa.Schema:
    missing = [each for each in columns or () if each not in schema.names]
    if missing:
        raise SchemaError(f"column '{missing[0]}' is gone", where=where, hint=suggestion(missing[0], schema.names))
    return schema if columns is None else pa.schema([schema.field(each) for each in columns])


def _unreadable(number: int, line: bytes, fault: str) -> Record:
    return Record(number, None, len(line), line.decode(errors="replace"), fault)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
