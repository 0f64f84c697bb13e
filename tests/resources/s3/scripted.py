"""A server that answers S3 requests with what a test tells it: the answers that no real server can be brought to give."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answer:
    """One answer: an error of S3 if it has a code."""

    status: int
    code: str = ""
    message: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @property
    def content(self) -> bytes:
        if not self.code:
            return self.body
        return (
            f"<?xml version='1.0'?><Error><Code>{self.code}</Code><Message>{self.message}</Message>"
            f"<AWSAccessKeyId>CANARYKEY</AWSAccessKeyId><StringToSign>CANARYSIGN</StringToSign></Error>"
        ).encode()


@dataclass
class Scripted:
    """The server, and what it was asked."""

    url: str
    answers: list[Answer]
    asked: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self) -> Answer:
        """Return the next answer; the last one for ever."""
        with self.lock:
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def scripted(answers: Sequence[Answer]) -> Iterator[Scripted]:
    """Serve answers in order, on a free port of the loopback address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            server.asked.append(f"{self.command} {self.path}")
            answer = server.next()
            content = b"" if self.command == "HEAD" else answer.content
            self.send_response(answer.status)
            for name, value in (*answer.headers, ("Content-Length", str(len(content)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer  # noqa: N815 - the names that http.server calls

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name there
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        server = Scripted(f"http://127.0.0.1:{listening.server_port}", list(answers))
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield server
        listening.shutdown()
        thread.join()
