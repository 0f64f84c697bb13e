"""Turns the messages of a table's log into rows of changes, and holds them until they are enough; knows where a state may stand.

A value that the server did not send, because it is stored out of line and has not changed, is taken from the row before the change, where
the log holds that (REPLICA IDENTITY FULL), and else from the table as it is now: a later change of it is still to come in the log.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import resources.postgres.client  # isort: skip  # noqa: F401 - first, for it says how to get the driver
import psycopg
import pyarrow as pa

from dsl.contracts.changes import Operation, with_operation
from dsl.contracts.connectors import ReadRequest
from dsl.contracts.rows import Rejection
from resources.change_buffer import ChangeBuffer
from resources.postgres.pgoutput import (
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Insert,
    Message,
    Relation,
    Row,
    Truncate,
    Update,
)
from resources.postgres.slots import Watched, types_now
from resources.sql import quoted
from resources.sql_types import from_text

_ROW_BYTES: Final = 64
"""What a row takes beside its values, about."""
Texts = list[bytes | None]


class TableChangedError(Exception):
    """The log has come to a row whose columns are not those that the table had when the reader was opened."""


class Translator:
    """The rows of a table's log that are not passed on yet.

    Args:
        opened: A connection to ask for values that the log does not hold.
        table: The table.
        request: How large batches may be.
        tells: Whether deletions are told; else they are left out.
        place: Where the log is read from: transactions that were committed before are repeated, and left out.

    Attributes:
        place: The place in the log up to which every whole transaction was taken.
        inside: Whether a transaction is under way.
        buffer: The rows.
    """

    def __init__(
        self, opened: psycopg.Connection[Any], table: Watched, request: ReadRequest, *, tells: bool, place: int
    ) -> None:
        self._opened, self._table, self._tells = opened, table, tells
        self._schema = with_operation(table.schema) if tells else table.schema
        self._begin_at, self.place = place, place
        self.inside = False
        self._repeated = False
        self.buffer: ChangeBuffer[Texts] = ChangeBuffer(request, self._batch)
        self._rejected: list[Rejection] = []
        self._relation: Relation | None = None
        self._at: list[int | None] = []
        self._keys: list[int] = []

    def take(self, message: Message) -> None:
        """Takes one message.

        Raises:
            TableChangedError: The reader's columns cannot hold what comes; nothing of the transaction is kept.
        """
        if isinstance(message, Begin):
            self.inside, self._repeated = True, message.commit < self._begin_at
        elif isinstance(message, Commit):
            self.buffer.commit()
            self.inside, self.place = False, max(self.place, message.end)
        elif isinstance(message, Relation):
            if (message.schema, message.name) == (self._table.name.schema, self._table.name.name):
                self._describe(message)
        elif isinstance(message, Truncate):
            if self._relation is not None and self._relation.id in message.relations:
                self._add(Operation.TRUNCATE, [None] * len(self._table.schema))
        elif self._relation is not None and message.relation == self._relation.id:
            self._change(message)

    def alive(self, end: int) -> None:
        """Hears how far the server has read its log, without finding anything for us."""
        if not self.inside:
            self.place = max(self.place, end)

    def _describe(self, relation: Relation) -> None:
        """Finds the reader's columns in the log's rows, which are those of the table at that place in the log."""
        known, now = self._table.types, None
        for name, kind in zip(relation.columns, relation.types, strict=True):
            if known.get(name) == kind:
                continue
            now = types_now(self._opened, self._table.id) if now is None else now
            wanted = name in self._table.schema.names or (name not in known and name in now)
            if wanted and now.get(name) != known.get(name):
                self.buffer.drop()
                raise TableChangedError(f"column '{name}' was added or changed its type")
        for name in self._table.schema.names:
            if name not in relation.columns and name not in types_now(self._opened, self._table.id):
                self.buffer.drop()
                raise TableChangedError(f"column '{name}' was dropped")
        self._relation = relation
        places = {name: at for at, name in enumerate(relation.columns)}
        self._at = [places.get(name) for name in self._table.schema.names]
        self._keys = [places[name] for name in self._table.key if name in places]

    def _change(self, message: Insert | Update | Delete) -> None:
        if self._repeated:
            return
        if isinstance(message, Delete):
            self._add(Operation.DELETE, self._texts(message.old))
        elif isinstance(message, Insert):
            self._add(Operation.INSERT, self._texts(message.row))
        else:
            row = self._completed(message)
            if message.old is not None and any(message.old[each] != row[each] for each in self._keys):
                old = [value if at in self._keys else None for at, value in enumerate(message.old)]
                self._add(Operation.DELETE, self._texts(old))
            self._add(Operation.UPDATE, self._texts(row))

    def _texts(self, row: Row) -> Texts:
        found = [None if at is None else row[at] for at in self._at]
        return [each if isinstance(each, bytes) else None for each in found]

    def _completed(self, message: Update) -> Row:
        """Returns a row with the values that the server did not send."""
        gone = [at for at, value in enumerate(message.row) if value is UNCHANGED]
        if not gone:
            return message.row
        row, old = list(message.row), message.old or ()
        for at in gone:
            if at < len(old) and old[at] is not UNCHANGED and old[at] is not None:
                row[at] = old[at]
        missing = [at for at in gone if row[at] is UNCHANGED and at in self._at]
        for at, value in zip(missing, self._asked(row, missing), strict=True):
            row[at] = value
        return row

    def _asked(self, row: Row, missing: Sequence[int]) -> Sequence[bytes | None]:
        """Asks for values of a row as it is now; NULL where it is gone, which the log is still to tell."""
        relation = self._relation
        if not missing or relation is None or not self._keys:
            return [None] * len(missing)
        texts = ", ".join(f"{quoted(relation.columns[at])}::text" for at in missing)
        same = " AND ".join(f"{quoted(relation.columns[at])} = %s" for at in self._keys)
        keys = [value.decode() if isinstance(value := row[at], bytes) else None for at in self._keys]
        statement = f"SELECT {texts} FROM {self._table.name.quoted()} WHERE ".replace("%", "%%") + same
        found = self._opened.execute(statement.encode(), keys).fetchone()
        return [None] * len(missing) if found is None else [None if each is None else each.encode() for each in found]

    def _add(self, operation: Operation, texts: Texts) -> None:
        gone = operation in {Operation.DELETE, Operation.TRUNCATE}
        if self._repeated or (gone and not self._tells):
            return
        self.buffer.add([*texts, operation.encode()] if self._tells else texts, _size_of(texts))

    def rejections(self) -> Sequence[Rejection]:
        """Hands over the rows that could not be decoded since the last call."""
        taken, self._rejected = self._rejected, []
        return taken

    def _batch(self, rows: list[Texts]) -> pa.RecordBatch:
        columns: list[pa.Array[Any]] = []
        failed: dict[int, str] = {}
        values = list(zip(*rows, strict=True)) or [()] * len(self._schema)
        for field, given in zip(self._schema, values, strict=True):
            declared = self._table.fields[field.name][1] if field.name in self._table.fields else "text"
            column, bad = from_text(_readable(field, declared, given), field.type)
            for at in bad:
                failed.setdefault(at, f"column '{field.name}' has a value that {field.type} cannot hold exactly")
            columns.append(column)
        batch = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        for at, reason in sorted(failed.items()):
            texts = [pa.array([None if each is None else each.decode()], pa.string()) for each in rows[at]]
            row = pa.RecordBatch.from_arrays(texts, names=self._schema.names)
            self._rejected.append(Rejection(row, reason, "decode", ""))
        if failed:
            batch = batch.filter(pa.array([at not in failed for at in range(len(rows))], pa.bool_()))
        return batch


def _size_of(texts: Texts) -> int:
    return _ROW_BYTES + sum(len(each) for each in texts if each is not None)


def _readable(field: pa.Field[Any], declared: str, values: Sequence[bytes | None]) -> pa.Array[Any]:
    """Returns the log's texts of a column as a table's reader gets them."""
    if pa.types.is_list(field.type):
        return pa.array([None if each is None else json.dumps(elements(each.decode())) for each in values], pa.string())
    if declared == "money":
        return pa.array([None if each is None else each.decode().replace("$", "").replace(",", "") for each in values])
    return pa.array(values, pa.binary()).cast(pa.string())


def elements(text: str) -> list[Any]:
    """Returns the elements of an array's text, as texts; an array within it as a list.

    Source: PostgreSQL documentation, "Array Input and Output Syntax".
    """
    at = text.index("{") + 1
    stack: list[list[Any]] = [[]]
    while True:
        mark = text[at]
        if mark == "{":
            stack.append([])
            at += 1
        elif mark == "}":
            done = stack.pop()
            if not stack:
                return done
            stack[-1].append(done)
            at += 1
        elif mark == ",":
            at += 1
        else:
            element, at = _quoted_element(text, at + 1) if mark == '"' else _bare_element(text, at)
            stack[-1].append(element)


def _quoted_element(text: str, at: int) -> tuple[str, int]:
    made: list[str] = []
    while text[at] != '"':
        at += text[at] == "\\"
        made.append(text[at])
        at += 1
    return "".join(made), at + 1


def _bare_element(text: str, at: int) -> tuple[str | None, int]:
    end = at
    while text[end] not in ",}":
        end += 1
    word = text[at:end]
    return None if word == "NULL" else word, end
