"""The suite that every source inherits, against a SOAP service that holds whatever rows a test wants."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

import pyarrow as pa
import pytest

from dsl.contracts.connectors import ReadRequest, Source
from dsl.contracts.errors import FatalError
from dsl.contracts.secret import Secret
from resources.formats.json_values import to_rows
from resources.http_options import Authentication, AuthType
from resources.http_source import PageType, Pagination
from resources.soap.resource import SoapConnection, SoapSource
from resources.testing import CANARY, SourceOrigin, SourceSuite, sample
from tests.kit.http_script import Asked, Reply, ScriptedServer, reply, scripted_server

WSDL = """<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:s="http://schemas.xmlsoap.org/wsdl/soap/"
 xmlns:x="http://www.w3.org/2001/XMLSchema" xmlns:t="urn:t" targetNamespace="urn:t"><types>
<x:schema targetNamespace="urn:t" elementFormDefault="qualified">
<x:element name="ask"><x:complexType><x:sequence><x:element name="offset" type="x:int"/></x:sequence></x:complexType></x:element>
<x:element name="said"><x:complexType><x:sequence><x:element name="row" minOccurs="0" maxOccurs="unbounded"><x:complexType>
<x:sequence><x:element name="id" type="x:long"/><x:element name="name" type="x:string" minOccurs="0"/>
<x:element name="score" type="x:double" minOccurs="0"/><x:element name="at" type="x:dateTime"/></x:sequence>
</x:complexType></x:element></x:sequence></x:complexType></x:element></x:schema></types>
<message name="in"><part name="p" element="t:ask"/></message><message name="out"><part name="p" element="t:said"/></message>
<portType name="pt"><operation name="rows"><input message="t:in"/><output message="t:out"/></operation></portType>
<binding name="b" type="t:pt"><s:binding transport="http://schemas.xmlsoap.org/soap/http"/><operation name="rows">
<s:operation soapAction="rows"/><input><s:body use="literal"/></input><output><s:body use="literal"/></output></operation></binding>
<service name="sv"><port name="po" binding="t:b"><s:address location="@URL@"/></port></service></definitions>"""
ENVELOPE = '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body><said xmlns="urn:t">{}</said></e:Body></e:Envelope>'


@dataclass
class Served:
    """Rows behind an operation, seven to a page."""

    server: ScriptedServer
    rows: list[str] = field(default_factory=list)

    def fill(self, rows: Sequence[pa.RecordBatch]) -> None:
        held = [row for each in rows for row in to_rows(each)]
        self.rows = [
            "<row>"
            + "".join(f"<{name}>{escape(str(each))}</{name}>" for name, each in row.items() if each is not None)
            + "</row>"
            for row in held
        ]
        self.server.route = self.answer

    def source(self) -> Source:
        bearer = Authentication(type=AuthType.BEARER, token=Secret("${TEST_TOKEN}"))
        there = SoapConnection(wsdl=f"{self.server.url}/", auth=bearer, allow_private_hosts=True, attempts=2)
        paging = Pagination(type=PageType.OFFSET, param="offset")
        return SoapSource(connection=there, operation="rows", pagination=paging).declaring(sample(0, 0).schema)

    def answer(self, asked: Asked) -> Reply:
        assert asked.headers["authorization"] == f"Bearer {CANARY}"
        headers = {"Content-Type": "text/xml; charset=utf-8"}
        if asked.method == "GET":
            return reply(WSDL.replace("@URL@", f"{self.server.url}/").encode(), headers=headers)
        found = re.search(rb"offset>(\d+)<", asked.body)
        assert found is not None
        first = int(found[1])
        return reply(ENVELOPE.format("".join(self.rows[first : first + 7])).encode(), headers=headers)


class TestSource(SourceSuite):
    @pytest.fixture
    def origin(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[SourceOrigin]:
        monkeypatch.setenv("TEST_TOKEN", CANARY)
        with scripted_server() as server:
            yield Served(server)


def test_a_value_that_does_not_fit_its_type_is_no_null(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_TOKEN", CANARY)
    with scripted_server() as server:
        served = Served(server)
        served.fill([sample(1, 2)])
        served.rows[1] = served.rows[1].replace("<id>2</id>", "<id>two</id>")
        with pytest.raises(FatalError, match="does not fit"), served.source().read(ReadRequest(), None) as reader:
            list(reader)
