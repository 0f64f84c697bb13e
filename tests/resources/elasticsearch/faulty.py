"""A cluster behind an HTTP proxy that does what a script says: refuse, cut, lie, hang. Where it is not told to, it forwards faithfully."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.kit.tls import Certificates

Fault = Callable[["Exchange"], None]


@dataclass
class Exchange:
    """One request and the means to answer it."""

    handler: BaseHTTPRequestHandler
    cluster: FaultyCluster
    body: bytes

    @property
    def operations(self) -> list[list[bytes]]:
        """The operations of a bulk request, each with its one or two lines."""
        found: list[list[bytes]] = []
        for line in self.body.splitlines(keepends=True):
            if not found or len(found[-1]) == 2 or found[-1][0].startswith(b'{"delete"'):
                found.append([])
            found[-1].append(line)
        return found

    def forward(self, body: bytes | None = None) -> tuple[int, bytes]:
        """Lets the real server act."""
        upstream = http.client.HTTPConnection(*self.cluster.upstream, timeout=60)
        with contextlib.closing(upstream):
            headers = {"Content-Type": self.handler.headers.get("Content-Type", "application/json")}
            upstream.request(self.handler.command, self.handler.path, self.body if body is None else body, headers)
            answer = upstream.getresponse()
            return answer.status, answer.read()

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, *, short: int = 0) -> None:
        """Answers; `short` bytes of the body that was promised never come."""
        self.handler.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | (headers or {})).items():
            self.handler.send_header(name, value)
        self.handler.send_header("Content-Length", str(len(body)))
        self.handler.end_headers()
        self.handler.wfile.write(body[: len(body) - short])
        if short:
            self.cut()

    def cut(self) -> None:
        """Breaks the connection."""
        self.handler.close_connection = True
        self.handler.wfile.flush()
        with contextlib.suppress(OSError):
            self.handler.connection.shutdown(socket.SHUT_RDWR)


@dataclass
class FaultyCluster:
    """The proxy; faults are used up one by one, in the order of the requests that their path matches."""

    upstream: tuple[str, int]
    port: int = 0
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    at_request: Callable[[int], Fault | None] = lambda _: None
    _faults: list[tuple[str, Fault]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)

    def on(self, path: str, *faults: Fault) -> None:
        """Uses each fault once, for requests whose method and path hold this text."""
        self._faults += [(path, each) for each in faults]

    def bulks(self) -> list[int]:
        """How many operations each bulk request held."""
        return [count for _, path, count in self.requests if "_bulk" in path]

    def take(self, exchange: Exchange) -> Fault | None:
        """Notes a request and returns what is to happen to it."""
        line = f"{exchange.handler.command} {exchange.handler.path}"
        with self._lock:
            count = len(exchange.operations) if "_bulk" in line else 0
            self.requests.append((exchange.handler.command, exchange.handler.path, count))
            for at, (path, fault) in enumerate(self._faults):
                if path in line:
                    del self._faults[at]
                    return fault
            return self.at_request(len(self.requests))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Says nothing: clients that give up a handshake are part of the tests."""


@contextmanager
def faulty_cluster(host: str, port: int, tls: Certificates | None = None) -> Iterator[FaultyCluster]:
    """Serves the proxy until the block ends."""
    cluster = FaultyCluster((host, port))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            exchange = Exchange(self, cluster, body)
            with contextlib.suppress(OSError):
                (cluster.take(exchange) or faithfully)(exchange)

        do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 - the standard library's names

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = _Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    cluster.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield cluster
    finally:
        cluster.ended.set()
        server.shutdown()
        server.server_close()


def faithfully(exchange: Exchange) -> None:
    """Forwards."""
    exchange.answer(*exchange.forward())


def cut_before(exchange: Exchange) -> None:
    """The request never arrives."""
    exchange.cut()


def cut_after(exchange: Exchange) -> None:
    """The server acts, and the answer is lost."""
    exchange.forward()
    exchange.cut()


def half_an_answer(exchange: Exchange) -> None:
    """The server acts, and half of the answer is lost."""
    status, body = exchange.forward()
    exchange.answer(status, body, short=len(body) // 2)


def hang(exchange: Exchange) -> None:
    """The server acts, and nobody ever answers."""
    exchange.forward()
    exchange.cluster.ended.wait()


def page(exchange: Exchange) -> None:
    """Something on the way answers in the server's stead."""
    exchange.answer(200, b"<html>Please sign in</html>", {"Content-Type": "text/html"})


def cut_json(exchange: Exchange) -> None:
    """The server acts; the answer is complete for HTTP and not for JSON."""
    status, body = exchange.forward()
    exchange.answer(status, body[:-20])


def status(code: int, kind: str = "", **headers: str) -> Fault:
    """Refuses with a status."""

    def fault(exchange: Exchange) -> None:
        error = {"error": {"type": kind or f"http_{code}", "reason": "scripted"}, "status": code}
        exchange.answer(code, json.dumps(error).encode(), {k.replace("_", "-"): v for k, v in headers.items()})

    return fault


def items(choose: Callable[[int], bool], code: int, kind: str) -> Fault:
    """Refuses some items of a bulk request, and lets the server act on the others."""

    def fault(exchange: Exchange) -> None:
        operations = exchange.operations
        rest = b"".join(line for at, each in enumerate(operations) if not choose(at) for line in each)
        done = json.loads(exchange.forward(rest)[1])["items"] if rest else []
        refused = {"index": {"status": code, "error": {"type": kind, "reason": "scripted"}}}
        answers = [refused if choose(at) else done.pop(0) for at in range(len(operations))]
        exchange.answer(200, json.dumps({"errors": True, "items": answers}).encode())

    return fault


def at_most(size: int) -> Fault:
    """Refuses a body that is longer, as a server or a proxy with a limit does."""

    def fault(exchange: Exchange) -> None:
        if len(exchange.body) > size:
            status(413)(exchange)
        else:
            faithfully(exchange)

    return fault
