"""Messages by the schemas of a registry: evolved, broken, of an unknown schema; the registry itself closed or away."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from google.protobuf import descriptor_pb2, timestamp_pb2  # type: ignore[import-untyped]

from dsl.contracts.connectors import ReadRequest
from dsl.contracts.errors import FatalError, SchemaError, UnavailableError
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError
from resources.kafka.resource import KafkaConnection, KafkaSource, MessageFormat
from tests.kit.kafka import KafkaServer
from tests.resources.kafka.registry import FakeRegistry, registry
from tests.resources.kafka.test_source import Reading

AVRO = {
    "type": "record",
    "name": "r",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}},
    ],
}
NEWER = {**AVRO, "fields": [*AVRO["fields"], {"name": "note", "type": ["null", "string"], "default": None}]}


@pytest.fixture
def served() -> Iterator[FakeRegistry]:
    with registry() as held:
        yield held


def connection(kafka: KafkaServer, port: int, password: str = "secret") -> KafkaConnection:
    return KafkaConnection(
        brokers=(kafka.address,),
        schema_registry=f"http://127.0.0.1:{port}",
        registry_username="reader",
        registry_password=Secret(password, literal=True),
    )


def reading(kafka: KafkaServer, served: FakeRegistry, topic: str, kind: MessageFormat) -> Reading:
    made = Reading(kafka, topic)
    made.source = KafkaSource(connection=connection(kafka, served.port), topic=topic, format=kind)
    return made


def framed(number: int, body: bytes) -> bytes:
    return b"\0" + number.to_bytes(4, "big") + body


def avro(schema: dict[str, Any], row: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, row)
    return out.getvalue()


def test_avro_of_several_versions_and_broken_ones(kafka: KafkaServer, served: FakeRegistry) -> None:
    from decimal import Decimal

    topic = kafka.new_topic()
    old = served.register(f"{topic}-value", "AVRO", json.dumps(AVRO))
    new = served.register(f"{topic}-value", "AVRO", json.dumps(NEWER))
    price = Decimal("123456789012345678.90")
    good = [
        framed(old, avro(AVRO, {"id": 1, "price": price})),
        framed(new, avro(NEWER, {"id": 2, "price": price, "note": "n"})),
        framed(old, avro(AVRO, {"id": 3, "price": price})),
    ]
    bad = [framed(old, b"\x02"), b"no frame", framed(99, b"x"), b"\0"]
    kafka.send(topic, [good[0], bad[0], good[1], *bad[1:], None, good[2]])
    made = reading(kafka, served, topic, MessageFormat.AVRO)
    assert made.source.discover_schema().field("price").type == pa.decimal128(20, 2)
    assert made.run() == [
        {"id": 1, "price": price, "note": None},
        {"id": 2, "price": price, "note": "n"},
        {"id": None, "price": None, "note": None},
        {"id": 3, "price": price, "note": None},
    ]
    assert [each.row.column("offset").to_pylist() for each in made.rejected] == [[1], [3], [4], [5]]
    assert "no such schema" in made.rejected[2].reason


def test_json_schema(kafka: KafkaServer, served: FakeRegistry) -> None:
    topic = kafka.new_topic()
    told = {
        "type": "object",
        "properties": {
            "id": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "user": {"type": ["null", "object"], "properties": {"score": {"type": "number"}}},
            "any": {"oneOf": [{"type": "string"}, {"type": "integer"}]},
        },
    }
    number = served.register(f"{topic}-value", "JSON", json.dumps(told))
    row = {"id": 1, "tags": ["a"], "user": {"score": 0.5}, "any": 7}
    kafka.send(topic, [framed(number, json.dumps(row).encode()), framed(number, b'{"id": "x"}')])
    made = reading(kafka, served, topic, MessageFormat.JSON_SCHEMA)
    assert made.run() == [{**row, "any": "7"}]
    assert "column 'id'" in made.rejected[0].reason


def proto() -> descriptor_pb2.FileDescriptorProto:
    """An order: id, name, items with a count each, a timestamp, bytes, and counts by name."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="x.proto", package="p", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    order = file.message_type.add(name="Order")
    item = order.nested_type.add(name="Item")
    item.field.add(name="count", number=1, type=kinds.TYPE_SINT32, label=1)
    entry = order.nested_type.add(name="CountsEntry")
    entry.field.add(name="key", number=1, type=kinds.TYPE_STRING, label=1)
    entry.field.add(name="value", number=2, type=kinds.TYPE_UINT64, label=1)
    entry.options.map_entry = True
    order.field.add(name="id", number=1, type=kinds.TYPE_INT64, label=1)
    order.field.add(name="name", number=2, type=kinds.TYPE_STRING, label=1)
    order.field.add(name="items", number=3, type=kinds.TYPE_MESSAGE, type_name=".p.Order.Item", label=3)
    order.field.add(name="at", number=4, type=kinds.TYPE_MESSAGE, type_name=".google.protobuf.Timestamp", label=1)
    order.field.add(name="raw", number=5, type=kinds.TYPE_BYTES, label=1)
    order.field.add(name="counts", number=6, type=kinds.TYPE_MESSAGE, type_name=".p.Order.CountsEntry", label=3)
    return file


