"""What a reader of topics does beyond the suite: growth, retention, transactions, malformed messages, metadata, following."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from dsl.contracts.capabilities import SyncMode
from dsl.contracts.connectors import ReadRequest
from dsl.contracts.errors import RegressionError, SchemaError
from dsl.contracts.rows import Rejection
from dsl.contracts.spec import OptionError
from dsl.contracts.state import State
from resources.kafka.resource import KafkaConnection, KafkaSource, MessageFormat, OnLost, Start
from tests.kit.kafka import KafkaServer
from tests.resources.kafka.conftest import Place

ID = pa.schema([pa.field("id", pa.int64())])


class Reading:
    """Runs of one source, each going on where the one before ended."""

    def __init__(self, kafka: KafkaServer, topic: str, **options: Any) -> None:
        given = {"declared": ID, **options}
        self.source = KafkaSource(connection=KafkaConnection(brokers=(kafka.address,)), topic=topic, **given)
        self.state: State | None = None
        self.rejected: list[Rejection] = []

    def run(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        with self.source.read(ReadRequest(), self.state) as reader:
            for each in reader:
                rows += each.rows.to_pylist()
                self.state = each.state
                self.rejected += reader.rejections()
            if self.state is not None:
                reader.acknowledge(self.state)
        return rows

    def ids(self) -> list[int]:
        return sorted(row["id"] for row in self.run())


def values(*numbers: int) -> list[bytes | None]:
    return [json.dumps({"id": each}).encode() for each in numbers]


def test_each_run_reads_what_is_new_and_new_partitions_from_their_beginning(kafka: KafkaServer) -> None:
    topic = kafka.new_topic(2)
    reading = Reading(kafka, topic)
    assert reading.ids() == []
    kafka.send(topic, values(1, 2))
    kafka.send(topic, values(3), partition=1)
    assert reading.source.backlog(reading.state) == 3
    assert reading.ids() == [1, 2, 3]
    kafka.add_partitions(topic, 3)
    kafka.send(topic, values(4), partition=2)
    assert reading.ids() == [4]
    assert reading.ids() == []
    assert reading.source.backlog(reading.state) == 0


def test_what_retention_removed_is_said_or_noted(kafka: KafkaServer) -> None:
    topic = kafka.new_topic()
    reading = Reading(kafka, topic)
    kafka.send(topic, values(0, 1))
    assert reading.ids() == [0, 1]
    kafka.send(topic, values(2, 3, 4, 5))
    kafka.remove_before(topic, 0, 5)
    with pytest.raises(RegressionError, match=r"partition 0: messages 2 to 4 \(3\) were removed"):
        reading.run()
    noting = Reading(kafka, topic, on_lost=OnLost.REJECT)
    noting.state = reading.state
    assert noting.ids() == [5]
    assert [each.row.to_pylist() for each in noting.rejected] == [
        [{"topic": topic, "partition": 0, "first": 2, "last": 4}]
    ]
    assert noting.ids() == []


def test_a_topic_that_was_made_anew_is_not_read_as_the_old_one(kafka: KafkaServer) -> None:
    topic = kafka.new_topic(2)
    reading = Reading(kafka, topic)
    kafka.send(topic, values(0, 1))
    reading.run()
    reading.state = {**(reading.state or {}), "offsets": {"0": 99, "1": 0}}
    with pytest.raises(RegressionError, match="ends at 2, before offset 99"):
        reading.run()
    reading.state = {**reading.state, "offsets": {"0": 2, "7": 1}}
    with pytest.raises(RegressionError, match="partition 7 is gone"):
        reading.run()


def test_transactions_that_were_given_up_are_never_seen(kafka: KafkaServer) -> None:
    topic = kafka.new_topic()
    kept, given_up = (
        Producer({"bootstrap.servers": kafka.address, "transactional.id": f"{topic}-{at}"}) for at in "ab"
    )
    for each in (kept, given_up):
        each.init_transactions(30)

    def send(producer: Producer, number: int) -> None:
        producer.begin_transaction()
        producer.produce(topic, json.dumps({"id": number}).encode(), partition=0)
        producer.flush(30)

    for number in (1, 3):
        send(kept, number)
        kept.commit_transaction(30)
        send(given_up, number + 1)
        given_up.abort_transaction(30)
    send(kept, 5)
    reading = Reading(kafka, topic)
    assert reading.ids() == [1, 3], "the one that is open is not there yet"
    assert reading.ids() == []
    kept.commit_transaction(30)
    assert reading.ids() == [5]


def test_malformed_messages_are_rejected_with_their_place_and_all_they_hold(kafka: KafkaServer) -> None:
    topic = kafka.new_topic()
    bad = [b"not json", b'{"id": "x"}', b"\xff\xfe", b"[1]", b""]
    kafka.send(topic, [*values(1), *bad, *values(2)], key=b"k")
    reading = Reading(kafka, topic)
    assert reading.ids() == [1, 2]
    rows = [each.row.to_pylist()[0] for each in reading.rejected]
    assert [row["offset"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["bytes"] or row["text"].encode() for row in rows] == bad
    assert rows[0] == {"topic": topic, "partition": 0, "offset": 1, "key": "k", "text": "not json", "bytes": None}
    assert "offset 2" in reading.rejected[1].reason
    assert "column 'id'" in reading.rejected[1].reason


def test_what_kafka_says_of_a_message(kafka: KafkaServer) -> None:
    topic = kafka.new_topic()
    kafka.send(topic, [b"a", None], key=b"k", headers=[("h", b"1"), ("h", None)], timestamp=1_700_000_000_123)
    facts = {f"_{each}": each for each in ("topic", "partition", "offset", "timestamp", "key", "key_bytes", "headers")}
    reading = Reading(kafka, topic, declared=None, format=MessageFormat.TEXT, metadata=facts)
    schema = reading.source.discover_schema()
    first, tombstone = reading.run()
    assert schema.names == ["value", *facts]
    assert tombstone["value"] is None
    assert first.pop("_timestamp").isoformat() == "2023-11-14T22:13:20.123000+00:00"
    assert first == {
        "value": "a",
        "_topic": topic,
        "_partition": 0,
        "_offset": 0,
        "_key": "k",
        "_key_bytes": b"k",
        "_headers": [{"name": "h", "value": b"1"}, {"name": "h", "value": None}],
    }
    kafka.send(topic, [b"c"], key=b"\xff")
    assert reading.run() == []
    assert "key is not UTF-8" in reading.rejected[0].reason


def test_what_kafka_says_has_the_type_that_is_declared(kafka: KafkaServer) -> None:
    topic = kafka.new_topic()
    kafka.send(topic, values(1), timestamp=1_700_000_000_123)
    types: dict[str, pa.DataType] = {"at": pa.timestamp("ms", "UTC"), "id": pa.int64(), "part": pa.int64()}
    facts = {"at": "timestamp", "part": "partition"}
    (row,) = Reading(kafka, topic, declared=pa.schema(types), metadata=facts).run()
    assert (row["id"], row["part"], row["at"].microsecond) == (1, 0, 123_000)
    for name, wrong in (("at", pa.string()), ("at", pa.timestamp("s", "UTC")), ("part", pa.int16())):
        reading = Reading(kafka, topic, declared=pa.schema({**types, name: wrong}), metadata=facts)
        with pytest.raises(SchemaError, match=f"'{name}' is "):
            reading.run()


def test_columns_are_inferred_and_a_field_that_is_none_of_them_is_rejected(kafka: KafkaServer) -> None:
    topic = kafka.new_topic(2)
    reading = Reading(kafka, topic, declared=None)
    with pytest.raises(SchemaError, match="declare `schema`"):
        reading.source.discover_schema()
    kafka.send(topic, [b'{"id": 1, "tags": ["a"]}', b'{\n"id": null\n}'], partition=1)
    assert str(reading.source.discover_schema().field("tags").type) == "list<item: string>"
    assert len(reading.run()) == 2


def test_the_group_is_told_what_is_committed(kafka: KafkaServer) -> None:
    topic = kafka.new_topic()
    kafka.send(topic, values(1, 2, 3))
    Reading(kafka, topic, group=f"g-{topic}").run()
    consumer = Consumer({"bootstrap.servers": kafka.address, "group.id": f"g-{topic}"})
    assert consumer.committed([TopicPartition(topic, 0)], timeout=30)[0].offset == 3
    consumer.close()


def test_latest_begins_behind_what_is_there_and_goes_on_from_there(kafka: KafkaServer) -> None:
    topic = kafka.new_topic()
    kafka.send(topic, values(1))
    reading = Reading(kafka, topic, start=Start.LATEST)
    assert reading.ids() == []
    kafka.send(topic, values(2))
    assert reading.ids() == [2]


def test_it_goes_on_for_ever_when_asked(kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resources.kafka.reader.LOOK_SECONDS", 0.0)
    topic = kafka.new_topic()
    source = Reading(kafka, topic).source
    seen: list[int] = []
    with source.read(ReadRequest(follow=True), None) as reader:
        for beats, batch in enumerate(reader):
            seen += [row["id"] for row in batch.rows.to_pylist()]
            if beats == 0:
                assert batch.rows.num_rows == 0, "it says that nothing has come"
                kafka.send(topic, values(1))
            if seen == [1]:
                kafka.add_partitions(topic, 2)
                kafka.send(topic, values(2), partition=1)
                seen.append(0)
            if 2 in seen:
                break
    assert seen == [1, 0, 2]
    assert batch.state is not None
    assert batch.state["offsets"] == {"0": 1, "1": 1}


def test_options_that_do_not_fit() -> None:
    connection = KafkaConnection(brokers=("k:9092",))
    with pytest.raises(OptionError, match="'ofset'"):
        KafkaSource(connection=connection, topic="t", metadata={"a": "ofset"})
    with pytest.raises(OptionError, match="begins at the beginning"):
        KafkaSource(connection=connection, topic="t", sync_mode=SyncMode.FULL_REFRESH, start=Start.LATEST)
    with pytest.raises(OptionError, match="topic's name"):
        KafkaSource(connection=connection, topic="a b")
    with pytest.raises(OptionError, match="brokers"):
        KafkaConnection(brokers=("http://k",))


def test_a_topic_that_is_not_there(place: Place) -> None:
    with pytest.raises(SchemaError, match="no such topic"):
        place.source().discover_schema()
    away = KafkaConnection(brokers=("127.0.0.1:1",))
    assert not away.check().healthy
