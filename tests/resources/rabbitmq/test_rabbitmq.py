"""Streams, queues, writing, crashes, TLS and the suites on a real broker; in one file, so that one worker starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import closing
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.capabilities import SyncMode
from dsl.contracts.connectors import ReadRequest, Token
from dsl.contracts.errors import FatalError, FencedError, RegressionError, RetryableError, SchemaError
from dsl.contracts.rows import Rejection
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError
from dsl.contracts.state import State
from resources.rabbitmq import publisher
from resources.rabbitmq.client import Tap, open_connection
from resources.rabbitmq.resource import FACTS, Id, OnLost, QueueType, Start
from resources.rabbitmq.token import name_of
from resources.sql import Tls
from resources.testing import DestinationSuite, DestinationTarget, SourceOrigin, SourceSuite
from tests.kit.process import ROOT
from tests.resources.rabbitmq import loading
from tests.resources.rabbitmq.conftest import Place

ID = pa.schema([pa.field("id", pa.int64())])
TOTAL = 40


class TestSource(SourceSuite):
    """A stream, read from its beginning."""

    @pytest.fixture
    def origin(self, place: Place) -> SourceOrigin:
        return place


class TestDestination(DestinationSuite):
    """A quorum queue, as a consumer sees it that drops ids it has seen."""

    @pytest.fixture
    def target(self, place: Place) -> DestinationTarget:
        place.kind = QueueType.QUORUM
        place.make()
        return place


class Reading:
    """Runs of one source, each going on where the one before ended."""

    def __init__(self, place: Place, **options: Any) -> None:
        self.source = place.source(**{"declared": ID, "sync_mode": SyncMode.INCREMENTAL, **options})
        self.state: State | None = None
        self.rejected: list[Rejection] = []

    def run(self, *, acknowledges: bool = True, **request: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        with self.source.read(ReadRequest(**request), self.state) as reader:
            for each in reader:
                rows += each.rows.to_pylist()
                self.state = each.state
                self.rejected += reader.rejections()
            if acknowledges and self.state is not None:
                reader.acknowledge(self.state)
        return rows

    def ids(self, **request: Any) -> list[int]:
        return [row["id"] for row in self.run(**request)]


# ---- streams ------------------------------------------------------------------------------------


def test_each_run_reads_what_is_new_of_a_stream(place: Place) -> None:
    place.make()
    reading = Reading(place)
    assert reading.ids() == []
    place.numbers(1, 2)
    assert reading.source.backlog(reading.state) == 2
    assert (reading.ids(), reading.ids()) == ([1, 2], [])
    place.numbers(3)
    assert (reading.source.backlog(reading.state), reading.ids()) == (1, [3])
    assert reading.state is not None
    assert reading.state["offset"] == 3
    late = Reading(place, start=Start.LATEST)
    assert late.ids() == []
    place.numbers(4)
    assert late.ids() == [4]


def test_what_retention_removed_is_said_or_noted(place: Place) -> None:
    place.make(**{"x-max-length-bytes": 20_000, "x-stream-max-segment-size-bytes": 10_000})
    place.numbers(0)
    reading = Reading(place)
    assert reading.ids() == [0]
    for first in range(1, 2001, 400):
        place.send(*(json.dumps({"id": each, "fill": "x" * 50}).encode() for each in range(first, first + 400)))
    with pytest.raises(RegressionError, match=r"offsets 1 to \d+ was removed before it was read"):
        reading.run()
    offsets = pa.schema([*ID, pa.field("at", pa.int64())])
    noting = Reading(place, on_lost=OnLost.REJECT, declared=offsets, metadata={"at": "offset"})
    noting.state = reading.state
    rest = noting.run()
    (lost,) = noting.rejected
    assert lost.row.to_pylist() == [{"stream": place.name, "first": 1, "last": rest[0]["at"] - 1}]
    assert [each["id"] for each in rest] == list(range(rest[0]["id"], 2001)), "no more than that is missing"
    assert rest[-1]["at"] > rest[-1]["id"], "the broker's own marks in between are no loss"
    assert noting.run() == []


def test_a_stream_that_was_made_anew(place: Place) -> None:
    place.make()
    place.numbers(1, 2)
    reading = Reading(place)
    reading.run()
    with closing(place.server.connect()) as opened:
        opened.channel().queue_delete(place.name)
    with pytest.raises(SchemaError, match="not there"):
        reading.run()
    place.make()
    place.numbers(1)
    with pytest.raises(RegressionError, match="ends at 1, before offset 2"):
        reading.run()


def test_what_a_stream_says_of_messages_and_those_that_are_none(place: Place) -> None:
    place.make()
    place.send(b'{"id": 1}', ids=["a"], correlation_id="c", headers={"k": "v"}, timestamp=1_700_000_000)
    place.send(b'{"id": "x"}', b"\xff", b'{"id": 2}')
    facts = {"mid": "message_id", "key": "routing_key", "at": "timestamp", "offset": "offset", "head": "headers"}
    undeclared = Reading(place, metadata=facts, declared=None)
    assert str(undeclared.source.discover_schema().field("at").type) == "timestamp[us, tz=UTC]"
    kinds = [pa.field(column, FACTS[fact]) for column, fact in facts.items()]
    reading = Reading(place, metadata=facts, declared=pa.schema([*ID, *kinds]))
    first, last = reading.run(batch_rows=3)
    assert first.pop("at").isoformat() == "2023-11-14T22:13:20+00:00"
    assert json.loads(first.pop("head"))["k"] == "v"
    assert first == {"id": 1, "mid": "a", "key": place.name, "offset": 0}
    assert (last["id"], last["offset"], last["mid"]) == (2, 3, None)
    assert [each.row.column("offset").to_pylist() for each in reading.rejected] == [[1], [2]]


def test_a_stream_is_followed(place: Place) -> None:
    place.make()
    place.numbers(1)
    seen: list[int] = []
    with Reading(place).source.read(ReadRequest(follow=True), None) as reader:
        for batch in reader:
            seen += [row["id"] for row in batch.rows.to_pylist()]
            if not batch.rows.num_rows:
                assert seen == [1], "it says that nothing has come"
                place.numbers(2)
            if 2 in seen:
                break
    assert seen == [1, 2]


# ---- queues -------------------------------------------------------------------------------------


@pytest.fixture(params=[QueueType.QUORUM, QueueType.CLASSIC])
def queue(place: Place, request: pytest.FixtureRequest) -> Place:
    place.kind = request.param
    place.make()
    return place


@pytest.fixture
def quorum(place: Place) -> Place:
    place.kind = QueueType.QUORUM
    place.make()
    return place


def test_only_what_is_committed_is_acknowledged(queue: Place) -> None:
    queue.numbers(*range(10))
    reading = Reading(queue)
    with reading.source.read(ReadRequest(batch_rows=4), None) as reader:
        batches = list(reader)
        assert [each.rows.num_rows for each in batches] == [4, 4, 2]
        assert batches[1].state is not None
        reader.acknowledge(batches[1].state)
    assert [json.loads(body)["id"] for _, body in queue.held(2)] == [8, 9]
    reading.state = batches[1].state
    assert reading.ids() == [8, 9]
    assert reading.state is not None
    assert reading.state["redelivered"] == 2
    assert queue.ready() == 0


def test_more_than_may_be_under_way_are_read_before_a_commit(queue: Place) -> None:
    queue.numbers(*range(35))
    assert Reading(queue, prefetch=10).ids(batch_rows=7) == list(range(35))
    assert queue.ready() == 0
    queue.numbers(*range(30))
    # Acknowledged in between, late: what that frees belongs to a consumer that was renewed since.
    seen: list[int | None] = []
    states: list[State] = []
    with Reading(queue, prefetch=5).source.read(ReadRequest(batch_rows=3, follow=True), None) as reader:
        for each in reader:
            seen += each.rows.column("id").to_pylist()
            states.append(each.state or {})
            if len(states) > 3:
                reader.acknowledge(states.pop(0))
            if len(seen) == 30:
                break
        reader.acknowledge(states[-1])
    assert seen == list(range(30))
    assert queue.ready() == 0


def test_a_bounded_run_ends_with_what_was_there(queue: Place) -> None:
    queue.numbers(1, 2)
    with Reading(queue).source.read(ReadRequest(), None) as reader:
        queue.numbers(3)
        (batch,) = list(reader)
        assert batch.rows.column("id").to_pylist() == [1, 2]
        reader.acknowledge(batch.state or {})
    assert queue.ready(1) == 1


def test_a_run_ends_when_others_took_the_rest(queue: Place) -> None:
    queue.numbers(*range(6))
    other = open_connection(queue.connection, "other")
    tap = Tap(other, queue.name, 4, "other")
    taken = tap.take(4, 5)
    reading = Reading(queue)
    with closing(other):
        rest = reading.ids()
    assert (len(taken), rest) == (4, [4, 5])


def test_a_preview_takes_nothing(queue: Place) -> None:
    queue.numbers(1, 2, 3)
    assert Reading(queue).ids(dry=True) == [1, 2, 3]
    assert [json.loads(body)["id"] for _, body in queue.held(3)] == [1, 2, 3]


def test_what_comes_again_is_dropped_by_its_id(queue: Place) -> None:
    queue.numbers(*range(6))
    reading = Reading(queue, id=Id.MESSAGE_ID, remember=1)
    assert reading.ids(acknowledges=False) == list(range(6)), "a crash between commit and acknowledgement"
    queue.ready(6)
    queue.numbers(6)
    assert reading.ids() == [6]
    assert reading.state is not None
    assert (reading.state["repeated"], reading.state["redelivered"]) == (6, 6)
    assert queue.ready() == 0
    unlabelled = Reading(queue)
    queue.numbers(7)
    assert unlabelled.ids(acknowledges=False) == [7]
    queue.ready(1)
    assert unlabelled.ids() == [7], "at least once, without ids"


def test_a_message_without_an_id_is_rejected_where_ids_count(queue: Place) -> None:
    queue.send(b'{"id": 1}', b'{"id": 2}', ids=[None, "two"])
    reading = Reading(queue, id=Id.MESSAGE_ID)
    assert reading.ids() == [2]
    assert "it has no message_id" in reading.rejected[0].reason
    assert queue.ready() == 0


def test_a_message_that_nobody_can_take_is_rejected_in_the_end(quorum: Place) -> None:
    quorum.numbers(1)
    reading = Reading(quorum, max_deliveries=2, metadata={"before": "delivery_count"}, declared=None)
    with pytest.raises(SchemaError, match="declare `schema`"):
        reading.run()
    counting = Reading(quorum, max_deliveries=2)
    for expected in ([1], [1], []):
        quorum.ready(1)
        assert counting.ids(acknowledges=False) == expected
    assert "it was delivered 2 times before" in counting.rejected[0].reason
    assert counting.rejected[0].row.column("text").to_pylist() == ['{"id": 1}']


def test_a_queue_is_followed(queue: Place) -> None:
    seen: list[int | None] = []
    with Reading(queue).source.read(ReadRequest(follow=True), None) as reader:
        for batch in reader:
            seen += batch.rows.column("id").to_pylist()
            if not seen:
                queue.numbers(1)
            if seen:
                reader.acknowledge(batch.state or {})
                break
    assert queue.ready() == 0
    with Reading(queue).source.read(ReadRequest(follow=True), None) as reader:
        with closing(queue.server.connect()) as opened:
            opened.channel().queue_delete(queue.name)
        with pytest.raises(RetryableError, match="the broker ended the reading"):
            list(reader)


def test_a_queue_is_no_stream_and_a_stream_no_queue(place: Place, quorum: Place) -> None:
    quorum.numbers(1)
    with pytest.raises((SchemaError, FatalError)):
        Reading(quorum, stream=quorum.name, queue=None).run()
    assert quorum.ready(1) == 1
    stream = replace(place, kind=QueueType.STREAM, name=place.server.new_name())
    stream.make()
    stream.numbers(1)
    with Reading(stream, queue=stream.name, stream=None).source.read(ReadRequest(follow=True), None) as reader:
        stream.numbers(2)
        with pytest.raises(SchemaError, match="it is a stream, not a queue"):
            list(reader)


# ---- writing ------------------------------------------------------------------------------------


def test_rows_that_no_queue_takes_are_rejected(quorum: Place) -> None:
    rows = pa.RecordBatch.from_pydict({"id": [1, 2, 3, 4], "to": [quorum.name, "nowhere", None, "x" * 256]})
    destination = quorum.destination(routing_key="{to}", queue_type=None)
    with destination.open_writer(rows.schema, Token("unroutable", quorum.name)) as writer:
        refused = writer.write(rows)
        assert writer.commit(1, {"v": 1}).rows == 1
    reasons = [
        "no queue takes routing key 'nowhere'",
        "its routing key is NULL",
        "its routing key is longer than 255 bytes",
    ]
    assert [each.reason for each in refused] == reasons
    assert quorum.counted() == Counter([1])


def test_many_rows_are_confirmed_and_have_ids_of_their_own(quorum: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "AT_ONCE", 100)
    count = 250
    rows = pa.RecordBatch.from_pydict({"id": list(range(count)), "trace": ["t"] * count})
    with quorum.destination(header_fields=("trace",)).open_writer(rows.schema, Token("many", quorum.name)) as writer:
        assert not writer.write(rows)
    assert len({name for name, _ in quorum.held()}) == count


def test_the_same_row_elsewhere_has_another_id(quorum: Place) -> None:
    rows = pa.RecordBatch.from_pydict({"id": [1, 1]})
    for stage in ("one", "two"):
        with quorum.destination().open_writer(rows.schema, Token(stage, quorum.name)) as writer:
            writer.write(rows)
            writer.commit(1, {"v": 1})
            writer.write(rows)
            writer.commit(2, {"v": 1})
    assert len({name for name, _ in quorum.held()}) == 8


def test_a_queue_that_is_full_and_an_exchange_that_is_not_there(place: Place) -> None:
    place.kind = QueueType.CLASSIC
    place.make(**{"x-max-length": 1, "x-overflow": "reject-publish"})
    rows = pa.RecordBatch.from_pydict({"id": [1, 2, 3]})
    with (
        place.destination().open_writer(rows.schema, Token("full", place.name)) as writer,
        pytest.raises(RetryableError, match="a queue refused messages"),
    ):
        writer.write(rows)
    nowhere = place.destination(exchange="no-such", queue_type=None)
    with (
        nowhere.open_writer(rows.schema, Token("none", place.name)) as writer,
        pytest.raises(SchemaError, match="no exchange 'no-such'"),
    ):
        writer.write(rows)


def test_a_token_that_is_removed_is_missed(quorum: Place) -> None:
    token = Token("gone", quorum.name)
    with quorum.destination().open_writer(ID, token) as writer:
        writer.commit(1, {"v": 1})
        with closing(quorum.server.connect()) as opened:
            opened.channel().queue_delete(name_of(token, f"\0{quorum.name}"))
        with pytest.raises(FatalError, match="the stream of tokens is gone"):
            writer.commit(2, {"v": 1})


def child(place: Place, faults: str) -> subprocess.Popen[bytes]:
    given = {"port": place.server.port, "name": place.name, "total": TOTAL, "size": 3}
    command = [sys.executable, "-m", "tests.resources.rabbitmq.loading", json.dumps(given)]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "HEADRACE_TEST": "1", "HEADRACE_FAILPOINTS": faults})


@pytest.mark.parametrize("at", ["rabbitmq.fenced@1", "rabbitmq.sent@3", "rabbitmq.committed@3"])
def test_a_load_that_is_killed_is_gone_on_with(quorum: Place, at: str) -> None:
    name, _, visit = at.partition("@")
    assert child(quorum, f"{name}=kill@{visit}").wait() == -signal.SIGKILL
    # Other batches than before: the same rows have the same ids all the same.
    loading.load(loading.destination_at(quorum.server.port, quorum.name), TOTAL, 5)
    sent_twice = 3 if name == "rabbitmq.sent" else 0
    assert quorum.ready() == TOTAL + sent_twice, "only what was sent and not committed is sent again"
    assert quorum.counted() == Counter(range(TOTAL))


def test_a_load_that_was_frozen_wakes_up_too_late(quorum: Place) -> None:
    zombie = child(quorum, "rabbitmq.sent=freeze@2")
    try:
        os.waitid(os.P_PID, zombie.pid, os.WSTOPPED)
        loading.load(loading.destination_at(quorum.server.port, quorum.name), TOTAL, 5)
        zombie.send_signal(signal.SIGCONT)
        assert zombie.wait() == 1, "it ends with an error"
    finally:
        zombie.kill()
        zombie.wait()
    assert quorum.counted() == Counter(range(TOTAL))


def test_a_writer_that_was_overtaken_sends_nothing_more(quorum: Place) -> None:
    rows = pa.RecordBatch.from_pydict({"id": [1]})
    token = Token("overtaken", quorum.name)
    with (
        quorum.destination().open_writer(rows.schema, token) as old,
        quorum.destination().open_writer(rows.schema, token),
    ):
        with pytest.raises(FencedError):
            old.commit(1, {"v": 1})
        with pytest.raises(FencedError):
            old.write(rows)
    assert quorum.ready() == 0


# ---- connections and options --------------------------------------------------------------------


def test_a_broker_is_trusted_by_its_authority_and_its_name(place: Place) -> None:
    server = place.server
    unknown = replace(place.connection, port=server.tls_port, tls=Tls.VERIFY_FULL)
    assert "no trusted connection" in unknown.check().details
    known = replace(unknown, ca_file=str(server.certificates.authority))
    assert known.check().healthy, known.check().details
    assert "no trusted connection" in replace(known, host="127.0.0.2").check().details
    assert replace(unknown, tls=Tls.REQUIRE).check().healthy
    assert not replace(known, tls=Tls.DISABLE).check().healthy
    assert not replace(known, port=server.port).check().healthy
    assert "a certificate cannot be used" in replace(known, ca_file="/no/such.pem").check().details


def test_who_may_not_is_told(place: Place) -> None:
    wrong = replace(place.connection, password=Secret("wrong", literal=True))
    assert "not allowed" in wrong.check().details
    assert "not allowed" in replace(place.connection, virtual_host="none").check().details
    assert "cannot connect" in replace(place.connection, port=1).check().details


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"queue": "q"}, "a stream or a queue"),
        ({"id": Id.MESSAGE_ID}, "repeats nothing"),
        ({"stream": None, "queue": "q", "sync_mode": SyncMode.FULL_REFRESH}, "not there again"),
        ({"stream": None, "queue": "q", "metadata": {"at": "offset"}}, "does not tell 'offset'"),
        ({"metadata": {"at": "delivery_count"}}, "does not tell 'delivery_count'"),
        ({"metadata": {"at": "key"}}, "is unknown"),
        ({"prefetch": 0}, "at least 1"),
    ],
)
def test_options_that_do_not_fit_together(place: Place, options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        place.source(**options)
