"""SOAP against spyne, and against documents that are scripted where a good server never gives them."""

from __future__ import annotations

import json
import re
import urllib.request
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.connectors import ReadRequest
from dsl.contracts.errors import FatalError, HeadraceError, RetryableError, SchemaError
from dsl.contracts.rows import Batch
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError
from dsl.contracts.state import State, is_complete
from resources.http_source import PageType, Pagination
from resources.soap.resource import SoapConnection, SoapSource, UsernameToken
from tests.kit.http_script import Asked, Reply, ScriptedServer, reply, scripted_server
from tests.kit.soap import PASSWORD, SoapServer

PAGES = Pagination(type=PageType.OFFSET, param="offset", size_param="limit", size=5)
XML = {"Content-Type": "text/xml"}


def batches(source: SoapSource, state: State | None = None) -> list[Batch]:
    with source.read(ReadRequest(), state) as reader:
        found = list(reader)
        assert not reader.rejections()
        return found


def ids(found: list[Batch]) -> list[int]:
    return [row["id"] for each in found for row in each.rows.to_pylist()]


def invoices(connection: SoapConnection, **options: Any) -> SoapSource:
    return SoapSource(**{"connection": connection, "operation": "list_invoices", "pagination": PAGES, **options})


def test_columns_come_from_the_xml_schema_and_values_are_exact(connection: SoapConnection) -> None:
    source = invoices(connection)
    line: Any = pa.struct([pa.field("product", pa.string()), pa.field("count", pa.int32())])
    lines: Any = pa.struct([pa.field("Line", pa.list_(line))])
    expected: dict[str, Any] = {
        "id": pa.int32(), "customer": pa.string(), "amount": pa.decimal128(38, 10), "rate": pa.float64(), "paid": pa.bool_(),
        "due": pa.date32(), "changed": pa.timestamp("us", "UTC"), "seal": pa.binary(), "number": pa.decimal128(38, 0),
        "lines": lines,
    }  # fmt: skip
    assert {each.name: each.type for each in source.discover_schema()} == expected
    whole = batches(source)
    assert whole[0].rows.schema.equals(source.discover_schema())
    assert whole[0].rows.to_pylist()[1] == {
        "id": 2, "customer": "c2 <&>", "amount": Decimal("0.25"), "rate": 0.5, "paid": True, "due": date(2024, 1, 2),
        "changed": datetime(2024, 1, 2, 12, tzinfo=UTC), "seal": b"\x02\xff", "number": Decimal(10**25 + 2),
        "lines": {"Line": [{"product": "p0", "count": 0}, {"product": "p1", "count": 1}]},
    }  # fmt: skip
    assert whole[0].rows.to_pylist()[4]["customer"] is None


def test_it_is_read_page_by_page_and_resumed_at_each(connection: SoapConnection) -> None:
    whole = batches(invoices(connection))
    assert ids(whole) == list(range(1, 13))
    assert is_complete(whole[-1].state)
    cuts = [at for at, each in enumerate(whole[:-1]) if each.state is not None]
    assert len(cuts) >= 2
    for at in cuts:
        rest = batches(invoices(connection), json.loads(json.dumps(whole[at].state)))
        assert ids(whole[: at + 1]) + ids(rest) == list(range(1, 13))


def test_what_is_new_since_the_last_run(connection: SoapConnection) -> None:
    options = {"incremental_column": "changed", "incremental_param": "since", "primary_key": ("id",)}
    source = invoices(connection, initial_value="2024-01-10T00:00:00Z", **options)
    first = batches(source)
    assert ids(first) == [10, 11, 12]
    assert ids(batches(source, first[-1].state)) == []


def test_no_records_are_no_error(connection: SoapConnection) -> None:
    assert ids(batches(invoices(connection, arguments={"since": "2030-01-01T00:00:00Z"}))) == []


@pytest.mark.parametrize(("code", "kind"), [("Client", FatalError), ("Server", RetryableError)])
def test_a_fault_is_an_error(code: str, kind: type[HeadraceError], connection: SoapConnection) -> None:
    source = SoapSource(connection=connection, operation="fail", arguments={"who": code})
    with pytest.raises(kind, match="broken on purpose"):
        batches(source)


def test_what_the_wsdl_does_not_have_is_said(connection: SoapConnection) -> None:
    with pytest.raises(FatalError, match=r"no operation 'list_invoice'.*did you mean 'list_invoices'"):
        batches(invoices(connection, operation="list_invoice"))
    with pytest.raises(FatalError, match="does not take these arguments.*colour"):  # noqa: RUF043 - a pattern
        batches(invoices(connection, arguments={"colour": 1}))
    with pytest.raises(SchemaError, match="declare `schema`"):
        invoices(connection, records="$.nowhere").discover_schema()


