"""A cluster that refuses, cuts, lies or hangs: each document is applied once, refused with a reason, or the run says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pyarrow as pa
import pytest
from urllib3.exceptions import InsecureRequestWarning

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Committed, Token
from dsl.contracts.errors import (
    ErrorType,
    FatalError,
    FencedError,
    HeadraceError,
    RetryableError,
    SchemaError,
    UnavailableError,
)
from dsl.contracts.secret import Secret
from resources.elasticsearch.bulk import ATTEMPTS
from resources.elasticsearch.resource import ElasticsearchConnection
from resources.sql import SchemaEvolution, Tls
from resources.testing import CANARY
from tests.kit.process import free_port
from tests.kit.tls import make_certificates
from tests.resources.elasticsearch import faulty, loading
from tests.resources.elasticsearch.conftest import Place
from tests.resources.elasticsearch.faulty import Exchange, Fault, FaultyCluster, faulty_cluster
from tests.resources.elasticsearch.loading import SCHEMA, TOKEN, rows_of, state_at

NOW = {"Retry_After": "0"}


@pytest.fixture
def cluster(place: Place) -> Iterator[FaultyCluster]:
    with faulty_cluster(place.server.host, place.server.port) as served:
        yield served


@pytest.fixture
def faulted(place: Place, cluster: FaultyCluster) -> Place:
    return place.through("127.0.0.1", cluster.port, timeout=timedelta(seconds=1))


def ids_of(place: Place) -> list[int]:
    return sorted(each["id"] for each in place.documents().values())


PASSING: dict[str, list[Fault]] = {
    "the request is lost": [faulty.cut_before],
    "the answer is lost": [faulty.cut_after],
    "the answer is lost twice": [faulty.cut_after, faulty.cut_after],
    "half of the answer is lost": [faulty.half_an_answer],
    "the answer is no JSON": [faulty.cut_json],
    "a proxy answers": [faulty.page],
    "nobody answers": [faulty.hang],
    "too many requests": [faulty.status(429, **NOW)] * 3,
    "too many requests, until a date": [
        faulty.status(429, Retry_After=format_datetime(datetime.now(UTC), usegmt=True))
    ],
    "overloaded": [faulty.status(503, **NOW), faulty.status(502, **NOW), faulty.status(504, **NOW)],
    "some documents are too many": [faulty.items(lambda at: at % 3 == 0, 429, "es_rejected_execution_exception")] * 2,
    "some shards are away": [faulty.items(lambda at: at < 5, 503, "unavailable_shards_exception")],
    "a node fails": [faulty.items(lambda at: at == 7, 500, "exception")],
    "the answer is lost after some were refused": [
        faulty.items(lambda at: at % 2 == 0, 429, "es_rejected_execution_exception"),
        faulty.cut_after,
    ],
}


@pytest.mark.parametrize("mode", [WriteMode.APPEND, WriteMode.UPSERT])
@pytest.mark.parametrize("fault", PASSING)
def test_a_passing_fault_costs_nothing(faulted: Place, cluster: FaultyCluster, fault: str, mode: WriteMode) -> None:
    cluster.on("_bulk", *PASSING[fault])
    with faulted.destination(mode).open_writer(SCHEMA, TOKEN) as writer:
        assert writer.write(rows_of(range(20))) == []
        stats = writer.commit(1, state_at(20), final=True)
    assert stats.rows == 20
    assert stats.inserted in {20, -1}
    assert ids_of(faulted) == list(range(20))
    assert len(cluster.bulks()) == len(PASSING[fault]) + 1


def test_only_what_failed_is_sent_again(faulted: Place, cluster: FaultyCluster) -> None:
    cluster.on("_bulk", faulty.items(lambda at: at in {3, 8}, 429, "es_rejected_execution_exception"))
    with faulted.destination().open_writer(SCHEMA, TOKEN) as writer:
        writer.write(rows_of(range(20)))
        writer.commit(1, state_at(20))
    assert cluster.bulks() == [20, 2]


def test_a_conflict_is_never_sent_again(faulted: Place, cluster: FaultyCluster) -> None:
    """The answer to a document that a lost answer has already told of."""
    cluster.on("_bulk", faulty.cut_after)
    with faulted.destination().open_writer(SCHEMA, TOKEN) as writer:
        assert writer.write(rows_of(range(5))) == []
        writer.commit(1, state_at(5))
    assert cluster.bulks() == [5, 5]


@pytest.mark.parametrize(
    "fault", [faulty.status(429, **NOW), faulty.items(lambda _: True, 429, "es_rejected_execution_exception")]
)
def test_it_does_not_try_for_ever(faulted: Place, cluster: FaultyCluster, fault: Fault) -> None:
    cluster.on("_bulk", *[fault] * 50)
    with faulted.destination().open_writer(SCHEMA, TOKEN) as writer:
        with pytest.raises(RetryableError, match="takes no more for now") as caught:
            writer.write(rows_of(range(5)))
        assert len(cluster.bulks()) == ATTEMPTS
    assert caught.value.error_type is ErrorType.THROTTLED


def test_a_long_wait_is_left_to_the_run(faulted: Place, cluster: FaultyCluster) -> None:
    cluster.on("_bulk", faulty.status(429, Retry_After="77"))
    with faulted.destination().open_writer(SCHEMA, TOKEN) as writer, pytest.raises(RetryableError) as caught:
        writer.write(rows_of(range(5)))
    assert caught.value.after == 77


def test_a_body_that_is_too_large_is_halved(faulted: Place, cluster: FaultyCluster) -> None:
    cluster.on("_bulk", *[faulty.at_most(700)] * 100)
    with faulted.destination().open_writer(SCHEMA, TOKEN) as writer:
        assert writer.write(rows_of(range(40))) == []
        writer.commit(1, state_at(40))
    assert ids_of(faulted) == list(range(40))
    assert cluster.bulks()[:3] == [40, 20, 10]


def test_a_document_that_is_too_large_is_refused_alone(faulted: Place, cluster: FaultyCluster) -> None:
    cluster.on("_bulk", *[faulty.at_most(2000)] * 100)
    rows = pa.RecordBatch.from_pylist(
        [{"id": each, "text": "x" * (3000 if each == 3 else 9)} for each in range(8)], schema=SCHEMA
    )
    with faulted.destination().open_writer(SCHEMA, TOKEN) as writer:
        refused = writer.write(rows)
        stats = writer.commit(1, state_at(8))
    assert [(each.code, each.row.to_pylist()[0]["id"]) for each in refused] == [("too_large", 3)]
    assert stats.rows == 7
    assert ids_of(faulted) == [0, 1, 2, 4, 5, 6, 7]


def test_requests_stay_below_their_limit(faulted: Place, cluster: FaultyCluster) -> None:
    with faulted.destination(request_bytes=1000).open_writer(SCHEMA, TOKEN) as writer:
        writer.write(rows_of(range(50)))
        writer.commit(1, state_at(50))
    assert len(cluster.bulks()) > 3
    assert sum(cluster.bulks()) == 50
    assert ids_of(faulted) == list(range(50))


# ---- rows at fault ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [WriteMode.APPEND, WriteMode.UPSERT])
def test_poison_is_refused_with_a_reason_and_the_rest_is_written(place: Place, mode: WriteMode) -> None:
    place.server.request("PUT", place.index, {"mappings": {"properties": {"text": {"type": "integer"}}}})
    rows = pa.RecordBatch.from_pylist(
        [{"id": each, "text": CANARY if each in {2, 5} else str(each)} for each in range(8)], schema=SCHEMA
    )
    with place.destination(mode).open_writer(SCHEMA, TOKEN) as writer:
        refused = writer.write(rows)
        stats = writer.commit(1, state_at(8))
    assert [each.row.to_pylist()[0]["id"] for each in refused] == [2, 5]
    assert {each.node for each in refused} == {"load"}
    assert {each.code for each in refused} == {"document_parsing"}
    assert all("failed to parse field [text] of type [integer]" in each.reason for each in refused)
    assert all(CANARY not in each.reason for each in refused), "a reason quotes no values"
    assert stats.rows == 6
    assert ids_of(place) == [0, 1, 3, 4, 6, 7]


def test_a_version_that_somebody_else_gave_is_not_overwritten_in_silence(place: Place) -> None:
    place.server.request(
        "PUT", f"{place.index}/_doc/3?version={2**62}&version_type=external", {"id": 3, "text": "mine"}
    )
    with place.destination(WriteMode.UPSERT).open_writer(SCHEMA, TOKEN) as writer:
        refused = writer.write(rows_of(range(5)))
        writer.commit(1, state_at(5))
    assert [(each.code, each.row.to_pylist()[0]["id"]) for each in refused] == [("version_conflict", 3)]
    assert place.documents()["3"]["text"] == "mine"


def test_the_newest_of_two_streams_wins(place: Place) -> None:
    destination = place.destination(WriteMode.UPSERT)
    other = Token("other", "load", run_id="run-2")
    with destination.open_writer(SCHEMA, TOKEN) as one, destination.open_writer(SCHEMA, other) as two:
        for number, writer in enumerate((one, two, one, two, two, one)):
            text = f"write {number}"
            assert writer.write(pa.RecordBatch.from_pylist([{"id": 1, "text": text}], schema=SCHEMA)) == []
            assert place.documents()["1"]["text"] == text


def test_a_run_that_slept_cannot_overwrite_its_successor(place: Place, cluster: FaultyCluster) -> None:
    """The old run has passed its last look at the token when the new one takes over; its documents arrive last."""
    destination = place.destination(WriteMode.UPSERT)

    def meanwhile(exchange: Exchange) -> None:
        with destination.open_writer(SCHEMA, TOKEN) as successor:
            successor.write(pa.RecordBatch.from_pylist([{"id": 1, "text": "new"}], schema=SCHEMA))
            successor.commit(1, state_at(1))
        faulty.faithfully(exchange)

    cluster.on("_bulk", meanwhile)
    slow = place.through("127.0.0.1", cluster.port).destination(WriteMode.UPSERT)
    with slow.open_writer(SCHEMA, TOKEN) as zombie, pytest.raises(FencedError):
        zombie.write(pa.RecordBatch.from_pylist([{"id": 1, "text": "old"}], schema=SCHEMA))
    assert place.documents()["1"]["text"] == "new"


def test_documents_of_a_run_that_slept_do_not_come_back(place: Place, cluster: FaultyCluster) -> None:
    """Those of an epoch that its successor took back before they arrived: who finds itself fenced takes back its own."""
    destination = place.destination()

    def meanwhile(exchange: Exchange) -> None:
        with destination.open_writer(SCHEMA, TOKEN) as successor:
            successor.write(rows_of(range(3)))
            successor.commit(1, state_at(3))
        faulty.faithfully(exchange)

    cluster.on("_bulk", meanwhile)
    slow = place.through("127.0.0.1", cluster.port).destination()
    with slow.open_writer(SCHEMA, TOKEN) as zombie:
        zombie.write(rows_of(range(3)))
        with pytest.raises(FencedError):
            zombie.commit(1, state_at(3))
    assert ids_of(place) == [0, 1, 2]


# ---- commits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [WriteMode.APPEND, WriteMode.UPSERT, WriteMode.OVERWRITE])
@pytest.mark.parametrize("fault", [faulty.cut_after, faulty.cut_before])
def test_a_commit_without_an_answer_is_found_out(
    faulted: Place, cluster: FaultyCluster, mode: WriteMode, fault: Fault
) -> None:
    destination = faulted.destination(mode)
    with destination.open_writer(SCHEMA, TOKEN) as writer:
        writer.write(rows_of(range(10)))
        cluster.on("PUT /headrace-tokens/_doc", fault)
        with pytest.raises(RetryableError):
            writer.commit(1, state_at(10), final=True)
    with destination.open_writer(SCHEMA, TOKEN) as writer:
        moved = fault is faulty.cut_after
        assert writer.get_state() == (Committed(1, state_at(10)) if moved else None)
        if not moved:
            writer.write(rows_of(range(10)))
            writer.commit(1, state_at(10), final=True)
    assert ids_of(faulted) == list(range(10))


def test_leaving_without_commit_takes_the_documents_back(place: Place) -> None:
    with place.destination().open_writer(SCHEMA, TOKEN) as writer:
        writer.write(rows_of(range(10)))
    assert place.documents() == {}


def test_an_index_that_is_deleted_under_way_commits_nothing(place: Place) -> None:
    with place.destination().open_writer(SCHEMA, TOKEN) as writer:
        writer.write(rows_of(range(10)))
        place.server.request("DELETE", place.index)
        writer.write(rows_of(range(10, 20)))
        with pytest.raises(FatalError, match="was deleted or replaced while it was written"):
            writer.commit(1, state_at(20))
    with place.destination().open_writer(SCHEMA, TOKEN) as writer:
        assert writer.get_state() is None


def test_what_is_not_on_disk_is_flushed_before_the_token_moves(faulted: Place, cluster: FaultyCluster) -> None:
    settings = {"translog": {"durability": "async"}}
    with faulted.destination(settings=settings).open_writer(SCHEMA, TOKEN) as writer:
        writer.write(rows_of(range(3)))
        writer.commit(1, state_at(3))
    told = [path for _, path, _ in cluster.requests]
    flush = next(at for at, path in enumerate(told) if "_flush" in path)
    assert any("headrace-tokens/_doc" in each for each in told[flush:])


# ---- the cluster says no ----------------------------------------------------------------------------------------------

REFUSALS: dict[str, tuple[Fault, str]] = {
    "closed": (faulty.items(lambda _: True, 400, "index_closed_exception"), "open the index"),
    "blocked": (faulty.items(lambda _: True, 403, "cluster_block_exception"), "free disk space"),
    "disk full": (faulty.items(lambda _: True, 429, "cluster_block_exception"), "free disk space"),
    "not allowed": (faulty.status(403, "security_exception"), "grant this right"),
    "logged out": (faulty.status(401), "refuses the login"),
    "not there": (faulty.items(lambda _: True, 404, "index_not_found_exception"), "make it again"),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_no_row_is_to_blame_for_ends_the_run(faulted: Place, cluster: FaultyCluster, refusal: str) -> None:
    fault, said = REFUSALS[refusal]
    cluster.on("_bulk", fault)
    with faulted.destination().open_writer(SCHEMA, TOKEN) as writer:
        with pytest.raises(FatalError, match=said):
            writer.write(rows_of(range(3)))
        assert len(cluster.bulks()) == 1


def test_a_wrong_password_is_said_without_it(faulted: Place, cluster: FaultyCluster) -> None:
    cluster.at_request = lambda _: faulty.status(401, "security_exception")
    with pytest.raises(FatalError, match="check username and password") as caught:
        faulted.destination().open_writer(SCHEMA, TOKEN)
    checked = faulted.connection.check()
    assert caught.value.error_type is ErrorType.AUTH
    assert not checked.healthy
    assert CANARY not in f"{caught.value!r} {caught.value.__cause__!r} {checked}"


def test_passwords_and_keys_are_sent(place: Place, cluster: FaultyCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def look(exchange: Exchange) -> None:
        seen.append(str(exchange.handler.headers["Authorization"]))
        faulty.faithfully(exchange)

    cluster.at_request = lambda _: look
    monkeypatch.setenv("TEST_ES_PASSWORD", "pässword")
    assert place.through("127.0.0.1", cluster.port).connection.check().healthy
    key = ElasticsearchConnection(host="127.0.0.1", port=cluster.port, api_key=Secret("${TEST_ES_KEY}"))
    monkeypatch.setenv("TEST_ES_KEY", "a2V5")
    assert key.check().healthy
    assert seen == ["Basic ZWxhc3RpYzpww6Rzc3dvcmQ=", "ApiKey a2V5"]


def test_a_server_that_is_not_there() -> None:
    connection = ElasticsearchConnection(host="127.0.0.1", port=free_port())
    checked = connection.check()
    assert not checked.healthy
    assert "cannot connect" in checked.details
    assert f"127.0.0.1:{connection.port}" in checked.details


def test_something_that_is_no_elasticsearch(cluster: FaultyCluster) -> None:
    connection = ElasticsearchConnection(host="127.0.0.1", port=cluster.port)
    for fault in (faulty.page, faulty.status(404)):
        cluster.on("GET /", fault)
        assert not connection.check().healthy


def test_certificates_are_checked(place: Place, tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    with faulty_cluster(place.server.host, place.server.port, made) as cluster:
        secure = ElasticsearchConnection(host="127.0.0.1", port=cluster.port, tls=Tls.VERIFY_FULL)
        assert "no trusted connection" in secure.check().details
        trusting = place.through("127.0.0.1", cluster.port, tls=Tls.VERIFY_FULL, ca_file=str(made.authority))
        assert trusting.connection.check().healthy
        loading.load(trusting.destination(), 10)
        with pytest.warns(InsecureRequestWarning):
            assert ElasticsearchConnection(host="127.0.0.1", port=cluster.port, tls=Tls.REQUIRE).check().healthy
        assert not ElasticsearchConnection(host="127.0.0.1", port=cluster.port, tls=Tls.DISABLE).check().healthy
    assert ids_of(place) == list(range(10))


def test_plain_http_is_spoken_with_this_machine_only(place: Place) -> None:
    plain = ElasticsearchConnection(host=place.server.host, port=place.server.port, tls=Tls.VERIFY_FULL)
    assert "`tls: disable`" in plain.check().details
    from resources.elasticsearch.client import plain as is_plain

    hosts = {
        "127.0.0.1": True,
        "127.77.0.2": True,
        "localhost": True,
        "::1": True,
        "es.example.com": False,
        "10.0.0.5": False,
    }
    for host, expected in hosts.items():
        assert is_plain(ElasticsearchConnection(host=host)) is expected
        assert not is_plain(ElasticsearchConnection(host=host, tls=Tls.VERIFY_FULL))


def test_a_certificate_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    for text in (None, "this is no certificate"):
        if text is not None:
            path.write_text(text)
        connection = ElasticsearchConnection(host="127.0.0.1", tls=Tls.VERIFY_FULL, ca_file=str(path))
        assert "ca_file" in connection.check().details


def test_a_missing_secret_is_named() -> None:
    connection = ElasticsearchConnection(host="127.0.0.1", username="u", password=Secret("${TEST_NOT_SET}"))
    assert "TEST_NOT_SET" in connection.check().details


@pytest.mark.parametrize("damaged", [{"fence": "x"}, {}, {"fence": 1, "last": 1, "state": "{", "epoch": 1}])
def test_a_damaged_token_is_named(place: Place, damaged: dict[str, object]) -> None:
    with place.destination().open_writer(SCHEMA, TOKEN):
        pass
    found = place.server.request("POST", "headrace-tokens/_refresh") and place.server.request(
        "POST", "headrace-tokens/_search", {"query": {"term": {"index": place.index}}}
    )
    token = found["hits"]["hits"][0]["_id"]
    place.server.request("PUT", f"headrace-tokens/_doc/{token}", damaged)
    with pytest.raises(HeadraceError, match=f"{token}.*is damaged"):
        place.destination().open_writer(SCHEMA, TOKEN)


def test_what_an_alias_of_several_indices_means_is_asked(place: Place) -> None:
    for each in ("a", "b"):
        place.server.request("PUT", f"{place.index}-{each}", {"aliases": {place.index: {}}})
    with pytest.raises(FatalError, match="alias of several indices"):
        place.destination().open_writer(SCHEMA, TOKEN)


def test_the_server_may_be_gone_at_the_start(faulted: Place, cluster: FaultyCluster) -> None:
    cluster.at_request = lambda _: faulty.cut_before
    with pytest.raises(UnavailableError, match="cannot connect"):
        faulted.destination().open_writer(SCHEMA, TOKEN)


def test_a_frozen_mapping_is_not_changed(place: Place) -> None:
    place.server.request("PUT", place.index, {"mappings": {"properties": {"id": {"type": "long"}}}})
    with pytest.raises(SchemaError, match="does not have the fields text"):
        place.destination(schema_evolution=SchemaEvolution.FREEZE).open_writer(SCHEMA, TOKEN)
    assert json.dumps(place.server.request("GET", f"{place.index}/_mapping")).count("text") == 0
