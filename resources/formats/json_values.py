"""Arrow values as JSON and back, exactly: what JSON has no type for becomes a text; a value that does not fit is refused.

Decimals, dates, times, timestamps (ISO 8601, UTC as `Z`; outside the years 0 to 9999 the number that Arrow holds), NaN
and infinities become texts, bytes become base64, durations numbers of their unit, maps with text keys objects, other maps
lists of pairs. `from_json` undoes all of it, given the type.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import decimal
import json
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dsl.contracts.state import Json
from resources.sql_refusals import beyond_calendar

# What Arrow converts exactly by itself, for speed.
_AS_THEY_ARE: dict[str, frozenset[type]] = {
    "int64": frozenset({int}),
    "int32": frozenset({int}),
    "double": frozenset({float, int}),
    "string": frozenset({str}),
    "bool": frozenset({bool}),
}
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def to_rows(rows: pa.RecordBatch | pa.Table) -> list[dict[str, Json]]:
    """Returns the rows as objects that `json.dumps` takes, one a row, keys in the order of the columns."""
    names = rows.schema.names
    if not names:
        return [{} for _ in range(rows.num_rows)]
    columns = [to_json(rows.column(each)) for each in range(len(names))]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def to_lines(rows: pa.RecordBatch | pa.Table) -> list[str]:
    """Returns the rows as JSON texts without line breaks."""
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False).encode
    return [encode(each) for each in to_rows(rows)]


def to_json(column: Any) -> list[Json]:
    """Returns a column's values as JSON values."""
    if isinstance(column, pa.ChunkedArray):
        return list(chain.from_iterable(to_json(each) for each in column.chunks))
    kind = column.type
    if isinstance(column, pa.ExtensionArray):
        return to_json(column.storage)
    if pa.types.is_dictionary(kind):
        return to_json(column.dictionary_decode())
    if pa.types.is_struct(kind):
        return _struct_to_json(column)
    if pa.types.is_map(kind):
        return _map_to_json(column)
    if _is_list(kind):
        return _list_to_json(column)
    return _plain_to_json(column)


def from_rows(rows: Sequence[Any], schema: pa.Schema) -> pa.RecordBatch:
    """Builds a batch from objects; a key that is absent is NULL.

    Raises:
        ValueError: A value does not fit its column; names the column.
    """
    columns = []
    for field in schema:
        try:
            columns.append(from_json([_key(each, field.name) for each in rows], field.type))
        except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
            raise ValueError(f"column '{field.name}': {_first_line(error)}") from error
    if not columns:
        empty: Any = pa.array([{}] * len(rows), pa.struct([]))
        return pa.RecordBatch.from_struct_array(empty)
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def from_json(values: Sequence[Any], kind: Any) -> Any:
    """Builds an array of a type from JSON values as `to_json` makes them.

    Raises:
        ValueError: A value does not fit the type.
    """
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, from_json(values, kind.storage_type))
    if pa.types.is_dictionary(kind):
        return from_json(values, kind.value_type).cast(kind)
    if pa.types.is_struct(kind):
        return _struct_from_json(values, kind)
    if pa.types.is_map(kind):
        return _map_from_json(values, kind)
    if _is_list(kind):
        return _list_from_json(values, kind)
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return _instants_from_json(values, kind)
    types = set(map(type, values)) - {type(None)}
    if types and types <= _AS_THEY_ARE.get(str(kind), frozenset()):
        found = pa.array(values, kind)
        if not pa.types.is_floating(kind) or pc.any(pc.is_inf(found)).as_py() is not True:
            return found
    convert = _converter(kind)
    return pa.array([None if each is None else convert(each) for each in values], kind)


def _key(row: Any, name: str) -> Any:
    if not isinstance(row, dict):
        raise ValueError(f"{type(row).__name__} is not an object")  # noqa: TRY004 - the caller's ValueError
    return row.get(name)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


# ---- to JSON ------------------------------------------------------------------------------------


def _plain_to_json(column: Any) -> list[Json]:
    kind = column.type
    if pa.types.is_floating(kind):
        return _floats_to_json(column)
    if pa.types.is_decimal(kind):
        return [None if each is None else format(each, "f") for each in column.to_pylist()]
    if pa.types.is_timestamp(kind):
        return _timestamps_to_json(column)
    if pa.types.is_date(kind):
        return _iso_or_ticks(column, column.cast(pa.string()))
    if pa.types.is_time(kind):
        return _iso_or_ticks(column, column.cast(pa.string()))
    if pa.types.is_duration(kind):
        return _listed(column.cast(pa.int64()))
    if _is_bytes(kind):
        return [None if each is None else base64.b64encode(each).decode() for each in column.to_pylist()]
    return [list(each) if isinstance(each, pa.MonthDayNano) else each for each in _listed(column)]


