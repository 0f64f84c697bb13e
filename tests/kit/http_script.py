"""An HTTP server of a test's own that answers byte for byte as it is told, faults included. It knows no connector."""

import contextlib
import gzip
import json
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The path without parameters."""
        return urlsplit(self.target).path

    @property
    def params(self) -> dict[str, str]:
        """The parameters."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """What is sent back: bytes, and what becomes of the connection then."""

    data: bytes
    close: bool = False
    reset: bool = False


def reply(
    body: object,
    status: int = 200,
    *,
    headers: Mapping[str, str] | None = None,
    length: int | None = None,
    send: int | None = None,
) -> Reply:
    """Return an ordinary answer.

    Args:
        body: Bytes, or what becomes JSON.
        status: Its status.
        headers: Its headers.
        length: The Content-Length that it claims, if not its own; -1 for none at all.
        send: How many bytes of the body are sent before the connection is closed, if not all.
    """
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    if length != -1:
        lines.append(f"Content-Length: {len(data) if length is None else length}")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    odd = length is not None or send is not None
    return Reply(head + (data if send is None else data[:send]), close=odd)


def chunked(body: bytes, *, end: bytes = b"0\r\n\r\n", size: bytes | None = None) -> Reply:
    """Return an answer in one chunk; `end` and `size` may be false."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    data = (size or f"{len(body):x}".encode()) + b"\r\n" + body + b"\r\n" + end
    return Reply(head + data, close=True)


def packed(body: bytes, *, cut: int = 0, encoding: str = "gzip") -> Reply:
    """Return a packed answer, perhaps without its last bytes."""
    data = gzip.compress(body)
    return reply(data[: len(data) - cut], headers={"Content-Encoding": encoding})


Route = Callable[[Asked], Reply]


@dataclass
class ScriptedServer:
    """A running server. `route` says what is answered; `asked` holds what came."""

    port: int = 0
    route: Route = field(default=lambda _: reply({}, 404))
    asked: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while self._one():
                pass

    def _one(self) -> bool:
        line = self.rfile.readline().decode("latin-1").split()
        if len(line) != 3:
            return False
        headers: dict[str, str] = {}
        while header := self.rfile.readline().decode("latin-1").strip():
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        body = self.rfile.read(int(headers.get("content-length", "0")))
        server: Any = self.server
        scripted: ScriptedServer = server.scripted
        asked = Asked(line[0], line[1], headers, body)
        with server.lock:
            scripted.asked.append(asked)
            answer = scripted.route(asked)
        self.wfile.write(answer.data)
        self.wfile.flush()
        if answer.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return not (answer.close or answer.reset)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    scripted: ScriptedServer
    lock: threading.Lock


@contextmanager
def scripted_server() -> Iterator[ScriptedServer]:
    """Serve on a free port in this process until the block ends."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.scripted, server.lock = ScriptedServer(server.server_address[1]), threading.Lock()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.scripted
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
