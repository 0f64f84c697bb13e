"""How types of SQL systems and Arrow types meet, the same for every connector; talks to no system.

Columns that Arrow has no type for travel as text with a mark in their field's metadata: `headrace.type` is `json`,
`uuid`, `interval` or `decimal` (a number too long for decimal128). A value that its Arrow type cannot hold exactly is
rejected with a reason; it is never changed.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
from collections.abc import Callable, Sequence
from decimal import Context, Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

MARK = b"headrace.type"
JSON, UUID, INTERVAL, DECIMAL = b"json", b"uuid", b"interval", b"decimal"
TIMESTAMP = pa.timestamp("us")
INSTANT = pa.timestamp("us", "UTC")
MAX_PRECISION = 38
UNBOUNDED = pa.decimal128(MAX_PRECISION, 9)
_EXACT = Context(prec=200_000)
_DIGITS = {8: 3, 16: 5, 32: 10, 64: 19}


class Fit(StrEnum):
    """Whether values of one type can stand in a column of another, exactly."""

    YES = "yes"
    WIDEN = "widen"
    NO = "no"


def marked(name: str, mark: bytes) -> pa.Field[Any]:
    """Returns a text field that says what its text is."""
    return pa.field(name, pa.string(), metadata={MARK: mark})


def mark_of(field: pa.Field[Any]) -> bytes:
    """Returns the mark of a text field, or b""."""
    return (field.metadata or {}).get(MARK, b"")


def is_text(kind: pa.DataType) -> bool:
    """Tells whether it is any of Arrow's string types."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def is_bytes(kind: pa.DataType) -> bool:
    """Tells whether it is any of Arrow's binary types."""
    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def is_nested(kind: pa.DataType) -> bool:
    """Tells whether it holds other values: struct, list or map."""
    return bool(pa.types.is_nested(kind))


def decimal_type(precision: int, scale: int) -> pa.DataType | None:
    """Returns the Arrow type of `numeric(precision, scale)`, or None where it needs more than 38 digits."""
    digits = max(precision, scale) if scale >= 0 else precision - scale
    return pa.decimal128(digits, max(scale, 0)) if digits <= MAX_PRECISION else None


def plain(kind: pa.DataType) -> pa.DataType:  # noqa: PLR0911 - one rule a line
    """Returns the type that SQL systems are asked to store: no dictionaries, views, halves or large variants."""
    if pa.types.is_dictionary(kind):
        return plain(kind.value_type)
    if is_text(kind):
        return pa.string()
    if is_bytes(kind):
        return pa.binary()
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_date64(kind):
        return pa.date32()
    if pa.types.is_timestamp(kind):
        return TIMESTAMP if kind.tz is None else INSTANT
    if pa.types.is_time(kind):
        return pa.time64("us")
    if pa.types.is_unsigned_integer(kind):
        return pa.decimal128(20, 0) if kind.bit_width == 64 else pa.int64() if kind.bit_width == 32 else pa.int32()
    return kind


def fit(have: pa.DataType, come: pa.DataType) -> Fit:
    """Tells whether a column of type `have` (null: it has none) holds every value of type `come`, or could after widening."""
    have, come = plain(have), plain(come)
    if have == come or pa.types.is_null(come) or pa.types.is_null(have):
        return Fit.YES
    if is_text(have):
        return Fit.NO if is_bytes(come) else Fit.YES
    if pa.types.is_integer(come):
        return _fit_integer(have, come)
    if pa.types.is_floating(come) and pa.types.is_floating(have):
        return Fit.YES if have.bit_width >= come.bit_width else Fit.WIDEN
    if pa.types.is_decimal(come) and pa.types.is_decimal(have):
        return _fit_decimal(have, come)
    if pa.types.is_decimal(come) and pa.types.is_integer(have) and come.scale == 0:
        return Fit.WIDEN
    return Fit.YES if pa.types.is_date(come) and have == TIMESTAMP else Fit.NO


