"""Functions of texts; lengths and places count characters (code points), and places count from 1 as in SQL."""

from __future__ import annotations

import re
from typing import Final

import pyarrow as pa
from sqlglot import exp

from dsl.expressions.functions.signature import (
    Arguments,
    Function,
    any_null,
    literal_text,
    literal_whole,
    scalar_argument,
    text_argument,
    whole_argument,
)
from dsl.expressions.typed import function

_GROUP: Final = "Text"
_WIDEST: Final = 65_536
_UNSUPPORTED = re.compile(r"\(\?(?:[=!]|<[=!]|\(|>|#)|\\[1-9]|\(\?P=|[*+?}]\+")
_RE2_ONLY = re.compile(r"\\[pPzCQE]|\[\[:|\(\?[a-zA-Z-]*U")


def check_pattern(value: object) -> str:
    """Says what is wrong with a regular expression of RE2, as far as that can be told without RE2."""
    pattern = str(value)
    if _UNSUPPORTED.search(re.sub(r"\\\\", "", pattern)):
        return "the pattern uses look-around, a back reference or a possessive repetition, which linear-time matching leaves out"
    if _RE2_ONLY.search(pattern):
        return ""
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return f"the pattern is no regular expression: {error}"
    return ""


def _check_pad(value: object) -> str:
    return "" if value else "'with' is empty"


def _check_flags(value: object) -> str:
    return "" if value == "g" else "the only flag is 'g', which replaces every match"


def _short_counts(given: Arguments) -> bool:
    """DuckDB refuses places beyond 32 bits."""
    return all(each.type.bit_width <= 32 for each in given[1:] if pa.types.is_integer(each.type))


def _split(given: Arguments) -> exp.Expr:
    return function("string_split", given[0].sql, given[1].sql)


def _one(name: str, doc: str, example: str, result: pa.DataType | None = None) -> Function:
    return Function(
        name, _GROUP, (text_argument("text"),), result or pa.string(), name, doc, example, nullable=any_null
    )


def _test(name: str, doc: str, example: str) -> Function:
    arguments = (text_argument("text"), text_argument("part"))
    return Function(name, _GROUP, arguments, pa.bool_(), name, doc, example, nullable=any_null)


def _trim(name: str, doc: str, example: str) -> Function:
    arguments = (text_argument("text"), text_argument("characters", optional=True))
    return Function(name, _GROUP, arguments, pa.string(), name, doc, example, nullable=any_null)


def _cut(name: str, doc: str, example: str) -> Function:
    arguments = (text_argument("text"), whole_argument("count"))
    return Function(name, _GROUP, arguments, pa.string(), name, doc, example, nullable=any_null)


def _pad(name: str, doc: str, example: str) -> Function:
    arguments = (text_argument("text"), literal_whole("length", 0, _WIDEST), literal_text("with", _check_pad))
    return Function(name, _GROUP, arguments, pa.string(), name, doc, example, nullable=any_null)


_PATTERN = literal_text("pattern", check_pattern)

FUNCTIONS: Final[tuple[Function, ...]] = (
    _one("lower", "The text in lower case.", "lower('Ab')"),
    _one("upper", "The text in upper case.", "upper('Ab')"),
    _one("length", "How many characters the text has.", "length('né')", pa.int64()),
    _one("reverse", "The characters in reverse order.", "reverse('abc')"),
    _one("md5", "The MD5 digest of the text's UTF-8 bytes, in hexadecimal; not for secrets.", "md5('a')"),
    _one("sha256", "The SHA-256 digest of the text's UTF-8 bytes, in hexadecimal.", "sha256('a')"),
    _trim("trim", "Without spaces (or the given characters) at both ends; tabs and line ends stay.", "trim(' a ')"),
    _trim("ltrim", "Without spaces (or the given characters) at the beginning.", "ltrim('xxa', 'x')"),
    _trim("rtrim", "Without spaces (or the given characters) at the end.", "rtrim('a  ')"),
    _cut("left", "The first characters; a negative count leaves out that many at the end.", "left('abcd', 2)"),
    _cut("right", "The last characters; a negative count leaves out that many at the beginning.", "right('abcd', 2)"),
    Function(
        "substring", _GROUP, (text_argument("text"), whole_argument("start"), whole_argument("length", optional=True)),
        pa.string(), "substring",
        "Characters from `start` (the first is 1, a negative one counts from the end), at most `length` of them.",
        "substring('abcd', 2, 2)", _short_counts, nullable=any_null,
    ),
    Function(
        "replace", _GROUP, (text_argument("text"), text_argument("old"), text_argument("new")), pa.string(), "replace",
        "Every `old` replaced by `new`; an empty `old` changes nothing.", "replace('a-b-c', '-', '+')", nullable=any_null,
    ),
    Function(
        "split", _GROUP, (text_argument("text"), text_argument("separator")), pa.list_(pa.string()), _split,
        "The parts between separators, as a list; an empty separator gives the characters.", "split('a,b', ',')",
        nullable=any_null,
    ),
    _test("starts_with", "Whether the text begins with `part`.", "starts_with('abc', 'a')"),
    _test("ends_with", "Whether the text ends with `part`.", "ends_with('abc', 'c')"),
    _test("contains", "Whether `part` is somewhere in the text.", "contains('abc', 'b')"),
    _pad("lpad", "Filled up at the beginning, or cut at the end, to exactly `length` characters.", "lpad('7', 3, '0')"),
    _pad("rpad", "Filled up or cut at the end to exactly `length` characters.", "rpad('ab', 3, '.')"),
    Function(
        "concat", _GROUP, (scalar_argument("value"),), pa.string(), "concat",
        "The values' texts joined; NULL counts as empty.", "concat('a', 1, null)", more=True, nullable=False,
    ),
    Function(
        "concat_ws", _GROUP, (text_argument("separator"), scalar_argument("value")), pa.string(), "concat_ws",
        "The values' texts joined with a separator; NULL values are left out.", "concat_ws('-', 'a', null, 'b')", more=True,
    ),
    Function(
        "regexp_matches", _GROUP, (text_argument("text"), _PATTERN), pa.bool_(), "regexp_matches",
        "Whether the regular expression (RE2 syntax) is found somewhere in the text.", "regexp_matches('a1', '[0-9]$')", total=False,
        nullable=any_null,
    ),
    Function(
        "regexp_extract", _GROUP, (text_argument("text"), _PATTERN, literal_whole("group", 0, 9, optional=True)), pa.string(),
        "regexp_extract",
        "The first match, or one of its groups; empty where nothing matches.", "regexp_extract('a12', '([a-z])([0-9]+)', 2)", total=False,
    ),
    Function(
        "regexp_replace", _GROUP,
        (text_argument("text"), _PATTERN, literal_text("new"), literal_text("flags", _check_flags, optional=True)), pa.string(),
        "regexp_replace",
        r"The first match (with the flag 'g' every match) replaced; `\1` is the first group.", "regexp_replace('a1b2', '[0-9]', '', 'g')",
        total=False,
    ),
    Function(
        "url_encode", _GROUP, (text_argument("text"),), pa.string(), "url_encode",
        "Percent-encoded for a URL: everything but letters, digits and `-._~`.", "url_encode('a b&c')", nullable=any_null,
    ),
)  # fmt: skip
