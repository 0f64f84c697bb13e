"""Functions of JSON; paths are written out as `$.a.b[0]` and have no wildcards, so that the result is one value."""

from __future__ import annotations

import re
from typing import Final

import pyarrow as pa
from sqlglot import exp

from dsl.expressions.functions.signature import Argument, Arguments, Function, literal_text
from dsl.expressions.typed import function
from dsl.expressions.types import JSON, Family

_GROUP: Final = "JSON"
_PATH = re.compile(r"\$(?:\.[^\W\d][\w-]*|\.\"[^\"*\\]+\"|\[\d{1,6}\])*")
_JSON = Argument("json", frozenset({Family.JSON, Family.STRING}), JSON)


def _check_path(value: object) -> str:
    return "" if _PATH.fullmatch(str(value)) else "a path is written '$.name', '$.\"any name\"' or '$.items[0]'"


def _is_json(given: Arguments) -> bool:
    """Text may be malformed, which fails the row; a value of type json is not."""
    return given[0].family is Family.JSON


def _to_json(given: Arguments) -> exp.Expr:
    return function("to_json", given[0].sql)


_VALUE = Argument("value", frozenset(Family) - {Family.BINARY, Family.INTERVAL, Family.UNKNOWN}, pa.string())


FUNCTIONS: Final[tuple[Function, ...]] = (
    Function(
        "json_extract", _GROUP, (_JSON, literal_text("path", _check_path)), JSON, "json_extract",
        "The value at a path, as JSON; NULL where there is none.", "json_extract('{\"a\": [1, 2]}', '$.a')", _is_json,
    ),
    Function(
        "json_extract_string", _GROUP, (_JSON, literal_text("path", _check_path)), pa.string(), "json_extract_string",
        "The value at a path, as text; NULL where there is none or where it is null.", "json_extract_string('{\"a\": \"b\"}', '$.a')",
        _is_json,
    ),
    Function(
        "json_valid", _GROUP, (Argument("text", frozenset({Family.STRING}), pa.string()),), pa.bool_(), "json_valid",
        "Whether the text is JSON.", "json_valid('{}')",
    ),
    Function(
        "to_json", _GROUP, (_VALUE,), JSON, _to_json,
        "The value as JSON; structs become objects, lists arrays.", "to_json('a')",
    ),
)  # fmt: skip
