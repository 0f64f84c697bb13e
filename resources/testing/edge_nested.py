"""Edge values of lists; data only."""

from __future__ import annotations

from decimal import Decimal

from resources.testing.edge_model import DUCKDB, POSTGRES, Family, family, words
from resources.testing.meanings import Day, Meaning, Moment


def _items(system: str, values: tuple[Meaning, ...]) -> str:
    if system == POSTGRES and all(each is None for each in values):
        return "'{" + ", ".join("NULL" for _ in values) + "}'"
    return ("ARRAY" if system == POSTGRES else "") + "[" + ", ".join(_item(system, each) for each in values) + "]"


def _item(system: str, value: Meaning) -> str:
    if isinstance(value, str):
        return str(words(system, value))
    if isinstance(value, tuple):
        return _items(system, value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"'{value}'::float8"
    if isinstance(value, bytes):
        return f"'\\x{value.hex()}'::bytea" if system == POSTGRES else f"from_hex('{value.hex()}')"
    if isinstance(value, Day):
        return f"DATE '{value.year:04}-{value.month:02}-{value.day:02}'"
    if isinstance(value, Moment):
        seconds, fraction = divmod(value.nanoseconds, 10**9)
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction // 1000:06}"
        return f"TIMESTAMP '{value.day.year:04}-{value.day.month:02}-{value.day.day:02} {clock}'"
    return "NULL" if value is None else str(value)


def _write(system: str, meaning: Meaning) -> str | None:
    assert isinstance(meaning, tuple)
    if system == POSTGRES and any(isinstance(each, str) and "\0" in each for each in meaning):
        return None
    return _items(system, meaning)


def _both(postgres: str, duckdb: str) -> dict[str, str]:
    return {POSTGRES: postgres, DUCKDB: duckdb}


NESTED: tuple[Family, ...] = (
    family(
        "integers",
        _both("integer[]", "INTEGER[]"),
        {
            "empty": (), "one": (1,), "null_inside": (1, None, 3), "only_null": (None,), "limits": (-(2**31), 2**31 - 1),
            "thousand": tuple(range(1000)),
        },
        _write,
    ),
    family("bigints", _both("bigint[]", "BIGINT[]"), {"limits": (-(2**63) + 1, 2**63 - 1, 2**53 + 1)}, _write),
    family("booleans", _both("boolean[]", "BOOLEAN[]"), {"both": (True, False, None)}, _write),
    family(
        "texts",
        _both("text[]", "VARCHAR[]"),
        {
            "empty": (), "words": ("a", "", "NULL", None), "marks": ('"', "\\", "'", ",", "{", "}", "[", " "), "nul": ("a\0b",),
            "lines": ("\n", "\t", "\r\n"), "emoji": ("😀", "ü"),
        },
        _write,
    ),
    family(
        "doubles",
        _both("double precision[]", "DOUBLE[]"),
        {
            "plain": (1.5, -0.0, 0.1, None), "nan": (float("nan"),), "infinities": (float("inf"), float("-inf")),
            "limits": (1.7976931348623157e308, 5e-324),
        },
        _write,
    ),
    family(
        "decimals",
        _both("numeric(38,10)[]", "DECIMAL(38,10)[]"),
        {"plain": (Decimal("1.5"), Decimal("-0.0000000001"), None), "limits": (Decimal("9" * 28 + "." + "9" * 10),)},
        _write,
    ),
    family("byte_strings", _both("bytea[]", "BLOB[]"), {"plain": (b"", b"\0\xff", b"\\", None)}, _write),
    family("dates", _both("date[]", "DATE[]"), {"plain": (Day(1, 1, 1), Day(9999, 12, 31), None)}, _write),
    family(
        "timestamps",
        _both("timestamp[]", "TIMESTAMP[]"),
        {"plain": (Moment(Day(1, 1, 1), 0), Moment(Day(9999, 12, 31), 86_399_999_999_000), None)},
        _write,
    ),
    family(
        "lists_of_lists",
        _both("integer[]", "INTEGER[][]"),
        {"square": ((1, 2), (3, 4))},
        _write,
        {"ragged": (((1,), (), None), {DUCKDB: "[[1], [], NULL]"})},
    ),
)  # fmt: skip
