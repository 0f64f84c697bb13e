"""Reads values by the schemas of a Schema Registry: Avro, JSON Schema, Protobuf; registers nothing."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from confluent_kafka.schema_registry import SchemaRegistryClient, SchemaRegistryError

from dsl.contracts.errors import ErrorType, FatalError, HeadraceError, SchemaError, UnavailableError
from resources.formats import avro
from resources.formats.chunks import Chunk, Malformed
from resources.formats.columns import Wanted, batch_of
from resources.formats.jsonl import decode_values
from resources.formats.options import Limits
from resources.kafka.resource import MessageFormat
from resources.stores.secrets import reveal_optional

if TYPE_CHECKING:
    from resources.kafka.resource import KafkaConnection, KafkaSource

MAGIC, PREFIX = 0, 5
SECONDS = 30
_KINDS = {MessageFormat.AVRO: "AVRO", MessageFormat.JSON_SCHEMA: "JSON", MessageFormat.PROTOBUF: "PROTOBUF"}
_SCALARS: dict[str, pa.DataType] = {
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "string": pa.string(),
}


class Registry:
    """A Schema Registry.

    Args:
        connection: Where it is and how to log in.
    """

    def __init__(self, connection: KafkaConnection) -> None:
        self.where = f"schema registry {connection.schema_registry}"
        told: dict[str, Any] = {"url": connection.schema_registry, "timeout": SECONDS}
        password = reveal_optional(connection.registry_password)
        if password is not None:
            told["basic.auth.user.info"] = f"{connection.registry_username}:{password}"
        if connection.ca_file is not None:
            told["ssl.ca.location"] = connection.ca_file
        self._client = SchemaRegistryClient(told)

    def newest(self, subject: str, kind: MessageFormat) -> Any:
        """Returns the newest schema of a subject.

        Raises:
            SchemaError: There is none, or it is of another kind.
        """
        form = "serialized" if kind is MessageFormat.PROTOBUF else None
        found = self._ask(lambda: self._client.get_latest_version(subject, fmt=form)).schema
        return self._of_kind(found, kind, f"subject '{subject}'")

    def schema(self, number: int, kind: MessageFormat) -> Any:
        """Returns a schema by its number; raises as `newest` does."""
        form = "serialized" if kind is MessageFormat.PROTOBUF else None
        return self._of_kind(self._ask(lambda: self._client.get_schema(number, fmt=form)), kind, f"schema {number}")

    def _of_kind(self, schema: Any, kind: MessageFormat, what: str) -> Any:
        if schema.schema_type != _KINDS[kind]:
            raise SchemaError(
                f"{what} is {schema.schema_type}, not {_KINDS[kind]}", where=self.where, hint="change `format`"
            )
        if schema.references:
            hint = "register it as one schema that holds what it refers to"
            raise SchemaError(f"{what} refers to other schemas, which are not read", where=self.where, hint=hint)
        return schema

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except SchemaRegistryError as error:
            raise self._fault(error) from error
        except Exception as error:  # the HTTP library below is the driver's own affair
            raise UnavailableError(
                f"no answer: {type(error).__name__}", where=self.where, hint="check its address"
            ) from error

    def _fault(self, error: SchemaRegistryError) -> HeadraceError:
        said = f"HTTP status {error.http_status_code}: {error.error_message}"
        if error.http_status_code in {401, 403}:
            hint = "check registry_username and registry_password"
            return FatalError(said, where=self.where, hint=hint, error_type=ErrorType.AUTH)
        if error.http_status_code == 404:
            return SchemaError(
                "there is no such schema", where=self.where, hint="check `subject`, and who writes the topic"
            )
        return UnavailableError(said, where=self.where)


def registered_schema(source: KafkaSource) -> pa.Schema:
    """Returns the columns of the newest schema of a source's subject.

    Raises:
        SchemaError: There is none, or it cannot be carried.
        UnavailableError: The registry cannot be reached.
    """
    registry = Registry(source.connection)
    subject = source.subject or f"{source.topic}-value"
    text, where = registry.newest(subject, source.format).schema_str, f"{registry.where} subject '{subject}'"
    if source.format is MessageFormat.AVRO:
        return avro.infer(io.BytesIO(avro.container(text, [])), Limits(), where)
    if source.format is MessageFormat.JSON_SCHEMA:
        return _json_columns(text, where)
    from resources.kafka.protobuf import columns_of

    return columns_of(text, where)


@dataclass
class RegisteredDecoder:
    """Values that begin with the number of their schema.

    Attributes:
        registry: Knows the schemas.
        format: What they are.
        wanted: The columns.
        where: Names the topic in errors.
    """

    registry: Registry
    format: MessageFormat
    wanted: Wanted
    where: str
    _schemas: dict[int, str] = field(default_factory=dict)

    def decode(self, values: Sequence[bytes | None]) -> Chunk:
        """Returns the rows, and by their index those values that are none."""
        bad: list[Malformed] = []
        parts: list[tuple[list[int], pa.RecordBatch]] = []
        for number, places in self._runs(values, bad):
            chunk = self._decoded(number, [values[at] for at in places])
            bad += [Malformed(places[each.record], 0, each.text, each.reason) for each in chunk.malformed]
            parts.append((places, chunk.rows))
        rows = pa.Table.from_batches([each for _, each in parts], self.wanted.schema).combine_chunks().to_batches()
        whole = rows[0] if rows else pa.RecordBatch.from_pylist([], self.wanted.schema)
        return Chunk(0, whole, tuple(sorted(bad, key=lambda each: each.record)))

    def _runs(self, values: Sequence[bytes | None], bad: list[Malformed]) -> list[tuple[int | None, list[int]]]:
        """Returns the places of values of one schema that stand next to each other; None for tombstones."""
        found: list[tuple[int | None, list[int]]] = []
        for at, each in enumerate(values):
            number = None if each is None else int.from_bytes(each[1:PREFIX], "big")
            if each is not None and (len(each) < PREFIX or each[0] != MAGIC):
                bad.append(Malformed(at, 0, "", "it does not begin with the number of a schema"))
            elif found and found[-1][0] == number:
                found[-1][1].append(at)
            else:
                found.append((number, [at]))
        return found

    def _decoded(self, number: int | None, values: Sequence[bytes | None]) -> Chunk:
        if number is None:
            nulls: list[Any] = [pa.nulls(len(values), each.type) for each in self.wanted.schema]
            return Chunk(0, batch_of(nulls, self.wanted.schema, len(values)))
        bodies = [(each or b"")[PREFIX:] for each in values]
        try:
            text = self._text(number)
        except SchemaError as error:
            return self._lost(bodies, str(error))
        if self.format is MessageFormat.JSON_SCHEMA:
            return decode_values(bodies, self.wanted)
        if self.format is MessageFormat.PROTOBUF:
            from resources.kafka.protobuf import decode

            return decode(text, bodies, self.wanted, self.where)
        wanted = Wanted(self.wanted.schema, self.wanted.names, strict=False)
        chunks = list(avro.decode(io.BytesIO(avro.container(text, bodies)), wanted, Limits(), self.where))
        rows = pa.Table.from_batches([each.rows for each in chunks], wanted.schema).combine_chunks().to_batches()
        bad = tuple(bad for each in chunks for bad in each.malformed)
        return Chunk(0, rows[0] if rows else pa.RecordBatch.from_pylist([], wanted.schema), bad)

    def _lost(self, bodies: Sequence[bytes], reason: str) -> Chunk:
        bad = tuple(Malformed(at, 0, "", reason) for at in range(len(bodies)))
        return Chunk(0, pa.RecordBatch.from_pylist([], self.wanted.schema), bad)

    def _text(self, number: int) -> str:
        if number not in self._schemas:
            self._schemas[number] = self.registry.schema(number, self.format).schema_str
        return self._schemas[number]


def _json_columns(text: str, where: str) -> pa.Schema:
    held = json.loads(text)
    named = held.get("properties") if isinstance(held, dict) else None
    if not named:
        raise SchemaError("it describes no object with properties", where=where, hint="declare `schema`")
    return pa.schema([pa.field(name, _json_type(each)) for name, each in named.items()])


def _json_type(told: Any) -> pa.DataType:
    """Returns the Arrow type of a part of a JSON Schema; text, for the JSON to be kept as it is, where it may be this or that."""
    kinds = told.get("type") if isinstance(told, dict) else None
    kinds = [each for each in (kinds if isinstance(kinds, list) else [kinds]) if each != "null"]
    kind = kinds[0] if len(kinds) == 1 else None
    if kind == "object" and told.get("properties"):
        return pa.struct([pa.field(name, _json_type(each)) for name, each in told["properties"].items()])
    if kind == "array" and isinstance(told.get("items"), dict):
        return pa.list_(_json_type(told["items"]))
    return _SCALARS.get(str(kind), pa.string())
