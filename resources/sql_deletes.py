"""How a SQL source tells what was deleted: by a column of its own, or by comparing all rows now and then; reads through other readers only.

A comparison reads every row again: the destination deletes what it does not find among them, and adds what it has not.
States: `{"inner", "scan", "compared"}`, where `inner` is the incremental reader's state, `scan` that of a comparison under way,
else null, and `compared` when the last one ended.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

import pyarrow as pa
import pyarrow.compute as pc

from dsl.contracts.capabilities import SyncMode
from dsl.contracts.changes import OPERATION, Deletes, Operation, with_operation
from dsl.contracts.connectors import Batch, BatchReader, ReadRequest, Source
from dsl.contracts.errors import SchemaError
from dsl.contracts.rows import Rejection
from dsl.contracts.spec import OptionError, option
from dsl.contracts.state import Json, State, advance, is_complete


@dataclass(frozen=True, kw_only=True)
class SoftColumn:
    """The column by which the source itself marks rows as deleted."""

    column: str = option(
        doc="Its name: a row is deleted when it is true or not 0, or, of any other type, not NULL.",
        example="deleted_at",
    )
    value: str | None = option(default=None, doc="The one value that says so instead, as text.", example="deleted")


@dataclass(frozen=True, kw_only=True)
class DeletionOptions:
    """The options of a source that can tell of deleted rows."""

    deletes: Deletes | None = option(
        default=None,
        doc="What it tells of rows that are deleted: ignored, soft_column, full_compare, or cdc where it has a log of changes.",
    )
    soft_column: SoftColumn | None = option(
        default=None, doc="The column that marks deleted rows.", example={"column": "deleted_at"}
    )
    compare_every: timedelta = option(
        default=timedelta(days=1), doc="How often full_compare reads all rows.", example="6h", advanced=True
    )

    @property
    def tells(self) -> Deletes:
        """See `Source.tells`."""
        return self.deletes or Deletes.IGNORED


def check_deletes(options: DeletionOptions, *, incremental: bool) -> None:
    """Refuses options that do not fit together; knows nothing of `cdc`.

    Raises:
        OptionError: Names the option at fault.
    """
    soft = options.deletes is Deletes.SOFT_COLUMN
    if soft and options.soft_column is None:
        raise OptionError("deletes", "nobody says which column marks deleted rows", "add soft_column: {column: …}")
    if options.soft_column is not None and not soft:
        raise OptionError("soft_column", "it has no meaning here", "write deletes: soft_column")
    if options.deletes is Deletes.FULL_COMPARE and not incremental:
        hint = "add incremental_column, or leave deletes out and write_mode: overwrite"
        raise OptionError("deletes", "all rows are read at every run: there is nothing to compare", hint)
    if options.compare_every <= timedelta():
        raise OptionError("compare_every", "it must be longer than nothing", "write a duration such as 1d")


def refuse_cdc(options: DeletionOptions) -> None:
    """Refuses what needs a log of changes.

    Raises:
        OptionError: It is asked for.
    """
    if options.deletes is Deletes.CDC:
        raise OptionError("deletes", "this system has no log of changes", "write soft_column or full_compare")


def check_cdc(options: DeletionOptions, own: Sequence[str], others: Sequence[str]) -> None:
    """Refuses options of `sync_mode: cdc` that do not fit together.

    Args:
        options: Those of a source that has a `sync_mode`.
        own: Names of the options that only cdc has.
        others: Names of the options that it does not have.

    Raises:
        OptionError: Names the option at fault.
    """
    asked = getattr(options, "sync_mode", None) is SyncMode.CDC
    if asked and options.deletes not in {None, Deletes.CDC, Deletes.IGNORED}:
        raise OptionError(
            "deletes", "the log of changes tells of them itself", "leave it out, or write deletes: ignored"
        )
    if options.deletes is Deletes.CDC and not asked:
        raise OptionError("deletes", "cdc is told by the log of changes only", "write sync_mode: cdc")
    for name in others if asked else own:
        if getattr(options, name) is not None:
            said = "it has no meaning in cdc" if asked else "it has no meaning without sync_mode: cdc"
            raise OptionError(name, said, "leave it out")


S = TypeVar("S", bound=Source)
Open = Callable[[S, ReadRequest, State | None], BatchReader]
_Resume = Callable[[State | None], BatchReader]


def told_schema(source: Source, schema: pa.Schema) -> pa.Schema:
    """Returns what a source yields, given the columns of its rows."""
    return schema if source.tells is Deletes.IGNORED else with_operation(schema)


def telling(source: S, request: ReadRequest, state: State | None, open_reader: Open[S]) -> BatchReader:
    """Opens a source by its own means, and tells of deletions as its options say; raises as `open_reader` does."""
    options = cast("DeletionOptions", source)
    columns = None if request.columns is None else tuple(each for each in request.columns if each != OPERATION)
    plain = dataclasses.replace(request, columns=columns)
    if source.tells is Deletes.FULL_COMPARE:
        return ComparingReader(source, plain, state, open_reader)
    held = state.get("inner") if state is not None else None
    resumed = held if isinstance(held, dict) else state
    if source.tells is Deletes.IGNORED or options.soft_column is None:
        return open_reader(source, plain, resumed)
    if columns is not None and options.soft_column.column not in columns:
        plain = dataclasses.replace(plain, columns=(*columns, options.soft_column.column))
    where = "/".join(source.physical_name)
    return SoftReader(open_reader(source, plain, resumed), options.soft_column, columns, where)


class _Around(BatchReader):
    """A reader that adds the operation to the rows of another one."""

    _inner: BatchReader

    @property
    def schema(self) -> pa.Schema:
        return with_operation(self._inner.schema)

    def rejections(self) -> Sequence[Rejection]:
        return self._inner.rejections()

    def acknowledge(self, state: State) -> None:
        self._inner.acknowledge(state)

    def close(self) -> None:
        self._inner.close()


class SoftReader(_Around):
    """Rows that a column of theirs may say are deleted.

    Args:
        inner: Reads them; closed with this reader.
        soft: The column.
        columns: Those to pass on; None for all.
        where: How errors name what is read.
    """

    def __init__(self, inner: BatchReader, soft: SoftColumn, columns: tuple[str, ...] | None, where: str) -> None:
        self._inner, self._soft = inner, soft
        self._columns = list(inner.schema.names if columns is None else columns)
        if soft.column not in inner.schema.names:
            inner.close()
            hint = "name in soft_column the one that marks deleted rows"
            raise SchemaError(f"there is no column '{soft.column}'", where=where, hint=hint)

    @property
    def schema(self) -> pa.Schema:
        return with_operation(pa.schema([self._inner.schema.field(each) for each in self._columns]))

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._inner:
            gone = self._gone(batch.rows.column(self._inner.schema.get_field_index(self._soft.column)))
            operations = pc.if_else(gone, str(Operation.DELETE), str(Operation.UPSERT))
            arrays = [*batch.rows.select(self._columns).columns, operations.cast(pa.string())]
            yield Batch(pa.RecordBatch.from_arrays(arrays, schema=self.schema), batch.state)

    def _gone(self, column: pa.Array[Any]) -> pa.Array[Any]:
        if self._soft.value is not None:
            return pc.equal(column.cast(pa.string()), pa.scalar(self._soft.value)).fill_null(fill_value=False)
        if pa.types.is_integer(column.type):  # how systems without a boolean type write one
            return pc.not_equal(column, pa.scalar(0)).fill_null(fill_value=False)
        return column.fill_null(fill_value=False) if pa.types.is_boolean(column.type) else column.is_valid()


class ComparingReader(_Around):
    """Incremental rows, and now and then all rows, so that the destination finds what is gone.

    A row that cannot be decoded would look as if it were gone: a comparison that meets one deletes nothing.

    Args:
        source: What to read.
        request: What the plan wants of it.
        state: Where to resume; one of a time when nothing was compared will do.
        open_reader: Opens the source, or the same without its incremental column.
    """

    def __init__(self, source: S, request: ReadRequest, state: State | None, open_reader: Open[S]) -> None:
        self._now = request.logical_time or datetime.now(UTC)
        self._every = cast("DeletionOptions", source).compare_every
        rows = None if state is None else dict(state)
        before = rows if rows is not None and "compared" in rows else {"inner": rows, "scan": None}
        self._state: State = advance(None, 0, 0, compared=self._now.isoformat()) | before
        self._rejected: list[Rejection] = []
        self._open: _Resume = lambda held: open_reader(source, request, held)
        whole = dataclasses.replace(
            source, **{"incremental_column": None, "initial_value": None, "deletes": None, **_without_lag(source)}
        )
        self._scan: _Resume = lambda held: open_reader(whole, request, held)
        self._inner = self._open(_inner(self._state.get("inner")))

    def rejections(self) -> Sequence[Rejection]:
        taken, self._rejected = self._rejected, []
        return taken

    def __iter__(self) -> Iterator[Batch]:
        broken_off = self._state.get("scan") is not None
        if broken_off:  # before newer rows, which it could not find
            self._change_to(self._scan(_inner(self._state.get("scan"))))
            yield from self._compared()
            self._change_to(self._open(_inner(self._state.get("inner"))))
        for batch in self._inner:
            self._rejected.extend(self._inner.rejections())
            yield self._batch(
                batch.rows, Operation.UPSERT, None if batch.state is None else {"inner": _json(batch.state)}
            )
        if not broken_off and self._now - datetime.fromisoformat(str(self._state["compared"])) >= self._every:
            self._change_to(self._scan(None))
            yield self._marker(Operation.COMPARE, {"scan": {}, "unsure": False})
            yield from self._compared()

    def _change_to(self, reader: BatchReader) -> None:
        self._inner.close()
        self._inner = reader

    def _compared(self) -> Iterator[Batch]:
        unsure = self._state.get("unsure") is True
        for batch in self._inner:
            refused = self._inner.rejections()
            self._rejected.extend(refused)
            unsure = unsure or bool(refused)
            going = batch.state is not None and not is_complete(batch.state)
            reached: dict[str, Json] = {"scan": _json(batch.state or {}), "unsure": unsure}
            yield self._batch(batch.rows, Operation.PRESENT, reached if going else None)
        ended: dict[str, Json] = {"scan": None, "unsure": None, "compared": self._now.isoformat()}
        if unsure:
            yield self._batch(pa.RecordBatch.from_pylist([], schema=self._inner.schema), Operation.PRESENT, ended)
        else:
            yield self._marker(Operation.SWEEP, ended)

    def _batch(self, rows: pa.RecordBatch, operation: Operation, reached: dict[str, Json] | None) -> Batch:
        self._state = advance(self._state, rows.num_rows, rows.nbytes, **(reached or {}))
        operations = pa.array([str(operation)] * rows.num_rows, pa.string())
        told = pa.RecordBatch.from_arrays([*rows.columns, operations], schema=with_operation(rows.schema))
        return Batch(told, None if reached is None else self._state)

    def _marker(self, operation: Operation, reached: dict[str, Json]) -> Batch:
        return self._batch(marker(self._inner.schema), operation, reached)


def marker(schema: pa.Schema) -> pa.RecordBatch:
    """Returns one row without values, to say something of the whole table."""
    nullable = pa.schema([each.with_nullable(True) for each in schema])
    return pa.RecordBatch.from_arrays([pa.nulls(1, each.type) for each in nullable], schema=nullable)


def _without_lag(source: Source) -> dict[str, Any]:
    return {"lag": None} if hasattr(source, "lag") else {}


def _inner(held: Json) -> State | None:
    return held if isinstance(held, dict) and held else None


def _json(state: State) -> dict[str, Json]:
    return dict(state)
