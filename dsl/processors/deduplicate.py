"""`deduplicate`: keeps one row for each key, always the same one; changes no column."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dsl.contracts.spec import OptionError, option
from dsl.processors.columns import at, split
from dsl.processors.kind import ProcessorKind
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
    """

    keys: tuple[str, ...] = option(default=(), doc="Columns that make the key; every column if absent.", example=["id"])
    order_by: tuple[str | SortKey, ...] = option(
        default=(), doc="The order among the rows of a key.", example=["updated_at"]
    )
    keep: Keep = option(default=Keep.FIRST, doc="Whether the first or the last row of that order stays.")

    def __post_init__(self) -> None:
        """Checks that the options fit together.

        Raises:
            OptionError: They do not.
        """
        if self.keep is Keep.LAST and not self.order_by:
            raise OptionError("keep", "`keep: last` needs an order", "say in order_by what comes last")


def plan(step: Step) -> Planned:
    """Plans a deduplication."""
    options = step.node.options
    assert isinstance(options, DeduplicateOptions)  # noqa: S101 - the table of kinds says so
    keys_fit = check_order(step, step.input, options.keys, "keys")
    if not check_order(step, step.input, options.order_by, "order_by") or not keys_fit:
        return NOTHING
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
