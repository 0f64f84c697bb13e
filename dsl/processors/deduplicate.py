"""`deduplicate`: keeps one row for each key, always the same one; changes no column."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from dsl.codes import Code
from dsl.contracts.spec import OptionError, option
from dsl.plan.memory import Keys, Late
from dsl.processors.columns import at, split
from dsl.processors.kind import ProcessorKind
from dsl.processors.moments import is_moment, moment_sql
from dsl.processors.ordering import SortKey, check_order, keys_of, order_sql, tie_break
from dsl.processors.step import NOTHING, Planned, Step

_NUMBER = '"headrace row number"'


class Keep(StrEnum):
    """Which row of several stays."""

    FIRST = "first"
    LAST = "last"


@dataclass(frozen=True, kw_only=True)
class DeduplicateOptions:
    """Keeps one row for each key.

    `order_by` says which one: the first or last in that order. Rows that tie in it are told apart by their other columns, so that every run
    keeps the same row. NULL is a key like any other.

    In a workflow of `mode: stream`, and with `across_runs`, keys are remembered over stops and crashes, exactly as of the last commit,
    and the first row to come is the one that stays. `remember` bounds what is kept: a row passes if the last one of its key, by `time`,
    is older than that.
    """

    keys: tuple[str, ...] = option(default=(), doc="Columns that make the key; every column if absent.", example=["id"])
    order_by: tuple[str | SortKey, ...] = option(
        default=(), doc="The order among the rows of a key.", example=["updated_at"]
    )
    keep: Keep = option(default=Keep.FIRST, doc="Whether the first or the last row of that order stays.")
    across_runs: bool = option(
        default=False,
        doc="Remember keys in later runs too, where the source is read incrementally; a stream always does.",
    )
    remember: timedelta | None = option(
        default=None,
        doc="Forget a key when nothing of it has come for so long, by `time`; it is remembered for ever if absent.",
        example="7d",
    )
    time: str | None = option(default=None, doc="The date or timestamp that `remember` goes by.", example="created_at")
    late: Late = option(
        default=Late.FILTER,
        doc="What becomes of rows older than what is remembered: `filter` counts them, `reject` refuses them (`on_error`).",
    )

    def __post_init__(self) -> None:
        """Checks that the options fit together.

        Raises:
            OptionError: They do not.
        """
        if self.keep is Keep.LAST and not self.order_by:
            raise OptionError("keep", "`keep: last` needs an order", "say in order_by what comes last")
        if (self.remember is None) != (self.time is None):
            missing, given = ("time", "remember") if self.time is None else ("remember", "time")
            raise OptionError(
                given, f"`{given}` needs `{missing}`", "`remember: 7d` goes by the times in the column `time`"
            )
        if self.remember is not None and self.remember <= timedelta():
            raise OptionError("remember", "it must be longer than nothing", "write a duration such as 7d")


def plan(step: Step) -> Planned:
    """Plans a deduplication."""
    options = step.node.options
    assert isinstance(options, DeduplicateOptions)  # noqa: S101 - the table of kinds says so
    keys_fit = check_order(step, step.input, options.keys, "keys")
    if not check_order(step, step.input, options.order_by, "order_by") or not keys_fit:
        return NOTHING
    if step.endless or options.across_runs:
        return _remembering(step, options)
    if options.remember is not None:
        hint = "say across_runs: true, or leave it out"
        step.fault(Code.OPTIONS, "within one run all keys are remembered", hint, "remember")
    order = keys_of(options.order_by)
    turned = options.keep is Keep.LAST
    parts = [order_sql(order, turned=turned), order_sql(tie_break(step.input))]
    by = ", ".join(each for each in parts if each)
    keys = ", ".join(at(split(each)) for each in options.keys)
    number = f"row_number() OVER (PARTITION BY {keys}{' ORDER BY ' + by if by else ''})"
    numbered = f"SELECT *, {number} AS {_NUMBER} FROM {{0}}"
    sql = (
        f"SELECT * EXCLUDE ({_NUMBER}) FROM ({numbered}) WHERE {_NUMBER} = 1" if keys else "SELECT DISTINCT * FROM {0}"
    )
    return Planned(
        schema=step.input.schema,
        lineage=step.input.lineage,
        sql=sql,
        row_local=False,
        filters=True,
        total=True,
        reads=(None,),
    )


def _remembering(step: Step, options: DeduplicateOptions) -> Planned:
    """Rows pass as they come, so the first to come is the one that stays."""
    if options.order_by:
        code = Code.STREAM if step.endless else Code.OPTIONS
        told = "the rows of a key come over time: the first one has passed before a better one comes"
        step.fault(code, told, "leave order_by out", "order_by")
    if not (step.endless or step.growing):
        hint = "read the source incrementally, or leave across_runs out"
        step.fault(Code.OPTIONS, "a source that is read in full brings every key in every run", hint, "across_runs")
    if options.time is not None and not is_moment(step, options.time, "time"):
        return NOTHING
    keys = tuple(at(split(each)) for each in options.keys)
    memory = Keys(keys)
    if options.time is not None and options.remember is not None:
        memory = Keys(keys, moment_sql(step, options.time), options.remember, options.late)
    return Planned(
        schema=step.input.schema,
        lineage=step.input.lineage,
        sql="SELECT * FROM {0}",
        row_local=False,
        filters=True,
        reads=(None,),
        memory=memory,
    )


KIND = ProcessorKind(
    kind="deduplicate",
    title="Keep one row for each key",
    options=DeduplicateOptions,
    min_inputs=1,
    max_inputs=1,
    plan=plan,
    example="""type: deduplicate
config:
  keys: [user_id]
  order_by: [{column: updated_at, direction: desc}]
""",
)
