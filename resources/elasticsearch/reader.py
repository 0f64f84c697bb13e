"""Reads documents of one point in time in the order of a field, so that a state outlives the view; writes nothing.

States: full refresh `{"key": value, "by": field}`, then `{"complete": true}`; without a key_field only the latter.
Incremental `{"low", "inclusive", "seen"}`: the last value that was delivered and the ids of the documents that have it and were delivered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dsl.contracts.connectors import Batch, BatchReader, ReadRequest
from dsl.contracts.errors import FatalError, SchemaError
from dsl.contracts.rows import Rejection
from dsl.contracts.state import Json, State, advance, is_complete
from resources.elasticsearch.client import Client
from resources.elasticsearch.incoming import Extra, rows_of, schema_of
from resources.elasticsearch.pages import DATES, LARGEST_PAGE, Index, Order, PointInTime, find_index, order_of
from resources.sql import suggestion
from resources.sql_reader import REMEMBERED, SEEN_LIMIT

if TYPE_CHECKING:
    from resources.elasticsearch.resource import ElasticsearchSource

_FIRST_PAGE = 1000
_EVERYTHING: dict[str, Any] = {"match_all": {}}


def discover_schema(source: ElasticsearchSource) -> pa.Schema:
    """Returns the schema that the source will yield; raises as `open_reader` does."""
    with Client(source.connection) as client:
        return _columns(source, find_index(client, source.index), None, client.place)


def open_reader(source: ElasticsearchSource, request: ReadRequest, state: State | None) -> BatchReader:
    """Opens a reader.

    Raises:
        SchemaError: The index or a column is not there.
        UnavailableError: The cluster cannot be reached.
    """
    client = Client(source.connection)
    try:
        index = find_index(client, source.index)
        schema = _columns(source, index, request.columns, client.place)
        view = PointInTime(client, index, _seconds(source), source.view)
    except BaseException:
        client.close()
        raise
    try:
        return ElasticsearchReader(client, source, request, state, _Read(index, schema, view))
    except BaseException:
        view.close()
        client.close()
        raise


def divided(source: ElasticsearchSource, count: int) -> tuple[Json, ...]:
    """Returns ranges of the key, at most so many, that together are everything; () where it holds no whole numbers."""
    with Client(source.connection) as client:
        index = find_index(client, source.index)
        order = order_of(index, source.key_field or "", f"{client.place}: index {source.index}")
        view = PointInTime(client, index, _seconds(source))
        try:
            ends = view.ends(source.query or _EVERYTHING, order) if order.whole else None
        finally:
            view.close()
    if ends is None or int(ends[1]) - int(ends[0]) < count or count < 2:
        return ()
    low, high = int(ends[0]), int(ends[1])
    cuts = [low + (high - low) * each // count for each in range(1, count)]
    return tuple([after, end] for after, end in pairwise([None, *cuts, None]))


def _seconds(source: ElasticsearchSource) -> int:
    return max(1, int(source.keep_alive.total_seconds()))


def _columns(source: ElasticsearchSource, index: Index, asked: Sequence[str] | None, place: str) -> pa.Schema:
    where = f"{place}: index {source.index}"
    fields = list(source.declared or schema_of(index.properties, source.arrays, where))
    names = {each.name for each in fields}
    fields += [pa.field(each, pa.string()) for each in (source.id_column, source.source_column) if each]
    known = {each.name: each for each in fields}
    for name in (source.id_column, source.source_column):
        if name in names:
            raise SchemaError(
                f"the documents have a field '{name}' themselves", where=where, hint="choose another name"
            )
    wanted = list(asked) if asked is not None else list(source.columns or known)
    for name in wanted:
        if name not in known:
            raise SchemaError(f"there is no column '{name}'", where=where, hint=suggestion(name, known))
    return pa.schema([known[each] for each in wanted])


class _Read:
    """What is read: the index, the columns, the view."""

    def __init__(self, index: Index, schema: pa.Schema, view: PointInTime) -> None:
        self.index, self.schema, self.view = index, schema, view


class ElasticsearchReader(BatchReader):
    """Reads one view of an index.

    Args:
        client: The connection; the reader closes it.
        source: What to read, and how.
        request: What the plan wants of it.
        state: Where to resume.
        read: The index, the columns and the view, which the reader closes.
    """

    def __init__(
        self, client: Client, source: ElasticsearchSource, request: ReadRequest, state: State | None, read: _Read
    ) -> None:
        self._client, self._source, self._request, self._view = client, source, request, read.view
        self._schema, self._several, self.where = read.schema, read.index.several, read.view.where
        self._extra = Extra(source.id_column, source.source_column)
        self._state = None if is_complete(state) else state
        self._rejected: list[Rejection] = []
        self._bytes_a_row = 0.0
        path = source.incremental_column or source.key_field
        self._order = None if path is None else order_of(read.index, path, self.where)
        if source.incremental_column and self._order is not None and self._order.type not in DATES:
            raise SchemaError(
                f"'{path}' is {self._order.type}, and only a date can be read incrementally: an index does not say which "
                "documents are still to come",
                where=self.where,
                hint="name a date that is set when a document is written",
            )

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    def rejections(self) -> Sequence[Rejection]:
        taken, self._rejected = self._rejected, []
        return taken

    def close(self) -> None:
        self._view.close()
        self._client.close()

    def __iter__(self) -> Iterator[Batch]:
        if self._order is not None:
            self._refuse_missing(self._order)
        if self._source.incremental_column is None or self._order is None:
            yield from self._full()
        else:
            yield from self._new(self._order)

    # ---- full refresh ---------------------------------------------------------------------------------------------

    def _full(self) -> Iterator[Batch]:
        after = (self._state or {}).get("key")
        if after is not None and (self._state or {}).get("by") != self._source.key_field:
            raise FatalError(
                f"the state resumes by '{(self._state or {}).get('by')}', and key_field is another one",
                where=self.where,
                hint="give it back, or delete the state and read the index from the start",
            )
        filters = [] if self._order is None or after is None else [self._order.range(gt=after)]
        if self._order is not None and self._source.within is not None:
            low, high = self._source.within
            filters += [self._order.range(gt=low)] if low is not None else []
            filters += [self._order.range(lte=high)] if high is not None else []
        read = (self._state or {}).get("records_read")
        waiting: list[dict[str, Any]] = []
        for hits in self._pages(filters, read if isinstance(read, int) else 0):
            self._check_single(hits[0], after, inclusive=False)
            if waiting:
                yield self._batch(waiting, cut=self._value(waiting[-1]) != self._value(hits[0]))
            waiting = hits
        if waiting:
            yield self._batch(waiting, cut=False)
        self._state = advance(self._state, 0, 0, complete=True, key=None, by=None)
        yield Batch(pa.RecordBatch.from_pylist([], schema=self._schema), self._state)

    def _batch(self, hits: list[dict[str, Any]], *, cut: bool) -> Batch:
        rows = self._rows(hits)
        if not cut or self._order is None:
            return Batch(rows, None)
        self._state = advance(self._state, 0, 0, key=self._value(hits[-1]), by=self._order.field)
        return Batch(rows, self._state)

    # ---- incremental ----------------------------------------------------------------------------------------------

    def _new(self, order: Order) -> Iterator[Batch]:
        state = self._state or {}
        low, seen = state.get("low", self._source.initial_value), [_pair(each) for each in _listed(state.get("seen"))]
        inclusive = bool(state.get("inclusive", True))
        filters = [order.range(lt=self._bound())]
        if low is not None:
            filters.append(order.range(**{"gte" if inclusive else "gt": low}))
        unseen = [self._of(index, ids) for index, ids in _by_index(seen).items()]
        excluded = [{"bool": {"filter": [order.range(gte=low, lte=low), each]}} for each in unseen]
        last, ties = low, seen
        for hits in self._pages(filters, 0, excluded):
            self._check_single(hits[0], state.get("low"), inclusive=inclusive)
            rows = self._rows(hits)
            value = self._value(hits[-1])
            tied = [(str(each["_index"]), str(each["_id"])) for each in hits if self._value(each) == value]
            last, ties = value, [*ties, *tied] if value == last else tied
            if len(ties) <= REMEMBERED:
                self._state = self._reached(last, ties)
                yield Batch(rows, self._state)
            else:
                yield Batch(rows, None)
        if ties or last != low:
            self._state = self._reached(last, ties)
        self._state = advance(self._state, 0, 0)
        yield Batch(pa.RecordBatch.from_pylist([], schema=self._schema), self._state)

    def _reached(self, low: Json, ties: Sequence[tuple[str, str]]) -> State:
        """Returns the state after the last document; too many with its value are past, for `lag` says that no more come."""
        few = len(ties) <= SEEN_LIMIT
        seen: list[Json] = [list(each) for each in ties] if few else []
        return advance(self._state, 0, 0, low=low, inclusive=few, seen=seen)

    def _of(self, index: str, ids: Sequence[str]) -> dict[str, Any]:
        some = {"ids": {"values": list(ids)}}
        return {"bool": {"filter": [{"term": {"_index": index}}, some]}} if self._several else some

    def _bound(self) -> str:
        assert self._source.lag is not None  # noqa: S101 - the source refuses to be made without
        return (datetime.now(UTC) - self._source.lag).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    # ---- pages ----------------------------------------------------------------------------------------------------

    def _pages(self, filters: Sequence[Any], read: int, excluded: Sequence[Any] = ()) -> Iterator[list[dict[str, Any]]]:
        query = {"bool": {"filter": [self._source.query or _EVERYTHING, *filters], "must_not": list(excluded)}}
        left = None if self._request.limit is None else max(0, self._request.limit - read)
        return self._view.pages(query, self._order, self._sizes(left), _source=self._included())

    def _sizes(self, left: int | None) -> Iterator[int]:
        """Yields the sizes of pages: of as many rows and about as many bytes as the plan wants."""
        most = min(self._request.batch_rows, LARGEST_PAGE)
        size = min(most, _FIRST_PAGE)
        while left is None or left > 0:
            yield size if left is None else min(size, left)
            left = None if left is None else left - size
            if self._bytes_a_row:
                size = max(1, min(most, int(self._request.batch_bytes / self._bytes_a_row)))

    def _included(self) -> Any:
        names = [each for each in self._schema.names if each not in {self._extra.id, self._extra.source}]
        if self._extra.source in self._schema.names:
            return True
        return {"includes": names} if names else False

    def _rows(self, hits: list[dict[str, Any]]) -> pa.RecordBatch:
        rows, rejected = rows_of(hits, self._schema, self._extra)
        self._rejected += rejected
        self._bytes_a_row = max(1.0, rows.nbytes / max(1, rows.num_rows))
        self._state = advance(self._state, len(hits), rows.nbytes)
        return rows

    def _value(self, hit: dict[str, Any]) -> Any:
        return None if self._order is None else hit["sort"][0]

    def _check_single(self, hit: dict[str, Any], low: Json, *, inclusive: bool) -> None:
        """Refuses a field with several values in a document: it would stand at several places of the order."""
        value = self._value(hit)
        if low is not None and (value < low or (value == low and not inclusive)):
            raise FatalError(
                f"document {hit['_id']} has several values in '{self._order.field if self._order else ''}', which orders what is read",
                where=self.where,
                hint="name a field with one value",
            )

    def _refuse_missing(self, order: Order) -> None:
        query = self._source.query or _EVERYTHING
        count = self._view.count({"bool": {"filter": [query], "must_not": [{"exists": {"field": order.field}}]}})
        if count:
            raise FatalError(
                f"{count} documents have no value in '{order.field}' and would never be read",
                where=self.where,
                hint="give them one, or leave them out by query",
            )


def _listed(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _pair(value: Json) -> tuple[str, str]:
    index, number = (str(each) for each in _listed(value))
    return index, number


def _by_index(seen: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for index, number in seen:
        found.setdefault(index, []).append(number)
    return found