def test_protobuf(kafka: KafkaServer, served: FakeRegistry) -> None:
    from google.protobuf import descriptor_pool, message_factory

    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(proto().SerializeToString())
    order: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName("p.Order"))()
    order.id, order.name, order.raw = 2**63 - 1, "é", b"\x00\xff"
    order.items.add(count=-3)
    order.at.FromJsonString("2024-02-29T12:00:00.123456789Z")
    order.counts["k"] = 2**64 - 1
    topic = kafka.new_topic()
    text = base64.b64encode(proto().SerializeToString()).decode()
    number = served.register(f"{topic}-value", "PROTOBUF", text)
    whole = order.SerializeToString()
    kafka.send(
        topic,
        [framed(number, b"\0" + whole), framed(number, b"\x02\x00"), framed(number, b"\0\xff"), framed(number, b"")],
    )
    made = reading(kafka, served, topic, MessageFormat.PROTOBUF)
    schema = made.source.discover_schema()
    assert schema.field("counts").type == pa.map_(pa.string(), pa.uint64())
    with made.source.read(ReadRequest(), None) as reader:
        table = pa.Table.from_batches([each.rows for each in reader])
        made.rejected += reader.rejections()
    assert table.column("at").cast(pa.int64()).to_pylist() == [1709208000123456789, None]
    first, empty = table.drop_columns(["at"]).to_pylist()
    assert first == {
        "id": 2**63 - 1,
        "name": "é",
        "items": [{"count": -3}],
        "raw": b"\x00\xff",
        "counts": [("k", 2**64 - 1)],
    }
    assert empty == {"id": 0, "name": "", "items": [], "raw": b"", "counts": []}


def test_a_registry_that_refuses_or_is_away(kafka: KafkaServer, served: FakeRegistry) -> None:
    topic = kafka.new_topic()
    made = KafkaSource(connection=connection(kafka, served.port), topic=topic, format=MessageFormat.AVRO)
    with pytest.raises(SchemaError, match="no such schema"):
        made.discover_schema()
    served.register(f"{topic}-value", "JSON", "{}")
    with pytest.raises(SchemaError, match="is JSON, not AVRO"):
        made.discover_schema()
    wrong = KafkaSource(connection=connection(kafka, served.port, "canary-9"), topic=topic, format=MessageFormat.AVRO)
    with pytest.raises(FatalError, match="401") as refused:
        wrong.discover_schema()
    assert "canary-9" not in f"{refused.value} {refused.value.__cause__!r} {wrong!r}"
    away = KafkaSource(connection=connection(kafka, 1), topic=topic, format=MessageFormat.AVRO)
    with pytest.raises(UnavailableError, match="no answer"):
        away.discover_schema()


def test_options_of_a_registry() -> None:
    with pytest.raises(OptionError, match="needs a Schema Registry"):
        KafkaSource(connection=KafkaConnection(brokers=("k:9092",)), topic="t", format=MessageFormat.AVRO)
    with pytest.raises(OptionError, match="shows rows"):
        KafkaConnection(brokers=("k:9092",), schema_registry="http://registry.example.com")
