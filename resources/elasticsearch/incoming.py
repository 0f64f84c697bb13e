"""What an index's mapping says of its documents as Arrow columns, and their values read exactly or refused; talks to no server.

Values come from `_source`, as the program that wrote them put them: a number as text, or one value where there may be several, is the
same value to the index and is read as such; a number that was cut, or several values where one is expected, is refused.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from dsl.contracts.errors import SchemaError
from dsl.contracts.rows import Rejection
from resources.elasticsearch.types import children, is_json, is_list
from resources.sql_types import INSTANT, JSON, is_bytes, is_text, marked

_KINDS: dict[str, pa.DataType] = {
    "byte": pa.int8(), "short": pa.int16(), "integer": pa.int32(), "long": pa.int64(), "unsigned_long": pa.uint64(),
    "half_float": pa.float64(), "float": pa.float64(), "double": pa.float64(), "scaled_float": pa.float64(),
    "boolean": pa.bool_(), "binary": pa.binary(), "date": INSTANT, "date_nanos": pa.timestamp("ns", "UTC"),
    **dict.fromkeys(
        ("keyword", "text", "constant_keyword", "wildcard", "match_only_text", "search_as_you_type", "ip", "version"),
        pa.string(),
    ),
}  # fmt: skip
_NOT_STORED = frozenset({"alias"})
_READABLE_DATES = re.compile(
    r"(strict_)?date(_optional)?_time(_nanos|_no_millis)?|strict_date|date|epoch_(millis|second)"
)
_DEFAULT_DATES = "strict_date_optional_time||epoch_millis"
_INSTANT = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)?)?(Z|[+-]\d\d:?\d\d)?$"
)
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - zones are added as they come
_UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


class _Unfit(ValueError):
    """A value is not what its column is; its text is the reason."""


@dataclass(frozen=True)
class Extra:
    """Columns that are not of the mapping.

    Attributes:
        id: Takes the document's id, or None.
        source: Takes the whole document as JSON, or None.
    """

    id: str | None = None
    source: str | None = None


def schema_of(properties: Mapping[str, Any], arrays: Collection[str], where: str) -> pa.Schema:
    """Returns the columns of documents that a mapping describes.

    Args:
        properties: The `properties` of the mapping.
        arrays: The paths that hold several values.
        where: Names the index in errors.

    Raises:
        SchemaError: There is no such path.
    """
    fields = _fields(properties, (), arrays)
    known = set(_paths(fields, ()))
    for path in arrays:
        if path not in known:
            raise SchemaError(f"arrays names '{path}', which the mapping does not have", where=where, hint="correct it")
    return pa.schema(fields)


def _paths(fields: Sequence[pa.Field[Any]], path: tuple[str, ...]) -> list[str]:
    found = []
    for field in fields:
        here, kind = (*path, field.name), field.type
        found.append(".".join(here))
        inner = kind.value_type if is_list(kind) else kind
        found += _paths(children(inner), here) if pa.types.is_struct(inner) else []
    return found


def _fields(properties: Mapping[str, Any], path: tuple[str, ...], arrays: Collection[str]) -> list[pa.Field[Any]]:
    made = []
    for name, mapping in properties.items():
        if mapping.get("type") not in _NOT_STORED:
            field = _field(name, mapping, (*path, name), arrays)
            several = ".".join((*path, name)) in arrays or mapping.get("type") == "nested"
            made.append(pa.field(name, pa.list_(field.with_name("item"))) if several else field)
    return made


def _field(name: str, mapping: Mapping[str, Any], path: tuple[str, ...], arrays: Collection[str]) -> pa.Field[Any]:
    kind = mapping.get("type", "object")
    if kind in {"object", "nested"} and mapping.get("properties") and mapping.get("enabled") is not False:
        return pa.field(name, pa.struct(_fields(mapping["properties"], path, arrays)))
    if kind in {"date", "date_nanos"} and not _readable(mapping.get("format", _DEFAULT_DATES)):
        return pa.field(name, pa.string())
    return pa.field(name, _KINDS[kind]) if kind in _KINDS else marked(name, JSON)


def _readable(formats: str) -> bool:
    return all(_READABLE_DATES.fullmatch(each) for each in formats.split("||")) and "epoch_second" not in formats


def encode(value: Any) -> str:
    """Returns JSON text of a parsed value, every digit of its numbers kept."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{_quoted(key)}:{encode(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(encode, value)) + "]"
    return str(value) if isinstance(value, Decimal) else _quoted(value)


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def parse(data: bytes) -> Any:
    """Parses JSON, keeping the digits of fractions; raises ValueError for what is none."""
    return json.loads(data, parse_float=Decimal)


# ---- rows -----------------------------------------------------------------------------------------------------------


def rows_of(
    hits: Sequence[Mapping[str, Any]], schema: pa.Schema, extra: Extra
) -> tuple[pa.RecordBatch, list[Rejection]]:
    """Builds the rows of some documents; those that do not fit are named with their reasons."""
    good: list[dict[str, Any]] = []
    rejected: list[Rejection] = []
    for hit in hits:
        try:
            good.append(_row(hit, schema, extra))
        except _Unfit as error:
            rejected.append(_rejection(hit, str(error)))
    return pa.RecordBatch.from_pylist(good, schema=schema), rejected


