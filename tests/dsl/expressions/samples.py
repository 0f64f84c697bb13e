"""A column of every type, and calls of every function over them; no expectations."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pyarrow as pa

from dsl.expressions.functions import Argument, Function

TYPES: dict[str, pa.DataType] = {
    "i8": pa.int8(), "i16": pa.int16(), "i32": pa.int32(), "i64": pa.int64(),
    "u8": pa.uint8(), "u16": pa.uint16(), "u32": pa.uint32(), "u64": pa.uint64(),
    "f32": pa.float32(), "f64": pa.float64(),
    "d42": pa.decimal128(4, 2), "d183": pa.decimal128(18, 3), "d3810": pa.decimal128(38, 10), "d90": pa.decimal128(9, 0),
    "s": pa.string(), "ls": pa.large_string(), "sv": pa.string_view(), "bin": pa.binary(), "b": pa.bool_(),
    "day": pa.date32(), "day64": pa.date64(), "at": pa.timestamp("us"), "at_s": pa.timestamp("s"), "at_ns": pa.timestamp("ns"),
    "tz": pa.timestamp("us", tz="UTC"), "tz_b": pa.timestamp("ms", tz="Europe/Berlin"), "clock": pa.time64("us"),
    "ivl": pa.month_day_nano_interval(), "js": pa.json_(pa.string()), "id": pa.uuid(),
    "l_i": pa.list_(pa.int32()), "l_s": pa.list_(pa.string()), "l_f": pa.list_(pa.float64(), 2), "l_l": pa.large_list(pa.int64()),
    "st": pa.struct([("a", pa.int32()), ("b", pa.string())]), "mp": pa.map_(pa.string(), pa.int32()),
    "dict": pa.dictionary(pa.int32(), pa.string()),
}  # fmt: skip
SCHEMA = pa.schema(list(TYPES.items()))
LITERALS = ("1", "-1", "1000", "100000", "10000000000", "1.5", "100.25", "1e0", "'x'", "null", "true")
_WORDS = {
    "unit": "'day'", "part": "'year'", "format": "'%Y'", "pattern": "'a'", "path": "'$.a'", "places": "1", "group": "0",
    "length": "3", "with": "'x'", "new": "'x'", "flags": "'g'", "separator": "','",
}  # fmt: skip
_SECOND = ["i8", "i32", "u16", "f64", "d42", "s", "day", "at", "tz", "l_s", "null", "2", "'x'"]
_THIRD = ["i8", "i64", "d42", "s", "tz", "null", "'x'"]


def _choices(argument: Argument, place: int) -> list[str]:
    if argument.literal:
        return [_WORDS[argument.name]]
    return [[*TYPES, "null", "1", "'x'"], _SECOND, _THIRD][min(place, 2)]


def calls(function: Function) -> Iterator[str]:
    least = sum(not each.optional for each in function.arguments)
    for count in range(least, len(function.arguments) + 1):
        places = [_choices(each, n) for n, each in enumerate(function.arguments[:count])]
        for given in product(*places):
            yield f"{function.name}({', '.join(given)})"
