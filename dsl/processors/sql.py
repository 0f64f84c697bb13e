"""`sql`: one SELECT of DuckDB over the inputs, and its options; the query itself is judged in `sql_query`, imported with the first one."""

from __future__ import annotations

from dataclasses import dataclass

from dsl.contracts.spec import OptionError, option
from dsl.expressions import parse_type
from dsl.processors.kind import ProcessorKind
from dsl.processors.step import Planned, Step


@dataclass(frozen=True, kw_only=True)
class SqlOptions:
    """One SELECT in DuckDB's dialect over the inputs, which are tables called like the nodes they come from.

    A single input is also called `input`. It sees nothing else: no files, no settings, no other database. `now()` is the run's
    logical time; random functions are refused. Without `columns` the types of computed columns are known only when it runs.
    """

    query: str = option(doc="The SELECT.", example="select country, count(*) as users from users group by country")
    columns: dict[str, str] = option(
        default={},
        doc="The result's columns and their types: all of them, each is cast.",
        example={"country": "string", "users": "int64"},
    )

    def __post_init__(self) -> None:
        """Checks the declared types.

        Raises:
            OptionError: One is no type.
        """
        for name, kind in self.columns.items():
            try:
                parse_type(kind)
            except ValueError as error:
                raise OptionError(f"columns.{name}", str(error), getattr(error, "hint", "")) from error


def plan(step: Step) -> Planned:
    """Plans a query."""
    from dsl.processors.sql_query import plan_query  # noqa: PLC0415 - its parser takes longer to import than all else

    return plan_query(step)


KIND = ProcessorKind(
    kind="sql",
    title="A SELECT over the inputs",
    options=SqlOptions,
    min_inputs=1,
    max_inputs=None,
    plan=plan,
    example="""inputs: [users, orders]
type: sql
config:
  query: |
    select u.country, sum(o.amount) as revenue
    from orders o join users u on u.id = o.user_id
    group by u.country
""",
)
