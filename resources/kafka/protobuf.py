"""Protobuf messages as rows, by descriptors that a registry gives; compiles no schema and runs nothing of it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa
from google.protobuf import (  # type: ignore[import-untyped]  # it has no stubs
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    json_format,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from dsl.contracts.errors import SchemaError
from resources.formats.chunks import Chunk, Malformed
from resources.formats.columns import Wanted
from resources.formats.json_values import from_rows

_KNOWN = (any_pb2, duration_pb2, empty_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS: dict[int, pa.DataType] = {
    _FIELD.TYPE_DOUBLE: pa.float64(),
    _FIELD.TYPE_FLOAT: pa.float32(),
    _FIELD.TYPE_BOOL: pa.bool_(),
    _FIELD.TYPE_STRING: pa.string(),
    _FIELD.TYPE_BYTES: pa.binary(),
    _FIELD.TYPE_ENUM: pa.string(),
    **dict.fromkeys((_FIELD.TYPE_INT32, _FIELD.TYPE_SINT32, _FIELD.TYPE_SFIXED32), pa.int32()),
    **dict.fromkeys((_FIELD.TYPE_INT64, _FIELD.TYPE_SINT64, _FIELD.TYPE_SFIXED64), pa.int64()),
    **dict.fromkeys((_FIELD.TYPE_UINT32, _FIELD.TYPE_FIXED32), pa.uint32()),
    **dict.fromkeys((_FIELD.TYPE_UINT64, _FIELD.TYPE_FIXED64), pa.uint64()),
}
DEEPEST = 32


def columns_of(text: str, where: str) -> pa.Schema:
    """Returns the columns of the first message of a schema.

    Raises:
        SchemaError: It cannot be carried.
    """
    file = _file(text, where)
    first = next(iter(file.message_types_by_name.values()), None)
    if first is None:
        raise SchemaError("it describes no message", where=where)
    return pa.schema([pa.field(each.name, _type(each, where, 0)) for each in first.fields])


def decode(text: str, bodies: Sequence[bytes], wanted: Wanted, where: str) -> Chunk:
    """Returns the rows of messages of one schema, and by their index those that are none."""
    file = _file(text, where)
    good, bad = [], []
    for at, body in enumerate(bodies):
        try:
            row = _row(file, body)
            good.append(from_rows([{name: row[name] for name in wanted.schema.names if name in row}], wanted.schema))
        except (DecodeError, ValueError, IndexError, json_format.Error) as error:
            bad.append(Malformed(at, 0, "", f"it is not what its schema says: {error}"))
    rows = pa.Table.from_batches(good, wanted.schema).combine_chunks().to_batches()
    return Chunk(0, rows[0] if rows else pa.RecordBatch.from_pylist([], wanted.schema), tuple(bad))


def _row(file: Any, body: bytes) -> dict[str, Any]:
    """Returns a message as JSON values."""
    path, at = _path(body)
    kind = list(file.message_types_by_name.values())[path[0]]
    for each in path[1:]:
        kind = kind.nested_types[each]
    message = message_factory.GetMessageClass(kind)()
    message.ParseFromString(body[at:])
    told = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, descriptor_pool=file.pool
    )
    return {each.name: _plain(each, told.get(each.name)) for each in kind.fields}


def _path(body: bytes) -> tuple[list[int], int]:
    """Returns which message of the schema it is, and where it begins."""
    count, at = _zigzag(body, 0)
    path = []
    for _ in range(min(count, DEEPEST)):
        step, at = _zigzag(body, at)
        path.append(step)
    return path or [0], at


def _zigzag(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            found = (value >> 1) ^ -(value & 1)
            if found < 0:
                raise ValueError("the number of its message is negative")
            return found, at


def _plain(field: Any, value: Any) -> Any:
    """Returns a JSON value as the Arrow type of its field wants it: 64-bit integers are texts in Protobuf's JSON."""
    if value is None:
        return None
    if _is_map(field):
        return {name: _plain(field.message_type.fields_by_name["value"], each) for name, each in value.items()}
    if isinstance(value, list):
        return [_one(field, each) for each in value]
    return _one(field, value)


def _one(field: Any, value: Any) -> Any:
    if field.type == _FIELD.TYPE_MESSAGE:
        if not isinstance(value, dict) or _well_known(field.message_type):
            return value if isinstance(value, str) else json.dumps(value)
        return {each.name: _plain(each, value.get(each.name)) for each in field.message_type.fields}
    return int(value) if isinstance(value, str) and pa.types.is_integer(_SCALARS[field.type]) else value


def _well_known(message: Any) -> bool:
    return str(message.full_name).startswith("google.protobuf.")


def _is_map(field: Any) -> bool:
    return bool(field.message_type is not None and field.message_type.GetOptions().map_entry)


def _type(field: Any, where: str, depth: int) -> pa.DataType:
    if depth > DEEPEST:
        raise SchemaError(f"field '{field.name}' holds itself", where=where, hint="declare `schema` without it")
    if _is_map(field):
        return pa.map_(pa.string(), _type(field.message_type.fields_by_name["value"], where, depth + 1))
    one = _message(field, where, depth) if field.type == _FIELD.TYPE_MESSAGE else _SCALARS.get(field.type)
    if one is None:
        raise SchemaError(f"field '{field.name}' is a group, which cannot be carried", where=where)
    return pa.list_(one) if field.is_repeated else one


def _message(field: Any, where: str, depth: int) -> pa.DataType:
    if field.message_type.full_name == "google.protobuf.Timestamp":
        return pa.timestamp("ns", "UTC")
    if _well_known(field.message_type):
        return pa.string()  # as its JSON
    return pa.struct([pa.field(each.name, _type(each, where, depth + 1)) for each in field.message_type.fields])


@lru_cache(maxsize=100)
def _file(text: str, where: str) -> Any:
    pool = descriptor_pool.DescriptorPool()
    held = descriptor_pb2.FileDescriptorProto()
    try:
        held.ParseFromString(base64.standard_b64decode(text))
        for each in _KNOWN:
            pool.AddSerializedFile(each.DESCRIPTOR.serialized_pb)
        held.name = "registered.proto"
        pool.AddSerializedFile(held.SerializeToString())
        return pool.FindFileByName(held.name)
    except (binascii.Error, DecodeError, TypeError, KeyError) as error:
        raise SchemaError(f"its schema cannot be read: {error}", where=where) from error
