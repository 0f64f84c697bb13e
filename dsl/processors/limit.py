"""`limit`: keeps the first rows; which ones those are is decided by a `sort` before it."""

from __future__ import annotations

from dataclasses import dataclass

from dsl.contracts.spec import OptionError, option
from dsl.processors.kind import ProcessorKind
from dsl.processors.step import Planned, Step


@dataclass(frozen=True, kw_only=True)
class LimitOptions:
    """Keeps the first rows, in the order of the `sort` before it; without one, any rows."""

    rows: int = option(doc="Rows to keep, at most.", example=1000)
    offset: int = option(default=0, doc="Rows to leave out first.")

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            OptionError: One is negative.
        """
        for name in ("rows", "offset"):
            if getattr(self, name) < 0:
                raise OptionError(name, f"{name} is negative", "count from 0")


def plan(step: Step) -> Planned:
    """Plans a limit."""
    options = step.node.options
    assert isinstance(options, LimitOptions)  # noqa: S101 - the table of kinds says so
    return Planned(
        schema=step.input.schema,
        lineage=step.input.lineage,
        sql=f"SELECT * FROM {{0}} LIMIT {options.rows} OFFSET {options.offset}",
        row_local=False,
        filters=True,
        total=True,
        reads=(frozenset(),),
    )


KIND = ProcessorKind(
    kind="limit",
    title="Keep the first rows",
    options=LimitOptions,
    min_inputs=1,
    max_inputs=1,
    plan=plan,
    example="""type: limit
config:
  rows: 1000
""",
)
