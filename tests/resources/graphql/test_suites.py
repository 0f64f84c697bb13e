"""The suite that every source inherits, against a GraphQL answer that holds whatever rows a test wants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pytest

from dsl.contracts.connectors import Source
from dsl.contracts.secret import Secret
from resources.formats.json_values import to_lines
from resources.graphql.resource import GraphqlConnection, GraphqlSource
from resources.http_options import Authentication, AuthType
from resources.testing import CANARY, SourceOrigin, SourceSuite, sample
from tests.kit.http_script import Asked, Reply, ScriptedServer, reply, scripted_server


@dataclass
class Answered:
    """Rows behind a Relay connection, seven to a page."""

    server: ScriptedServer
    lines: list[str] = field(default_factory=list)

    def fill(self, rows: Sequence[pa.RecordBatch]) -> None:
        self.lines = [line for each in rows for line in to_lines(each)]
        self.server.route = self.answer

    def source(self) -> Source:
        bearer = Authentication(type=AuthType.BEARER, token=Secret("${TEST_TOKEN}"))
        there = GraphqlConnection(url=f"{self.server.url}/graphql", auth=bearer, allow_private_hosts=True, attempts=2)
        return GraphqlSource(connection=there, query="{ rows }", relay="$.data.rows").declaring(sample(0, 0).schema)

    def answer(self, asked: Asked) -> Reply:
        assert asked.headers["authorization"] == f"Bearer {CANARY}"
        if "__typename" in asked.json["query"]:
            return reply({"data": {"__typename": "Query"}})
        if "__schema" in asked.json["query"]:
            return reply({"data": {"__schema": {"queryType": {"fields": [{"name": "rows"}]}}}})
        first = int(asked.json["variables"].get("after", 0))
        edges = ",".join(f'{{"node": {each}}}' for each in self.lines[first : first + 7])
        more = "true" if first + 7 < len(self.lines) else "false"
        info = f'{{"hasNextPage": {more}, "endCursor": "{first + 7}"}}'
        return reply(f'{{"data": {{"rows": {{"edges": [{edges}], "pageInfo": {info}}}}}}}'.encode())


class TestSource(SourceSuite):
    @pytest.fixture
    def origin(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[SourceOrigin]:
        monkeypatch.setenv("TEST_TOKEN", CANARY)
        with scripted_server() as server:
            yield Answered(server)
