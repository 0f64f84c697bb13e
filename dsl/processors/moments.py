"""Columns that say when something happened, as `aggregate` and `deduplicate` use them; computes nothing."""

from __future__ import annotations

from dsl.codes import Code
from dsl.expressions.types import MOMENTS, Family, family, show
from dsl.processors.columns import Field, at, field_at, split
from dsl.processors.ordering import check_path
from dsl.processors.step import Step


def is_moment(step: Step, column: str, *path: str | int) -> bool:
    """Tells whether a column exists and says when something happened, noting it if not."""
    if not check_path(step, step.input, column, *path):
        return False
    field = field_of(step, column)
    if field is None or family(field.type) in MOMENTS | {Family.UNKNOWN}:
        return True
    told = f"{column!r} is {show(field.type)}, not a date or timestamp"
    step.fault(Code.COLUMN_TYPE, told, "cast it in a mapping before", *path)
    return False


def field_of(step: Step, column: str) -> Field | None:
    """Returns the field of a column; None while it is unknown."""
    return None if step.input.schema is None else field_at(step.input.schema, split(column))


def is_zoned(step: Step, column: str) -> bool:
    """Tells whether a column's times are points in time and not the face of a clock."""
    field = field_of(step, column)
    return field is not None and family(field.type) is Family.TIMESTAMPTZ


def moment_sql(step: Step, column: str) -> str:
    """Returns SQL of a column in microseconds since 1970; NULL where it is no time that one can count to."""
    value = f"CAST({at(split(column))} AS {'TIMESTAMPTZ' if is_zoned(step, column) else 'TIMESTAMP'})"
    return f"CASE WHEN isfinite({value}) THEN epoch_us({value}) END"