def _fit_integer(have: pa.DataType, come: pa.DataType) -> Fit:
    if pa.types.is_integer(have):
        return Fit.YES if have.bit_width >= come.bit_width else Fit.WIDEN
    digits = _DIGITS[come.bit_width]
    if pa.types.is_decimal(have):
        return Fit.YES if have.precision - have.scale >= digits else Fit.WIDEN
    if pa.types.is_floating(have):
        return Fit.YES if digits < (7 if have.bit_width == 32 else 15) else Fit.NO
    return Fit.NO


def _fit_decimal(have: Any, come: Any) -> Fit:
    if have.scale >= come.scale and have.precision - have.scale >= come.precision - come.scale:
        return Fit.YES
    wide = widened(have, come)
    return Fit.NO if wide is None else Fit.WIDEN


def widened(have: pa.DataType, come: pa.DataType) -> pa.DataType | None:
    """Returns the narrowest type that holds every value of both, or None."""
    have, come = plain(have), plain(come)
    if pa.types.is_floating(have) and pa.types.is_floating(come):
        return pa.float64()
    if pa.types.is_integer(have) and pa.types.is_integer(come):
        return have if have.bit_width >= come.bit_width else come
    if not all(pa.types.is_integer(each) or pa.types.is_decimal(each) for each in (have, come)):
        return None
    whole = max(_whole_digits(have), _whole_digits(come))
    scale = max(getattr(have, "scale", 0), getattr(come, "scale", 0))
    return pa.decimal128(whole + scale, scale) if whole + scale <= MAX_PRECISION else None


def _whole_digits(kind: Any) -> int:
    return int(_DIGITS[kind.bit_width] if pa.types.is_integer(kind) else kind.precision - kind.scale)


def conform(column: Any, kind: pa.DataType) -> Any:
    """Casts a column to the type its table has, exactly.

    Raises:
        pyarrow.ArrowInvalid: Some value has no exact equal in that type.
    """
    if column.type == kind:
        return column
    if pa.types.is_dictionary(column.type):
        return conform(column.dictionary_decode(), kind)
    if (is_text(kind) or pa.types.is_null(kind)) and is_nested(column.type):
        return json_text(column)
    if pa.types.is_null(kind):  # the column takes anything as it is
        return column
    if is_text(kind) and is_bytes(column.type):
        raise pa.ArrowInvalid("bytes are not text")
    if is_text(column.type) and pa.types.is_decimal(kind):
        return _decimals(column, kind)
    cast: pa.Array[Any] = pc.cast(column, kind, safe=True)
    return cast


def json_text(column: pa.Array[Any]) -> pa.Array[Any]:
    """Renders nested values as JSON text: instants in ISO 8601, bytes in base64, fractions of decimals as exact text."""
    try:
        values = column.to_pylist()
    except (OverflowError, ValueError) as error:
        raise pa.ArrowInvalid(f"a time within it has no text: {error}") from error
    return pa.array(
        [None if each is None else json.dumps(_jsonable(each), ensure_ascii=False) for each in values], pa.string()
    )


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(each) for each in value]
    if isinstance(value, Decimal):
        return int(value) if value.is_finite() and value == value.to_integral_value() else str(value)
    if isinstance(value, float) and (not math.isfinite(value) or str(value) == "-0.0"):
        return str(value)  # JSON has no number for it, or a server's numbers in JSON have no such zero
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value


def from_text(texts: pa.Array[Any], kind: pa.DataType) -> tuple[pa.Array[Any], tuple[int, ...]]:
    """Reads a column of texts as a type; a value that cannot be read exactly becomes null and is named.

    Returns:
        The column, and the indices of the values that could not be read.
    """
    try:
        return _parse(texts, kind), ()
    except (pa.ArrowInvalid, ValueError):
        pass
    values: list[Any] = []
    failed: list[int] = []
    for index in range(len(texts)):
        one = texts.slice(index, 1)
        try:
            values.append(_parse(one, kind))
        except (pa.ArrowInvalid, ValueError):
            failed.append(index)
            values.append(_nulls(1, kind))
    return pa.concat_arrays(values) if values else _nulls(0, kind), tuple(failed)


