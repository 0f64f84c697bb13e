"""`enrich` against everything a service can do wrong: a reason and a code each, no row lost, no row made up."""

from __future__ import annotations

import gzip
import os
import ssl
import subprocess
import sys
import tracemalloc
import zlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from dsl.contracts.errors import ErrorType, FatalError
from dsl.contracts.policies import OnError, Policies
from dsl.processors.enrich import EnrichBatch, EnrichError, ResultMapping
from tests.engine.operators.opened import DLQ, HASTY, USERS, Workbench, enriching, http, listening, secret, users
from tests.kit.enrichment import EnrichmentApi, Fault, score_of
from tests.kit.tls import make_certificates

SCORED = b'{"score": 7}'
FAULTS = {
    "http_429": (Fault.too_many_requests(), True),
    "http_500": (Fault.server_error(), True),
    "http_503": (Fault.server_error(503), True),
    "http_408": (Fault(status=408), True),
    "http_truncated": (Fault.truncated(), True),
    "http_not_json": (Fault.not_json(), True),
    "http_timeout": (Fault.slow(1.5), True),
    "http_closed": (Fault.connection_closed(), True),
    "http_422": (Fault.client_error(), False),
    "http_400": (Fault.client_error(400), False),
    "http_redirect": (Fault(status=302, headers=(("Location", "http://127.0.0.1:1/"),)), False),
}


@pytest.mark.parametrize("code", FAULTS)
def test_what_passes_is_tried_again_and_what_does_not_is_not(
    bench: Workbench, http_api: EnrichmentApi, code: str
) -> None:
    fault, passes = FAULTS[code]
    http_api.fail_for("b@x", fault)
    options = enriching(http_api.url, timeout=timedelta(seconds=0.5))
    done = bench.open(options, USERS).process(users("a@x", "b@x", "c@x"))
    assert http_api.calls == {"a@x": 1, "b@x": 2 if passes else 1, "c@x": 1}
    expected = ["a@x", "b@x", "c@x"] if passes else ["a@x", "c@x"]
    assert [each["user"] for each in done.passed.to_pylist()] == [
        {"email": each, "score": score_of(each)} for each in expected
    ]
    assert [each.code for each in done.failed] == ([] if passes else [code])


@pytest.mark.parametrize("code", FAULTS)
def test_what_stays_wrong_refuses_its_row_alone_with_a_reason(
    bench: Workbench, http_api: EnrichmentApi, code: str
) -> None:
    fault, passes = FAULTS[code]
    http_api.fail_always_for("b@x", fault)
    options = enriching(http_api.url, timeout=timedelta(seconds=0.2))
    done = bench.open(options, USERS).process(users("a@x", "b@x", "c@x", "b@x"))
    assert [each["id"] for each in done.passed.to_pylist()] == [0, 2]
    assert [each.code for each in done.failed] == [code, code]
    assert [each.row.to_pylist()[0]["id"] for each in done.failed] == [1, 3]
    reason = done.failed[0].reason
    assert len(reason) > 15
    assert ("(3 tries)" in reason) is passes, reason
    assert http_api.calls["b@x"] == (3 if passes else 1)


@pytest.mark.parametrize("code", FAULTS)
def test_keep_gives_null_results(bench: Workbench, http_api: EnrichmentApi, code: str) -> None:
    http_api.fail_always_for("b@x", FAULTS[code][0])
    options = enriching(http_api.url, on_error=EnrichError.KEEP, timeout=timedelta(seconds=0.2))
    done = bench.open(options, USERS, Policies(retry=HASTY)).process(users("a@x", "b@x"))
    assert [each["user"]["score"] for each in done.passed.to_pylist()] == [score_of("a@x"), None]
    assert not done.failed


@pytest.mark.parametrize("code", FAULTS)
def test_fail_stops_at_the_first_and_asks_no_more(bench: Workbench, http_api: EnrichmentApi, code: str) -> None:
    fault, passes = FAULTS[code]
    http_api.fail_always_for("0", fault)
    options = enriching(http_api.url, timeout=timedelta(seconds=0.2), concurrency=1)
    with pytest.raises(FatalError) as caught:
        bench.open(options, USERS, Policies(retry=HASTY)).process(users(*map(str, range(50))))
    assert len(http_api.requests) == (3 if passes else 1)
    assert caught.value.where == "step"
    assert caught.value.hint
    assert (caught.value.error_type is ErrorType.POISON) is not passes


