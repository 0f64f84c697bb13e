"""How rows of a SQL table are read so that a state resumes after any batch: keyset passes; executes no SQL itself.

A full refresh of a table with a key is one pass in the key's order. An incremental read is a pass over a closed window
of its incremental column, in the order (column, key), whose upper bound the system guarantees: no row below it can
appear any more. The next run begins at the last value that was delivered, whose keys are remembered, so that even rows
that a program dates back are read as long as they are newer than that; without a key it begins where the window ended.
Rows whose column is NULL are refused, or read once in a pass of their own.

States: full refresh `{"key": [...]}`, then `{"complete": true}`. Incremental `{"low", "low_inclusive", "high",
"inclusive", "cursor", "key", "nulls", "seen"}`; `high` is null between windows. Values are texts as the server writes
them, and are compared only in the server.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from dsl.contracts.connectors import Batch, BatchReader, ReadRequest
from dsl.contracts.errors import FatalError
from dsl.contracts.rows import Rejection
from dsl.contracts.state import Json, State, advance, is_complete
from resources.sql import NullCursor

SEEN_LIMIT = 10_000
"""Keys that a state remembers where rows would be lost or doubled without them."""
REMEMBERED = 1_000
"""Keys that it remembers for the sake of rows that a program dates back."""
_COMPLETE: Mapping[str, Json] = {"complete": True, "key": None}
_NOTHING: Mapping[str, Json] = {"low": None, "high": None}


@dataclass(frozen=True)
class Chunk:
    """Rows as they were read.

    Attributes:
        rows: Those that could be decoded, with the columns that were asked for.
        count: How many were read, the rejected ones included.
        size: Their bytes.
        first: Texts of the pass's order columns in the first row.
        last: The same of the last row.
        rejections: Those that could not be decoded.
    """

    rows: pa.RecordBatch
    count: int
    size: int
    first: tuple[str, ...]
    last: tuple[str, ...]
    rejections: tuple[Rejection, ...] = ()


@dataclass(frozen=True)
class Pass:
    """One ordered scan.

    Attributes:
        condition: What follows WHERE, or "".
        parameters: Its parameters, in order.
        order: The columns to order by.
        tracked: Names of the state's fields that take the order columns of the last row; () when the pass may not be cut.
        unique: Whether the order has no ties.
        open_end: A value whose rows may still be joined by others, so that no state may stand among them; None for none.
        fields: The state's fields from the pass's beginning on.
        done: Returns the state's fields once it has delivered its last row.
    """

    condition: str
    parameters: tuple[Any, ...]
    order: tuple[str, ...]
    tracked: bool
    unique: bool
    open_end: str | None = None
    fields: Mapping[str, Json] = field(default_factory=dict)
    done: Callable[[], Mapping[str, Json]] = dict


@dataclass(frozen=True)
class Bound:
    """The upper end of a window.

    Attributes:
        text: The value, or None when there is nothing to read.
        inclusive: Whether rows that equal it belong to the window.
        ties: Whether further rows equal to it may still appear (their keys are remembered).
    """

    text: str | None
    inclusive: bool = False
    ties: bool = False


class Scanner(ABC):
    """An open, consistent view of one table or query, in the words that the shared reader needs."""

    schema: pa.Schema
    where: str

    @abstractmethod
    def quoted(self, column: str) -> str:
        """Returns a column's name as it stands in a statement."""

    @abstractmethod
    def placeholder(self, column: str) -> str:
        """Returns the place of a parameter that is compared with a column (`?`, `CAST(? AS BIGINT)`)."""

    def parameter(self, column: str, text: str) -> Any:
        """Returns what the driver takes for a text of the state."""
        del column
        return text

    @abstractmethod
    def scan(self, scan: Pass, limit: int | None) -> Iterator[Chunk]:
        """Reads a pass in order, in chunks of the size that was asked for."""

    @abstractmethod
    def count(self, condition: str) -> int:
        """Counts the rows that meet a condition."""

    @abstractmethod
    def keys(self, condition: str, parameters: Sequence[Any], key: Sequence[str]) -> list[list[str]]:
        """Returns the keys of the rows that meet a condition, as texts; at most `SEEN_LIMIT` + 1."""

    @abstractmethod
    def bound(self) -> Bound:
        """Returns the upper end of the window to read now."""

    def excluding(self, key: Sequence[str], known: Sequence[Sequence[str]]) -> tuple[str, list[Any]]:
        """Returns the condition that a row's key is none of some, and its parameters; at most `SEEN_LIMIT` are known."""
        one = " AND ".join(f"{self.quoted(each)} = {self.placeholder(each)}" for each in key)
        parameters = [self.parameter(name, text) for row in known for name, text in zip(key, row, strict=True)]
        return " AND ".join(f"NOT ({one})" for _ in known) or "1 = 1", parameters

    def beyond(self, names: Sequence[str], places: Sequence[str], values: Sequence[Any]) -> tuple[str, tuple[Any, ...]]:
        """Returns the condition that a row stands after another in the order of several columns, and its parameters."""
        return f"({', '.join(names)}) > ({', '.join(places)})", tuple(values)

    def not_after(self, column: str, low: str, high: str) -> bool:
        """Tells whether a window of a column from `low` to `high` can hold anything; the bound never goes back."""
        del column
        try:
            return Decimal(low) <= Decimal(high)
        except InvalidOperation:
            return low <= high

    def settle(self) -> None:  # noqa: B027 - most views last as long as their connection
        """Hears that a pass and its state are complete: what is asked next may be seen in a newer view."""

    @abstractmethod
    def close(self) -> None:
        """Closes the view and its connection; safe to call twice."""


