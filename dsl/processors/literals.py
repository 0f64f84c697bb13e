"""A plain YAML value as an SQL constant of a wanted type, or nothing if it does not fit; fits nothing by guessing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal

import pyarrow as pa

from dsl.expressions.types import Family, decimal_of, duckdb_name, family, holds
from dsl.processors.columns import text


def constant(value: object, kind: pa.DataType) -> str | None:
    """Returns SQL for a text, number or boolean as a value of a type; None where it is no such value.

    Args:
        value: As the document has it.
        kind: The wanted type; null means any.
    """
    if pa.types.is_null(kind):
        return _plain(value)
    return f"CAST({_plain(value)} AS {duckdb_name(kind)})" if _fits(value, kind) else None


def _plain(value: object) -> str | None:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return text(repr(value)) + "::DOUBLE"
    return text(value) if isinstance(value, str) else None


def _fits(value: object, kind: pa.DataType) -> bool:
    wanted = family(kind)
    if isinstance(value, bool):
        return wanted is Family.BOOLEAN
    if isinstance(value, int | float):
        return _number_fits(value, kind)
    if not isinstance(value, str):
        return False
    return wanted is Family.STRING or (wanted in _PARSERS and _parses(value, _PARSERS[wanted]))


def _number_fits(value: float, kind: pa.DataType) -> bool:
    wanted = family(kind)
    if wanted is Family.DECIMAL:
        precision, scale = decimal_of(kind)
        shifted = Decimal(repr(value)).scaleb(scale)
        return (
            shifted.is_finite() and shifted == shifted.to_integral_value() and abs(shifted) < Decimal(10) ** precision
        )
    return wanted is Family.FLOAT or (wanted is Family.INTEGER and isinstance(value, int) and holds(kind, value))


def _parses(value: str, parse: Callable[[str], object]) -> bool:
    try:
        parse(value)
    except ValueError:
        return False
    return True


_PARSERS: dict[Family, Callable[[str], object]] = {
    Family.DATE: dt.date.fromisoformat,
    Family.TIME: dt.time.fromisoformat,
    Family.TIMESTAMP: dt.datetime.fromisoformat,
    Family.TIMESTAMPTZ: dt.datetime.fromisoformat,
}