def _listed(column: Any) -> list[Any]:
    return list(column.to_pylist())


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _floats_to_json(column: Any) -> list[Json]:
    values: list[Any] = column.to_pylist()
    if pc.all(pc.is_finite(column)).as_py() is not False:
        return values
    return [each if each is None or math.isfinite(each) else _name_of(each) for each in values]


def _name_of(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _timestamps_to_json(column: Any) -> list[Json]:
    kind = column.type
    moved = column.cast(pa.timestamp(kind.unit, "UTC")) if kind.tz else column
    return _iso_or_ticks(column, pc.replace_substring(moved.cast(pa.string()), " ", "T"))


def _iso_or_ticks(column: Any, texts: Any) -> list[Json]:
    """Returns ISO 8601 texts; one beyond the years 1 to 9999, or its day, is given as the number that Arrow holds."""
    found: list[Json] = texts.to_pylist()
    width = pa.int32() if pa.types.is_date32(column.type) or pa.types.is_time32(column.type) else pa.int64()
    for at, beyond in enumerate(beyond_calendar(column).to_pylist()):
        if beyond:
            found[at] = column[at].cast(width).as_py()
    return found


def _struct_to_json(column: Any) -> list[Json]:
    names = [column.type.field(each).name for each in range(column.type.num_fields)]
    if not names:
        return [{} if valid else None for valid in column.is_valid().to_pylist()]
    parts = [to_json(each) for each in column.flatten()]
    valid = column.is_valid().to_pylist()
    rows = zip(*parts, strict=True)
    return [dict(zip(names, row, strict=True)) if there else None for there, row in zip(valid, rows, strict=True)]


def _list_to_json(column: Any) -> list[Json]:
    items = to_json(pc.list_flatten(column))
    lengths = pc.list_value_length(column).to_pylist()
    found: list[Json] = []
    at = 0
    for length in lengths:
        if length is None:
            found.append(None)
        else:
            found.append(items[at : at + length])
            at += length
    return found


def _map_to_json(column: Any) -> list[Json]:
    pairs = _list_to_json(column.cast(pa.list_(_entry_of(column.type))))
    named = pa.types.is_string(column.type.key_type) or pa.types.is_large_string(column.type.key_type)
    return [None if each is None else _entries(each, named=named) for each in pairs]


def _entries(pairs: Any, *, named: bool) -> Json:
    found: Any = [[each["key"], each["value"]] for each in pairs]
    keys = {str(key) for key, _ in found}
    return dict(found) if named and len(keys) == len(found) else found


def _entry_of(kind: Any) -> pa.DataType:
    return pa.struct([pa.field("key", kind.key_type), pa.field("value", kind.item_type)])


# ---- from JSON ----------------------------------------------------------------------------------


def _converter(kind: pa.DataType) -> Callable[[Any], Any]:
    for fits, make in _CONVERTERS:
        if fits(kind):
            return make(kind)
    raise ValueError(f"type {kind} cannot be read from JSON")


def _expect(value: Any, *types: type) -> Any:
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise ValueError(f"{_shown(value)} is not {' or '.join(each.__name__ for each in types)}")
    return value


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else text[:37] + "..."


def _integer(value: Any) -> int:
    if isinstance(value, (float, decimal.Decimal)) and value == int(value):
        return int(value)
    if isinstance(value, str):
        return int(value)
    return int(_expect(value, int))


def _float(value: Any) -> float:
    if isinstance(value, str) and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    found = float(value if isinstance(value, str) else _expect(value, int, float, decimal.Decimal))
    if math.isinf(found):
        raise ValueError(f"{value} is too large for a number with a floating point")
    return found


def _boolean(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    return bool(_expect(value, bool))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _exact(value)


def _exact(value: Any) -> str:
    """Returns a JSON value as text with every digit of its numbers, which `json.dumps` does not write for a Decimal."""
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, list):
        return f"[{','.join(map(_exact, value))}]"
    if isinstance(value, dict):
        return (
            "{" + ",".join(f"{json.dumps(key, ensure_ascii=False)}:{_exact(each)}" for key, each in value.items()) + "}"
        )
    return json.dumps(value, ensure_ascii=False)


def _decimal(value: Any) -> decimal.Decimal:
    try:
        return decimal.Decimal(str(_expect(value, str, int, float, decimal.Decimal)))
    except decimal.InvalidOperation as error:
        raise ValueError(f"{_shown(value)} is not a decimal number") from error


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(_expect(value, str), validate=True)
    except binascii.Error as error:
        raise ValueError(f"{_shown(value)} is not base64") from error


def _instants_from_json(values: Sequence[Any], kind: Any) -> Any:
    width = pa.int32() if pa.types.is_date32(kind) else pa.int64()
    if all(each is None or isinstance(each, str) for each in values):
        return pa.array(values, pa.string()).cast(kind)
    ticks = [
        pa.scalar(each, pa.string()).cast(kind).cast(width).as_py()
        if isinstance(each, str)
        else _optional_integer(each)
        for each in values
    ]
    return pa.array(ticks, width).cast(kind)


def _optional_integer(value: Any) -> int | None:
    return None if value is None else _integer(value)


def _interval(value: Any) -> Any:
    build: Any = pa.MonthDayNano  # its stub has other arguments than its constructor
    return build(_expect(value, list))


def _time(kind: pa.DataType) -> Callable[[Any], Any]:
    unit: str = getattr(kind, "unit", "us")
    scale: int = {"s": 0, "ms": 3, "us": 6, "ns": 9}[unit]

    def convert(value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value  # of a time that no clock shows
        whole, _, part = str(_expect(value, str)).partition(".")
        at = dt.time.fromisoformat(whole)
        if part and (not part.isdigit() or part[scale:].strip("0")):
            raise ValueError(f"{_shown(value)} is finer than {unit}")
        seconds = at.hour * 3600 + at.minute * 60 + at.second
        return seconds * int(10**scale) + int(part[:scale].ljust(scale, "0") or 0)

    return convert


_CONVERTERS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType], Callable[[Any], Any]]], ...] = (
    (pa.types.is_null, lambda _: lambda value: _expect(value, type(None))),
    (pa.types.is_boolean, lambda _: _boolean),
    (pa.types.is_integer, lambda _: _integer),
    (pa.types.is_floating, lambda _: _float),
    (pa.types.is_decimal, lambda _: _decimal),
    (lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind), lambda _: _text),
    (_is_bytes, lambda _: _bytes),
    (pa.types.is_time, _time),
    (pa.types.is_duration, lambda _: _integer),
    (pa.types.is_interval, lambda _: _interval),
)


