"""Reads pages of records so that a state resumes after any of them, and never takes a part for the whole; asks only through `Pages`.

States, at the end of each page: `at`, the position of the next; `count`, the records so far; with parents `parent`, where
they stand; what `Window` keeps of an incremental read; `etag`. A full refresh ends with `{"complete": true}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from dsl.contracts.connectors import BatchReader, ReadRequest
from dsl.contracts.errors import FatalError, RetryableError, SchemaError
from dsl.contracts.rows import Batch, Rejection
from dsl.contracts.state import Json, State, advance, is_complete
from resources.http_incremental import Window
from resources.http_json import MISSING, Path, Rows, digest_of, infer
from resources.http_paging import Page, Pages, loops
from resources.http_source import COUNTED, PagedSource, PageType
from resources.sql import suggestion


@dataclass(frozen=True)
class Parents:
    """Where the records are whose children are read.

    Attributes:
        pages: Their pages.
        fields: What is carried into the children: name -> where the parent has it.
    """

    pages: Pages
    fields: Mapping[str, Path] = field(default_factory=dict)

    def carried(self, parent: Any) -> dict[str, Any]:
        """Returns what a parent's children get of it.

        Raises:
            FatalError: The parent has no such field.
        """
        found = {name: path.one(parent) for name, path in self.fields.items()}
        for name, value in found.items():
            if value is MISSING:
                told = f"a parent record has nothing at '{self.fields[name].text}'"
                raise FatalError(told, where=self.pages.where, hint="check `parent.fields`")
        return found


@dataclass
class _Step:
    """A page as it is delivered: its records, what they get of their parent, and the state's fields once they are committed."""

    page: Page
    carried: Mapping[str, Any]
    fields: Mapping[str, Json] | None


