"""A SOAP service in a process of its own, one for all tests of this folder."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from resources.soap.resource import SoapConnection
from tests.kit.process import Unavailable
from tests.kit.soap import SoapServer, start_soap


@pytest.fixture(scope="module")
def server() -> Iterator[SoapServer]:
    try:
        started = start_soap()
    except Unavailable as error:
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(f"REQUIRE_SERVICES=1, but the SOAP service is not available: {error}", pytrace=False)
        pytest.skip(str(error))
    yield started
    started.process.stop()


@pytest.fixture
def connection(server: SoapServer) -> SoapConnection:
    return SoapConnection(wsdl=server.wsdl.removesuffix("?wsdl"), allow_private_hosts=True, attempts=2)
