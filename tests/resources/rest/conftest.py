"""A scripted API, and a connection to it that carries a canary for a key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dsl.contracts.secret import Secret
from resources.http_options import Authentication, AuthType
from resources.rest.resource import RestConnection
from resources.testing.samples import CANARY
from tests.kit.http_script import ScriptedServer, scripted_server


@pytest.fixture
def api() -> Iterator[ScriptedServer]:
    with scripted_server() as server:
        yield server


@pytest.fixture
def connection(api: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> RestConnection:
    monkeypatch.setenv("TEST_API_KEY", CANARY)
    key = Authentication(type=AuthType.API_KEY, key=Secret("${TEST_API_KEY}"), param="api_key")
    return RestConnection(base_url=f"{api.url}/v1", auth=key, allow_private_hosts=True, attempts=2)
