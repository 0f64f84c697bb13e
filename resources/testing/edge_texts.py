"""Edge values of texts, bytes, UUIDs, JSON and of types that only one system has; data only."""

from __future__ import annotations

from resources.testing.edge_model import (
    DUCKDB,
    MYSQL,
    POSTGRES,
    SQLITE,
    Family,
    family,
    octets,
    quoted,
    same_everywhere,
    uuid_of,
    words,
)
from resources.testing.meanings import Json, Meaning, Unfit

TEN_MB = 10 * 2**20
_HALF = TEN_MB // 2


def _named(*texts: str) -> dict[str, Meaning]:
    return {f"{number:02}": text for number, text in enumerate(texts)}


def _nul_in_json() -> dict[str, str]:
    written = {each: quoted(each, Json('"a\\u0000b"')) for each in (POSTGRES, MYSQL, SQLITE, DUCKDB)}
    return {each: text for each, text in written.items() if text is not None}


def _documents(*texts: str) -> dict[str, Meaning]:
    return {f"{number:02}": Json(text) for number, text in enumerate(texts)}


_TEXTS: dict[str, Meaning] = {
    "empty": "", "space": " ", "spaces_around": "  a  ", "trailing_space": "a ", "tab": "\t", "newline": "\n", "crlf": "\r\n",
    "carriage_return": "\r", "quote": "'", "two_quotes": "''", "double_quote": '"', "backtick": "`", "backslash": "\\",
    "backslash_n": "\\n", "backslash_last": "a\\", "copy_null": "\\N", "copy_end": "\\.", "percent": "100%", "percent_s": "%s",
    "question_mark": "?", "dollar": "$1", "brace": "{}", "template": "${HOME}", "semicolon": "; DROP TABLE x; --", "comma": "a,b",
    "word_null": "NULL", "word_nan": "NaN", "word_true": "true", "number": "007", "long_number": "1" * 50, "exponent": "1e5",
    "date": "2024-02-30", "json": '{"a": 1}', "nul": "a\0b", "nul_only": "\0", "nul_last": "a\0", "bell": "\a", "escape": "\x1b[0m",
    "delete": "\x7f", "c1": "\x85", "no_break_space": "\xa0", "soft_hyphen": "\xad", "umlaut": "ü", "umlaut_in_two": "u\u0308",
    "sharp_s": "ß", "dotless_i": "ı", "cyrillic": "ж", "arabic": "العربية", "hebrew": "עברית", "chinese": "汉字", "hangul": "한글",
    "zero_width": "\u200b", "joiner": "👩\u200d👩\u200d👧", "right_to_left": "\u202eabc", "line_separator": "\u2028",
    "byte_order_mark": "\ufeffa", "replacement": "\ufffd", "not_a_character": "\uffff", "emoji": "😀", "flag": "🇩🇪",
    "last_of_plane_0": "\uffee", "first_of_plane_1": "\U00010000", "last": "\U0010ffff", "private": "\ue000",
    "combining": "e" + "\u0301" * 20, "64_kb": "é" * 32_768, "line_of_255": "x" * 255, "line_of_256": "x" * 256,
}  # fmt: skip

_BYTES: dict[str, Meaning] = {
    "empty": b"", "zero": b"\0", "zeros": b"\0\0\0", "ff": b"\xff", "all": bytes(range(256)), "text": b"abc",
    "not_utf8": b"\xc3\x28", "surrogate": b"\xed\xa0\x80", "overlong": b"\xc0\x80", "newline": b"\n", "backslash": b"\\",
    "backslash_x": b"\\x41", "quote": b"'", "trailing_zero": b"a\0", "trailing_space": b"a ", "64_kb": bytes(range(256)) * 256,
    "utf8": "ü😀".encode(), "null_word": b"NULL", "hex_like": b"00ff",
}  # fmt: skip

_JSON = _documents(
    "{}", "[]", "null", "true", "false", "0", "-1", "1.5", '""', '"a"', '"ü😀"', '"\\u00fc"', '"\\ud83d\\ude00"', '"\\n\\t\\\\\\"/"',
    '{"a": null}', '{"a": {"b": [1, 2, {"c": []}]}}', "9007199254740993", "12345678901234567890", "0.1", "1e2", "1.10",
    "123456789012345678.123456789", '[1, "1", true, null]', '{"": ""}', '{"b": 1, "a": 2}', '{"it\'s": "5%"}',
    "[" * 20 + "]" * 20, '" "', "[0.1, 1e-10]", '{"a b": "c\\\\d"}', '"\\u2028"',
)  # fmt: skip

_UUIDS: dict[str, Meaning] = {
    "nil": uuid_of("00000000-0000-0000-0000-000000000000"),
    "all": uuid_of("ffffffff-ffff-ffff-ffff-ffffffffffff"),
    "high_bit": uuid_of("80000000-0000-4000-8000-000000000000"),
    "below_it": uuid_of("7fffffff-ffff-4fff-bfff-ffffffffffff"),
    "v1": uuid_of("2c5ea4c0-4067-11e9-8bad-9b1deb4d3b7d"),
    "v4": uuid_of("9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"),
    "v7": uuid_of("018f6d0e-9b1d-7eb4-83b7-d4bad9bdd2b0"),
    "letters": uuid_of("abcdefab-cdef-abcd-efab-cdefabcdefab"),
}

