"""Values that SQL systems would take for others, found before they are sent, so that their rows can be named; changes none."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from dsl.contracts.errors import RejectedRows

_A_DAY: Final = {"s": 86_400, "ms": 86_400 * 10**3, "us": 86_400 * 10**6, "ns": 86_400 * 10**9}
_EPOCH: Final = dt.date(1970, 1, 1).toordinal()
_FIRST_DAY: Final = dt.date.min.toordinal() - _EPOCH
_LAST_DAY: Final = dt.date.max.toordinal() - _EPOCH


def refuse(wrong: Any, reason: str, where: str) -> None:
    """Rejects the rows whose flag is set.

    Raises:
        RejectedRows: There are some.
    """
    rows = [index for index, each in enumerate(wrong.to_pylist()) if each]
    if rows:
        raise RejectedRows(reason, rows=rows, where=where)


def refuse_minus_zero(column: Any, name: str, where: str, becomes: str) -> None:
    """Rejects the rows with a floating-point -0.0; raises as `refuse` does.

    Args:
        column: Of any type.
        name: Its name.
        where: The system.
        becomes: What the system would make of it.
    """
    if pa.types.is_floating(column.type):
        negative = pc.less(pc.divide(pa.scalar(1.0, column.type), column), pa.scalar(0.0, column.type))
        zero = pc.equal(column, pa.scalar(0.0, column.type))
        refuse(pc.and_(zero, negative), f"column '{name}' is -0.0, which {becomes}", where)


def refuse_beyond_calendar(column: Any, name: str, where: str) -> None:
    """Rejects the rows whose date or timestamp lies outside of the years 1 to 9999, or whose time of day outside of its day.

    Neither Arrow nor Python has a text for them: what they print instead is another time. Raises as `refuse` does.
    """
    if pa.types.is_time(column.type):
        refuse(beyond_calendar(column), f"column '{name}' is no time between 00:00 and 24:00", where)
    elif pa.types.is_date32(column.type) or pa.types.is_timestamp(column.type):
        refuse(beyond_calendar(column), f"column '{name}' lies outside of the years 1 to 9999", where)


def beyond_calendar(column: Any) -> Any:
    """Returns which dates or timestamps lie outside of the years 1 to 9999, or times outside of their day."""
    kind = column.type
    narrow = pa.types.is_date32(kind) or pa.types.is_time32(kind)
    counts = pc.cast(pc.cast(column, pa.int32() if narrow else pa.int64()), pa.int64())
    if pa.types.is_time(kind):
        return _outside(counts, 0, _A_DAY[kind.unit])
    if not narrow and kind == pa.date64():
        return _outside(counts, _FIRST_DAY * _A_DAY["ms"], (_LAST_DAY + 1) * _A_DAY["ms"])
    if narrow:
        return _outside(counts, _FIRST_DAY, _LAST_DAY + 1)
    if kind.unit == "ns":  # 64 bits of them end in 2262
        return pc.and_(column.is_valid(), pa.scalar(False))
    return _outside(counts, _FIRST_DAY * _A_DAY[kind.unit], (_LAST_DAY + 1) * _A_DAY[kind.unit])


def _outside(counts: Any, first: int, end: int) -> Any:
    early = pc.less(counts, pa.scalar(first, pa.int64()))
    return pc.or_(early, pc.greater_equal(counts, pa.scalar(end, pa.int64())))
