"""Arrow rows as JSON documents and their ids, exactly; a row that JSON cannot say exactly is named with its reason.

Texts are built column by column, so that a number keeps its digits and a column of JSON its value.
"""

from __future__ import annotations

import json
import uuid
from bisect import bisect_right
from dataclasses import dataclass
from json.encoder import encode_basestring as quoted
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dsl.contracts.errors import SchemaError
from resources.elasticsearch.types import children, is_json, is_list, is_number
from resources.formats.json_values import to_json
from resources.sql import suggestion
from resources.sql_types import is_text

LONGEST_ID = 512
"""Bytes of an id that the server takes."""
NULL = "null"


@dataclass(frozen=True)
class Fault:
    """What is wrong with a row."""

    code: str
    reason: str


Faults = dict[int, Fault]


@dataclass(frozen=True)
class Documents:
    """The rows of a batch as JSON.

    Attributes:
        texts: One JSON object for each row, without line breaks; meaningless where there is a fault.
        ids: The id of each row by its key, or None where rows have no key.
        faults: Row -> what is wrong with it.
    """

    texts: list[str]
    ids: list[str] | None
    faults: Faults


class DocumentEncoder:
    """Makes documents of batches.

    Args:
        schema: The schema of the rows, with the marks of JSON columns.
        id_field: The path of the key, or None.
        where: Names the index in errors.

    Raises:
        SchemaError: There is no such field, or it cannot identify a document.
    """

    def __init__(self, schema: pa.Schema, id_field: str | None, where: str) -> None:
        self._fields = list(schema)
        self._path = None if id_field is None else _id_path(schema, id_field, where)
        self._id_field = id_field or ""

    def encode(self, rows: pa.RecordBatch) -> Documents:
        """Returns the documents of a batch."""
        faults: Faults = {}
        texts = _objects(list(zip(rows.columns, self._fields, strict=True)), rows.num_rows, faults)
        ids = None if self._path is None else self._ids(rows, self._path, faults)
        return Documents(texts, ids, faults)

    def _ids(self, rows: pa.RecordBatch, path: list[pa.Field[Any]], faults: Faults) -> list[str]:
        column: Any = rows.column(rows.schema.get_field_index(path[0].name))
        for each in path[1:]:
            at = [child.name for child in children(column.type)].index(each.name)
            column = column.flatten()[at]
        values = (
            _listed(column, faults)
            if is_text(path[-1].type)
            else [None if each == NULL else each.strip('"') for each in _texts(column, path[-1], faults)]
        )
        ids = ["" if each is None else str(each) for each in values]
        for row, value in enumerate(values):
            if value is None:
                faults.setdefault(row, Fault("null_id", f"'{self._id_field}' is NULL and cannot identify a document"))
            elif not 0 < len(ids[row].encode()) <= LONGEST_ID:
                reason = f"'{self._id_field}' has {len(ids[row].encode())} bytes; an id has 1 to {LONGEST_ID}"
                faults.setdefault(row, Fault("bad_id", reason))
        return ids


def _id_path(schema: pa.Schema, id_field: str, where: str) -> list[pa.Field[Any]]:
    fields: list[pa.Field[Any]] = list(schema)
    path: list[pa.Field[Any]] = []
    for name in [id_field] if id_field in schema.names else id_field.split("."):
        known = {each.name: each for each in fields}
        if name not in known:
            raise SchemaError(
                f"there is no field '{id_field}' to take ids from", where=where, hint=suggestion(name, known)
            )
        path.append(known[name])
        fields = children(known[name].type) if pa.types.is_struct(known[name].type) else []
    kind = path[-1].type
    if pa.types.is_floating(kind) or pa.types.is_nested(kind) or pa.types.is_null(kind) or is_json(path[-1]):
        raise SchemaError(
            f"'{id_field}' is {kind}, which cannot identify a document", where=where, hint="cast it to a string"
        )
    return path


# ---- columns --------------------------------------------------------------------------------------------------------


def _texts(column: Any, of: pa.Field[Any], faults: Faults) -> list[str]:
    """Returns a column's values as JSON texts, and notes the rows whose value has none; `of` is named by its path."""
    kind: Any = of.type
    if is_json(of):
        return _json(column, of.name, faults)
    if isinstance(column, pa.ExtensionArray):
        storage = column.storage
        if isinstance(kind, pa.UuidType):
            return [NULL if each is None else f'"{uuid.UUID(bytes=each)}"' for each in storage.to_pylist()]
        return _texts(storage, pa.field(of.name, storage.type), faults)
    if pa.types.is_dictionary(kind):
        return _texts(column.dictionary_decode(), pa.field(of.name, kind.value_type), faults)
    if pa.types.is_struct(kind):
        parts = _objects(list(zip(column.flatten(), children(kind), strict=True)), len(column), faults, f"{of.name}.")
        return [text if there else NULL for text, there in zip(parts, column.is_valid().to_pylist(), strict=True)]
    if pa.types.is_map(kind):
        return _map(column, of, faults)
    if is_list(kind):
        return _list(column, kind.value_field.with_name(of.name), faults)
    return _scalars(column, of, faults)


