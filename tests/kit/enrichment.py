"""An HTTP API of the tests' own that scores e-mail addresses and fails as scripted. It may not know who calls it."""

import hashlib
import json
import socket
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


def score_of(email: str) -> int:
    """Return the score that /enrich gives an address: 0 to 99, the same every time."""
    return int.from_bytes(hashlib.sha256(email.encode()).digest()[:4], "big") % 100


@dataclass(frozen=True)
class Fault:
    """One bad answer: a status with headers, a cut or a broken body, a pause, or a connection closed without an answer."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    pause: float = 0.0
    truncate: bool = False
    garbage: bool = False
    hang_up: bool = False

    @classmethod
    def too_many_requests(cls, retry_after: str = "0") -> "Fault":
        """429 with Retry-After in seconds or as an HTTP date (RFC 9110, 10.2.3)."""
        return cls(status=429, headers=(("Retry-After", retry_after),))

    @classmethod
    def server_error(cls, status: int = 500) -> "Fault":
        """An answer of the 5xx class."""
        return cls(status=status)

    @classmethod
    def client_error(cls, status: int = 422) -> "Fault":
        """An answer of the 4xx class, which no retry mends."""
        return cls(status=status)

    @classmethod
    def truncated(cls) -> "Fault":
        """A body that ends before its Content-Length."""
        return cls(truncate=True)

    @classmethod
    def not_json(cls) -> "Fault":
        """A 200 whose body is HTML."""
        return cls(garbage=True)

    @classmethod
    def slow(cls, seconds: float) -> "Fault":
        """A good answer that comes late."""
        return cls(pause=seconds)

    @classmethod
    def connection_closed(cls) -> "Fault":
        """No answer at all."""
        return cls(hang_up=True)


@dataclass
class EnrichmentApi:
    """The running API, what was asked of it, and what it is told to do next.

    POST /enrich takes `{"email": …}` or a list of those, GET /enrich takes `?email=…`; the answer is `{"email", "score"}`, or a
    list in the same order. An address it has no score for (`unknown`) gets 404. Where `token` is set, other callers get 401.
    """

    host: str
    port: int
    token: str | None = None
    unknown: set[str] = field(default_factory=set)
    delay: float = 0.0
    calls: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    peak: int = 0
    _next: deque[Fault] = field(default_factory=deque)
    _of_key: defaultdict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    _always: dict[str, Fault] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _in_flight: int = 0

    @property
    def url(self) -> str:
        """The address of /enrich."""
        return f"http://{self.host}:{self.port}/enrich"

    def fail_next(self, *faults: Fault) -> None:
        """Answer the next requests, whoever they are about, with these faults in order."""
        with self._lock:
            self._next.extend(faults)

    def fail_for(self, email: str, *faults: Fault) -> None:
        """Answer the next requests about an address with these faults in order, then well."""
        with self._lock:
            self._of_key[email].extend(faults)

    def fail_always_for(self, email: str, fault: Fault) -> None:
        """Answer every request about an address with this fault."""
        with self._lock:
            self._always[email] = fault

    def enter(self, path: str, headers: dict[str, str], body: Any, emails: list[str]) -> Fault | None:
        """Count a request and return the fault it is to meet."""
        with self._lock:
            self._in_flight += 1
            self.peak = max(self.peak, self._in_flight)
            self.requests.append((path, headers, body))
            self.calls.update(emails)
            if self._next:
                return self._next.popleft()
            for email in emails:
                if self._of_key[email]:
                    return self._of_key[email].popleft()
                if email in self._always:
                    return self._always[email]
            return None

    def leave(self) -> None:
        """Count a request as answered."""
        with self._lock:
            self._in_flight -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    api: EnrichmentApi

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: callers that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
        """Keep standard error quiet."""

    def do_GET(self) -> None:
        """Score the address in the query."""
        self._answer(dict(parse_qsl(urlsplit(self.path).query)))

    def do_POST(self) -> None:
        """Score the address, or the list of addresses, in the body."""
        raw = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        try:
            asked = json.loads(raw)
        except ValueError:
            self._send(400, {"error": "the body is not JSON"})
            return
        self._answer(asked)

    def _answer(self, asked: Any) -> None:
        items = asked if isinstance(asked, list) else [asked]
        emails = [str(item.get("email")) for item in items if isinstance(item, dict)]
        api = self.server.api
        fault = api.enter(self.path, dict(self.headers.items()), asked, emails)
        try:
            time.sleep(api.delay)
            self._reply(asked, emails, fault)
        finally:
            api.leave()

    def _reply(self, asked: Any, emails: list[str], fault: Fault | None) -> None:
        api = self.server.api
        if fault is not None:
            time.sleep(fault.pause)
            if fault.hang_up:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if fault.status != 200:
                self._send(fault.status, {"error": "as scripted"}, fault)
                return
        if api.token is not None and self.headers.get("Authorization") != f"Bearer {api.token}":
            self._send(401, {"error": "who are you?"})
        elif urlsplit(self.path).path != "/enrich" or any(email in api.unknown for email in emails):
            self._send(404, {"error": "not found"})
        else:
            scored = [{"email": email, "score": score_of(email)} for email in emails]
            self._send(200, scored if isinstance(asked, list) else scored[0], fault)

    def _send(self, status: int, body: object, fault: Fault | None = None) -> None:
        payload = b"<html>not what you wanted</html>" if fault and fault.garbage else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        for name, value in fault.headers if fault else ():
            self.send_header(name, value)
        self.end_headers()
        if fault and fault.truncate:
            payload = payload[: len(payload) // 2]
            self.close_connection = True
        self.wfile.write(payload)


@contextmanager
def enrichment_api() -> Iterator[EnrichmentApi]:
    """Serve the API on a free port in this process until the block ends."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.api = EnrichmentApi("127.0.0.1", server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
