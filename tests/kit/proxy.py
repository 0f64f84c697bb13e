"""A TCP proxy that makes a network bad on purpose: late, cut, silent or gone. It may not understand what passes through."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_CHUNK = 16_384
_POLL = 0.05


@dataclass
class FaultProxy:
    """Forwards connections to a server; the attributes may be changed while it runs.

    Attributes:
        latency: Seconds that each chunk waits before it goes on.
        reset_after: Bytes from the server, over all connections from now on, after which every connection is reset; None: never.
        blackhole: Accept and read, but pass nothing on.
        refuse: Reset new connections at once.
        mark: Bytes that a client sends; when they have passed `mark_visits` times, connections are reset as `mark_cut` says.
        mark_visits: How often they may still pass, the fatal time included.
        mark_cut: `before` the server hears them; `while` it works: it hears them `late` seconds after the client has lost it; or
            `after` it has answered, which the client does not hear.
        late: Seconds.
    """

    host: str
    port: int
    upstream: tuple[str, int]
    latency: float = 0.0
    reset_after: int | None = None
    blackhole: bool = False
    refuse: bool = False
    mark: bytes = b""
    mark_visits: int = 0
    mark_cut: str = "before"
    late: float = 0.1
    accepted: int = 0
    resets: int = 0
    _open: set[socket.socket] = field(default_factory=set)
    _last_words: set[socket.socket] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reset_all(self) -> None:
        """Reset every connection that is open: both ends see ECONNRESET, not an orderly end."""
        with self._lock:
            connections, self._open = self._open, set()
        for connection in connections:
            _reset(connection)

    def heal(self) -> None:
        """Forward faithfully again. Connections that were reset stay so."""
        self.latency, self.reset_after, self.blackhole, self.refuse = 0.0, None, False, False
        self.mark = b""

    def admit(self, client: socket.socket) -> None:
        """Connect a client to the server and pump both ways, unless told otherwise."""
        self.accepted += 1
        if self.refuse:
            _reset(client)
            return
        try:
            server = socket.create_connection(self.upstream, timeout=10)
        except OSError:
            _reset(client)
            return
        server.settimeout(None)
        with self._lock:
            self._open |= {client, server}
        for source, target, counted in ((client, server, False), (server, client, True)):
            threading.Thread(target=self._pump, args=(source, target, counted), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, counted: bool) -> None:  # noqa: FBT001 - threads take positions
        try:
            while chunk := source.recv(_CHUNK):
                if not self._forward(source, target, chunk, counted=counted):
                    return
            target.shutdown(socket.SHUT_WR)
        except OSError:
            # One end is gone: what the other still says finds nobody, and it must not wait for an answer.
            _reset(source)
            _reset(target)

    def _forward(self, source: socket.socket, target: socket.socket, chunk: bytes, *, counted: bool) -> bool:
        time.sleep(self.latency)
        if self.blackhole:
            return True
        if source in self._last_words:
            self.reset_all()
            return False
        if not counted and self._marked(chunk):
            return self._cut_at_mark(source, target, chunk)
        allowed = self._allowed(len(chunk)) if counted else len(chunk)
        target.sendall(chunk[:allowed])
        if allowed < len(chunk):
            self.reset_all()
        return allowed == len(chunk)

    def _marked(self, chunk: bytes) -> bool:
        with self._lock:
            if not self.mark or self.mark not in chunk:
                return False
            self.mark_visits -= 1
            if self.mark_visits:
                return False
            self.mark = b""
            self.resets += 1
            return True

    def _cut_at_mark(self, client: socket.socket, server: socket.socket, chunk: bytes) -> bool:
        if self.mark_cut == "after":
            self._last_words.add(server)
            server.sendall(chunk)
            return True
        if self.mark_cut == "while":
            # The server is not reset: it would not read what it was sent.
            with self._lock:
                self._open.discard(server)
            self.reset_all()
            time.sleep(self.late)
            server.sendall(chunk)
            return False
        self.reset_all()
        return False

    def _allowed(self, size: int) -> int:
        """Take bytes off what may still come from the server; fewer than asked for means that the time has come."""
        with self._lock:
            if self.reset_after is None:
                return size
            allowed = min(size, self.reset_after)
            self.reset_after -= allowed
            if allowed < size:
                self.reset_after = None
                self.resets += 1
            return allowed


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Lingering for no time makes close send RST (RFC 9293, 3.10.7) instead of FIN.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RD)
    connection.close()


@contextmanager
def fault_proxy(host: str, port: int, listen: tuple[str, int] = ("127.0.0.1", 0)) -> Iterator[FaultProxy]:
    """Serve a proxy to a server until the block ends, on a free port of 127.0.0.1 or where it is told."""
    with socket.create_server(listen, backlog=64) as listener:
        listener.settimeout(_POLL)
        proxy = FaultProxy(listen[0], listener.getsockname()[1], (host, port))
        ending = threading.Event()

        def accept() -> None:
            while not ending.is_set():
                with contextlib.suppress(TimeoutError):
                    client, _ = listener.accept()
                    client.settimeout(None)
                    proxy.admit(client)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            ending.set()
            thread.join()
            proxy.reset_all()