def _struct_from_json(values: Sequence[Any], kind: Any) -> Any:
    fields = [kind.field(each) for each in range(kind.num_fields)]
    known = {each.name for each in fields}
    for each in values:
        if each is not None and set(_expect(each, dict)) - known:
            raise ValueError(f"'{min(set(each) - known)}' is not a field of {kind}")
    mask = pa.array([each is None for each in values], pa.bool_())
    if not fields:
        return pa.array([None if each is None else {} for each in values], kind)
    parts = [
        from_json([None if each is None else each.get(field.name) for each in values], field.type) for field in fields
    ]
    return pa.StructArray.from_arrays(parts, fields=fields, mask=mask)


def _list_from_json(values: Sequence[Any], kind: Any) -> Any:
    items = from_json(
        list(chain.from_iterable(_expect(each, list) for each in values if each is not None)), kind.value_type
    )
    offsets = _offsets(0 if each is None else len(each) for each in values)
    mask = pa.array([each is None for each in values], pa.bool_())
    if pa.types.is_large_list(kind):
        return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), items, type=kind, mask=mask)
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items, mask=mask)
    return lists.cast(kind)


def _map_from_json(values: Sequence[Any], kind: Any) -> Any:
    pairs: list[Any] = [
        None if each is None else list(each.items()) if isinstance(each, dict) else _expect(each, list)
        for each in values
    ]
    flat = list(chain.from_iterable(each for each in pairs if each is not None))
    if any(len(_expect(each, list, tuple)) != 2 for each in flat):
        raise ValueError("an entry of a map is not a pair")
    keys = from_json([key for key, _ in flat], kind.key_type)
    items = from_json([value for _, value in flat], kind.item_type)
    ends = _offsets(0 if each is None else len(each) for each in pairs)
    offsets: list[int | None] = [None if each is None else at for each, at in zip(pairs, ends[:-1], strict=True)]
    build: Any = pa.MapArray.from_arrays  # its stub takes only 64-bit starts, which it refuses
    return build(pa.array([*offsets, ends[-1]], pa.int32()), keys, items, kind)


def _offsets(lengths: Iterable[int]) -> list[int]:
    found = [0]
    for each in lengths:
        found.append(found[-1] + each)
    return found
