"""Whole runs from topic to topic that are killed at a place of the engine or of the writer: nothing lost, nothing doubled.

No server here speaks Kafka over TLS or asks for a login: what a client is told of both is looked at instead.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dsl.contracts.errors import FatalError
from dsl.contracts.secret import Secret
from resources.kafka.client import settings
from resources.kafka.resource import KafkaConnection
from resources.sql import Tls
from tests.kit.kafka import KafkaServer
from tests.kit.process import ROOT

TOTAL = 60
_OFTEN = ["epoch.committed=kill@2"]
_SELDOM = [
    "kafka.token=kill@2",
    "loop.written=kill@3",
    "kafka.fenced=kill@1",
    "kafka.sent=kill@4",
    "loop.acknowledged=kill@1",
]


def run(document: Path, home: Path, faults: str = "") -> int:
    environment = {**os.environ, "HEADRACE_HOME": str(home), "HEADRACE_TEST": "1", "HEADRACE_FAILPOINTS": faults}
    command = [sys.executable, "-m", "server.cli.main", "run", str(document)]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True).returncode


def document(server: KafkaServer, origin: str, target: str, folder: Path) -> Path:
    where = f'brokers: ["{server.address}"]'
    path = folder / "copy.yaml"
    path.write_text(f"""\
workflow:
  name: copy-{target}
  checkpoint: {{rows: 10}}
  batch: {{rows: 5}}
  source:
    type: kafka
    config: {{{where}, topic: {origin}, group: {origin}}}
    schema: {{id: int64}}
  destination:
    type: kafka
    config: {{{where}, topic: {target}, partitions: 2, replication: 1}}
""")
    return path


@pytest.mark.parametrize("faults", [*_OFTEN, *(pytest.param(each, marks=pytest.mark.slow) for each in _SELDOM)])
def test_a_run_that_is_killed_is_gone_on_with(kafka: KafkaServer, tmp_path: Path, faults: str) -> None:
    origin, target = kafka.new_topic(2), kafka.new_name()
    for part in range(2):
        numbers = range(part * TOTAL // 2, (part + 1) * TOTAL // 2)
        kafka.send(origin, [json.dumps({"id": each}).encode() for each in numbers], partition=part)
    path = document(kafka, origin, target, tmp_path)
    assert run(path, tmp_path / "home", faults) == -signal.SIGKILL
    assert run(path, tmp_path / "home") == 0
    assert Counter(json.loads(each.value())["id"] for each in kafka.messages(target)) == Counter(range(TOTAL))


def test_a_client_is_told_to_verify_whom_it_talks_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", "p")
    login: dict[str, Any] = {"username": "u", "password": Secret("${KAFKA_PASSWORD}")}
    told = settings(KafkaConnection(brokers=("k:9093", "127.0.0.1:9093"), ca_file="/ca.pem", **login))
    assert told["security.protocol"] == "SASL_SSL"
    assert told["enable.ssl.certificate.verification"] is True
    assert told["ssl.endpoint.identification.algorithm"] == "https"
    assert (told["ssl.ca.location"], told["sasl.mechanism"], told["sasl.password"]) == ("/ca.pem", "SCRAM-SHA-512", "p")
    assert settings(KafkaConnection(brokers=("[::1]:9092", "localhost:9092")))["security.protocol"] == "PLAINTEXT"
    assert (
        settings(KafkaConnection(brokers=("k:9092",), tls=Tls.DISABLE, **login))["security.protocol"]
        == "SASL_PLAINTEXT"
    )
    encrypted = settings(KafkaConnection(brokers=("k:9092",), tls=Tls.REQUIRE))
    assert encrypted["enable.ssl.certificate.verification"] is False


def test_a_certificate_file_that_is_not_there() -> None:
    from resources.kafka.client import open_admin

    with pytest.raises(FatalError, match="no trusted connection"):
        open_admin(KafkaConnection(brokers=("k:9093",), ca_file="/no/such/file.pem"))
