"""Orders of rows: what `sort`, `deduplicate` and `aggregate` have in common; every order here is total, so that runs agree."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from dsl.codes import Code
from dsl.contracts.spec import option
from dsl.expressions.types import Family, family, show
from dsl.processors.columns import at, field_at, split
from dsl.processors.step import Relation, Step


class Direction(StrEnum):
    """Which end comes first."""

    ASC = "asc"
    DESC = "desc"


class Nulls(StrEnum):
    """Where NULL stands."""

    FIRST = "first"
    LAST = "last"


@dataclass(frozen=True, kw_only=True)
class SortKey:
    """One key of an order."""

    column: str = option(doc="The column, or a dotted path into one.", example="updated_at")
    direction: Direction = option(default=Direction.ASC, doc="Whether small or large values come first.")
    nulls: Nulls = option(default=Nulls.LAST, doc="Where NULL stands, whatever the direction.")


def keys_of(order: Iterable[str | SortKey]) -> tuple[SortKey, ...]:
    """Returns an order whose every key is written out."""
    return tuple(SortKey(column=each) if isinstance(each, str) else each for each in order)


def order_sql(keys: Iterable[SortKey], *, turned: bool = False) -> str:
    """Returns the keys of an ORDER BY clause.

    Args:
        keys: The order.
        turned: Whether it runs from the end to the beginning.
    """
    return ", ".join(_key(each, turned) for each in keys)


def _key(key: SortKey, turned: bool) -> str:  # noqa: FBT001 - the one switch of a private function
    down = (key.direction is Direction.DESC) != turned
    first = (key.nulls is Nulls.FIRST) != turned
    return f"{at(split(key.column))} {'DESC' if down else 'ASC'} NULLS {'FIRST' if first else 'LAST'}"


def tie_break(relation: Relation) -> tuple[SortKey, ...]:
    """Returns every column as a key, so that an order that ends with them leaves no tie between rows that differ."""
    return tuple(SortKey(column=each.name) for each in relation.schema or () if "." not in each.name)


def check_order(step: Step, relation: Relation, order: Iterable[str | SortKey], *path: str | int) -> bool:
    """Tells whether every key of an order exists, noting those that do not."""
    clean = True
    for index, each in enumerate(order):
        column = each if isinstance(each, str) else each.column
        clean &= check_path(step, relation, column, *path, index)
    return clean


def check_path(step: Step, relation: Relation, column: str, *path: str | int) -> bool:
    """Tells whether a column or a path into one exists, noting it if not."""
    if relation.schema is None:
        return True
    names = split(column)
    if not step.has_column(relation, names[0], *path):
        return False
    for length in range(2, len(names) + 1):
        parent = field_at(relation.schema, names[: length - 1])
        if parent is not None and family(parent.type) is Family.UNKNOWN:
            return True
        if field_at(relation.schema, names[:length]) is None:
            told = f"{relation.name!r} has no field {'.'.join(names[:length])!r}"
            kind = "" if parent is None else f"{'.'.join(names[: length - 1])!r} is {show(parent.type)}"
            step.fault(Code.UNKNOWN_COLUMN, told, kind, *path)
            return False
    return True


def reads_of(columns: Iterable[str]) -> frozenset[str]:
    """Returns the top-level columns of some paths."""
    return frozenset(split(each)[0] for each in columns)