class PagedReader(BatchReader):
    """Reads one resource.

    Args:
        source: What the options say.
        pages: Its pages; the reader closes them.
        request: What the plan wants.
        state: Where to resume.
        parents: Those whose children the records are, or None.
        keeps_etag: Whether a resource that is unchanged is not read again.
    """

    def __init__(
        self,
        source: PagedSource,
        pages: Pages,
        request: ReadRequest,
        state: State | None,
        *,
        parents: Parents | None = None,
        keeps_etag: bool = False,
    ) -> None:
        self._pages, self._parents, self._request = pages, parents, request
        self._state: State = {} if state is None or is_complete(state) else state
        self._where, self._etags = source.place, keeps_etag
        self._window = None if source.since is None else Window(source.since, self._state, self._where)
        self._since = None if self._window is None else self._window.since
        self._rejected: list[Rejection] = []
        self._etag: str | None = None
        try:
            whole = declared_or_inferred(source, pages, parents)
            self._schema = _chosen(whole, request.columns, self._where)
        except BaseException:
            self.close()
            raise
        self._rows = Rows(self._schema, tuple(whole.names), strict=source.declared is None)

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    def rejections(self) -> Sequence[Rejection]:
        found, self._rejected = self._rejected, []
        return found

    def close(self) -> None:
        self._pages.close()
        if self._parents is not None:
            self._parents.pages.close()

    def __iter__(self) -> Iterator[Batch]:
        steps = self._flat() if self._parents is None else self._nested(self._parents)
        for step in steps:
            if step.page.unchanged:
                yield self._batch(_none(self._schema), 0, dict(self._state))
                return
            yield from self._delivered(step)
        yield self._batch(_none(self._schema), 0, self._closed())

    def _delivered(self, step: _Step) -> Iterator[Batch]:
        records = [(at, _with(each, step.carried, self._where)) for at, each in enumerate(step.page.records)]
        if self._window is not None:
            fresh = self._window.new([each for _, each in records])
            records = [(at, each) for at, each in fresh]
        size = max(1, self._request.batch_rows)
        starts = list(range(0, len(records), size)) or [0]
        for start in starts:
            part = records[start : start + size]
            rows, rejected = self._rows.of([each for _, each in part], step.page.name, part[0][0] if part else 0)
            self._rejected += rejected
            last = start == starts[-1]
            fields = {**step.fields, **self._kept()} if last and step.fields is not None else None
            yield self._batch(rows, len(part), fields)

    def _batch(self, rows: pa.RecordBatch, count: int, fields: Mapping[str, Json] | None) -> Batch:
        self._state = advance(self._state or None, count, rows.nbytes, **(fields or {}))
        return Batch(rows, None if fields is None else self._state)

    def _kept(self) -> dict[str, Json]:
        return {} if self._window is None else self._window.fields()

    def _closed(self) -> dict[str, Json]:
        begin: dict[str, Json] = {"at": None, "count": 0, "parent": None}
        if self._window is not None:
            return {**begin, **self._window.closed()}
        if self._etags:
            return {**begin, "etag": self._etag}
        return {**begin, "complete": True}

    def _flat(self) -> Iterator[_Step]:
        etag = self._state.get("etag") if self._etags else None
        count = self._state.get("count")
        shown = etag if isinstance(etag, str) else None
        for page, fields in self._walk(self._pages, self._state.get("at"), _number(count), {}, self._since, shown):
            self._etag = page.etag
            yield _Step(page, {}, fields)

    def _nested(self, parents: Parents) -> Iterator[_Step]:
        held = self._state.get("parent")
        resumed = held if isinstance(held, dict) else {}
        child, count = self._state.get("at"), _number(self._state.get("count"))
        at, total = resumed.get("at"), _number(resumed.get("count"))
        before = total
        for page, _ in self._walk(parents.pages, at, total, {}, None, None):
            first = _found(page, resumed, parents.pages.where) if resumed.get("digest") is not None else 0
            for row in range(first, len(page.records)):
                parent = page.records[row]
                place: dict[str, Json] = {"at": at, "count": before, "row": row, "digest": digest_of(parent)}
                carried = parents.carried(parent)
                for step, fields in self._walk(self._pages, child, count, carried, self._since, None):
                    yield _Step(step, carried, None if fields is None else {**fields, "parent": place})
                child, count = None, 0
                following = _after(page, row)
                done: dict[str, Json] | None = None
                if following is not None:
                    done = {"at": at, "count": before, "row": row + 1, "digest": digest_of(following)}
                elif page.next is not None:
                    done = {"at": page.next, "count": before + len(page.records)}
                yield _Step(Page([], None), {}, None if done is None else {"at": None, "count": 0, "parent": done})
            resumed = {}
            before += len(page.records)
            at = page.next

    def _walk(
        self,
        pages: Pages,
        position: Json,
        count: int,
        carried: Mapping[str, Any],
        since: str | None,
        etag: str | None,
    ) -> Iterator[tuple[Page, dict[str, Json] | None]]:
        """Yields pages up to the last; a page that ends the walk has no fields, since what follows it is not the walk's to say."""
        seen = {digest_of(position)}
        before: str | None = None
        for _ in range(pages.paging.max_pages):
            page = pages.fetch(position, since, carried, etag)
            if not page.records and page.next is not None and pages.paging.type in COUNTED and page.total != count:
                page = _really_empty(pages, position, since, carried)
            count += len(page.records)
            _check_repeat(pages, page, before)
            before = digest_of(page.records) if page.records else before
            ended = page.next is None or (not page.records and pages.paging.type in COUNTED)
            if not ended and not page.unchanged and page.total is not None and pages.paging.type in COUNTED:
                ended = count >= page.total
            if ended:
                _check_total(pages, page, count)
                yield page, None
                return
            position = page.next
            if digest_of(position) in seen:
                raise loops(page.name, position)
            seen.add(digest_of(position))
            yield page, {"at": position, "count": count}
        raise FatalError(
            f"there are more than {pages.paging.max_pages} pages", where=pages.where, hint="raise pagination.max_pages"
        )


def declared_or_inferred(source: PagedSource, pages: Pages, parents: Parents | None) -> pa.Schema:
    """Returns the columns: those declared, or those that the first pages suggest.

    Raises:
        SchemaError: There are no records to tell.
    """
    if source.declared is not None:
        return source.declared
    since = None if source.since is None else source.since.initial
    records: list[Any] = []
    for found in _samples(source, pages, parents, since):
        records += found
    return infer(_plain(records), source.place)


