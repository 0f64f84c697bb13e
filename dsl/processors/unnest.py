"""`unnest`: one row for each item of a list; a list without items leaves no row unless asked to."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from dsl.codes import Code
from dsl.contracts.spec import option
from dsl.expressions.types import Family, family, item_of, show
from dsl.processors.columns import Field, at, field_at, of_columns, quoted, split
from dsl.processors.kind import ProcessorKind
from dsl.processors.ordering import check_path, reads_of
from dsl.processors.step import NOTHING, Planned, Step


@dataclass(frozen=True, kw_only=True)
class UnnestOptions:
    """One row for each item of a list, with the other columns beside it.

    A list that is a column of its own is replaced by its item, which becomes the last column; one inside a struct stays where it is.
    """

    column: str = option(doc="The list: a column, or a dotted path into one.", example="items")
    outer: bool = option(default=False, doc="Whether a row whose list is empty or NULL stays, with NULL as its item.")
    destination: str | None = option(
        default=None, doc="The item's column; the list's own name if absent.", example="item"
    )


def plan(step: Step) -> Planned:
    """Plans an unnest."""
    options = step.node.options
    assert isinstance(options, UnnestOptions)  # noqa: S101 - the table of kinds says so
    if not check_path(step, step.input, options.column, "column"):
        return NOTHING
    path = split(options.column)
    name = options.destination or path[-1]
    found = None if step.input.schema is None else field_at(step.input.schema, path)
    kind = pa.null() if found is None else found.type
    if family(kind) not in {Family.LIST, Family.UNKNOWN}:
        told = f"{options.column!r} is {show(kind)}, not a list"
        step.fault(Code.COLUMN_TYPE, told, "only a list has items", "column")
        return NOTHING
    gone = path[0] if len(path) == 1 else ""
    kept = [each for each in step.input.schema or () if each.name != gone]
    if not step.distinct((*((each.name, ("column",)) for each in kept), (name, ("destination",)))):
        return NOTHING
    items = at(path)
    if options.outer:
        items = f"CASE WHEN len({items}) > 0 THEN {items} ELSE [NULL] END"
    star = f"* EXCLUDE ({quoted(gone)})" if gone and len(step.input.names) != 1 else ""
    select = f"{star}, " if star else "" if gone else "*, "
    return Planned(
        schema=None if step.input.schema is None else pa.schema([*kept, _item(kind).with_name(name)]),
        lineage={
            **{each.name: tuple(step.input.lineage.get(each.name, ())) for each in kept},
            name: of_columns(step.input.lineage, [path[0]]),
        },
        sql=f"SELECT {select}unnest({items}) AS {quoted(name)} FROM {{0}}",
        expands=True,
        filters=not options.outer,
        total=True,
        reads=(reads_of([options.column]),),
    )


def _item(kind: pa.DataType) -> Field:
    if family(kind) is Family.UNKNOWN:
        return pa.field("", pa.null())
    field: Field = kind.field(0)
    return pa.field("", item_of(kind), metadata=field.metadata)


KIND = ProcessorKind(
    kind="unnest",
    title="One row for each item of a list",
    options=UnnestOptions,
    min_inputs=1,
    max_inputs=1,
    plan=plan,
    example="""type: unnest
config:
  column: items
  destination: item
""",
)
