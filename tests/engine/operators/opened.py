"""Operators opened for a test as a stage opens them, and a server that answers with the bytes it is told. It asserts nothing."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from dsl.contracts.connectors import Operator
from dsl.contracts.policies import OnError, Policies, RetryPolicy
from dsl.contracts.secret import Secret
from dsl.processors.enrich import EnrichOptions, Method, ResultMapping
from engine.operators.relational import Limits, Session
from engine.operators.tools import OperatorTools, open_operator
from engine.run import SystemClock
from tests.engine.fakes import NOW, context

HASTY = RetryPolicy(initial_backoff=timedelta(milliseconds=1), max_backoff=timedelta(milliseconds=2), max_attempts=3)
DLQ = Policies(on_error=OnError.DLQ, retry=HASTY)
USERS = pa.schema([pa.field("id", pa.int64()), pa.field("user", pa.struct([pa.field("email", pa.string())]))])
BODY = '{"email": "{{ user.email }}"}'


@dataclass
class Workbench:
    """Opens operators, and closes them with everything they stand on.

    Attributes:
        home: Folder for what is spilled.
        stopped: Whether the run is to end.
    """

    home: Path
    stopped: threading.Event = field(default_factory=threading.Event)
    _stack: ExitStack = field(default_factory=ExitStack)

    def tools(self, policies: Policies, **facts: Any) -> OperatorTools:
        session = Session(Limits(128 * 2**20, 2, self.home / "spill", 2**30), NOW)
        self._stack.callback(session.close)
        given = {"clock": SystemClock(), "allow_private_addresses": True, **facts}
        return OperatorTools(session, context(self.home, **given), self.stopped.is_set, "step", policies)

    def open(self, options: object, schema: pa.Schema, policies: Policies = DLQ, **facts: Any) -> Operator:
        """Opens an operator; it is closed at the end of the test."""
        return self._stack.enter_context(open_operator(options, schema, None, self.tools(policies, **facts)))

    def close(self) -> None:
        self._stack.close()


def users(*emails: str | None) -> pa.RecordBatch:
    """Rows with an id and a nested e-mail each."""
    return pa.RecordBatch.from_pylist(
        [{"id": number, "user": {"email": each}} for number, each in enumerate(emails)], schema=USERS
    )


def enriching(url: str, **changes: Any) -> EnrichOptions:
    """Options that post an e-mail and take its score."""
    mapping = ResultMapping(source="response.score", destination="user.score", type="int64")
    given = EnrichOptions(url=url, method=Method.POST, body_template=BODY, result_mapping=(mapping,))
    return replace(given, **changes)


def secret(text: str) -> Secret:
    """A secret that stands in the document."""
    return Secret(text, literal=True)


@dataclass
class Listener:
    """A server that answers every request with the same bytes, and counts who connects.

    Attributes:
        port: Where.
        answer: What it sends for a request; the connection is closed after it.
        tls: Its side of TLS, or None for plain text.
    """

    port: int
    answer: Callable[[bytes], bytes]
    tls: ssl.SSLContext | None = None
    connections: int = 0
    heads: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/x"

    def serve(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            self.connections += 1
            # Callers that hang up are part of the tests.
            with connection, suppress(OSError):
                if self.tls is None:
                    self._reply(connection)
                else:
                    with self.tls.wrap_socket(connection, server_side=True) as secured:
                        self._reply(secured)

    def _reply(self, connection: socket.socket) -> None:
        held = b""
        while b"\r\n\r\n" not in held:
            piece = connection.recv(65536)
            if not piece:
                return
            held += piece
        self.heads.append(held)
        connection.sendall(self.answer(held))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


@contextmanager
def listening(
    answer: bytes | Callable[[bytes], bytes], family: int = socket.AF_INET, tls: ssl.SSLContext | None = None
) -> Iterator[Listener]:
    """Listens on a free port of the loopback, and of every other address of this machine."""
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 0))
        server.listen(64)
        made = Listener(server.getsockname()[1], answer if callable(answer) else lambda _: answer, tls)
        thread = threading.Thread(target=made.serve, args=(server,), daemon=True)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def http(body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    """An answer in HTTP/1.1."""
    lines = [
        f"HTTP/1.1 {status}",
        "Connection: close",
        *headers,
        f"Content-Length: {len(body) if length is None else length}",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body
