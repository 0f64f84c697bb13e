"""Ten thousand values that want to be more than values: none changes the shape of a body or the way of a URL."""

from __future__ import annotations

import json
import random
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsl.processors.enrich import EnrichBatch, Method
from engine.operators.http_requests import Rendering
from tests.engine.operators.opened import DLQ, USERS, Workbench, enriching, users
from tests.kit.enrichment import EnrichmentApi, score_of

FRAGMENTS = [
    '"', "\\", '\\"', '","admin":true,"z":"', "}", "{", "{{", "}}", "{{ user.email }}", "{% x %}", "\0", "\n", "\r\n", "\t",
    "\u2028", "\ufeff", "'", "' || (SELECT 1) || '", "$now", "${SECRET}", "[", "]", ",", ":", "null", "true", "1e999", "NaN",
    "\\u0022", "\\u005c", "😀", "ü", "\x7f", "/", "..", "../..", "//", "?", "#", "&", "=", "&admin=true", "%", "%2F", "%00",
    "%22", "+", " ", ";", "@evil.example", "\\@evil.example", "http://evil.example/", ".", "a", "x@example.com",
]  # fmt: skip
values = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=4), max_size=8).map("".join)
TEMPLATE = (
    '{"email": "{{ user.email }}", "whole": {{ user.email }}, "mixed": "<{{ user.email }}>{{ id }}", '
    '"list": [{{ id }}, {"k": {{ user.email }}}]}'
)


def body_of(number: int, text: str) -> object:
    """What the template says, built by the standard library."""
    return {"email": text, "whole": text, "mixed": f"<{text}>{number}", "list": [number, {"k": text}]}


def hostile(seed: int) -> list[str]:
    """A hundred texts of fragments."""
    chosen = random.Random(seed)
    return ["".join(chosen.choices(FRAGMENTS, k=chosen.randrange(9))) for _ in range(100)]


@pytest.mark.parametrize("seed", range(100))
def test_bodies_and_urls_keep_their_shape(bench: Workbench, seed: int) -> None:
    options = enriching(
        "http://h.example/a/{{ user.email }}/b?q={{ user.email }}&n={{ id }}#{{ user.email }}", body_template=TEMPLATE
    )
    rendering = Rendering(options, USERS, "http://h.example", bench.tools(DLQ))
    texts = hostile(seed)
    for number, (text, asked) in enumerate(zip(texts, rendering.asked(users(*texts)), strict=True)):
        if not text.strip("."):
            assert asked is None
            continue
        assert asked is not None
        url, body = asked
        assert json.loads(body or "") == body_of(number, text)
        assert (url.isascii(), url.isprintable(), " " in url) == (True, True, False)
        parts = urlsplit(url)
        assert (parts.scheme, parts.netloc) == ("http", "h.example")
        assert [unquote(each) for each in parts.path.split("/")] == ["", "a", text, "b"]
        assert parse_qsl(parts.query, keep_blank_values=True, max_num_fields=2) == [("q", text), ("n", str(number))]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(values, min_size=1, max_size=40))
def test_bodies_keep_their_shape_whatever_hypothesis_thinks_of(bench: Workbench, texts: list[str]) -> None:
    rendering = Rendering(
        enriching("http://h.example/", body_template=TEMPLATE), USERS, "http://h.example", bench.tools(DLQ)
    )
    for number, (text, asked) in enumerate(zip(texts, rendering.asked(users(*texts)), strict=True)):
        assert asked is not None
        assert json.loads(asked[1] or "") == body_of(number, text)


@pytest.mark.parametrize("rows", [None, 50])
def test_what_arrives_is_what_was_meant(bench: Workbench, http_api: EnrichmentApi, rows: int | None) -> None:
    texts = sorted({text for seed in range(5) for text in hostile(seed)})
    options = enriching(http_api.url, batch=None if rows is None else EnrichBatch(rows=rows), concurrency=16)
    done = bench.open(options, USERS).process(users(*texts))
    bodies = [each for _, _, body in http_api.requests for each in (body if isinstance(body, list) else [body])]
    assert sorted(bodies, key=lambda each: each["email"]) == [{"email": each} for each in texts]
    assert [each["user"]["score"] for each in done.passed.to_pylist()] == [score_of(each) for each in texts]


def test_what_arrives_in_a_query_is_what_was_meant(bench: Workbench, http_api: EnrichmentApi) -> None:
    texts = sorted({text for seed in range(3) for text in hostile(seed) if text})
    options = enriching(f"{http_api.url}?email={{{{ user.email }}}}", method=Method.GET, body_template=None)
    done = bench.open(options, USERS).process(users(*texts))
    assert [each["user"]["score"] for each in done.passed.to_pylist()] == [score_of(each) for each in texts]


def test_every_type_in_a_body(bench: Workbench) -> None:
    types: dict[str, pa.DataType] = {
        "n": pa.int64(),
        "x": pa.float64(),
        "d": pa.decimal128(10, 2),
        "at": pa.timestamp("us", tz="UTC"),
        "items": pa.list_(pa.struct([pa.field("k", pa.string())])),
    }
    schema = pa.schema(types)
    rows = pa.RecordBatch.from_pylist([{"x": float("nan"), "items": [{"k": '"'}]}, {"n": 2**53 + 1}], schema=schema)
    template = '{"n": {{ n }}, "x": {{ x }}, "d": {{ d }}, "at": {{ at }}, "items": {{ items }}}'
    rendering = Rendering(enriching("http://h/", body_template=template), schema, "http://h", bench.tools(DLQ))
    first, second = (json.loads(each[1] or "") for each in rendering.asked(rows) if each is not None)
    assert first == {"n": None, "x": None, "d": None, "at": None, "items": [{"k": '"'}]}
    assert second["n"] == 2**53 + 1
