"""Writes an epoch's rows and the token in one MULTI, which a newer writer's fence makes fail; holds the rows until then."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import redis

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.changes import OPERATION, WHOLE, Operation
from dsl.contracts.connectors import BatchWriter, Committed, Token
from dsl.contracts.errors import FatalError, FencedError, SchemaError
from dsl.contracts.failpoints import Failpoint
from dsl.contracts.rows import Rejection, WriteStats
from dsl.contracts.state import State
from resources.formats.json_values import to_json, to_lines
from resources.redis.client import open_client, place_of, worded
from resources.redis.resource import EntryFormat, Store

if TYPE_CHECKING:
    from resources.redis.resource import RedisDestination

_FENCED = Failpoint("redis.fenced", "The stream belongs to this writer.")
_SENT = Failpoint("redis.checked", "The token is watched and is ours; the rows are not sent.")
_COMMITTED = Failpoint("redis.committed", "Rows and token have changed; nobody but the server knows.")


@dataclass(frozen=True)
class _Row:
    """What one row does: an entry, or what stands at its key afterwards, nothing if it is deleted."""

    key: str
    value: dict[str, str] | str | None


def open_writer(to: RedisDestination, schema: pa.Schema, token: Token) -> RedisWriter:
    """Fences the stream and reads its token.

    Raises:
        SchemaError: The rows lack a column of the key, or the target is something else.
        UnavailableError: The server cannot be reached.
    """
    where = place_of(to.connection, to.target)
    missing = [each for each in to.primary_key if each not in schema.names]
    if missing:
        raise SchemaError(
            f"column '{missing[0]}' is missing", where=where, hint=f"there are: {', '.join(schema.names[:10])}"
        )
    digest = hashlib.sha256(f"{token.key}\0{to.target}".encode()).hexdigest()[:24]
    name = f"headrace:token:{digest}"
    client = open_client(to.connection)
    try:
        with worded(where):
            _check_kind(client, to, where)
            with client.pipeline(transaction=True) as opening:
                opening.hset(name, mapping={"stream": token.key, "target": to.target})
                opening.hincrby(name, "fence", 1)
                opening.hmget(name, "epoch", "state")
                _, fence, (epoch, state) = opening.execute()
    except BaseException:
        client.close()
        raise
    _FENCED.reach()
    committed = None if epoch is None else Committed(int(epoch), json.loads(state))
    return RedisWriter(to, token, client, name, fence, committed)


def _check_kind(client: Any, to: RedisDestination, where: str) -> None:
    kind = client.type(to.target) if to.store is Store.STREAM else b"none"
    if kind not in {b"none", b"stream"}:
        raise SchemaError(f"it is a {kind.decode()}, not a stream", where=where, hint="choose another key")


class RedisWriter(BatchWriter):
    """One stream's writer.

    Args:
        to: Where.
        token: The stream.
        client: The connection, which the writer closes.
        name: The key of the token.
        fence: What it must still hold when an epoch commits.
        committed: The token as it stood when the stream was fenced.
    """

    def __init__(
        self, to: RedisDestination, token: Token, client: Any, name: str, fence: int, committed: Committed | None
    ) -> None:
        self._to, self._token, self._client, self._name = to, token, client, name
        self._fence, self._committed = fence, committed
        self._where = place_of(to.connection, to.target)
        self._rows: list[_Row] = []
        self._bytes = 0

    def get_state(self) -> Committed | None:
        return self._committed

    def write(self, rows: pa.RecordBatch) -> Sequence[Rejection]:
        plain = rows.select([each for each in rows.schema.names if each != OPERATION])
        told = rows.column(OPERATION).to_pylist() if OPERATION in rows.schema.names else [None] * rows.num_rows
        keys = self._keys(rows)
        refused = []
        for at, value in enumerate(self._values(plain)):
            reason = _fault(keys[at], told[at], value)
            if reason:
                code = "not_null" if keys[at] is None else "refused"
                refused.append(Rejection(rows.slice(at, 1), reason, code, ""))
            else:
                self._rows.append(_Row(str(keys[at]), None if told[at] == Operation.DELETE else value))
        self._bytes += plain.nbytes
        return refused

    def commit(self, epoch: int, state: State, *, final: bool = False) -> WriteStats:
        del final
        expected = 1 if self._committed is None else self._committed.epoch + 1
        if epoch != expected:
            raise FatalError(f"epoch {epoch} was to be committed, but {expected} is next", where=self._where)
        with worded(self._where), self._client.pipeline(transaction=True) as changes:
            changes.watch(self._name)
            self._check_fence(changes.hget(self._name, "fence"))
            _check_kind(changes, self._to, self._where)
            _SENT.reach()
            changes.multi()
            for each in self._rows:
                self._add(changes, each)
            held = {"epoch": epoch, "state": json.dumps(dict(state), allow_nan=False), "run": self._token.run_id}
            changes.hset(self._name, mapping=held)
            try:
                changes.execute()
            except redis.WatchError as error:
                raise FencedError("a newer run writes this stream", where=self._where) from error
        _COMMITTED.reach()
        stats = WriteStats(len(self._rows), self._bytes)
        self._rows, self._bytes = [], 0
        self._committed = Committed(epoch, dict(state))
        return stats

    def close(self) -> None:
        self._rows = []
        self._client.close()

    def _check_fence(self, held: bytes | None) -> None:
        if held is None:
            hint = "was the database emptied? stop, and reset the state to load it again"
            raise FatalError("the token is gone", where=self._where, hint=hint)
        if int(held) != self._fence:
            raise FencedError("a newer run writes this stream", where=self._where)

    def _add(self, changes: Any, row: _Row) -> None:
        if self._to.store is Store.STREAM:
            changes.xadd(self._to.target, row.value, maxlen=self._to.max_entries, approximate=True)
        elif row.value is None:
            changes.delete(row.key)
        elif isinstance(row.value, str):
            changes.set(row.key, row.value)
        else:
            changes.delete(row.key)
            changes.hset(row.key, mapping=row.value)

    def _values(self, rows: pa.RecordBatch) -> list[dict[str, str] | str]:
        if self._to.store is Store.STRING:
            return list(to_lines(rows))
        if self._to.store is Store.STREAM and self._to.format is EntryFormat.JSON:
            return [{self._to.value_field: each} for each in to_lines(rows)]
        found: list[dict[str, str]] = [{} for _ in range(rows.num_rows)]
        for name, column in zip(rows.schema.names, rows.columns, strict=True):
            for at, value in enumerate(to_json(column)):
                if value is not None:
                    found[at][name] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return list(found)

    def _keys(self, rows: pa.RecordBatch) -> list[str | None]:
        if self._to.write_mode is WriteMode.APPEND:
            return [self._to.target] * rows.num_rows
        parts = [to_json(rows.column(each)) for each in self._to.primary_key]
        return [self._key(each) for each in zip(*parts, strict=True)]

    def _key(self, parts: Sequence[Any]) -> str | None:
        if None in parts:
            return None
        if len(parts) == 1:
            name = parts[0] if isinstance(parts[0], str) else json.dumps(parts[0])
        else:
            name = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
        return f"{self._to.target}:{name}"


def _fault(key: str | None, operation: str | None, value: object) -> str:
    if operation in WHOLE:
        return f"keys cannot be told of '{operation}': which of them are rows is not kept"
    if key is None:
        return "its key is NULL"
    return "all its columns are NULL, and an entry holds at least one field" if value == {} else ""