RAW = {
    "http_too_long": http(b'{"score": 7, "rest": "%s"}' % (b"x" * 5000)),
    "http_not_json": http(b""),
    "http_protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "http_closed": b"",
    "http_encoding": http(SCORED, "200 OK", "Content-Encoding: br"),
    "http_truncated": http(gzip.compress(SCORED)[:-4], "200 OK", "Content-Encoding: gzip"),
    "http_result": http(b'{"score": "seven"}'),
    "http_301": http(b"", "301 Moved Permanently", "Location: http://169.254.169.254/"),
}
NOT_JSON = [
    b'{"score": NaN}', b'{"score": Infinity}', b'{"score": 7', b"[" * 100_000, b'{"score": 7}}', b"\xff\xfe{", b"7 7",
    b'{"score": %s}' % (b"7" * 5000), b"null,", b"{'score': 7}",
]  # fmt: skip


@pytest.mark.parametrize("code", RAW)
def test_raw_answers(bench: Workbench, code: str) -> None:
    with listening(RAW[code]) as server:
        done = bench.open(enriching(server.url, max_response_bytes=4096), USERS).process(users("a"))
    assert [each.code for each in done.failed] == ["http_redirect" if code == "http_301" else code]


@pytest.mark.parametrize("body", NOT_JSON)
def test_what_is_not_json_is_not_read(bench: Workbench, body: bytes) -> None:
    with listening(http(body)) as server:
        done = bench.open(enriching(server.url), USERS).process(users("a"))
    assert [each.code for each in done.failed] == ["http_not_json"]


@pytest.mark.parametrize(
    "body", [SCORED, b"\xef\xbb\xbf" + SCORED, b' \n{"score":7.0}\n', b'{"score":"7"}', b'{"score":7e0}']
)
def test_what_is_json_is(bench: Workbench, body: bytes) -> None:
    with listening(http(body)) as server:
        done = bench.open(enriching(server.url), USERS).process(users("a"))
    assert done.passed.to_pylist()[0]["user"]["score"] == 7


@pytest.mark.parametrize("packed", [gzip.compress(SCORED, mtime=0), zlib.compress(SCORED)], ids=["gzip", "deflate"])
def test_packed_answers_are_unpacked(bench: Workbench, packed: bytes) -> None:
    name = "gzip" if packed[:1] == b"\x1f" else "deflate"
    with listening(http(packed, "200 OK", f"Content-Encoding: {name}")) as server:
        done = bench.open(enriching(server.url), USERS).process(users("a"))
    assert done.passed.num_rows == 1


def test_a_bomb_is_not_unpacked(bench: Workbench) -> None:
    """What would become 128 MiB stops at the bound of one."""
    bomb = gzip.compress(b'{"score": 7, "x": "' + b" " * 2**27 + b'"}', mtime=0)
    assert len(bomb) < 2**18
    with listening(http(bomb, "200 OK", "Content-Encoding: gzip")) as server:
        operator = bench.open(enriching(server.url), USERS)
        tracemalloc.start()
        done = operator.process(users("a"))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 64 * 2**20
    assert [each.code for each in done.failed] == ["http_too_long"]


def test_a_service_that_is_not_there(bench: Workbench) -> None:
    with listening(b"") as server:
        gone = server.url
    done = bench.open(enriching(gone), USERS).process(users("a"))
    assert [each.code for each in done.failed] == ["http_unreachable"]
    assert done.failed[0].reason == "the service cannot be reached: Connection refused (3 tries)"


def test_a_name_that_is_not_there(bench: Workbench) -> None:
    done = bench.open(enriching("http://nowhere.invalid/"), USERS).process(users("a"))
    assert [each.code for each in done.failed] == ["http_unreachable"]


