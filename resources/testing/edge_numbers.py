"""Edge values of numbers and booleans; data only."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from resources.testing.edge_model import (
    DUCKDB,
    MYSQL,
    POSTGRES,
    SQLITE,
    SYSTEMS,
    Family,
    Writing,
    family,
    floating,
    number,
    truth,
)
from resources.testing.meanings import Meaning, Unfit

_NINES_28, _NINES_10 = "9" * 28, "9" * 10


def _whole(bits: int, *, unsigned: bool = False) -> dict[str, Meaning]:
    most = 2**bits - 1 if unsigned else 2 ** (bits - 1) - 1
    least = 0 if unsigned else -(2 ** (bits - 1))
    near = {"zero": 0, "one": 1, "max": most, "max_less_one": most - 1, "half": most // 2}
    return near if unsigned else {**near, "minus_one": -1, "min": least, "min_and_one": least + 1}


def _decimals(*texts: str) -> dict[str, Meaning]:
    return {each.replace("-", "minus_"): Decimal(each) for each in texts}


def _floats(values: Mapping[str, str]) -> dict[str, Meaning]:
    return {name: float.fromhex(text) if "0x" in text else float(text) for name, text in values.items()}


def _huge(declared: str) -> Writing:
    return lambda _, value: f"'{value!s}'::{declared}"


def _year(system: str, value: Meaning) -> str:
    del system
    return f"'{value!s:>04}'"


_STRANGERS = {
    "a_text": (Unfit("abc"), {SQLITE: "'abc'"}),
    "a_fraction": (Unfit("1.5"), {SQLITE: "1.5"}),
    "bytes": (Unfit(b"\x00\xff"), {SQLITE: "x'00ff'"}),
    "too_long_for_it": (Unfit("9.223372036854776e+18"), {SQLITE: "9223372036854775808"}),
}  # fmt: skip

NUMBERS: tuple[Family, ...] = (
    family(
        "boolean",
        {POSTGRES: "boolean", MYSQL: "TINYINT(1)", SQLITE: "BOOLEAN", DUCKDB: "BOOLEAN"},
        {"true": True, "false": False},
        truth,
        {
            "two": (Unfit("2"), {MYSQL: "2", SQLITE: "2"}),
            "minus_one": (Unfit("-1"), {MYSQL: "-1", SQLITE: "-1"}),
            "least": (Unfit("-128"), {MYSQL: "-128"}),
            "word": (Unfit("yes"), {SQLITE: "'yes'"}),
            "half": (Unfit("0.5"), {SQLITE: "0.5"}),
        },
    ),
    family("tinyint", {MYSQL: "TINYINT", DUCKDB: "TINYINT"}, _whole(8), number),
    family("smallint", dict.fromkeys(SYSTEMS, "SMALLINT"), _whole(16), number),
    family("mediumint", {MYSQL: "MEDIUMINT"}, _whole(24), number),
    family("integer", dict.fromkeys(SYSTEMS, "INTEGER"), _whole(32), number),
    family(
        "bigint",
        dict.fromkeys(SYSTEMS, "BIGINT"),
        {**_whole(64), "beyond_double": 2**53 + 1, "minus_beyond_double": -(2**53) - 1, "beyond_int32": 2**31},
        number,
        _STRANGERS,
    ),
    family("utinyint", {MYSQL: "TINYINT UNSIGNED", DUCKDB: "UTINYINT"}, _whole(8, unsigned=True), number),
    family("usmallint", {MYSQL: "SMALLINT UNSIGNED", DUCKDB: "USMALLINT"}, _whole(16, unsigned=True), number),
    family("uinteger", {MYSQL: "INT UNSIGNED", DUCKDB: "UINTEGER"}, _whole(32, unsigned=True), number),
    family(
        "ubigint",
        {MYSQL: "BIGINT UNSIGNED", DUCKDB: "UBIGINT"},
        {**_whole(64, unsigned=True), "beyond_bigint": 2**63},
        number,
    ),
    family("hugeint", {DUCKDB: "HUGEINT"}, _whole(128), _huge("HUGEINT")),
    family("uhugeint", {DUCKDB: "UHUGEINT"}, _whole(128, unsigned=True), _huge("UHUGEINT")),
    family("oid", {POSTGRES: "oid"}, _whole(32, unsigned=True), number),
    family("year", {MYSQL: "YEAR"}, {"first": 1901, "last": 2155, "zero": 0}, _year),
    family("bit64", {MYSQL: "BIT(64)"}, _whole(64, unsigned=True), number),
    family(
        "decimal_10_2",
        {POSTGRES: "numeric(10,2)", MYSQL: "DECIMAL(10,2)", SQLITE: "DECIMAL(10,2)", DUCKDB: "DECIMAL(10,2)"},
        _decimals("0.00", "1.50", "-1.50", "0.01", "-0.01", "99999999.99", "-99999999.99", "100.00", "0.10"),
        number,
        {"a_text": (Unfit("abc"), {SQLITE: "'abc'"}), "nan": (Decimal("NaN"), {POSTGRES: "'NaN'"})},
    ),
    family(
        "decimal_18_0",
        {POSTGRES: "numeric(18,0)", MYSQL: "DECIMAL(18,0)", SQLITE: "DECIMAL(18,0)", DUCKDB: "DECIMAL(18,0)"},
        _decimals("0", "999999999999999999", "-999999999999999999", "100000000000000000", "9007199254740993"),
        number,
    ),
    family(
        "decimal_38_10",
        {POSTGRES: "numeric(38,10)", MYSQL: "DECIMAL(38,10)", SQLITE: "DECIMAL_TEXT(38,10)", DUCKDB: "DECIMAL(38,10)"},
        _decimals(
            "0", "1", "-1", "0.0000000001", "-0.0000000001", f"{_NINES_28}.{_NINES_10}", f"-{_NINES_28}.{_NINES_10}",
            "1234567890123456789012345678.0123456789", "9007199254740993.1", "0.1", "1.10", "1000000000000000000000000000",
        ),
        number,
        {"nan": (Decimal("NaN"), {POSTGRES: "'NaN'"})},
    ),
    family(
        "decimal_38_0",
        {POSTGRES: "numeric(38,0)", MYSQL: "DECIMAL(38,0)", SQLITE: "DECIMAL_TEXT(38,0)", DUCKDB: "DECIMAL(38,0)"},
        _decimals("0", "9" * 38, "-" + "9" * 38, "1" + "0" * 37, "18446744073709551616"),
        number,
    ),
    family(
        "decimal_38_30",
        {POSTGRES: "numeric(38,30)", MYSQL: "DECIMAL(38,30)", SQLITE: "DECIMAL_TEXT(38,30)", DUCKDB: "DECIMAL(38,30)"},
        _decimals("0." + "0" * 29 + "1", "99999999." + "9" * 30, "-99999999." + "9" * 30),
        number,
    ),
    family(
        "decimal_38_38",
        {POSTGRES: "numeric(38,38)", SQLITE: "DECIMAL_TEXT(38,38)", DUCKDB: "DECIMAL(38,38)"},
        _decimals("0." + "9" * 38, "-0." + "9" * 38, "0." + "0" * 37 + "1"),
        number,
    ),
    family(
        "decimal_65_30",
        {POSTGRES: "numeric(65,30)", MYSQL: "DECIMAL(65,30)", SQLITE: "DECIMAL_TEXT(65,30)"},
        _decimals("9" * 35 + "." + "9" * 30, "-" + "9" * 35 + "." + "9" * 30, "1.5", "0." + "0" * 29 + "1", "0", "-1"),
        number,
    ),
    family("decimal_39_0", {POSTGRES: "numeric(39,0)", MYSQL: "DECIMAL(39,0)"}, _decimals("9" * 39, "-" + "9" * 39, "7"), number),
    family("decimal_minus_3", {POSTGRES: "numeric(5,-3)"}, _decimals("99999000", "-99999000", "1000", "0"), number),
    family(
        "numeric",
        {POSTGRES: "numeric"},
        _decimals(
            "0", "1", "-1", "0.1", "1.000000000", "0.000000001", "0.0000000001", "9" * 29, "9" * 30, "9" * 38,
            "12345678901234567890123456789.123456789", "1" + "0" * 28, "-" + "9" * 29 + "." + "9" * 9, "9" * 200, str(2**128 - 1), "1.5000",
        ),
        number,
        {
            "nan": (Decimal("NaN"), {POSTGRES: "'NaN'"}),
            "infinity": (Decimal("Infinity"), {POSTGRES: "'Infinity'"}),
            "minus_infinity": (Decimal("-Infinity"), {POSTGRES: "'-Infinity'"}),
            "1e131071": (Decimal(10**131071), {POSTGRES: "1e131071"}),
            "1e-16383": (Decimal("1e-16383"), {POSTGRES: "1e-16383"}),
        },
    ),
    family("money", {POSTGRES: "money"}, _decimals("92233720368547758.07", "-92233720368547758.08", "0.01", "0.00"), number),
    family(
        "real",
        {POSTGRES: "real", MYSQL: "FLOAT", DUCKDB: "FLOAT"},
        _floats({
            "zero": "0.0", "one_and_a_half": "1.5", "max": "0x1.fffffep+127", "minus_max": "-0x1.fffffep+127",
            "least_normal": "0x1.0p-126", "least": "0x1.0p-149", "tenth": "0x1.99999ap-4", "third": "0x1.555556p-2",
            "beyond_int24": "16777216.0", "nan": "nan", "infinity": "inf", "minus_infinity": "-inf", "minus_zero": "-0.0",
            "seven_digits": "0x1.e240ccp+16",
        }),
        floating,
    ),
    family(
        "double",
        {POSTGRES: "double precision", MYSQL: "DOUBLE", SQLITE: "REAL", DUCKDB: "DOUBLE"},
        _floats({
            "zero": "0.0", "one": "1.0", "minus_one": "-1.0", "tenth": "0.1", "three_tenths": "0x1.3333333333334p-2",
            "third": "0x1.5555555555555p-2", "max": "0x1.fffffffffffffp+1023", "minus_max": "-0x1.fffffffffffffp+1023",
            "least_normal": "0x1.0p-1022", "least": "5e-324", "minus_least": "-5e-324", "epsilon": "0x1.0p-52",
            "next_to_one": "0x1.0000000000001p+0", "before_one": "0x1.fffffffffffffp-1", "two_to_53": "9007199254740992.0",
            "two_to_63": "9223372036854775808.0", "two_to_64": "18446744073709551616.0", "1e15": "1e15", "1e16": "1e16",
            "1e17": "1e17", "1e22": "1e22", "1e23": "1e23", "17_digits": "0x1.91eb851eb851fp+1", "1e-7": "1e-7",
            "1e300": "1e300", "1e-300": "1e-300", "nan": "nan", "infinity": "inf", "minus_infinity": "-inf",
            "minus_zero": "-0.0", "tiny_fraction": "123456789.12345679", "1e-5": "1e-5", "large_whole": "-4503599627370497.5",
        }),
        floating,
        {"a_text": (Unfit("abc"), {SQLITE: "'abc'"}), "an_empty_text": (Unfit(""), {SQLITE: "''"})},
    ),
)  # fmt: skip
