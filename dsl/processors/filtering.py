"""`filter`: keeps the rows for which a condition is true; changes no column."""

from __future__ import annotations

from dataclasses import dataclass

from dsl.contracts.spec import option
from dsl.expressions import compile_condition
from dsl.processors.columns import braced
from dsl.processors.kind import ProcessorKind
from dsl.processors.step import NOTHING, Planned, Step


@dataclass(frozen=True, kw_only=True)
class FilterOptions:
    """Keeps the rows for which a condition is true; a condition that is NULL is not."""

    condition: str = option(doc="What must be true.", example="user.email != null", expression="condition")


def plan(step: Step) -> Planned:
    """Plans a filter."""
    options = step.node.options
    assert isinstance(options, FilterOptions)  # noqa: S101 - the table of kinds says so
    compiled = step.compiled(compile_condition, options.condition, step.input.schema, "condition")
    if compiled is None:
        return NOTHING
    return Planned(
        schema=step.input.schema,
        lineage=step.input.lineage,
        sql=f"SELECT * FROM {{0}} WHERE {braced(compiled.sql)}",
        filters=True,
        total=compiled.total,
        uses_now=compiled.uses_now,
        reads=(compiled.columns,),
    )


KIND = ProcessorKind(
    kind="filter",
    title="Keep the rows that a condition is true for",
    options=FilterOptions,
    min_inputs=1,
    max_inputs=1,
    plan=plan,
    example="""type: filter
config:
  condition: "user.email != null"
""",
)
