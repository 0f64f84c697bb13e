"""A GraphQL API in a process of its own, one for all tests of this folder."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from dsl.contracts.secret import Secret
from resources.graphql.resource import GraphqlConnection
from resources.http_options import Authentication, AuthType
from tests.kit.graphql import TOKEN, GraphqlServer, start_graphql
from tests.kit.process import Unavailable


@pytest.fixture(scope="module")
def server() -> Iterator[GraphqlServer]:
    try:
        started = start_graphql()
    except Unavailable as error:
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(f"REQUIRE_SERVICES=1, but the GraphQL API is not available: {error}", pytrace=False)
        pytest.skip(str(error))
    yield started
    started.process.stop()


@pytest.fixture
def connection(server: GraphqlServer, monkeypatch: pytest.MonkeyPatch) -> GraphqlConnection:
    monkeypatch.setenv("TEST_TOKEN", TOKEN)
    bearer = Authentication(type=AuthType.BEARER, token=Secret("${TEST_TOKEN}"))
    return GraphqlConnection(url=server.url, auth=bearer, allow_private_hosts=True, attempts=2)
