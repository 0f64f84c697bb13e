"""Scripted faults in the middle of a read: passing ones leave no trace, lasting ones are errors; nothing is taken for the end."""

from __future__ import annotations

import gzip
import json
import traceback
from collections.abc import Callable
from email.utils import formatdate

import pyarrow as pa
import pytest

from dsl.contracts.connectors import ReadRequest
from dsl.contracts.errors import FatalError, HeadraceError, RetryableError
from resources.http_source import PageType, Pagination
from resources.rest.resource import RestConnection, RestSource
from resources.testing.samples import CANARY
from tests.kit.http_script import Asked, Reply, Route, ScriptedServer, chunked, packed, reply

SIZE, COUNT = 10, 35
ROWS = [{"id": each, "name": f"n{each}"} for each in range(COUNT)]
TYPES: dict[str, pa.DataType] = {"id": pa.int64(), "name": pa.string()}
SCHEMA = pa.schema(TYPES)
Fault = Callable[[bytes], Reply]

PASSING: dict[str, Fault] = {
    "the body is cut": lambda body: reply(body, send=len(body) // 2),
    "the body is cut after a record": lambda body: reply(body, send=body.index(b"}") + 1),
    "nothing of the body comes": lambda body: reply(body, send=0),
    "one byte is missing": lambda body: reply(body, send=len(body) - 1),
    "Content-Length is too large": lambda body: reply(body, length=len(body) + 7),
    "Content-Length is too small": lambda body: reply(body, length=len(body) // 2),
    "without a length, cut": lambda body: reply(body[: len(body) // 2], length=-1),
    "chunks without an end": lambda body: chunked(body, end=b""),
    "a chunk is shorter than it says": lambda body: chunked(body, size=f"{len(body) + 9:x}".encode(), end=b""),
    "a chunk has no size": lambda body: chunked(body, size=b"what?"),
    "half the chunks, well ended": lambda body: chunked(body[: len(body) // 2]),
    "gzip without its end": lambda body: packed(body, cut=9),
    "gzip that is none": lambda body: reply(body, headers={"Content-Encoding": "gzip"}),
    "deflate that is none": lambda _: reply(b"\x00\x01\x02", headers={"Content-Encoding": "deflate"}),
    "a packed body of nothing": lambda _: packed(b""),
    "a page of HTML": lambda _: reply(b"<html><body>Sorry</body></html>", headers={"Content-Type": "text/html"}),
    "an empty body": lambda _: reply(b""),
    "only blanks": lambda _: reply(b" \n "),
    "two documents": lambda body: reply(body + body),
    "not UTF-8": lambda body: reply(body.replace(b"n1", b"\xff\xfe")),
    "NaN": lambda _: reply(b'{"data": [{"id": NaN}], "more": true, "total": 35}'),
    "null": lambda _: reply(b"null"),
    "no records": lambda _: reply({"more": True, "total": COUNT}),
    "records are null": lambda _: reply({"data": None, "more": True, "total": COUNT}),
    "records are a text": lambda _: reply({"data": "gone", "more": True, "total": COUNT}),
    "an error with status 200": lambda body: reply({**json.loads(body), "error": {"message": "database is down"}}),
    "it does not say whether there is more": lambda body: reply({**json.loads(body), "more": None}),
    "it does not say how many": lambda body: reply({**json.loads(body), "total": "many"}),
    "an empty page in the middle": lambda body: reply({**json.loads(body), "data": [], "more": True}),
    "a part (206)": lambda body: reply(body, 206),
    "nothing (204)": lambda _: reply(b"", 204),
    "slow down (429)": lambda _: reply({}, 429),
    "slow down for no time (429)": lambda _: reply({}, 429, headers={"Retry-After": "0"}),
    "slow down until a date (429)": lambda _: reply({}, 429, headers={"Retry-After": formatdate(0, usegmt=True)}),
    "slow down until nonsense (429)": lambda _: reply({}, 429, headers={"Retry-After": "soon"}),
    "no answer in time (408)": lambda _: reply({}, 408),
    "too early (425)": lambda _: reply({}, 425),
    "failed (500)": lambda _: reply({}, 500),
    "a gateway (502)": lambda _: reply(b"<html>", 502),
    "unavailable (503)": lambda _: reply({}, 503, headers={"Retry-After": "0"}),
    "a gateway in time (504)": lambda _: reply({}, 504),
    "a proxy of a vendor (520)": lambda _: reply({}, 520),
    "hangs up": lambda _: Reply(b"", close=True),
    "resets": lambda _: Reply(b"", reset=True),
    "hangs up within the headers": lambda _: Reply(b"HTTP/1.1 200 OK\r\nContent-Le", close=True),
    "resets within the body": lambda body: Reply(reply(body).data[:-20], reset=True),
    "speaks another protocol": lambda _: Reply(b"SSH-2.0-OpenSSH_9.6\r\n", close=True),
}  # fmt: skip

LASTING: dict[str, tuple[Fault, str]] = {
    "asked wrongly (400)": (lambda _: reply({}, 400), "400"),
    "who are you (401)": (lambda _: reply({}, 401), "credentials"),
    "not allowed (403)": (lambda _: reply({}, 403), "credentials"),
    "not found (404)": (lambda _: reply({}, 404), "nothing at this address"),
    "gone (410)": (lambda _: reply({}, 410), "nothing at this address"),
    "unchanged, unasked (304)": (lambda _: reply(b"", 304), "304"),
    "elsewhere, nowhere (302)": (lambda _: reply({}, 302), "elsewhere"),
    "elsewhere, in a circle": (lambda _: reply({}, 302, headers={"Location": "/v1/circle"}), "without an end"),
    "elsewhere, to a file": (lambda _: reply({}, 302, headers={"Location": "file:///etc/passwd"}), "no address of HTTP"),
    "packed in an unknown way": (lambda body: reply(body, headers={"Content-Encoding": "br"}), "not asked for"),
    "packed twice": (lambda body: reply(body, headers={"Content-Encoding": "gzip, gzip"}), "not asked for"),
    "nested too deeply": (lambda _: reply(b'{"data": [' + b"[" * 5000 + b"]" * 5000 + b"]}"), "nested"),
    "nested a little too deeply": (lambda _: reply(b'{"data": [' + b"[" * 150 + b"]" * 150 + b"]}"), "nested"),
    "too large": (lambda _: reply(b'{"data": ["' + b"x" * 300_000 + b'"]}'), "larger than 200000 bytes"),
    "a bomb": (lambda _: reply(gzip.compress(b" " * 50_000_000), headers={"Content-Encoding": "gzip"}), "larger than 200000"),
    "the page before once more": (lambda _: page(1), "very records of the page before"),
}  # fmt: skip


def body_of(number: int) -> bytes:
    data = ROWS[(number - 1) * SIZE : number * SIZE]
    return json.dumps({"data": data, "more": number * SIZE < COUNT, "total": COUNT, "error": None}).encode()


def page(number: int) -> Reply:
    return reply(body_of(number))


def faulty(fault: Fault, times: int) -> Route:
    """The API, whose second page is faulty for some times."""
    left = [times]

    def route(asked: Asked) -> Reply:
        number = int(asked.params.get("page", "1"))
        if (number == 2 and left[0]) or asked.path == "/v1/circle":
            left[0] -= 1
            return fault(body_of(number))
        return page(number)

    return route


def source(connection: RestConnection) -> RestSource:
    paging = Pagination(type=PageType.PAGE, param="page", has_more_path="$.more", total_path="$.total")
    small = RestConnection(**{**vars(connection), "max_response_bytes": 200_000})
    made = RestSource(connection=small, path="/rows", records="$.data", pagination=paging, error_path="$.error")
    declared = made.declaring(SCHEMA)
    assert isinstance(declared, RestSource)
    return declared


def ids(read: RestSource) -> list[int]:
    with read.read(ReadRequest(), None) as reader:
        return [row["id"] for batch in reader for row in batch.rows.to_pylist()]


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_passes_leaves_no_trace(name: str, api: ScriptedServer, connection: RestConnection) -> None:
    api.route = faulty(PASSING[name], 1)
    assert ids(source(connection)) == list(range(COUNT))


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_lasts_is_an_error_that_may_be_tried_again(
    name: str, api: ScriptedServer, connection: RestConnection
) -> None:
    api.route = faulty(PASSING[name], 1000)
    with pytest.raises(RetryableError) as caught:
        ids(source(connection))
    check_silence(caught.value)


@pytest.mark.parametrize("name", LASTING)
def test_what_trying_again_cannot_cure_is_said_at_once(
    name: str, api: ScriptedServer, connection: RestConnection
) -> None:
    fault, told = LASTING[name]
    api.route = faulty(fault, 1000)
    with pytest.raises(FatalError, match=told) as caught:
        ids(source(connection))
    check_silence(caught.value)
    assert sum(each.params.get("page") == "2" for each in api.asked) == 1


def check_silence(error: HeadraceError) -> None:
    shown = "".join(traceback.format_exception(error))
    assert CANARY not in shown
    assert "127.0.0.1" in str(error)