def serving(folder: Path) -> tuple[ssl.SSLContext, Path]:
    made = make_certificates(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    return context, made.authority


def test_a_certificate_that_nobody_here_trusts_is_fatal(bench: Workbench, tmp_path: Path) -> None:
    context, _ = serving(tmp_path)
    with listening(http(SCORED), tls=context) as server, pytest.raises(FatalError, match="cannot be trusted"):
        bench.open(enriching(server.url), USERS).process(users("a"))
    assert server.heads == []


_TRUSTING = """
import pathlib, sys
from tests.engine.operators.opened import USERS, Workbench, enriching, users
bench = Workbench(pathlib.Path(sys.argv[2]))
try:
    print(bench.open(enriching(sys.argv[1]), USERS).process(users("a")).passed.to_pylist()[0]["user"]["score"])
except Exception as error:
    print(error)
bench.close()
"""


@pytest.mark.parametrize(("host", "told"), [("localhost", "7"), ("127.0.0.1", "7"), ("127.0.0.2", "cannot be trusted")])
def test_a_certificate_is_compared_with_the_host_of_the_url(tmp_path: Path, host: str, told: str) -> None:
    """Through the wall the connection goes to an address, and still the name is what must be proven."""
    context, authority = serving(tmp_path)
    with listening(http(SCORED), tls=context) as server:
        command = [sys.executable, "-c", _TRUSTING, server.url.replace("127.0.0.1", host), str(tmp_path)]
        environment = {**os.environ, "SSL_CERT_FILE": str(authority)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert told in done.stdout, done.stdout + done.stderr


def test_the_reason_holds_what_the_service_said_in_one_printable_line(bench: Workbench) -> None:
    said = b'{"error":\x1b[31m "bad\r\n e-mail"}' + b"." * 1000
    with listening(http(said, "422 Unprocessable Entity")) as server:
        (failed,) = bench.open(enriching(server.url), USERS).process(users("a")).failed
    assert "bad" in failed.reason
    assert failed.reason.isprintable()
    assert len(failed.reason) < 300


def test_a_secret_that_a_service_echoes_is_not_told(bench: Workbench) -> None:
    with listening(lambda asked: http(asked, "400 Bad Request")) as server:
        options = enriching(server.url, headers={"Authorization": secret("Bearer canary-5f21")})
        (failed,) = bench.open(options, USERS).process(users("a")).failed
    assert "canary-5f21" not in failed.reason


# ---- several rows in a request ---------------------------------------------------------------------------------------


def test_the_row_at_fault_in_a_batch_is_found(bench: Workbench, http_api: EnrichmentApi) -> None:
    emails = [f"{number}@x" for number in range(64)]
    http_api.fail_always_for("13@x", Fault.client_error())
    done = bench.open(enriching(http_api.url, batch=EnrichBatch(rows=64)), USERS).process(users(*emails))
    assert [(each.code, each.row.to_pylist()[0]["id"]) for each in done.failed] == [("http_422", 13)]
    assert [each["user"]["score"] for each in done.passed.to_pylist()] == [
        score_of(each) for each in emails if each != "13@x"
    ]
    assert len(http_api.requests) == 13, "halving 64 rows down to one: 1 and twice 6"


def test_a_row_with_nothing_in_a_batch_is_found(bench: Workbench, http_api: EnrichmentApi) -> None:
    http_api.unknown = {"2", "5"}
    options = enriching(http_api.url, batch=EnrichBatch(rows=8), missing_status=(404,))
    done = bench.open(options, USERS).process(users(*map(str, range(8))))
    scores = [each["user"]["score"] for each in done.passed.to_pylist()]
    assert scores == [None if each in "25" else score_of(each) for each in "01234567"]


@pytest.mark.parametrize(
    "answer", [b'[{"score": 1}]', b'[{"score": 1}, {"score": 2}, {"score": 3}]', b'{"score": 1}', b"7"]
)
def test_an_answer_of_another_length_refuses_every_row_of_the_request(bench: Workbench, answer: bytes) -> None:
    with listening(http(answer)) as server:
        done = bench.open(enriching(server.url, batch=EnrichBatch(rows=2)), USERS).process(users("a", "b"))
        assert len(server.heads) == 1
    assert [each.code for each in done.failed] == ["http_items", "http_items"]


def test_one_item_that_does_not_fit_refuses_its_row_alone(bench: Workbench) -> None:
    with listening(http(b'[{"score": 1}, {"score": "?"}, {}]')) as server:
        done = bench.open(enriching(server.url, batch=EnrichBatch(rows=3)), USERS).process(users("a", "b", "c"))
    assert [each.row.to_pylist()[0]["id"] for each in done.failed] == [1]
    assert [each["user"]["score"] for each in done.passed.to_pylist()] == [1, None]


def test_an_answer_that_is_too_long_for_many_rows_is_asked_for_in_parts(
    bench: Workbench, http_api: EnrichmentApi
) -> None:
    emails = [f"{number}@x" for number in range(50)]
    options = enriching(http_api.url, batch=EnrichBatch(rows=50), max_response_bytes=500)
    done = bench.open(options, USERS).process(users(*emails))
    assert [each["user"]["score"] for each in done.passed.to_pylist()] == [score_of(each) for each in emails]


def test_more_than_the_run_may_hold_is_an_error_not_a_crash(bench: Workbench) -> None:
    mapping = (ResultMapping(source="response", destination="all"),)
    with listening(http(b'"%s"' % (b"x" * 100_000))) as server:
        options = enriching(server.url, result_mapping=mapping)
        with pytest.raises(FatalError, match="MiB"):
            bench.open(options, USERS, memory_limit=2**20).process(users(*map(str, range(20))))


def test_drop_is_refused_like_dlq_and_left_to_the_engine(bench: Workbench, http_api: EnrichmentApi) -> None:
    http_api.fail_always_for("b", Fault.client_error())
    held = replace(DLQ, on_error=OnError.DROP)
    assert len(bench.open(enriching(http_api.url), USERS, held).process(users("a", "b")).failed) == 1