def test_it_is_checked_and_shows_what_there_is(connection: SoapConnection) -> None:
    assert connection.check().details == "the WSDL describes 2 operations"
    assert [each.name for each in connection.discover()] == ["fail", "list_invoices"]


@pytest.fixture
def wsdl(server: SoapServer) -> bytes:
    with urllib.request.urlopen(server.wsdl, timeout=30) as answer:
        found: bytes = answer.read()
    return found


def through(api: ScriptedServer, wsdl: bytes, answer: Any) -> SoapSource:
    """The service, whose documents and answers a test may change."""
    moved = re.sub(rb"http://127\.0\.0\.1:\d+/", f"{api.url}/".encode(), wsdl)

    def route(asked: Asked) -> Reply:
        return reply(moved, headers=XML) if asked.method == "GET" else answer(asked)

    api.route = route
    return invoices(SoapConnection(wsdl=f"{api.url}/", allow_private_hosts=True, attempts=2))


BOMB = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><x>&b;</x>"""
FILE = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>"""


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reply(BOMB, headers=XML), FatalError),
        (reply(FILE, headers=XML), FatalError),
        (reply(b"<a>" * 3000 + b"</a>" * 3000, headers=XML), RetryableError),
        (reply(b"<soap", headers=XML), RetryableError),
        (reply(b"", headers=XML), RetryableError),
        (reply(b"<html><body>Sorry</body></html>", headers=XML), RetryableError),
        (reply(b"Sorry", 500), RetryableError),
        (reply(b"Sorry", 503), RetryableError),
        (reply(b"no", 401), FatalError),
        (reply(b"no", 302, headers={"Location": "http://127.0.0.1:1/"}), FatalError),
    ],
)
def test_answers_that_are_none(answer: Reply, kind: type[HeadraceError], wsdl: bytes) -> None:
    with scripted_server() as api, pytest.raises(kind):
        batches(through(api, wsdl, lambda _: answer))


@pytest.mark.parametrize("document", [BOMB, FILE])
def test_a_hostile_wsdl_is_refused(document: bytes) -> None:
    with scripted_server() as api:
        api.route = lambda _: reply(document, headers=XML)
        checked = SoapConnection(wsdl=api.url, allow_private_hosts=True, attempts=1).check()
    assert not checked.healthy
    assert "DTD" in checked.details


@pytest.mark.parametrize("place", ["file:///etc/passwd", "https://evil.example/other.xsd", "/etc/passwd"])
def test_a_wsdl_leads_to_no_other_place(place: str, wsdl: bytes) -> None:
    imported = f'<xs:import namespace="urn:more" schemaLocation="{place}"/>'.encode()
    changed = re.sub(rb"(<xs:schema[^>]*>)", rb"\1" + imported, wsdl, count=1)
    assert changed != wsdl
    with scripted_server() as api:
        source = through(api, changed, lambda _: reply(b""))
        if place.startswith("/"):
            source.connection.check()
            asked = {each.path for each in api.asked}
            assert asked == {"/", "/etc/passwd"}, "an address below the server's own, no file"
        else:
            assert "another server than its own" in source.connection.check().details


def test_a_service_at_another_server_is_not_called(wsdl: bytes) -> None:
    with scripted_server() as api, scripted_server() as other:
        moved = re.sub(rb"http://127\.0\.0\.1:\d+/", f"{other.url}/".encode(), wsdl)
        api.route = lambda _: reply(moved, headers=XML)
        with pytest.raises(FatalError, match="another server than its own"):
            batches(invoices(SoapConnection(wsdl=api.url, allow_private_hosts=True)))
        assert not other.asked


@pytest.mark.parametrize("sent", ["digest", "password"])
def test_a_user_is_named_in_the_head_and_shown_nowhere(
    sent: str, wsdl: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TEST_SOAP", PASSWORD)
    seen: list[bytes] = []

    def answer(asked: Asked) -> Reply:
        seen.append(asked.body)
        return reply(b"no", 403)

    with scripted_server() as api, caplog.at_level("DEBUG"):
        plain = through(api, wsdl, answer)
        token = UsernameToken(username="me", password=Secret("${TEST_SOAP}"), digest=sent == "digest")
        there = SoapConnection(**{**vars(plain.connection), "username_token": token})
        with pytest.raises(FatalError) as caught:
            batches(invoices(there))
    assert b"<wsse:Username>me</wsse:Username>" in seen[0]
    assert (PASSWORD.encode() in seen[0]) is (sent == "password")
    assert PASSWORD not in f"{caught.value!r} {there!r} {caplog.text}"


def test_options_that_do_not_fit_together(connection: SoapConnection) -> None:
    with pytest.raises(OptionError, match="pages by an argument"):
        invoices(connection, pagination=Pagination(type=PageType.LINK_HEADER))
    with pytest.raises(OptionError, match="no address"):
        SoapConnection(wsdl="/etc/passwd")
