"""`enrich` when all is well: what is asked, how often, and where the answers go."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

import pyarrow as pa
import pytest

from dsl.contracts.errors import FatalError
from dsl.contracts.policies import Policies
from dsl.processors.enrich import EnrichBatch, EnrichCache, EnrichError, Method, ResultMapping
from tests.engine.operators.opened import DLQ, USERS, Workbench, enriching, http, listening, secret, users
from tests.kit.enrichment import EnrichmentApi, score_of

GET = {"method": Method.GET, "body_template": None}


def test_answers_go_to_their_rows_in_order_and_siblings_stay(bench: Workbench, http_api: EnrichmentApi) -> None:
    emails = [f"{number % 40}@x" for number in range(300)]
    done = bench.open(enriching(http_api.url, concurrency=8), USERS).process(users(*emails))
    assert done.passed.to_pylist() == [
        {"id": number, "user": {"email": each, "score": score_of(each)}} for number, each in enumerate(emails)
    ]
    assert (done.failed, done.filtered, done.expanded) == ((), 0, 0)


def test_rows_that_ask_the_same_are_asked_once_in_a_batch_and_over_batches(
    bench: Workbench, http_api: EnrichmentApi
) -> None:
    operator = bench.open(enriching(http_api.url), USERS)
    operator.process(users("a@x", "b@x", "a@x"))
    done = operator.process(users("b@x", "c@x", "a@x"))
    assert dict(http_api.calls) == {"a@x": 1, "b@x": 1, "c@x": 1}
    assert [each["user"]["score"] for each in done.passed.to_pylist()] == [score_of(f"{name}@x") for name in "bca"]


def test_without_a_cache_each_batch_asks_again(bench: Workbench, http_api: EnrichmentApi) -> None:
    operator = bench.open(enriching(http_api.url, cache=EnrichCache(entries=0)), USERS)
    operator.process(users("a@x", "a@x"))
    operator.process(users("a@x"))
    assert http_api.calls["a@x"] == 2


def test_an_answer_that_is_too_old_is_asked_for_again(bench: Workbench, http_api: EnrichmentApi) -> None:
    operator = bench.open(enriching(http_api.url, cache=EnrichCache(ttl=timedelta())), USERS)
    operator.process(users("a@x"))
    operator.process(users("a@x"))
    assert http_api.calls["a@x"] == 2


@pytest.mark.parametrize("concurrency", [1, 4, 16])
def test_no_more_requests_are_under_way_than_allowed(
    bench: Workbench, http_api: EnrichmentApi, concurrency: int
) -> None:
    http_api.delay = 0.02
    bench.open(enriching(http_api.url, concurrency=concurrency), USERS).process(users(*map(str, range(60))))
    assert http_api.peak <= concurrency
    assert http_api.peak >= concurrency // 2


def test_values_in_a_url_are_escaped(bench: Workbench, http_api: EnrichmentApi) -> None:
    emails = ["a b@x", "ü@x", "a&email=b@x", "50%@x", "a+b@x", "#?/@x"]
    options = enriching(f"{http_api.url}?email={{{{ user.email }}}}", **GET)
    done = bench.open(options, USERS).process(users(*emails))
    assert [each["user"]["score"] for each in done.passed.to_pylist()] == [score_of(each) for each in emails]


def test_what_the_document_writes_around_values_is_sent_as_it_reads(bench: Workbench) -> None:
    with listening(http(b'{"score": 1}')) as server:
        options = enriching(f"http://127.0.0.1:{server.port}/a b/ü%20/{{{{ user.email }}}}?q=%2F&x=ö", **GET)
        bench.open(options, USERS).process(users("..a/b"))
        assert server.heads[0].startswith(b"GET /a%20b/%C3%BC%20/..a%2Fb?q=%2F&x=%C3%B6 HTTP/1.1\r\n")


def test_a_row_without_an_address_is_refused_and_nothing_is_asked(bench: Workbench, http_api: EnrichmentApi) -> None:
    options = enriching(f"http://{http_api.host}:{http_api.port}/{{{{ user.email }}}}", **GET)
    done = bench.open(options, USERS).process(users(None, "", ".."))
    assert [each.code for each in done.failed] == ["url_value"] * 3
    assert (done.passed.num_rows, http_api.requests) == (0, [])


def test_nothing_for_a_row_is_null(bench: Workbench, http_api: EnrichmentApi) -> None:
    http_api.unknown = {"gone@x"}
    done = bench.open(enriching(http_api.url, missing_status=(404,)), USERS).process(users("a@x", "gone@x"))
    assert [each["user"] for each in done.passed.to_pylist()] == [
        {"email": "a@x", "score": score_of("a@x")},
        {"email": "gone@x", "score": None},
    ]


def test_a_required_value_that_is_missing_refuses_the_row(bench: Workbench, http_api: EnrichmentApi) -> None:
    http_api.unknown = {"gone@x"}
    mapping = (ResultMapping(source="response.score", destination="score", type="int64", required=True),)
    options = enriching(http_api.url, missing_status=(404,), result_mapping=mapping, on_error=EnrichError.KEEP)
    done = bench.open(options, USERS).process(users("gone@x", "a@x"))
    assert [(each.code, each.reason) for each in done.failed] == [("required", "the answer has no response.score")]
    assert done.passed.to_pylist() == [{"id": 1, "user": {"email": "a@x"}, "score": score_of("a@x")}]


def test_values_of_every_depth_and_type(bench: Workbench) -> None:
    answer = b'{"a": {"b": [1.10, {"c": "x"}]}, "n": 12345678901234567890, "t": "2026-01-02T03:04:05+02:00", "z": null}'
    mappings = (
        ResultMapping(source="response", destination="all"),
        ResultMapping(source="response.a.b.0", destination="user.deep.price", type="decimal(5,2)"),
        ResultMapping(source="response.a.b.1.c", destination="user.deep.name", type="string"),
        ResultMapping(source="response.n", destination="n", type="uint64"),
        ResultMapping(source="response.t", destination="id", type="timestamptz"),
        ResultMapping(source="response.z", destination="z", type="boolean"),
        ResultMapping(source="response.a.b.7", destination="none", type="string"),
    )
    with listening(http(answer)) as server:
        done = bench.open(enriching(server.url, result_mapping=mappings), USERS).process(users("a@x"))
    (row,) = done.passed.to_pylist()
    assert row["all"] == answer.decode().replace(": ", ":").replace(", ", ",")
    assert str(row["user"]["deep"]["price"]) == "1.10"
    assert (row["user"]["email"], row["user"]["deep"]["name"], row["n"]) == ("a@x", "x", 12345678901234567890)
    assert (row["id"].isoformat(), row["z"], row["none"]) == ("2026-01-02T01:04:05+00:00", None, None)


def test_a_struct_that_is_null_becomes_one_only_where_there_is_a_value(
    bench: Workbench, http_api: EnrichmentApi
) -> None:
    http_api.unknown = {"2@x"}
    schema = USERS.append(pa.field("key", pa.string()))
    rows = pa.RecordBatch.from_pylist([{"id": n, "user": None, "key": f"{n}@x"} for n in (1, 2)], schema=schema)
    options = enriching(http_api.url, body_template='{"email": "{{ key }}"}', missing_status=(404,))
    done = bench.open(options, schema).process(rows)
    assert [each["user"] for each in done.passed.to_pylist()] == [{"email": None, "score": score_of("1@x")}, None]


def test_several_rows_in_one_request(bench: Workbench, http_api: EnrichmentApi) -> None:
    emails = [f"{number}@x" for number in range(25)]
    done = bench.open(enriching(http_api.url, batch=EnrichBatch(rows=10)), USERS).process(users(*emails, *emails))
    assert sorted(len(body) for _, _, body in http_api.requests) == [5, 10, 10]
    assert [each["user"]["score"] for each in done.passed.to_pylist()] == [score_of(each) for each in emails * 2]


@pytest.mark.parametrize("at", ["response.data.items", "response"])
def test_the_items_of_a_batch_may_stand_anywhere(bench: Workbench, at: str) -> None:
    answer = b'[{"score": 1}, {"score": 2}]'
    whole = b'{"data": {"items": %s}}' % answer if at != "response" else answer
    with listening(http(whole)) as server:
        options = enriching(server.url, batch=EnrichBatch(rows=10, items=at))
        done = bench.open(options, USERS).process(users("a", "b"))
    assert [each["user"]["score"] for each in done.passed.to_pylist()] == [1, 2]


def test_headers_are_revealed_and_sent(bench: Workbench, http_api: EnrichmentApi) -> None:
    http_api.token = "s3cret-token"
    options = enriching(
        http_api.url, headers={"authorization": secret("Bearer ${T}"), "content-type": secret("text/x")}
    )
    done = bench.open(options, USERS, reveal=lambda each: each.text.replace("${T}", "s3cret-token")).process(
        users("a@x")
    )
    assert done.passed.num_rows == 1
    sent = {name.lower(): value for name, value in http_api.requests[0][1].items()}
    assert (sent["content-type"], sent["accept"]) == ("text/x", "application/json")
    assert "s3cret-token" not in repr(options)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X", "qq\nb"),
        ("X", "qq\r\nY: b"),
        ("X", "qq "),
        ("X", "qq\0"),
        ("X y", "qq"),
        ("X\n", "qq"),
        ("Content-Length", "qq"),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused_without_its_value(bench: Workbench, name: str, value: str) -> None:
    with pytest.raises(FatalError, match="header") as caught:
        bench.open(enriching("http://127.0.0.1/", headers={name: secret(value)}), USERS)
    assert "qq" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://u:p@host/", "http://host\\@other/", "http:///x", "http://a b/", "http://%31/", "http://h:99999/"]
)
def test_an_address_that_is_none_is_refused(bench: Workbench, url: str) -> None:
    with pytest.raises(FatalError, match="url"):
        bench.open(enriching(url), USERS)


def test_without_rows_of_its_own_a_template_is_asked_once(bench: Workbench, http_api: EnrichmentApi) -> None:
    done = bench.open(enriching(http_api.url, body_template='{"email": "all"}'), USERS).process(users("a", "b", "c"))
    assert http_api.calls == {"all": 1}
    assert {each["user"]["score"] for each in done.passed.to_pylist()} == {score_of("all")}


def test_an_empty_outcome_keeps_the_schema(bench: Workbench, http_api: EnrichmentApi) -> None:
    http_api.unknown = {"a"}
    done = bench.open(enriching(http_api.url), USERS, DLQ).process(users("a"))
    assert done.passed.schema.field("user").type.names == ["email", "score"]
    assert done.passed.num_rows == 0


def test_opening_needs_the_extra_and_nothing_before_it_does() -> None:
    script = """
import sys
import engine.opening, engine.operators.tools as tools
assert not {"aiohttp", "yarl"} & set(sys.modules), "imported too early"
sys.modules["aiohttp"] = None
from tests.engine.operators.opened import Workbench, USERS, enriching
from pathlib import Path
try:
    Workbench(Path(sys.argv[1])).open(enriching("http://h/"), USERS)
except Exception as error:
    print(type(error).__name__, error)
"""
    command = [sys.executable, "-c", script, "/tmp/headrace-extra"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("FatalError step: enrich over HTTP needs"), done.stderr
    assert "pip install 'headrace[http]'" in done.stdout


def test_policies_of_the_node_do_not_matter_when_all_is_well(bench: Workbench, http_api: EnrichmentApi) -> None:
    assert bench.open(enriching(http_api.url), USERS, Policies()).process(users("a")).passed.num_rows == 1
