"""`aggregate`: one row for each group; every result is the same in every run, except for the last digits of sums of floats."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import pyarrow as pa

from dsl.codes import Code
from dsl.contracts.spec import OptionError, option
from dsl.expressions.types import MOMENTS, NUMBERS, TIMESTAMP, TIMESTAMPTZ, Family, decimal_of, family, show
from dsl.processors.columns import Field, at, field_at, of_columns, quoted, split, text
from dsl.processors.kind import ProcessorKind
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
    """A tumbling window: each row belongs to exactly one."""

    column: str = option(doc="The date or timestamp that places a row.", example="created_at")
    size: timedelta = option(doc="How long a window lasts; weeks begin on Mondays.", example="1h")

    def __post_init__(self) -> None:
        """Checks the size.

        Raises:
            OptionError: It is nothing.
        """
        if self.size <= timedelta():
            raise OptionError("size", "a window lasts longer than nothing", "write a duration such as 1h")


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
    select = ", ".join(f"{each.sql} AS {quoted(each.field.name)}" for each in columns)
    groups = f" GROUP BY {', '.join(grouped)}" if grouped else ""
    return Planned(
        schema=pa.schema([each.field for each in columns]),
        lineage={each.field.name: of_columns(step.input.lineage, each.reads) for each in columns},
        sql=f"SELECT {select} FROM {{0}}{groups}",
        row_local=False,
        filters=True,
        total=False,
        reads=(frozenset[str]().union(*(each.reads for each in columns)),),
    )


def _key(step: Step, column: str, index: int) -> _Column | None:
    if not check_path(step, step.input, column, "group_by", index):
        return None
    return _Column(_field(step, column).with_name(split(column)[-1]), at(split(column)), reads_of([column]))


def _field(step: Step, column: str) -> Field:
    found = None if step.input.schema is None else field_at(step.input.schema, split(column))
    return found if found is not None else pa.field(column, pa.null())


def _window(step: Step, window: Window) -> list[_Column | None]:
    if not check_path(step, step.input, window.column, "window", "column"):
        return [None]
    kind = _field(step, window.column).type
    if family(kind) not in MOMENTS | {Family.UNKNOWN}:
        told = f"{window.column!r} is {show(kind)}, not a date or timestamp"
        step.fault(Code.COLUMN_TYPE, told, "cast it in a mapping before", "window", "column")
        return [None]
    zoned = family(kind) is Family.TIMESTAMPTZ
    column = f"CAST({at(split(window.column))} AS {'TIMESTAMPTZ' if zoned else 'TIMESTAMP'})"
    span = f"INTERVAL {text(f'{window.size // timedelta(microseconds=1)} microseconds')}"
    start = f"time_bucket({span}, {column})"
    result = pa.null() if family(kind) is Family.UNKNOWN else TIMESTAMPTZ if zoned else TIMESTAMP
    reads = reads_of([window.column])
    return [_Column(pa.field(START, result), start, reads), _Column(pa.field(END, result), f"{start} + {span}", reads)]


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
