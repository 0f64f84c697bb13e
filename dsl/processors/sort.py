"""`sort`: puts rows in an order; changes none of them."""

from __future__ import annotations

from dataclasses import dataclass

from dsl.contracts.spec import OptionError, option
from dsl.processors.kind import ProcessorKind
from dsl.processors.ordering import SortKey, check_order, keys_of, order_sql, reads_of
from dsl.processors.step import NOTHING, Planned, Step


@dataclass(frozen=True, kw_only=True)
class SortOptions:
    """Puts the rows in an order; NULL comes last unless the key says otherwise."""

    by: tuple[str | SortKey, ...] = option(
        doc="The keys, the most important one first.", example=["country", {"column": "total", "direction": "desc"}]
    )

    def __post_init__(self) -> None:
        """Checks that there is a key.

        Raises:
            OptionError: There is none.
        """
        if not self.by:
            raise OptionError("by", "an order needs at least one key", "name a column")


def plan(step: Step) -> Planned:
    """Plans a sort."""
    options = step.node.options
    assert isinstance(options, SortOptions)  # noqa: S101 - the table of kinds says so
    if not check_order(step, step.input, options.by, "by"):
        return NOTHING
    keys = keys_of(options.by)
    return Planned(
        schema=step.input.schema,
        lineage=step.input.lineage,
        sql=f"SELECT * FROM {{0}} ORDER BY {order_sql(keys)}",
        row_local=False,
        total=True,
        reads=(reads_of(each.column for each in keys),),
    )


KIND = ProcessorKind(
    kind="sort",
    title="Put rows in an order",
    options=SortOptions,
    min_inputs=1,
    max_inputs=1,
    plan=plan,
    example="""type: sort
config:
  by:
    - country
    - {column: total, direction: desc, nulls: last}
""",
)
