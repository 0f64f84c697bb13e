"""`aggregate`: one row for each group; every result is the same in every run, except for the last digits of sums of floats."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

import pyarrow as pa

from dsl.codes import Code
from dsl.contracts.spec import OptionError, option
from dsl.expressions.types import NUMBERS, TIMESTAMP, TIMESTAMPTZ, Family, decimal_of, family, show
from dsl.plan.memory import BUCKET, MOMENT, Late, Windows
from dsl.plan.windows import micros, placed
from dsl.processors.columns import Field, at, field_at, of_columns, quoted, split, text
from dsl.processors.kind import ProcessorKind
from dsl.processors.moments import is_moment, is_zoned, moment_sql
from dsl.processors.ordering import SortKey, check_order, check_path, keys_of, order_sql, reads_of
from dsl.processors.step import NOTHING, Planned, Step

START, END = "window_start", "window_end"


class Function(StrEnum):
    """What is computed of a group."""

    COUNT = "count"
    COUNT_DISTINCT = "count_distinct"
    SUM = "sum"
    AVG = "avg"
    MIN = "min"
    MAX = "max"
    FIRST = "first"
    LAST = "last"
    STDDEV = "stddev"
    MEDIAN = "median"
    STRING_AGG = "string_agg"
    LIST = "list"


_ORDERED = frozenset({Function.FIRST, Function.LAST, Function.STRING_AGG, Function.LIST})
_WANTED: dict[Function, frozenset[Family]] = {
    Function.SUM: NUMBERS,
    Function.AVG: NUMBERS,
    Function.STDDEV: NUMBERS,
    Function.MEDIAN: NUMBERS,
    Function.STRING_AGG: frozenset({Family.STRING}),
}


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """One column of the result."""

    function: Function = option(doc="What is computed.", example="sum")
    field: str | None = option(
        default=None, doc="The column, or a dotted path into one; `count` without it counts rows.", example="amount"
    )
    destination: str = option(doc="The column of the result.", example="total")
    separator: str = option(default=",", doc="What stands between the texts of `string_agg`.")
    order_by: tuple[str | SortKey, ...] = option(
        default=(), doc="The order for `first` and `last` (which need one), `list` and `string_agg` (the values' own)."
    )

    def __post_init__(self) -> None:
        """Checks that the options fit together.

        Raises:
            OptionError: They do not.
        """
        if self.field is None and self.function is not Function.COUNT:
            raise OptionError("field", f"{self.function} needs a field", "name a column")
        if self.function in {Function.FIRST, Function.LAST} and not self.order_by:
            raise OptionError("order_by", f"{self.function} needs an order", "say in order_by what comes first")
        if self.order_by and self.function not in _ORDERED:
            raise OptionError("order_by", f"{self.function} does not depend on an order", "leave order_by out")


@dataclass(frozen=True, kw_only=True)
class Window:
    """Spans of time that rows are counted in: one after the other, or overlapping where `every` is shorter than `size`.

    In a workflow of `mode: stream` a window is written once, when it closes: when a row has come whose time is `lateness` past the
    window's end. Rows of windows that are open are remembered, also over stops and crashes. A row whose windows are all closed is
    late; one that has no time is refused.
    """

    column: str = option(doc="The date or timestamp that places a row.", example="created_at")
    size: timedelta = option(doc="How long a window lasts; weeks begin on Mondays.", example="1h")
    every: timedelta | None = option(
        default=None, doc="How long after one window the next begins, if they overlap; `size` if absent.", example="5m"
    )
    lateness: timedelta = option(
        default=timedelta(), doc="In a stream, how long a window waits for rows that come late."
    )
    idle: timedelta | None = option(
        default=None,
        doc="In a stream, after so long without a row the windows close by the clock; they wait for the next row if absent.",
    )
    late: Late = option(
        default=Late.FILTER,
        doc="In a stream, what becomes of late rows: `filter` counts them, `reject` refuses them (`on_error`).",
    )

    def __post_init__(self) -> None:
        """Checks the durations.

        Raises:
            OptionError: A window would be nothing, or there would be time between two.
        """
        if self.size <= timedelta():
            raise OptionError("size", "a window lasts longer than nothing", "write a duration such as 1h")
        if self.every is not None and not timedelta() < self.every <= self.size:
            raise OptionError(
                "every", "windows begin one after the other, and leave no time between them", "write at most `size`"
            )
        if self.lateness < timedelta():
            raise OptionError("lateness", "a window cannot close before its end", "write a duration such as 5m")
        if self.idle is not None and self.idle <= timedelta():
            raise OptionError("idle", "it must be longer than nothing", "write a duration such as 1m")

    @property
    def only_streams(self) -> str:
        """The first option that is given and has a meaning in a stream only, or ""."""
        given = {"lateness": self.lateness, "idle": self.idle is not None, "late": self.late is not Late.FILTER}
        return next((name for name, value in given.items() if value), "")


@dataclass(frozen=True, kw_only=True)
class AggregateOptions:
    """One row for each group.

    The result has the columns of `group_by` (a path gives its last name), `window_start` and `window_end` where there is a
    `window`, and one column for each aggregate. NULL is a group of its own; aggregates leave NULL out, except `first`, `last` and `list`.
    A `sum` of integers is an int64 (a uint64's a decimal(38,0)); past it the run fails.
    """

    group_by: tuple[str, ...] = option(
        default=(), doc="The columns that make a group; one group of all if absent.", example=["country"]
    )
    aggregates: tuple[Aggregate, ...] = option(
        default=(), doc="What is computed of each group.", example=[{"function": "count", "destination": "users"}]
    )
    window: Window | None = option(default=None, doc="A span of time that groups rows too.")

    def __post_init__(self) -> None:
        """Checks that there is something to do.

        Raises:
            OptionError: There is not.
        """
        if not self.group_by and not self.aggregates:
            raise OptionError(
                "aggregates", "an aggregate needs `group_by` or `aggregates`", "name a column or a function"
            )


@dataclass(frozen=True)
class _Column:
    field: Field
    sql: str
    reads: frozenset[str]


def plan(step: Step) -> Planned:
    """Plans an aggregate."""
    options = step.node.options
    assert isinstance(options, AggregateOptions)  # noqa: S101 - the table of kinds says so
    keys = [_key(step, each, index) for index, each in enumerate(options.group_by)]
    window = [] if options.window is None else _window(step, options.window)
    results = [_result(step, each, index) for index, each in enumerate(options.aggregates)]
    columns = [each for each in (*keys, *window, *results) if each is not None]
    names: list[tuple[str, tuple[str | int, ...]]]
    names = [(split(each)[-1], ("group_by", index)) for index, each in enumerate(options.group_by)]
    names += [(each, ("window",)) for each in (START, END)] if options.window else []
    names += [(each.destination, ("aggregates", index, "destination")) for index, each in enumerate(options.aggregates)]
    if not step.distinct(tuple(names)) or len(columns) < len(names):
        return NOTHING
    grouped = [each.sql for each in (*keys, *window[:1]) if each is not None]
    if options.window is not None and _is_placed(step, options.window):
        grouped[-1] = quoted(BUCKET)
    select = ", ".join(f"{each.sql} AS {quoted(each.field.name)}" for each in columns)
    groups = f" GROUP BY {', '.join(grouped)}" if grouped else ""
    reads = frozenset[str]().union(*(each.reads for each in columns))
    sql = f"SELECT {select} FROM {{0}}{groups}"
    done = Planned(
        schema=pa.schema([each.field for each in columns]),
        lineage={each.field.name: of_columns(step.input.lineage, each.reads) for each in columns},
        sql=sql,
        row_local=False,
        filters=True,
        total=False,
        reads=(reads,),
    )
    return done if options.window is None else _windowed(step, options.window, done, grouped, reads)


def _windowed(step: Step, window: Window, done: Planned, grouped: list[str], reads: frozenset[str]) -> Planned:
    """The same over the rows of each window: all of them at the end, or in a stream those of a window when it closes."""
    time, every = moment_sql(step, window.column), window.every or window.size
    if not step.endless:
        if window.only_streams:
            told = f"{window.only_streams} has a meaning in a workflow of mode: stream only: here all rows are seen"
            step.fault(Code.OPTIONS, told, "leave it out", "window", window.only_streams)
        timed = f"(SELECT *, {time} AS {quoted(MOMENT)} FROM {{0}})"
        hopping = f"({placed(timed, quoted(MOMENT), window.size, every)})"
        return done if every == window.size else replace(done, sql=done.sql.replace("{0}", hopping))
    order = f" ORDER BY {', '.join(reversed(grouped))}"
    memory = Windows(
        time, window.size, every, window.lateness, window.idle, window.late, tuple(sorted(reads)), done.sql + order
    )
    return replace(done, memory=memory)


def _key(step: Step, column: str, index: int) -> _Column | None:
    if not check_path(step, step.input, column, "group_by", index):
        return None
    return _Column(_field(step, column).with_name(split(column)[-1]), at(split(column)), reads_of([column]))


def _field(step: Step, column: str) -> Field:
    found = None if step.input.schema is None else field_at(step.input.schema, split(column))
    return found if found is not None else pa.field(column, pa.null())


def _window(step: Step, window: Window) -> list[_Column | None]:
    if not is_moment(step, window.column, "window", "column"):
        return [None]
    zoned = is_zoned(step, window.column)
    kind = family(_field(step, window.column).type)
    result = pa.null() if kind is Family.UNKNOWN else TIMESTAMPTZ if zoned else TIMESTAMP
    if _is_placed(step, window):
        bucket = quoted(BUCKET)
        start, end = (_moment(each, zoned=zoned) for each in (bucket, f"{bucket} + {micros(window.size)}"))
    else:
        column = f"CAST({at(split(window.column))} AS {'TIMESTAMPTZ' if zoned else 'TIMESTAMP'})"
        span = f"INTERVAL {text(f'{micros(window.size)} microseconds')}"
        start = f"time_bucket({span}, {column})"
        end = f"{start} + {span}"
    reads = reads_of([window.column])
    return [_Column(pa.field(START, result), start, reads), _Column(pa.field(END, result), end, reads)]


def _is_placed(step: Step, window: Window) -> bool:
    """Tells whether rows are placed in windows before they are grouped; one window for each row is a matter of grouping."""
    return step.endless or window.every not in {None, window.size}


def _moment(micro: str, *, zoned: bool) -> str:
    return f"CAST(make_timestamp({micro}) AS TIMESTAMPTZ)" if zoned else f"make_timestamp({micro})"


def _result(step: Step, aggregate: Aggregate, index: int) -> _Column | None:
    place = ("aggregates", index)
    if aggregate.field is None:
        return _Column(pa.field(aggregate.destination, pa.int64()), "count(*)", frozenset())
    ordered = check_order(step, step.input, aggregate.order_by, *place, "order_by")
    if not check_path(step, step.input, aggregate.field, *place, "field") or not ordered:
        return None
    field = _field(step, aggregate.field)
    wanted = _WANTED.get(aggregate.function)
    if wanted is not None and family(field.type) not in wanted | {Family.UNKNOWN}:
        told = f"{aggregate.function} of {aggregate.field!r}, which is {show(field.type)}"
        hint = "cast it in a mapping before" if family(field.type) is Family.STRING else ""
        step.fault(Code.COLUMN_TYPE, told, hint, *place, "field")
        return None
    sql, result = _call(aggregate, at(split(aggregate.field)), field)
    keys = keys_of(aggregate.order_by)
    reads = reads_of([aggregate.field, *(each.column for each in keys)])
    return _Column(result.with_name(aggregate.destination), sql, reads)


def _call(aggregate: Aggregate, column: str, field: Field) -> tuple[str, Field]:
    function = aggregate.function
    double = pa.field("", pa.float64())
    own = SortKey(column=aggregate.field or "")
    order = order_sql((*keys_of(aggregate.order_by), own))
    if function is Function.SUM:
        return _sum(column, field)
    if function is Function.STRING_AGG:
        return f"string_agg({column}, {text(aggregate.separator)} ORDER BY {order})", pa.field("", pa.string())
    if function is Function.LIST:
        return f"list({column} ORDER BY {order})", pa.field("", pa.list_(field.with_name("item")))
    if function in {Function.FIRST, Function.LAST}:
        return f"{function}({column} ORDER BY {order})", field
    count = pa.field("", pa.int64())
    calls: dict[Function, tuple[str, Field]] = {
        Function.COUNT: (f"count({column})", count),
        Function.COUNT_DISTINCT: (f"count(DISTINCT {column})", count),
        Function.AVG: (f"CAST(avg({column}) AS DOUBLE)", double),
        Function.MIN: (f"min({column})", field),
        Function.MAX: (f"max({column})", field),
        Function.STDDEV: (f"stddev_samp(CAST({column} AS DOUBLE))", double),
        Function.MEDIAN: (f"CAST(median({column}) AS DOUBLE)", double),
    }
    return calls[function]


def _sum(column: str, field: Field) -> tuple[str, Field]:
    kind = family(field.type)
    if kind is Family.INTEGER and field.type != pa.uint64():
        return f"CAST(sum({column}) AS BIGINT)", pa.field("", pa.int64())
    if kind is Family.INTEGER:
        return f"CAST(sum({column}) AS DECIMAL(38, 0))", pa.field("", pa.decimal128(38, 0))
    if kind is Family.DECIMAL:
        return f"sum({column})", pa.field("", pa.decimal128(38, decimal_of(field.type)[1]))
    return f"sum({column})", pa.field("", pa.float64() if kind is Family.FLOAT else pa.null())


KIND = ProcessorKind(
    kind="aggregate",
    title="One row for each group",
    options=AggregateOptions,
    min_inputs=1,
    max_inputs=1,
    plan=plan,
    example="""type: aggregate
config:
  group_by: [country]
  aggregates:
    - {function: count, destination: orders}
    - {function: sum, field: amount, destination: revenue}
    - {function: first, field: name, destination: first_buyer, order_by: [created_at]}
""",
)
