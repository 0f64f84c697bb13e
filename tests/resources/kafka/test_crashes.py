"""A load that is killed at any of the writer's places, and the loads after it: nothing lost, nothing doubled, no zombie commits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter

import pyarrow as pa
import pytest

from dsl.contracts.errors import FencedError, RetryableError
from tests.kit.kafka import KafkaServer
from tests.kit.process import ROOT
from tests.resources.kafka import loading

TOTAL = 40
PLACES = ("kafka.fenced", "kafka.sent", "kafka.token", "kafka.committed")


def numbers_in(server: KafkaServer, topic: str) -> Counter[int]:
    return Counter(json.loads(each.value())["id"] for each in server.messages(topic))


def child(server: KafkaServer, topic: str, tokens: str, size: int, faults: str) -> subprocess.Popen[bytes]:
    given = {"address": server.address, "topic": topic, "tokens": tokens, "total": TOTAL, "size": size}
    command = [sys.executable, "-m", "tests.resources.kafka.loading", json.dumps(given)]
    environment = {**os.environ, "HEADRACE_TEST": "1", "HEADRACE_FAILPOINTS": faults}
    return subprocess.Popen(command, cwd=ROOT, env=environment)


@pytest.mark.parametrize("place", PLACES)
def test_a_process_is_killed(kafka: KafkaServer, place: str) -> None:
    topic, tokens = kafka.new_name(), kafka.new_name()
    visit = 1 if place == "kafka.fenced" else 3
    assert child(kafka, topic, tokens, 3, f"{place}=kill@{visit}").wait() == -signal.SIGKILL
    seen = numbers_in(kafka, topic)
    assert not seen or max(seen.values()) == 1
    loading.load(loading.destination_at(kafka.address, topic, tokens), TOTAL, 5)
    assert numbers_in(kafka, topic) == Counter(range(TOTAL))


@pytest.mark.parametrize("place", ["kafka.sent", "kafka.token"])
def test_a_process_that_was_frozen_wakes_up_too_late(kafka: KafkaServer, place: str) -> None:
    topic, tokens = kafka.new_name(), kafka.new_name()
    zombie = child(kafka, topic, tokens, 3, f"{place}=freeze@2")
    try:
        os.waitid(os.P_PID, zombie.pid, os.WSTOPPED)
        loading.load(loading.destination_at(kafka.address, topic, tokens), TOTAL, 5)
        before = numbers_in(kafka, topic)
        zombie.send_signal(signal.SIGCONT)
        assert zombie.wait() == 1, "it ends with an error"
    finally:
        zombie.kill()
        zombie.wait()
    assert before == numbers_in(kafka, topic) == Counter(range(TOTAL))


def test_the_next_run_waits_for_the_open_token_of_another_stream(
    kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands behind an open transaction is unknown, so a writer that cannot wait longer does not guess."""
    from confluent_kafka import Producer

    from resources.kafka import writer

    tokens = kafka.new_name()
    topic = kafka.new_name()
    destination = loading.destination_at(kafka.address, topic, tokens)
    loading.load(destination, 10, 5)
    other = Producer({"bootstrap.servers": kafka.address, "transactional.id": f"other-{topic}"})
    other.init_transactions(30)
    other.begin_transaction()
    other.produce(tokens, b"{}", b"other", 0)
    other.flush(30)
    monkeypatch.setattr(writer, "SECONDS", 0.5)
    with pytest.raises(RetryableError, match="another stream's transaction"):
        destination.open_writer(loading.SCHEMA, loading.TOKEN)
    other.commit_transaction(30)
    loading.load(destination, 20, 5)
    assert numbers_in(kafka, topic) == Counter(range(20))


def test_a_writer_that_was_fenced_hears_it_as_it_writes(kafka: KafkaServer) -> None:
    destination = loading.destination_at(kafka.address, kafka.new_name(), kafka.new_name())
    first = destination.open_writer(loading.SCHEMA, loading.TOKEN)
    rows = pa.RecordBatch.from_pylist([{"id": 1}], schema=loading.SCHEMA)
    first.write(rows)
    with destination.open_writer(loading.SCHEMA, loading.TOKEN):
        with pytest.raises(FencedError):  # noqa: PT012 - the broker's answer comes with a later call
            for _ in range(1000):
                first.write(rows)
            first.commit(1, {"v": 1})
        first.close()