def _row(hit: Mapping[str, Any], schema: pa.Schema, extra: Extra) -> dict[str, Any]:
    source = hit.get("_source") or {}
    made: dict[str, Any] = {}
    for field in schema:
        if field.name == extra.id:
            made[field.name] = str(hit["_id"])
        elif field.name == extra.source:
            made[field.name] = encode(source)
        else:
            made[field.name] = _value(_found(source, field.name), field, field.name)
    return made


def _found(held: Mapping[str, Any], name: str) -> Any:
    """Returns a field of a document, which may be written as an object or with dots in its name."""
    whole = held.get(name)
    inner = {key[len(name) + 1 :]: value for key, value in held.items() if key.startswith(f"{name}.")}
    if not inner:
        return whole
    return {**whole, **inner} if isinstance(whole, dict) else inner


def _rejection(hit: Mapping[str, Any], reason: str) -> Rejection:
    texts = {"_id": [str(hit["_id"])], "_source": [encode(hit.get("_source") or {})]}
    schema = pa.schema([pa.field(name, pa.string()) for name in texts])
    return Rejection(pa.RecordBatch.from_pydict(texts, schema=schema), reason, "decode", "")


def _value(value: Any, field: pa.Field[Any], path: str) -> Any:
    kind: Any = field.type
    if is_json(field):
        return None if value is None else encode(value)
    if is_list(kind):
        return None if value is None else [_one(each, kind.value_field, path) for each in _listed(value)]
    if isinstance(value, list):
        if len(value) > 1:
            raise _Unfit(f"'{path}' holds {len(value)} values; name it in arrays to read a list")
        value = value[0] if value else None
    return _one(value, field, path)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _one(value: Any, field: pa.Field[Any], path: str) -> Any:
    kind: Any = field.type
    if value is None:
        return None
    if is_json(field):
        return encode(value)
    if isinstance(value, list):
        raise _Unfit(f"'{path}' holds a list within a list")
    if pa.types.is_struct(kind):
        if not isinstance(value, dict):
            raise _Unfit(f"'{path}' is no object")
        return {each.name: _value(_found(value, each.name), each, f"{path}.{each.name}") for each in children(kind)}
    try:
        return _scalar(value, kind)
    except (ValueError, TypeError, OverflowError, InvalidOperation) as error:
        raise _Unfit(f"'{path}' has a value that {kind} cannot hold exactly") from error


def _scalar(value: Any, kind: Any) -> Any:
    if isinstance(value, dict):
        raise TypeError("an object")
    if is_text(kind):
        return value if isinstance(value, str) else encode(value)
    if pa.types.is_boolean(kind):
        return _boolean(value)
    if pa.types.is_integer(kind):
        return pa.scalar(_whole(_decimal(value)), kind).as_py()
    if pa.types.is_floating(kind):
        return _float(value, kind)
    if pa.types.is_decimal(kind):
        return pa.scalar(_decimal(value), kind).as_py()
    if is_bytes(kind):
        return _bytes(value)
    if pa.types.is_timestamp(kind):
        return _instant(value, kind)
    if pa.types.is_date(kind):
        return dt.date.fromisoformat(value)
    raise TypeError(f"no {kind} comes from JSON")


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in {"true", "false"}:
        return bool(value == "true")
    raise ValueError("no boolean")


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool):
        raise TypeError("a boolean")
    made = Decimal(value)
    if not made.is_finite():
        raise ValueError("no number")
    return made


def _whole(value: Decimal) -> int:
    if value != value.to_integral_value():
        raise ValueError("a fraction")
    return int(value)


def _float(value: Any, kind: Any) -> float:
    """Reads a number as the floating point that is written so: its shortest text is the same number."""
    said = _decimal(value)
    made: float = pa.scalar(float(said), kind).as_py()
    if Decimal(repr(made)) != said and Decimal(made) != said:
        raise ValueError("too many digits")
    return made


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError("no base64") from error


def _instant(value: Any, kind: Any) -> int:
    """Reads an instant, or milliseconds since 1970, as a count of the type's unit."""
    nanos = _whole(_decimal(value)) * 10**6 if not isinstance(value, str) else _nanos(value)
    count, rest = divmod(nanos, _UNITS[kind.unit])
    if rest or not -(2**63) <= count < 2**63:
        raise ValueError("too fine, or too far away")
    return count


def _nanos(text: str) -> int:
    found = _INSTANT.match(text)
    if found is None:
        return _whole(_decimal(text)) * 10**6
    year, month, day, hour, minute, second = (
        int(each or start) for each, start in zip(found.groups()[:6], (0, 1, 1, 0, 0, 0), strict=True)
    )
    moment = dt.datetime(year, month, day, hour, minute, second) - _EPOCH  # noqa: DTZ001 - its zone follows
    away = found[8]
    if away and away != "Z":
        sign = -1 if away[0] == "-" else 1
        moment -= sign * dt.timedelta(hours=int(away[1:3]), minutes=int(away[-2:]))
    whole = moment.days * 86_400 + moment.seconds
    return whole * 10**9 + int((found[7] or "").ljust(9, "0"))
