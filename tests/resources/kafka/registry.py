"""A Schema Registry of a test's own, over HTTP: it keeps what it is told and answers by number and by subject."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LOGIN = "Basic " + base64.b64encode(b"reader:secret").decode()


@dataclass
class FakeRegistry:
    """The registry: schemas by their number, and the newest of each subject."""

    port: int = 0
    schemas: list[dict[str, Any]] = field(default_factory=list)
    subjects: dict[str, int] = field(default_factory=dict)

    def register(self, subject: str, kind: str, text: str) -> int:
        """Keeps a schema; returns its number."""
        self.schemas.append({"schema": text, "schemaType": kind})
        self.subjects[subject] = len(self.schemas)
        return len(self.schemas)

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        """Returns status and body."""
        parts = path.partition("?")[0].strip("/").split("/")
        number = int(parts[2]) if parts[0] == "schemas" else self.subjects.get(parts[1], 0)
        if not 1 <= number <= len(self.schemas):
            return 404, {"error_code": 40403, "message": "Schema not found"}
        return 200, {**self.schemas[number - 1], "id": number, "version": 1, "subject": parts[1]}


@contextmanager
def registry() -> Iterator[FakeRegistry]:
    """Serves the registry until the block ends."""
    held = FakeRegistry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = self.headers.get("Authorization") == LOGIN
            status, body = held.answer(self.path) if allowed else (401, {"error_code": 401, "message": "Unauthorized"})
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    held.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield held
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