def _nulls(count: int, kind: Any) -> Any:
    return pa.array([None] * count, kind)


def _parse(texts: Any, kind: Any) -> Any:
    if is_text(kind):
        return texts
    if pa.types.is_boolean(kind):
        return _booleans(texts)
    if is_bytes(kind):
        return pa.array([None if each is None else _hex(each) for each in texts.to_pylist()], kind)
    if pa.types.is_list(kind):
        return _lists(texts, kind)
    if pa.types.is_time(kind):  # Arrow reads times of day only as part of a timestamp
        day = pa.array(["1970-01-01"] * len(texts))
        return pc.cast(pc.cast(pc.binary_join_element_wise(day, texts, " "), TIMESTAMP, safe=True), kind)
    if pa.types.is_decimal(kind):
        return _decimals(texts, kind)
    cast: pa.Array[Any] = pc.cast(texts, kind, safe=True)
    return cast


def _decimals(texts: pa.Array[Any], kind: Any) -> Any:
    """Reads numbers; of one with too many digits Arrow's own cast would make another."""
    digits = rf"^[+-]?0*[0-9]{{0,{kind.precision - kind.scale}}}(\.[0-9]{{0,{kind.scale}}})?$"
    if pc.all(pc.match_substring_regex(texts, digits), min_count=0).as_py():
        return pc.cast(texts, kind, safe=True)
    try:
        numbers = [None if each is None else _EXACT.normalize(Decimal(each)) for each in texts.to_pylist()]
    except InvalidOperation as error:
        raise pa.ArrowInvalid("not a number") from error
    return pa.array(numbers, kind)


def _booleans(texts: pa.Array[Any]) -> pa.Array[Any]:
    true = pc.is_in(texts, value_set=pa.array(["t", "true", "1"]))
    false = pc.is_in(texts, value_set=pa.array(["f", "false", "0"]))
    known = pc.or_(pc.or_(true, false), texts.is_null())
    if not pc.all(known, min_count=0).as_py():
        raise pa.ArrowInvalid("not a boolean")
    read: pa.Array[Any] = pc.if_else(texts.is_valid(), true, pa.scalar(None, pa.bool_()))
    return read


def _hex(text: str) -> bytes:
    if not text.startswith("\\x"):
        raise ValueError("bytes are not in hexadecimal form")
    return bytes.fromhex(text[2:])


def _lists(texts: pa.Array[Any], kind: Any) -> pa.Array[Any]:
    """Reads JSON lists of texts or nulls; a list within a list is refused."""
    rows = [None if each is None else json.loads(each) for each in texts.to_pylist()]
    for each in rows:
        if each is not None and any(isinstance(item, (list, dict)) for item in each):
            raise pa.ArrowInvalid("the array has more than one dimension")
    flat = pa.array([item for each in rows if each is not None for item in each], pa.string())
    values = _parse(flat, kind.value_type)
    offsets, total = [0], 0
    for each in rows:
        total += 0 if each is None else len(each)
        offsets.append(total)
    mask = pa.array([each is None for each in rows], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, mask=mask).cast(kind)


def from_values(
    values: Sequence[Any], kind: pa.DataType, convert: Callable[[Any], Any]
) -> tuple[pa.Array[Any], tuple[int, ...]]:
    """Builds a column of Python values; one that has no exact equal in the type becomes null and is named.

    Args:
        values: What the driver returned.
        kind: The column's type.
        convert: Turns one value into what Arrow takes for that type; raises ValueError or TypeError to refuse it.
    """
    try:
        return pa.array([None if each is None else convert(each) for each in values], kind), ()
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        pass
    good: list[Any] = []
    failed: list[int] = []
    for index, each in enumerate(values):
        try:
            good.append(pa.scalar(None if each is None else convert(each), kind))
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            failed.append(index)
            good.append(pa.scalar(None, kind))
    return pa.array([each.as_py() if each.is_valid else None for each in good], kind), tuple(failed)
