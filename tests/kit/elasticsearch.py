"""A server that speaks Elasticsearch 8's HTTP API, one index prefix a test. It is an emulator: docs/dependencies.md says of what."""

import json
import urllib.request
import uuid
from dataclasses import dataclass, field
from typing import Any

from tests.kit.process import ServerProcess, find_program, free_port, make_folder


@dataclass(frozen=True)
class ElasticsearchServer:
    """A running server. `new_index()` isolates a test; there is no login."""

    host: str
    port: int
    version: str
    process: ServerProcess = field(repr=False)

    @property
    def url(self) -> str:
        """The address of the HTTP API."""
        return f"http://{self.host}:{self.port}"

    def new_index(self) -> str:
        """Return an index name that nobody else has; the index does not exist yet."""
        return f"t-{uuid.uuid4().hex[:12]}"

    def request(self, method: str, path: str, body: object = None) -> Any:
        """Send a request and return the JSON of the answer; urllib's HTTPError on 4xx and 5xx."""
        asked = urllib.request.Request(
            f"{self.url}/{path.lstrip('/')}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def documents(self, index: str) -> dict[str, dict[str, Any]]:
        """Return every document of an index (up to 10,000) by its id, after a refresh."""
        self.request("POST", f"{index}/_refresh")
        found = self.request("POST", f"{index}/_search", {"size": 10_000, "query": {"match_all": {}}})
        return {hit["_id"]: hit["_source"] for hit in found["hits"]["hits"]}


def start_elasticsearch() -> ElasticsearchServer:
    """Start a server on a free port.

    Raises:
        Unavailable: noida-db is not installed, or does not start; carries its log.
    """
    program = find_program("noida-db")
    folder = make_folder("elasticsearch")
    port = free_port()
    options = ["--data-dir", str(folder / "data"), "--only", "elasticsearch", "--elasticsearch-port", str(port)]
    process = ServerProcess("elasticsearch", [program, "start", *options], folder)
    server = ElasticsearchServer("127.0.0.1", port, "", process)
    process.wait_until(lambda: server.request("GET", "/"))
    said = server.request("GET", "/")["version"]["number"]
    return ElasticsearchServer(server.host, port, f"{said} as noida-db says", process)