_LARGE = {
    POSTGRES: f"repeat('xy', {_HALF})",
    MYSQL: f"REPEAT('xy', {_HALF})",
    SQLITE: f"replace(hex(zeroblob({_HALF})), '00', 'xy')",
    DUCKDB: f"repeat('xy', {_HALF})",
}
_LARGE_BYTES = {
    POSTGRES: f"convert_to(repeat('xy', {_HALF}), 'UTF8')",
    MYSQL: f"REPEAT('xy', {_HALF})",
    SQLITE: f"CAST(replace(hex(zeroblob({_HALF})), '00', 'xy') AS BLOB)",
    DUCKDB: f"encode(repeat('xy', {_HALF}))",
}

TEXTS: tuple[Family, ...] = (
    family(
        "text",
        {POSTGRES: "text", MYSQL: "LONGTEXT", SQLITE: "TEXT", DUCKDB: "VARCHAR"},
        _TEXTS,
        words,
        {
            "10_mb": ("xy" * _HALF, _LARGE),
            "lone_surrogate": (Unfit(b"a\xed\xa0\x80"), {SQLITE: "CAST(x'61eda080' AS TEXT)"}),
            "low_surrogate": (Unfit(b"\xed\xbf\xbf"), {SQLITE: "CAST(x'edbfbf' AS TEXT)"}),
            "not_utf8": (Unfit(b"a\xff"), {SQLITE: "CAST(x'61ff' AS TEXT)"}),
            "cut_short": (Unfit(b"\xf0\x9f\x98"), {SQLITE: "CAST(x'f09f98' AS TEXT)"}),
            "overlong": (Unfit(b"\xc0\x80"), {SQLITE: "CAST(x'c080' AS TEXT)"}),
            "bytes": (Unfit(b"\x00\xff"), {SQLITE: "x'00ff'"}),
        },
    ),
    family(
        "char_5", {POSTGRES: "character(5)", MYSQL: "CHAR(5)"}, {},
        words,
        {
            "short": ("a    ", {POSTGRES: "'a'"}), "short_without": ("a", {MYSQL: "'a'"}),
            "full": ("abcde", same_everywhere("'abcde'", POSTGRES, MYSQL)),
            "umlauts": ("äöüßé", same_everywhere("'äöüßé'", POSTGRES, MYSQL)),
        },
    ),
    family(
        "bytes",
        {POSTGRES: "bytea", MYSQL: "LONGBLOB", SQLITE: "BLOB", DUCKDB: "BLOB"},
        _BYTES,
        octets,
        {"10_mb": (b"xy" * _HALF, _LARGE_BYTES), "a_text": (Unfit("abc"), {SQLITE: "'abc'"}), "a_number": (Unfit("1"), {SQLITE: "1"})},
    ),
    family(
        "binary_4", {MYSQL: "BINARY(4)"}, {}, octets,
        {"short": (b"a\0\0\0", {MYSQL: "x'61'"}), "full": (b"\xff\0\xfe\x01", {MYSQL: "x'ff00fe01'"})},
    ),
    family("uuid", {POSTGRES: "uuid", MYSQL: "UUID", SQLITE: "UUID_TEXT", DUCKDB: "UUID"}, _UUIDS, quoted),
    family(
        "json",
        {POSTGRES: "json", MYSQL: "JSON", SQLITE: "JSON_TEXT", DUCKDB: "JSON"},
        _JSON,
        quoted,
        {
            "nul": (Json('"a\\u0000b"'), _nul_in_json()),
            "surrogate": (Json('"\\ud800"'), {POSTGRES: "'\"\\ud800\"'", SQLITE: "'\"\\ud800\"'"}),
            "1e400": (Json("1e400"), same_everywhere("'1e400'", POSTGRES, SQLITE)),
            "40_levels": (Json("[" * 40 + "]" * 40), same_everywhere("'" + "[" * 40 + "]" * 40 + "'", POSTGRES, SQLITE, DUCKDB)),
            "not_json": (Unfit("{"), {SQLITE: "'{'"}),
        },
    ),
    family("jsonb", {POSTGRES: "jsonb"}, _JSON, quoted),
    family("inet", {POSTGRES: "inet"}, _named("10.0.0.1", "255.255.255.255/8", "::1", "2001:db8::/32"), quoted),
    family("macaddr", {POSTGRES: "macaddr"}, _named("00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"), quoted),
    family("int4range", {POSTGRES: "int4range"}, _named("empty", "(,)", "[1,5)", "[-2147483648,2147483647)"), quoted),
    family("bit_8", {POSTGRES: "bit(8)"}, _named("00000000", "11111111", "00000001"), quoted),
    family("varbit", {DUCKDB: "BIT"}, _named("0", "1", "0101010101", "1" * 70), quoted),
    family("enum", {MYSQL: "ENUM('a', 'ü', '')", DUCKDB: "ENUM('a', 'ü', '')"}, _named("a", "ü", ""), quoted),
    family("set", {MYSQL: "SET('a', 'b')"}, _named("", "a", "a,b"), quoted),
)  # fmt: skip
