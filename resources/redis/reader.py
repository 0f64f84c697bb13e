"""Reads a stream of Redis from the id of its state on; removes and acknowledges nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dsl.contracts.capabilities import SyncMode
from dsl.contracts.connectors import BatchReader, ReadRequest
from dsl.contracts.errors import RegressionError, SchemaError
from dsl.contracts.rows import Batch, Rejection
from dsl.contracts.state import Json, State, advance, is_complete
from resources.formats.columns import Wanted
from resources.queue_values import (
    SAMPLED,
    FieldsDecoder,
    Layout,
    Message,
    PlainDecoder,
    ValueFormat,
    chosen,
    columns_of,
    declared_values,
    value_schema,
)
from resources.redis.client import open_client, place_of, worded
from resources.redis.resource import FACTS, EntryFormat, OnLost

if TYPE_CHECKING:
    from resources.redis.resource import RedisSource

BEAT_MILLISECONDS = 500
AT_ONCE = 1000
COUNTED = 10_000
_FIRST = "0-0"
_LOST: dict[str, pa.DataType] = {"stream": pa.string(), "after": pa.string(), "entries": pa.int64()}
_LOST_SCHEMA = pa.schema(_LOST)


def discover_schema(source: RedisSource) -> pa.Schema:
    """Returns the columns that a source will yield: those declared, or those of the first entries.

    Raises:
        SchemaError: There is no such stream, or nothing tells its columns.
        UnavailableError: The server cannot be reached.
    """
    where = place_of(source.connection, source.stream)
    with worded(where), open_client(source.connection) as client:
        return _columns(source, client, where)[1]


def backlog(source: RedisSource, state: State | None) -> int:
    """Returns how many entries wait behind a state, up to a bound."""
    where = place_of(source.connection, source.stream)
    at = _FIRST if is_complete(state) else str((state or {}).get("id", _FIRST))
    with worded(where), open_client(source.connection) as client:
        return len(client.xrange(source.stream, f"({at}", "+", count=COUNTED))


class RedisReader(BatchReader):
    """The entries of a stream.

    Args:
        source: What to read.
        request: What the plan wants of it.
        state: Where to go on, or None.
    """

    def __init__(self, source: RedisSource, request: ReadRequest, state: State | None) -> None:
        self._source, self._request, self._state = source, request, state
        self._where = place_of(source.connection, source.stream)
        self._rejected: list[Rejection] = []
        self._client = open_client(source.connection)
        try:
            with worded(self._where):
                value, whole = _columns(source, self._client, self._where)
                self._schema = chosen(whole, request.columns, self._where)
                self._layout = _layout(source, value, self._schema, self._where)
                self._begin()
        except BaseException:
            self.close()
            raise

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    def __iter__(self) -> Iterator[Batch]:
        if self._rejected:
            yield self._batch([])
        while True:
            entries = self._next()
            if entries or self._request.follow:
                yield self._batch(entries)
            if not entries and not self._request.follow:
                break
        # All that was added up to the end is read, or was removed by somebody.
        self._added = self._ends_added
        full = self._source.sync_mode is SyncMode.FULL_REFRESH
        yield self._batch([], **({"complete": True} if full else {}))

    def rejections(self) -> Sequence[Rejection]:
        found, self._rejected = self._rejected, []
        return found

    def close(self) -> None:
        self._client.close()

    def _begin(self) -> None:
        facts = _facts(self._client, self._source.stream, self._where)
        self._end, self._ends_added = facts["last-generated-id"].decode(), facts.get("entries-added", -1)
        held = self._state or {}
        self._at, added = str(held.get("id", _FIRST)), held.get("added")
        self._added = added if isinstance(added, int) else self._ends_added - facts["length"]
        if "id" in held:
            self._check_kept(facts)

    def _check_kept(self, facts: dict[str, Any]) -> None:
        """Makes sure that nothing behind the state was removed.

        Raises:
            RegressionError: Something was, or may have been; or it is another stream.
        """
        if _number(self._end) < _number(self._at):
            hint = "was the stream made anew? reset the state to read it from its beginning"
            said = f"the stream ends at {self._end}, before {self._at}"
            raise RegressionError(said, where=self._where, hint=hint)
        # Trimming begins with the oldest: while the last entry that was read is there, no later one was trimmed.
        if self._client.xrange(self._source.stream, self._at, self._at, count=1):
            return
        counts = self._ends_added >= 0
        lost = self._ends_added - self._added - facts["length"] if counts else -1
        if self._at == self._end or (counts and lost <= 0):
            return
        many = f"{lost} entries" if lost > 0 else "some entries, it cannot be told how many,"
        said = f"{many} after {self._at} were removed before they were read"
        if self._source.on_lost is OnLost.FAIL:
            hint = "trim less; on_lost: reject notes the loss and goes on"
            raise RegressionError(said, where=self._where, hint=hint)
        row = {"stream": self._source.stream, "after": self._at, "entries": lost if lost > 0 else None}
        self._rejected.append(Rejection(pa.RecordBatch.from_pylist([row], _LOST_SCHEMA), said, "lost", ""))
        self._added = self._ends_added - facts["length"]

    def _next(self) -> list[Message]:
        """Returns messages for one batch; none at the end, or where nothing came for a beat."""
        found: list[Message] = []
        size = 0
        with worded(self._where):
            while len(found) < self._request.batch_rows and size < self._request.batch_bytes:
                got = self._entries(min(AT_ONCE, self._request.batch_rows - len(found)), wait=not found)
                if not got:
                    break
                for name, fields in got:
                    self._at = name.decode()
                    message = self._message(fields or {})
                    size += len(message.value or b"")
                    found.append(message)
        return found

    def _entries(self, count: int, *, wait: bool) -> list[Any]:
        if not self._request.follow:
            return list(self._client.xrange(self._source.stream, f"({self._at}", self._end, count=count))
        block = BEAT_MILLISECONDS if wait else None
        got = self._client.xread({self._source.stream: self._at}, count=count, block=block)
        return list(got[0][1]) if got else []

    def _message(self, fields: dict[bytes, bytes]) -> Message:
        at = int(self._at.partition("-")[0])
        facts: dict[str, Any] = {"id": self._at}
        if "timestamp" in self._layout.facts.values():
            facts["timestamp"] = datetime.fromtimestamp(at / 1000, UTC)
        if self._source.format is EntryFormat.JSON:
            value = fields.get(self._source.value_field.encode())
            if value is None:
                return Message(_text(fields), facts, f"it has no field '{self._source.value_field}'")
            return Message(value, facts)
        try:
            named = {name.decode(): each.decode() for name, each in fields.items()}
        except UnicodeDecodeError:
            return Message(_text(fields), facts, "it is not UTF-8")
        return Message(json.dumps(named).encode(), facts)

    def _batch(self, messages: Sequence[Message], **fields: Json) -> Batch:
        rows, rejected = self._layout.rows(messages)
        self._rejected += rejected
        self._added += len(messages)
        self._state = advance(self._state, rows.num_rows, rows.nbytes, id=self._at, added=self._added, **fields)
        return Batch(rows, self._state)


def _number(name: str) -> tuple[int, int]:
    milliseconds, _, order = name.partition("-")
    return int(milliseconds), int(order or 0)


def _text(fields: dict[bytes, bytes]) -> bytes:
    """Returns an entry that cannot be read, for its rejection: bytes that are no text with backslashes."""
    shown = {
        name.decode(errors="backslashreplace"): each.decode(errors="backslashreplace") for name, each in fields.items()
    }
    return json.dumps(shown).encode()


def _facts(client: Any, stream: str, where: str) -> dict[str, Any]:
    kind = client.type(stream)
    if kind != b"stream":
        said = "there is no such stream" if kind == b"none" else f"it is a {kind.decode()}, not a stream"
        raise SchemaError(said, where=where, hint="check its name")
    found: dict[str, Any] = client.xinfo_stream(stream)
    return found


def _layout(source: RedisSource, value: pa.Schema, schema: pa.Schema, where: str) -> Layout:
    facts = {column: fact for column, fact in source.metadata.items() if column in schema.names}
    read = pa.schema([each for each in schema if each.name not in facts])
    wanted = Wanted(read, tuple(value.names), strict=source.declared is None)
    if source.format is EntryFormat.JSON:
        return Layout(PlainDecoder(ValueFormat.JSON, wanted), schema, facts, ("id",))
    return Layout(FieldsDecoder(wanted, where), schema, facts, ("id",))


def _columns(source: RedisSource, client: Any, where: str) -> tuple[pa.Schema, pa.Schema]:
    """Returns the columns of the entries, and all."""
    declared = declared_values(source.declared, source.metadata)
    if declared is None:
        _facts(client, source.stream, where)
        entries = [fields for _, fields in client.xrange(source.stream, count=SAMPLED)]
        if source.format is EntryFormat.JSON:
            name = source.value_field.encode()
            value = value_schema(ValueFormat.JSON, None, [each[name] for each in entries if name in each], where)
        else:
            value = _fields(entries, where)
    else:
        value = declared
    return value, columns_of(value, source.metadata, FACTS, source.declared)


def _fields(entries: Sequence[dict[bytes, bytes]], where: str) -> pa.Schema:
    names = list(dict.fromkeys(name.decode(errors="backslashreplace") for each in entries for name in each))
    if not names:
        raise SchemaError("the stream is empty", where=where, hint="declare `schema`")
    return pa.schema([pa.field(each, pa.string()) for each in names])
