"""The suites that every connector inherits, against an API of the test's own: by page, by cursor, by links, and as a destination."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Destination, Source
from resources.formats.json_values import to_lines
from resources.http_source import PageType, Pagination
from resources.rest.resource import RestConnection, RestDestination, RestSource, WriteMethod
from resources.testing import DestinationSuite, DestinationTarget, SourceOrigin, SourceSuite, sample
from tests.kit.http_script import Asked, Reply, ScriptedServer, reply

SIZE = 7
PAGINATIONS = {
    "page": Pagination(type=PageType.PAGE, param="page", total_path="$.total"),
    "offset": Pagination(type=PageType.OFFSET, param="offset", size_param="limit", size=SIZE),
    "cursor": Pagination(type=PageType.CURSOR, param="after", cursor_path="$.next", has_more_path="$.more"),
    "header": Pagination(type=PageType.CURSOR, param="after", cursor_header="X-Next"),
    "link": Pagination(type=PageType.LINK_HEADER),
    "url": Pagination(type=PageType.NEXT_URL, next_path="$.url"),
    "none": Pagination(),
}


@dataclass
class Listed:
    """Rows behind an API that says everything a client may ask about pages."""

    server: ScriptedServer
    connection: RestConnection
    kind: str
    lines: list[str] = field(default_factory=list)

    def fill(self, rows: Sequence[pa.RecordBatch]) -> None:
        self.lines = [line for each in rows for line in to_lines(each)]
        self.server.route = self.answer

    def source(self) -> Source:
        made = RestSource(
            connection=self.connection, path="/rows", records="$.data[*]", pagination=PAGINATIONS[self.kind]
        )
        return made.declaring(sample(0, 0).schema)

    def answer(self, asked: Asked) -> Reply:
        assert asked.params["api_key"]
        if asked.path != "/v1/rows":
            return reply({}, 404)
        given = asked.params
        first = int(given.get("after") or given.get("offset") or SIZE * (int(given.get("page", "1")) - 1))
        end = len(self.lines) if self.kind == "none" else min(first + SIZE, len(self.lines))
        more = end < len(self.lines)
        link = f"{self.server.url}/v1/rows?after={end}&api_key=what-it-was"
        facts = {"next": str(end) if more else None, "more": more, "url": link if more else None}
        text = json.dumps({**facts, "total": len(self.lines)})
        body = f'{text[:-1]}, "data": [{",".join(self.lines[first:end])}]}}'
        headers = {"Link": f'<{link}>; rel="next", <{link}0>; rel="last"', "X-Next": str(end)} if more else {}
        return reply(body.encode(), headers=headers)


class TestSource(SourceSuite):
    @pytest.fixture(params=list(PAGINATIONS))
    def origin(self, request: pytest.FixtureRequest, api: ScriptedServer, connection: RestConnection) -> SourceOrigin:
        return Listed(api, connection, request.param)


@dataclass
class Taking:
    """An API that takes rows: appended under the key of their request, or put under their id."""

    server: ScriptedServer
    connection: RestConnection
    folder: Path
    size: int
    held: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def destination(self, mode: WriteMode) -> Destination:
        self.server.route = self.answer
        shared: dict[str, Any] = {"connection": self.connection, "write_mode": mode, "journal": str(self.folder)}
        if mode is WriteMode.UPSERT:
            return RestDestination(**shared, path="/rows/{id}", method=WriteMethod.PUT, primary_key=("id",))
        return RestDestination(**shared, path="/rows", batch_rows=self.size)

    def answer(self, asked: Asked) -> Reply:
        assert asked.params["api_key"]
        if asked.method == "GET":
            return reply({})
        rows = asked.json if isinstance(asked.json, list) else [asked.json]
        key = asked.path if asked.method == "PUT" else str(len(self.held))
        self.held[key] = rows
        return reply({}, 201)

    def rows(self) -> list[dict[str, Any]]:
        return [{**row, "at": datetime.fromisoformat(row["at"])} for rows in self.held.values() for row in rows]


class TestDestination(DestinationSuite):
    @pytest.fixture(params=[1, 8])
    def target(
        self, request: pytest.FixtureRequest, api: ScriptedServer, connection: RestConnection, tmp_path: Path
    ) -> DestinationTarget:
        return Taking(api, replace(connection, check_path=""), tmp_path, request.param)
