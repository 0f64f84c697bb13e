"""A GraphQL API by strawberry, in a process of its own. It holds twelve users and some faults, and knows no connector."""

import json
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from tests.kit.process import SERVICES, ServerProcess, Unavailable, find_program, free_port, make_folder

TOKEN = "graphql-canary-token"
SCHEMA = """
import base64
from typing import Optional
import strawberry
from strawberry.asgi import GraphQL

@strawberry.type
class User:
    id: int
    name: Optional[str]
    updated_at: str
    score: float
    tags: list[str]
    @strawberry.field
    def fragile(self) -> Optional[str]:
        if self.id == 3:
            raise ValueError("user 3 is broken")
        return "whole"

USERS = [
    User(id=n, name=None if n % 5 == 0 else f"user {n}", updated_at=f"2024-01-{n:02d}T00:00:00Z", score=n / 4, tags=["a"] * (n % 3))
    for n in range(1, 13)
]

@strawberry.type
class Edge:
    node: User
    cursor: str

@strawberry.type
class Info:
    has_next_page: bool
    end_cursor: Optional[str]

@strawberry.type
class Users:
    edges: list[Edge]
    page_info: Info

@strawberry.type
class Listed:
    items: list[User]
    total: int

@strawberry.type
class Query:
    @strawberry.field
    def users(self, first: int, after: Optional[str] = None, since: Optional[str] = None) -> Users:
        held = [each for each in USERS if since is None or each.updated_at >= since]
        begin = int(base64.b64decode(after)) if after else 0
        edges = [Edge(node=each, cursor=base64.b64encode(str(begin + at + 1).encode()).decode())
                 for at, each in enumerate(held[begin:begin + first])]
        last = edges[-1].cursor if edges else None
        return Users(edges=edges, page_info=Info(has_next_page=begin + first < len(held), end_cursor=last))
    @strawberry.field
    def listed(self, offset: int = 0, limit: int = 5) -> Listed:
        return Listed(items=USERS[offset:offset + limit], total=len(USERS))
    @strawberry.field
    def limits(self) -> Optional[str]:
        raise ValueError("a field of its own fails")

graphql = GraphQL(strawberry.Schema(Query))

async def app(scope, receive, send):
    if scope["type"] == "http":
        headers = dict(scope["headers"])
        if headers.get(b"authorization") != b"Bearer @TOKEN@":
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b"who are you?"})
            return
    await graphql(scope, receive, send)
"""


@dataclass(frozen=True)
class GraphqlServer:
    """A running server."""

    url: str
    version: str
    process: ServerProcess = field(repr=False)

    def ask(self, query: str) -> Any:
        """Return the answer to a query."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        asked = urllib.request.Request(self.url, json.dumps({"query": query}).encode(), headers)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return json.load(answer)


def start_graphql() -> GraphqlServer:
    """Start a server on a free port.

    Raises:
        Unavailable: strawberry is not installed, or does not start; carries its log.
    """
    program = find_program("uvicorn")
    if not (SERVICES / "strawberry").exists():
        msg = "strawberry is not installed: run 'make services'"
        raise Unavailable(msg)
    folder, port = make_folder("graphql"), free_port()
    (folder / "scripted.py").write_text(SCHEMA.replace("@TOKEN@", TOKEN), encoding="utf-8")
    options = ["--app-dir", str(folder), "--port", str(port), "--log-level", "warning", "scripted:app"]
    process = ServerProcess("graphql", [program, *options], folder)
    server = GraphqlServer(f"http://127.0.0.1:{port}/graphql", "strawberry", process)
    process.wait_until(lambda: server.ask("{ __typename }"))
    return server
