"""A real SFTP server (asyncssh) in this process, one account and folder a test; it knows OpenSSH's extensions. It may not know the data."""

import asyncio
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from tests.kit.process import make_folder


@dataclass(frozen=True)
class SftpFolder:
    """One empty folder of a test's own, with the address, login and key of its server."""

    host: str
    port: int
    username: str
    password: str = field(repr=False)
    host_key: str
    path: Path

    def put(self, key: str, body: bytes) -> None:
        """Store a file."""
        target = self.path / key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)

    def get(self, key: str) -> bytes:
        """Return a file's bytes."""
        return (self.path / key).read_bytes()

    def delete(self, key: str) -> None:
        """Remove a file."""
        (self.path / key).unlink()

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys below a prefix in order."""
        found = (str(each.relative_to(self.path)) for each in self.path.rglob("*") if each.is_file())
        return sorted(each for each in found if each.startswith(prefix))


class _Server(asyncssh.SSHServer):
    """Lets every login in that was made for a test."""

    def __init__(self, server: "SftpServer") -> None:
        self._logins, self._keys, self._open = server.logins, server.keys, server.connections

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._made = conn
        self._open.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._open.discard(self._made)

    def begin_auth(self, username: str) -> bool:
        line = self._keys.get(username)
        if line is not None:
            self._made.set_authorized_keys(asyncssh.import_authorized_keys(line))
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return username in self._logins and self._logins[username][0] == password


@dataclass
class SftpServer:
    """A running server. `new_folder()` isolates a test.

    Attributes:
        missing: Extensions that it does not know.
        connections: Those that are open.
    """

    host: str
    port: int
    host_key: str
    folder: Path
    logins: dict[str, tuple[str, Path]]
    keys: dict[str, str]
    version: str = f"asyncssh {asyncssh.__version__}"
    missing: set[bytes] = field(default_factory=set)
    connections: set[asyncssh.SSHServerConnection] = field(default_factory=set)

    def new_folder(self) -> SftpFolder:
        """Make a login with an empty folder, which is all that it sees."""
        name, password = f"u{uuid.uuid4().hex[:10]}", uuid.uuid4().hex
        path = self.folder / name
        path.mkdir()
        self.logins[name] = (password, path)
        return SftpFolder(self.host, self.port, name, password, self.host_key, path)


@contextmanager
def sftp_server() -> Iterator[SftpServer]:
    """Serve on a free port of the loopback address, from a thread of this process."""
    folder = make_folder("sftp")
    key = asyncssh.generate_private_key("ssh-ed25519")
    line = key.export_public_key().decode().strip()
    server = SftpServer("127.0.0.1", 0, line, folder, {}, {})

    class Files(asyncssh.SFTPServer):
        def __init__(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
            super().__init__(chan)
            self._home = str(server.logins[chan.get_extra_info("username")][1]).encode()

        def map_path(self, path: bytes) -> bytes:
            # Links may lead anywhere, as on a server that locks nobody up: the client has to look.
            return path if path.startswith(self._home) else self._home + b"/" + path.lstrip(b"/")

        def link(self, oldpath: bytes, newpath: bytes) -> None:
            if b"hardlink@openssh.com" in server.missing:
                raise asyncssh.SFTPOpUnsupported("no such request")
            super().link(oldpath, newpath)

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=lambda: _Server(server),
            server_host_keys=[key],
            sftp_factory=Files,
            login_timeout=60,
        )

    listening = asyncio.run_coroutine_threadsafe(listen(), loop).result()
    server.port = listening.get_port()

    async def end() -> None:
        listening.close()
        opened = list(server.connections)
        for each in opened:
            each.abort()
        for each in opened:
            await each.wait_closed()

    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        shutil.rmtree(folder, ignore_errors=True)