def _samples(source: PagedSource, pages: Pages, parents: Parents | None, since: str | None) -> Iterator[list[Any]]:
    if parents is None:
        yield from _first_pages(pages, since, {}, source.infer_pages, source.place)
        return
    for found in _first_pages(parents.pages, None, {}, 1, source.place):
        for parent in found:
            carried = parents.carried(parent)
            for records in _first_pages(pages, since, carried, source.infer_pages, source.place):
                if records:
                    yield records
                    return


def _first_pages(
    pages: Pages, since: str | None, carried: Mapping[str, Any], most: int, where: str
) -> Iterator[list[Any]]:
    position: Json = None
    for _ in range(most):
        page = pages.fetch(position, since, carried)
        yield [_with(each, carried, where) for each in page.records]
        position = page.next
        if position is None or not page.records:
            return


def _plain(value: Any) -> Any:
    """Returns a value with fractions as floats, for types to be guessed."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else float(value)


def _chosen(schema: pa.Schema, columns: Sequence[str] | None, where: str) -> pa.Schema:
    missing = [each for each in columns or () if each not in schema.names]
    if missing:
        raise SchemaError(f"column '{missing[0]}' is gone", where=where, hint=suggestion(missing[0], schema.names))
    return schema if columns is None else pa.schema([schema.field(each) for each in columns])


def _with(record: Any, carried: Mapping[str, Any], where: str) -> Any:
    if not carried or not isinstance(record, dict):
        return record
    twice = sorted(set(record) & set(carried))
    if twice and any(record[each] != carried[each] for each in twice):
        raise SchemaError(
            f"'{twice[0]}' is a field of the parent and of its children",
            where=where,
            hint="name it otherwise in `fields`",
        )
    return {**record, **carried}


def _really_empty(pages: Pages, position: Json, since: str | None, carried: Mapping[str, Any]) -> Page:
    """Asks again for a page that is empty, and for the one behind it: where only that has records, it is no end but a hole.

    Raises:
        RetryableError: It is.
    """
    again = pages.fetch(position, since, carried)
    if again.records:
        return again
    if again.told and again.next is not None:
        raise RetryableError("the page is empty, but says that there is more", where=again.name)
    at = position if isinstance(position, int) else pages.paging.first or 0
    step = 1 if pages.paging.type is PageType.PAGE else pages.paging.size or 1
    if pages.fetch(at + step, since, carried).records:
        raise RetryableError("the page is empty, but the one behind it is not", where=again.name)
    return again


def _check_repeat(pages: Pages, page: Page, before: str | None) -> None:
    asks = pages.paging.type in {*COUNTED, PageType.CURSOR}
    if asks and not pages.paging.allow_repeats and page.records and digest_of(page.records) == before:
        raise FatalError(
            "it holds the very records of the page before",
            where=page.name,
            hint=f"does the API know the parameter '{pages.paging.param}'? else pagination.allow_repeats: true",
        )


def _check_total(pages: Pages, page: Page, count: int) -> None:
    if page.total is not None and count < page.total:
        raise RetryableError(
            f"the API says that there are {page.total} records, but gave {count}",
            where=pages.where,
            hint="did records go while they were read? then run again, or leave out pagination.total_path",
        )


def _found(page: Page, resumed: Mapping[str, Json], where: str) -> int:
    """Returns the row of the parent at which a state stands, wherever it is in its page now.

    Raises:
        FatalError: It is not there any more.
    """
    digests = [digest_of(each) for each in page.records]
    row = _number(resumed.get("row"))
    if row < len(digests) and digests[row] == resumed.get("digest"):
        return row
    if resumed.get("digest") in digests:
        return digests.index(str(resumed.get("digest")))
    raise FatalError(
        "the parent record at which the last run stopped has changed or gone",
        where=where,
        hint="read from the start: delete the state of this stream",
    )


def _after(page: Page, row: int) -> Any:
    return page.records[row + 1] if row + 1 < len(page.records) else None


def _number(value: Json) -> int:
    return value if isinstance(value, int) else 0


def _none(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema)
