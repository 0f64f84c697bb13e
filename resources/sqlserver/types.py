"""SQL Server's types and Arrow's, both ways; talks to no server.

Times and decimals are read as the server's own text, so that a tenth of a microsecond, which Arrow's microseconds cannot hold, is
rejected and not cut. Rows are sent as one JSON text, whose columns the server reads by their declared types.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dsl.contracts.errors import RejectedRows, SchemaError
from resources.sql import quoted
from resources.sql_types import (
    INSTANT,
    JSON,
    TIMESTAMP,
    UUID,
    from_text,
    from_values,
    is_nested,
    mark_of,
    marked,
    plain,
)

_SIZED = re.compile(r"(\w+)\s*(?:\((\w+)(?:\s*,\s*(\d+))?\))?")
_FIXED: dict[str, pa.DataType] = {
    "bit": pa.bool_(), "tinyint": pa.int16(), "smallint": pa.int16(), "int": pa.int32(), "bigint": pa.int64(),
    "money": pa.decimal128(19, 4), "smallmoney": pa.decimal128(10, 4), "real": pa.float32(), "float": pa.float64(),
    "date": pa.date32(), "time": pa.time64("us"), "datetime": TIMESTAMP, "datetime2": TIMESTAMP, "smalldatetime": TIMESTAMP,
    "datetimeoffset": INSTANT,
    **dict.fromkeys(("char", "varchar", "nchar", "nvarchar", "text", "ntext", "xml", "uniqueidentifier"), pa.string()),
    **dict.fromkeys(("binary", "varbinary", "image", "timestamp"), pa.binary()),
}  # fmt: skip
_TEXTS = frozenset({"char", "varchar", "nchar", "nvarchar", "text", "ntext", "xml", "uniqueidentifier"})
_BYTES = frozenset({"binary", "varbinary", "image"})
TIMES = frozenset({"date", "datetime", "datetime2", "smalldatetime", "datetimeoffset"})
ROWVERSION = "timestamp"
_DECIMALS = frozenset({"decimal", "numeric", "money", "smallmoney"})
_UNORDERED = frozenset({"real", "float", "binary", "varbinary", "image", "text", "ntext", "xml"})
_COLLATION = "COLLATE Latin1_General_100_BIN2"
_NAMES: dict[pa.DataType, str] = {
    pa.bool_(): "BIT", pa.int8(): "SMALLINT", pa.int16(): "SMALLINT", pa.int32(): "INT", pa.int64(): "BIGINT",
    pa.float32(): "REAL", pa.float64(): "FLOAT(53)", pa.date32(): "DATE", pa.time64("us"): "TIME(6)",
    TIMESTAMP: "DATETIME2(6)", INSTANT: "DATETIMEOFFSET(6)", pa.binary(): "VARBINARY(MAX)",
    pa.string(): f"NVARCHAR(MAX) {_COLLATION}", pa.null(): f"NVARCHAR(MAX) {_COLLATION}",
}  # fmt: skip


@dataclass(frozen=True)
class Described:
    """A column as the server describes it.

    Attributes:
        name: Its name.
        type: The words of its type, such as `decimal(12,2)`.
        required: Whether it refuses NULL.
    """

    name: str
    type: str
    required: bool = False

    @property
    def base(self) -> str:
        """The type without its sizes."""
        found = _SIZED.match(self.type)
        return found[1].lower() if found else self.type

    @property
    def orderable(self) -> bool:
        """Whether a value of it survives as the text of a state."""
        return self.base in {*_FIXED, *_DECIMALS} and self.base not in _UNORDERED and "(max)" not in self.type.lower()


def stored_type(column: Described) -> pa.DataType | None:
    """Returns the type whose values a column keeps exactly, or None where Arrow has none."""
    found = _SIZED.match(column.type)
    if column.base in {"decimal", "numeric"} and found:
        return pa.decimal128(int(found[2] or 18), int(found[3] or 0))
    return _FIXED.get(column.base)


def field_of(column: Described, where: str) -> pa.Field[Any]:
    """Returns the field that a column's values are.

    Raises:
        SchemaError: There is none.
    """
    kind = stored_type(column)
    if kind is None:
        raise SchemaError(
            f"column '{column.name}' is {column.type}, which cannot be read exactly",
            where=where,
            hint="cast it in a query, or leave it out of columns",
        )
    return marked(column.name, UUID) if column.base == "uniqueidentifier" else pa.field(column.name, kind)


def expression(column: Described) -> str:
    """Returns what to select so that the driver gives a value exactly."""
    name = quoted(column.name)
    if column.base == "datetimeoffset":
        return f"CONVERT(VARCHAR(33), CAST(SWITCHOFFSET({name}, '+00:00') AS DATETIME2(7)), 126)"
    if column.base in {"datetime", "datetime2", "smalldatetime"}:
        return f"CONVERT(VARCHAR(33), CAST({name} AS DATETIME2(7)), 126)"
    if column.base == "date":
        return f"CONVERT(VARCHAR(10), {name}, 23)"
    if column.base in {"time", "uniqueidentifier"}:
        return f"CONVERT(VARCHAR(36), {name})"
    if column.base in {"money", "smallmoney"}:
        return f"CONVERT(VARCHAR(60), CAST({name} AS DECIMAL(19, 4)))"
    if column.base in _DECIMALS:
        return f"CONVERT(VARCHAR(60), {name})"
    return f"CAST({name} AS NVARCHAR(MAX))" if column.base in {"xml", "text", "ntext"} else name


def text_expression(column: Described) -> str:
    """Returns what to select for the text of a value in a state."""
    if column.base == ROWVERSION:
        return f"CONVERT(VARCHAR(20), CAST({quoted(column.name)} AS BIGINT))"
    made = expression(column)
    return made if made != quoted(column.name) else f"CAST({made} AS NVARCHAR(4000))"


def comparable(column: Described) -> str:
    """Returns the place of a parameter that is compared with a column."""
    if column.base == ROWVERSION:
        return "CAST(CAST(? AS BIGINT) AS BINARY(8))"
    # datetime itself keeps three hundredths of a second; its text has more digits than it reads.
    kind = "DATETIME2(7)" if column.base in {"datetime", "smalldatetime"} else column.type
    return f"CAST(CAST(? AS DATETIME2(7)) AS {column.type})" if kind != column.type else f"CAST(? AS {kind})"


def decode(values: Sequence[Any], column: Described, kind: pa.DataType) -> tuple[pa.Array[Any], tuple[int, ...]]:
    """Reads a column of what `expression` selects; see `resources.sql_types.from_text`."""
    if column.base in _DECIMALS or column.base in TIMES or column.base == "time":
        texts: Any = pa.array([None if each is None else str(each) for each in values], pa.string())
        texts = pc.replace_substring_regex(texts, r"(\.\d{6})0+$", r"\1")
        made, failed = from_text(texts, TIMESTAMP if kind == INSTANT else kind)
        return made.cast(kind), failed
    if column.base == "uniqueidentifier":
        return pa.array([None if each is None else str(each).lower() for each in values], kind), ()
    return from_values(values, kind, bytes if pa.types.is_binary(kind) else lambda value: value)


def type_name(field: pa.Field[Any], *, key: bool) -> str:
    """Returns the type of a column that holds the field; of limited length where it is part of a key.

    Raises:
        SchemaError: SQL Server has none.
    """
    kind = plain(field.type)
    if mark_of(field) == JSON or is_nested(kind):
        return _NAMES[pa.string()]
    if pa.types.is_decimal128(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if kind not in _NAMES:
        raise SchemaError(
            f"column '{field.name}' is {kind}, for which SQL Server has no type", hint="cast it in a mapping"
        )
    made = _NAMES[kind]
    if key and "(MAX)" in made:
        return made.replace("(MAX)", "(450)")
    return made


# ---- rows as JSON ---------------------------------------------------------------------------------------------------


def rows_json(rows: pa.RecordBatch, where: str) -> str:
    """Returns rows as one JSON array of arrays.

    Raises:
        RejectedRows: A floating point is none that SQL Server has; names the rows.
    """
    columns = [_column(each, name, where) for each, name in zip(rows.columns, rows.schema.names, strict=True)]
    return json.dumps(list(zip(*columns, strict=True)), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _column(values: Any, name: str, where: str) -> list[Any]:
    kind = values.type
    held = values.to_pylist()
    if pa.types.is_floating(kind):
        wrong = [at for at, each in enumerate(held) if each is not None and not math.isfinite(each)]
        if wrong:
            raise RejectedRows(
                f"column '{name}' is NaN or infinite, which SQL Server cannot hold", rows=wrong, where=where
            )
        return [None if each is None else repr(each) for each in held]
    if pa.types.is_decimal(kind):
        return [None if each is None else format(each, "f") for each in held]
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind):
        return [None if each is None else each.isoformat() for each in held]
    if pa.types.is_binary(kind):
        return [None if each is None else each.hex() for each in held]
    return [None if each is None else str(each) if pa.types.is_int64(kind) else each for each in held]


def shape(columns: Sequence[tuple[str, str]]) -> str:
    """Returns how OPENJSON reads rows of `rows_json`: each column by its declared type."""
    made = [f"c{place} {_arriving(declared)} '$[{place}]'" for place, (_, declared) in enumerate(columns)]
    return f"WITH ({', '.join(made)})"


def arriving(columns: Sequence[tuple[str, str]]) -> str:
    """Returns what to select of `shape`: the columns' values."""
    return ", ".join(
        f"CONVERT(VARBINARY(MAX), c{place}, 2)" if Described("", declared).base in _BYTES else f"c{place}"
        for place, (_, declared) in enumerate(columns)
    )


def _arriving(declared: str) -> str:
    """A text longer than its column is refused by the column itself; here it would be cut, or become NULL."""
    base = Described("", declared).base
    return "NVARCHAR(MAX)" if base in _TEXTS or base in _BYTES else declared.upper()