@dataclass(frozen=True)
class Incremental:
    """How a table is read incrementally.

    Attributes:
        column: The incremental column.
        key: The columns that break ties, () if there are none.
        nulls: What happens to rows without a value in it.
        initial: The first value to read, or None for all.
    """

    column: str
    key: tuple[str, ...]
    nulls: NullCursor = NullCursor.REFUSE
    initial: str | None = None


@dataclass(frozen=True)
class Range:
    """A part of a table.

    Attributes:
        column: The first column of its key.
        after: The rows have a value behind this one; None from the first row on.
        end: They have a value up to this one; None to the last row.
    """

    column: str
    after: str | None
    end: str | None


@dataclass(frozen=True)
class _Start:
    """The lower end of a window.

    Attributes:
        low: The value, or None for the beginning.
        inclusive: Whether rows that equal it belong to the window.
        seen: The keys of rows that equal it and have been delivered.
    """

    low: str | None
    inclusive: bool
    seen: list[list[str]]


class SqlReader(BatchReader):
    """Reads the passes that a state leaves to do.

    Args:
        scanner: The open view; the reader closes it.
        request: What the plan wants.
        state: Where to resume.
        key: The key's columns, for a full refresh that can be resumed.
        incremental: How to read incrementally, or None.
        within: Of a full refresh only the rows behind the first value of a column, up to the second one; None for no bound.
    """

    def __init__(
        self,
        scanner: Scanner,
        request: ReadRequest,
        state: State | None,
        *,
        key: tuple[str, ...] = (),
        incremental: Incremental | None = None,
        within: Range | None = None,
    ) -> None:
        self._within = within
        self._scanner, self._limit = scanner, request.limit
        self._state = None if is_complete(state) else state
        self._key, self._incremental = key, incremental
        if self._limit is not None and incremental is None:
            read = (self._state or {}).get("records_read")
            self._limit = max(0, self._limit - (read if isinstance(read, int) else 0))
        self._last: str | None = None
        self._rejected: list[Rejection] = []

    @property
    def schema(self) -> pa.Schema:
        return self._scanner.schema

    def rejections(self) -> Sequence[Rejection]:
        taken, self._rejected = self._rejected, []
        return taken

    def close(self) -> None:
        self._scanner.close()

    def __iter__(self) -> Iterator[Batch]:
        passes = self._full() if self._incremental is None else self._windows(self._incremental)
        for each in passes:
            yield from self._run(each)
            if self._limit == 0 and self._incremental is not None:
                return
            self._state = advance(self._state, 0, 0, **{**each.fields, **each.done()})
            self._scanner.settle()
            yield Batch(pa.RecordBatch.from_pylist([], schema=self.schema), self._state)

    def _run(self, scan: Pass) -> Iterator[Batch]:
        """Yields a pass's batches; a batch whose last row ties with the next one carries no state."""
        waiting: Chunk | None = None
        self._last = _text((self._state or {}).get("cursor"))
        for chunk in self._scanner.scan(scan, self._limit):
            if self._limit is not None:
                self._limit = max(0, self._limit - chunk.count)
            if waiting is not None:
                yield self._batch(scan, waiting, cut=waiting.last != chunk.first)
                waiting = None
            if scan.unique or not scan.tracked:
                yield self._batch(scan, chunk, cut=scan.tracked)
            else:
                waiting = chunk
        if waiting is not None:
            yield self._batch(scan, waiting, cut=self._limit != 0)

    def _batch(self, scan: Pass, chunk: Chunk, *, cut: bool) -> Batch:
        self._rejected.extend(chunk.rejections)
        self._state = advance(self._state, chunk.count, chunk.size)
        if self._incremental is not None and scan.tracked:
            self._last = chunk.last[0]
        if not cut or (scan.open_end is not None and chunk.last[0] == scan.open_end):
            return Batch(chunk.rows, None)
        last: list[Json] = list(chunk.last)
        if self._incremental is None:
            reached: dict[str, Json] = {"key": last}
        else:
            reached = {"cursor": last[0], "key": last[1:]}
        self._state = advance(self._state, 0, 0, **{**scan.fields, **reached})
        return Batch(chunk.rows, self._state)

    def _full(self) -> Iterator[Pass]:
        after = _texts((self._state or {}).get("key"))
        if after and len(after) != len(self._key):
            raise FatalError(
                "the state resumes after a key that its rows no longer have",
                where=self._scanner.where,
                hint="give the table its key back, or delete the state and read it from the start",
            )
        condition, parameters = self._after(self._key, after) if after else ("", ())
        if self._within is not None:
            bounds, more = self._bounds(self._within)
            condition, parameters = " AND ".join(filter(None, (condition, bounds))), (*parameters, *more)
        yield Pass(condition, parameters, self._key, bool(self._key), unique=True, done=lambda: _COMPLETE)

    def _windows(self, how: Incremental) -> Iterator[Pass]:
        state = self._state or {}
        self._check_nulls(how)
        if state.get("high") is not None:
            high = Bound(_text(state["high"]), bool(state.get("inclusive")), bool(state.get("ties")))
            yield self._window(how, self._start(how), high, (_text(state.get("cursor")), state.get("key")))
        if how.nulls is NullCursor.INCLUDE_ONCE:
            yield self._null_pass(how, _keys(state.get("nulls")))
        bound, start = self._scanner.bound(), self._start(how)
        if bound.text is not None and (start.low is None or self._scanner.not_after(how.column, start.low, bound.text)):
            yield self._window(how, start, bound, (None, None))
        elif start.low is None:
            yield Pass("1 = 0", (), (how.column,), tracked=False, unique=True, done=lambda: _NOTHING)

    def _start(self, how: Incremental) -> _Start:
        state = self._state or {}
        low, inclusive = _text(state.get("low", how.initial)), bool(state.get("low_inclusive", True))
        return _Start(low, inclusive, _keys(state.get("seen")))

    def _window(
        self,
        how: Incremental,
        start: _Start,
        high: Bound,
        reached: tuple[str | None, Json],
    ) -> Pass:
        low, seen = start.low, start.seen
        column, place = self._scanner.quoted(how.column), self._scanner.placeholder(how.column)

        def value(text: str | None) -> Any:
            return self._scanner.parameter(how.column, text or "")

        parts, parameters = [f"{column} {'<=' if high.inclusive else '<'} {place}"], [value(high.text)]
        if low is not None:
            parts.append(f"{column} {'>=' if start.inclusive else '>'} {place}")
            parameters.append(value(low))
            if seen:
                excluded, more = self._scanner.excluding(how.key, seen)
                parts.append(f"({column} <> {place} OR ({excluded}))")
                parameters += [value(low), *more]
        if reached[0] is not None:
            texts = (reached[0], *_texts(reached[1]))
            beyond, values = self._after((how.column, *how.key), texts)
            parts.append(beyond)
            parameters += values
        return Pass(
            " AND ".join(parts),
            tuple(parameters),
            (how.column, *how.key),
            tracked=True,
            unique=bool(how.key),
            open_end=high.text if high.ties else None,
            fields={
                "low": low, "low_inclusive": start.inclusive, "high": high.text, "inclusive": high.inclusive,
                "ties": high.ties, "seen": [list(each) for each in seen],
            },
            done=lambda: self._closed(how, start, high),
        )  # fmt: skip

    def _closed(self, how: Incremental, start: _Start, high: Bound) -> dict[str, Json]:
        last = self._last
        following = _Start(high.text, high.ties or not high.inclusive, [])
        if how.key:
            following = start if last is None else self._after_ties(how, last, high, following)
        seen: list[Json] = [list(each) for each in following.seen]
        return {
            "low": following.low, "low_inclusive": following.inclusive, "high": None, "cursor": None, "key": None,
            "seen": seen,
        }  # fmt: skip

    def _after_ties(self, how: Incremental, last: str, high: Bound, otherwise: _Start) -> _Start:
        """Returns the start behind the last value that was delivered; rows that join those who have it may still come."""
        column, place = self._scanner.quoted(how.column), self._scanner.placeholder(how.column)
        found = self._scanner.keys(f"{column} = {place}", (self._scanner.parameter(how.column, last),), how.key)
        if len(found) > REMEMBERED and not high.ties:
            return otherwise
        return _Start(last, True, self._bounded(found, f"rows whose '{how.column}' is {last}"))

    def _null_pass(self, how: Incremental, known: list[list[str]]) -> Pass:
        if not how.key:
            raise FatalError(
                f"rows whose '{how.column}' is NULL can be read once only where rows have a key",
                where=self._scanner.where,
                hint="add primary_key: [...], or null_cursor: refuse",
            )
        null = f"{self._scanner.quoted(how.column)} IS NULL"
        excluded, parameters = self._scanner.excluding(how.key, known)
        found = self._scanner.keys(null, (), how.key)
        nulls: list[Json] = [list(each) for each in self._bounded(found, f"rows whose '{how.column}' is NULL")]
        return Pass(
            f"{null} AND {excluded}",
            tuple(parameters),
            how.key,
            tracked=False,
            unique=True,
            done=lambda: {"nulls": nulls},
        )

    def _bounded(self, keys: list[list[str]], what: str) -> list[list[str]]:
        if len(keys) > SEEN_LIMIT:
            raise FatalError(
                f"more than {SEEN_LIMIT} {what}: too many to remember",
                where=self._scanner.where,
                hint="use a finer incremental column, or set lag",
            )
        return keys

    def _check_nulls(self, how: Incremental) -> None:
        if how.nulls is NullCursor.REFUSE:
            count = self._scanner.count(f"{self._scanner.quoted(how.column)} IS NULL")
            if count:
                raise FatalError(
                    f"{count} rows have no value in '{how.column}' and would never be read",
                    where=self._scanner.where,
                    hint="set null_cursor: include_once, or give them a value",
                )

    def _bounds(self, within: Range) -> tuple[str, tuple[Any, ...]]:
        column = within.column
        name, place = self._scanner.quoted(column), self._scanner.placeholder(column)
        ends = [(sign, text) for sign, text in ((">", within.after), ("<=", within.end)) if text is not None]
        condition = " AND ".join(f"{name} {sign} {place}" for sign, _ in ends)
        return condition, tuple(self._scanner.parameter(column, text) for _, text in ends)

    def _after(self, columns: Sequence[str], texts: Sequence[str]) -> tuple[str, tuple[Any, ...]]:
        """Returns the condition that a row stands after another in the order of some columns."""
        scanner = self._scanner
        names, places = [scanner.quoted(each) for each in columns], [scanner.placeholder(each) for each in columns]
        values = tuple(scanner.parameter(name, text) for name, text in zip(columns, texts, strict=True))
        if len(names) == 1:
            return f"{names[0]} > {places[0]}", values
        return scanner.beyond(names, places, values)


def stepwise(names: Sequence[str], places: Sequence[str], values: Sequence[Any]) -> tuple[str, tuple[Any, ...]]:
    """Returns what `Scanner.beyond` does, for a system that cannot compare rows: column by column."""
    one = f"{names[0]} > {places[0]}"
    if len(names) == 1:
        return one, (values[0],)
    rest, parameters = stepwise(names[1:], places[1:], values[1:])
    return f"({one} OR ({names[0]} = {places[0]} AND {rest}))", (values[0], values[0], *parameters)


def _text(value: Json) -> str | None:
    return None if value is None else str(value)


def _texts(value: Json) -> tuple[str, ...]:
    return tuple(str(each) for each in value) if isinstance(value, list) else ()


def _keys(value: Json) -> list[list[str]]:
    return [list(_texts(each)) for each in value] if isinstance(value, list) else []