def _objects(columns: list[tuple[Any, pa.Field[Any]]], count: int, faults: Faults, above: str = "") -> list[str]:
    """Returns objects; `above` is the path that leads to them."""
    if not columns:
        return ["{}"] * count
    keys = [quoted(each.name) + ":" for _, each in columns]
    parts = [_texts(column, each.with_name(above + each.name), faults) for column, each in columns]
    return [
        "{" + ",".join([key + text for key, text in zip(keys, row, strict=True)]) + "}"
        for row in zip(*parts, strict=True)
    ]


def _scalars(column: Any, of: pa.Field[Any], faults: Faults) -> list[str]:
    kind: Any = of.type
    if is_text(kind):
        return [NULL if each is None else quoted(each) for each in _listed(column, faults)]
    if pa.types.is_boolean(kind):
        return [NULL if each is None else "true" if each else "false" for each in column.to_pylist()]
    if pa.types.is_integer(kind) or pa.types.is_duration(kind):
        whole = column.cast(pa.int64()) if pa.types.is_duration(kind) else column
        return [NULL if each is None else str(each) for each in whole.to_pylist()]
    if pa.types.is_floating(kind):
        return _floats(column, of.name, faults)
    if pa.types.is_decimal(kind):
        number = is_number(kind)
        found = [None if each is None else format(each, "f") for each in column.to_pylist()]
        return [NULL if each is None else each if number else f'"{each}"' for each in found]
    if pa.types.is_interval(kind):
        return [NULL if each is None else f'"{_interval(each)}"' for each in column.to_pylist()]
    values = to_json(column)
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        for row, value in enumerate(values):
            if isinstance(value, int):
                faults.setdefault(row, Fault("date_range", f"'{of.name}' lies outside the years 0 to 9999"))
    return [NULL if each is None else quoted(str(each)) for each in values]


def _floats(column: Any, name: str, faults: Faults) -> list[str]:
    finite = pc.is_finite(column)
    if pc.all(finite).as_py() is False:
        for row, good in enumerate(finite.to_pylist()):
            if good is False:
                faults.setdefault(
                    row, Fault("not_finite", f"'{name}' is NaN or infinite, which JSON has no number for")
                )
    return [NULL if each is None else float.__repr__(float(each)) for each in column.to_pylist()]


def _listed(column: Any, faults: Faults) -> list[str | None]:
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        return [_text_of(each, row, faults) for row, each in enumerate(column)]


def _text_of(value: Any, row: int, faults: Faults) -> str | None:
    try:
        text: str | None = value.as_py()
    except UnicodeDecodeError:
        faults.setdefault(row, Fault("encoding", "a text is not UTF-8"))
        return None
    return text


def _json(column: Any, name: str, faults: Faults) -> list[str]:
    storage = column.storage if isinstance(column, pa.ExtensionArray) else column
    texts = _listed(storage, faults)
    return [NULL if each is None else _json_value(each, row, name, faults) for row, each in enumerate(texts)]


def _json_value(text: str, row: int, name: str, faults: Faults) -> str:
    try:
        json.loads(text, parse_constant=_refuse, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        faults.setdefault(row, Fault("json", f"'{name}' is not JSON, or nested too deeply"))
        return NULL
    # Between values a line break is a blank; inside a text JSON does not allow one.
    return text.replace("\n", " ").replace("\r", " ")


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _list(column: Any, of: pa.Field[Any], faults: Faults) -> list[str]:
    lengths = pc.list_value_length(column).to_pylist()
    items, bounds, at = pc.list_flatten(column), [0], 0
    inner: Faults = {}
    texts = _texts(items, of, inner)
    found = []
    for length in lengths:
        found.append(NULL if length is None else f"[{','.join(texts[at : at + length])}]")
        at += length or 0
        bounds.append(at)
    for item, fault in inner.items():
        faults.setdefault(bisect_right(bounds, item) - 1, fault)
    return found


def _map(column: Any, of: pa.Field[Any], faults: Faults) -> list[str]:
    kind: Any = of.type
    entry = pa.struct([pa.field("key", kind.key_type), kind.item_field.with_name("value")])
    pairs = column.cast(pa.list_(entry))
    if not is_text(kind.key_type):
        return _list(pairs, pa.field(of.name, entry), faults)
    keys = pc.list_flatten(pairs).flatten()[0].to_pylist()
    inner: Faults = {}
    values = _texts(pc.list_flatten(pairs).flatten()[1], entry.field(1).with_name(of.name), inner)
    found, at = [], 0
    for row, length in enumerate(pc.list_value_length(pairs).to_pylist()):
        span = range(at, at + (length or 0))
        at = span.stop
        found.append(NULL if length is None else "{" + ",".join(f"{quoted(keys[n])}:{values[n]}" for n in span) + "}")
        if len({keys[each] for each in span}) < len(span):
            faults.setdefault(row, Fault("duplicate_key", f"'{of.name}' holds a key twice"))
        for each in span:
            if each in inner:
                faults.setdefault(row, inner[each])
    return found


def _interval(value: Any) -> str:
    """Returns months, days and nanoseconds as an ISO 8601 duration."""
    months, days, nanos = value
    seconds, rest = divmod(abs(nanos), 10**9)
    sign = "-" if nanos < 0 else ""
    part = f".{rest:09}".rstrip("0") if rest else ""
    return f"P{months}M{days}DT{sign}{seconds}{part}S"
