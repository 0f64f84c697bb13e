"""A login on an SFTP server; the only module that opens a connection, one request at a time. It may not decide what a file means."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsl.contracts.errors import ErrorType, FatalError, HeadraceError, RetryableError
from resources.stores.secrets import reveal, reveal_optional

if TYPE_CHECKING:
    from resources.sftp.resource import SftpConnection

try:
    from paramiko.client import MissingHostKeyPolicy, SSHClient
    from paramiko.ecdsakey import ECDSAKey
    from paramiko.ed25519key import Ed25519Key
    from paramiko.hostkeys import HostKeyEntry
    from paramiko.rsakey import RSAKey
    from paramiko.sftp import CMD_EXTENDED
    from paramiko.ssh_exception import PasswordRequiredException

    from resources.sftp.faults import asking, connecting, line_of
except ImportError as missing:
    raise FatalError(
        "the library of SSH is not installed", hint="pip install 'headrace[sftp]', which brings paramiko"
    ) from missing

KEEPALIVE = 30
REQUEST = 32_768
PIECE = 8 * REQUEST


class _Strange(MissingHostKeyPolicy):
    """Refuses a server whose key is not known, and says which it is."""

    def __init__(self, where: str) -> None:
        self._where = where

    def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
        del client, hostname
        raise FatalError(
            f"the server's key is not known: it shows {line_of(key)} (SHA256 {key.fingerprint})",
            where=self._where,
            hint="compare it with what the server's owner says, then add that line to host_keys, or to known_hosts",
            error_type=ErrorType.AUTH,
        )


class Session:
    """An open login. Paths are absolute; threads may share it, and wait for one another.

    Args:
        connection: Its options.

    Raises:
        UnavailableError: The server cannot be reached.
        FatalError: It is not the server that is known, or it refuses the login.
    """

    def __init__(self, connection: SftpConnection) -> None:
        self.place = connection.place
        self._lock = threading.RLock()
        self._client = _logged_in(connection)
        with connecting(self.place):
            try:
                self._sftp: Any = self._client.open_sftp()
            except BaseException:
                self._client.close()
                raise
            self._sftp.get_channel().settimeout(connection.timeout.total_seconds())
            self._client.get_transport().set_keepalive(KEEPALIVE)
        self._syncs = True

    @contextmanager
    def asking(self, path: str) -> Iterator[Any]:
        """Gives the library's client for requests about one path, to one thread at a time."""
        with self._lock, asking(f"{self.place}: {path}", self._alive):
            yield self._sftp

    def _alive(self) -> bool:
        transport = self._client.get_transport()
        return transport is not None and transport.is_active() and not self._sftp.get_channel().closed

    def lstat(self, path: str) -> Any | None:
        """Returns the facts of a file, or of a link itself; None if there is none."""
        try:
            with self.asking(path) as sftp:
                return sftp.lstat(path)
        except FileNotFoundError:
            return None

    def stat(self, path: str) -> Any | None:
        """Returns the facts of what a path means; None if there is nothing."""
        try:
            with self.asking(path) as sftp:
                return sftp.stat(path)
        except FileNotFoundError:
            return None

    def real(self, path: str) -> str:
        """Returns the real name of what a path means, links resolved by the server."""
        with self.asking(path) as sftp:
            return str(sftp.normalize(path))

    def listed(self, path: str) -> list[Any]:
        """Returns the entries of a folder with their facts, links not followed; none if it is missing."""
        try:
            with self.asking(path) as sftp:
                return list(sftp.listdir_attr(path))
        except FileNotFoundError:
            return []
        except UnicodeDecodeError as error:
            raise FatalError(
                f"the name {error.object!r} is not UTF-8", where=f"{self.place}: {path}", hint="rename the file"
            ) from error

    def make_folder(self, path: str) -> None:
        """Makes a folder and those above it."""
        facts = self.stat(path)
        if facts is not None or path in {"", "/"}:
            return
        self.make_folder(path.rpartition("/")[0])
        try:
            with self.asking(path) as sftp:
                sftp.mkdir(path, 0o755)
        except RetryableError:
            # The protocol does not say why: another process may have been faster.
            if self.stat(path) is None:
                raise

    def begin(self, path: str) -> Any:
        """Makes a new file and opens it for writing."""
        try:
            with self.asking(path) as sftp:
                return sftp.open(path, "wx")
        except FileNotFoundError as error:
            raise RetryableError("its folder is gone", where=f"{self.place}: {path}") from error

    def open(self, path: str) -> Any:
        """Opens a file for reading."""
        with self.asking(path) as sftp:
            return sftp.open(path, "rb")

    def facts(self, path: str, opened: Any) -> Any:
        """Returns the facts of an open file."""
        with self.asking(path):
            return opened.stat()

    def fetch(self, path: str, opened: Any, start: int, size: int) -> bytes:
        """Returns a range of an open file; requests leave together, and all are answered when it returns."""
        with self.asking(path):
            # The library gathers each piece anew with every answer: pieces are kept small.
            pieces = [(at, min(PIECE, start + size - at)) for at in range(start, start + size, PIECE)]
            return b"".join(opened.readv(pieces))

    def append(self, path: str, opened: Any, data: bytes) -> None:
        """Adds bytes; requests leave together, and all are answered when it returns."""
        with self.asking(path):
            last = max(0, len(data) - REQUEST)
            opened.set_pipelined(True)
            for at in range(0, last, PIECE):
                opened.write(data[at : min(at + PIECE, last)])
            # A write that is not pipelined waits for its own answer and for all before it.
            opened.set_pipelined(False)
            opened.write(data[last:])

    def sync(self, path: str, opened: Any) -> None:
        """Makes the bytes durable, where the server can."""
        if not self._syncs:
            return
        try:
            with self.asking(path) as sftp:
                sftp._request(CMD_EXTENDED, "fsync@openssh.com", opened.handle)  # noqa: SLF001 - the library has no name for it
        except RetryableError as error:
            if not self._alive():
                raise
            # Refused, not lost: this server does not know how.
            del error
            self._syncs = False

    def finish(self, path: str, opened: Any) -> None:
        """Closes a file."""
        with self.asking(path):
            opened.close()

    def link(self, path: str, to: str) -> None:
        """Gives a file a second name, which must be free."""
        with self.asking(to) as sftp:
            sftp._request(CMD_EXTENDED, "hardlink@openssh.com", path.encode(), to.encode())  # noqa: SLF001 - no public name

    def move(self, path: str, to: str) -> None:
        """Renames a file as the protocol has it: onto a name that is free."""
        with self.asking(to) as sftp:
            sftp.rename(path, to)

    def replace(self, path: str, to: str) -> None:
        """Renames a file in one act, whatever the server does about a name that is taken.

        Raises:
            FileNotFoundError: It is gone.
        """
        try:
            with self.asking(to) as sftp:
                sftp.posix_rename(path, to)
        except RetryableError:
            if not self._alive() or self.lstat(path) is None:
                raise
            self.move(path, to)

    def remove(self, path: str) -> None:
        """Removes a file; does nothing if there is none."""
        with suppress(FileNotFoundError), self.asking(path) as sftp:
            sftp.remove(path)

    def close(self) -> None:
        """Ends the connection; safe to call twice."""
        self._client.close()


def _logged_in(connection: SftpConnection) -> Any:
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    made: Any = SSHClient
    client = made()
    client.set_missing_host_key_policy(_Strange(connection.place))
    _know(client, connection)
    key = _private_key(connection)
    none_given = key is None and connection.password is None
    seconds = connection.connect_timeout.total_seconds()
    try:
        with connecting(connection.place):
            client.connect(
                connection.host,
                connection.port,
                connection.username,
                password=reveal_optional(connection.password),
                pkey=key,
                timeout=seconds,
                banner_timeout=seconds,
                auth_timeout=seconds,
                channel_timeout=seconds,
                allow_agent=none_given,
                look_for_keys=none_given,
            )
    except HeadraceError:
        client.close()
        raise
    return client


def _know(client: Any, connection: SftpConnection) -> None:
    host = connection.host if connection.port == 22 else f"[{connection.host}]:{connection.port}"
    entries: Any = HostKeyEntry
    for line in connection.host_keys:
        try:
            entry = entries.from_line(f"{host} {line}")
        except Exception as error:  # the library raises of any kind for a text that is no key
            raise FatalError(
                "one of host_keys is no key", where=connection.place, hint="ssh-ed25519 AAAA..."
            ) from error
        if entry is None:
            raise FatalError("one of host_keys is no key", where=connection.place, hint="ssh-ed25519 AAAA...")
        client.get_host_keys().add(host, entry.key.get_name(), entry.key)
    if connection.host_keys:
        return
    if connection.known_hosts is not None and not Path(connection.known_hosts).is_file():
        raise FatalError(
            f"there is no file '{connection.known_hosts}'", where=connection.place, hint="check known_hosts"
        )
    try:
        client.load_system_host_keys(connection.known_hosts)
    except OSError as error:
        raise FatalError(f"known_hosts cannot be read: {error}", where=connection.place) from error


def _private_key(connection: SftpConnection) -> Any | None:
    if connection.private_key is None:
        return None
    text, passphrase = reveal(connection.private_key), reveal_optional(connection.passphrase)
    kinds: tuple[Any, ...] = (Ed25519Key, ECDSAKey, RSAKey)
    for kind in kinds:
        try:
            return kind.from_private_key(io.StringIO(text.strip() + "\n"), password=passphrase)
        except PasswordRequiredException:
            break
        except Exception:  # noqa: BLE001, S112 - the library raises of any kind for a key of another kind
            continue
    raise FatalError(
        "private_key is no key that can be read",
        where=connection.place,
        hint="give the whole text of an Ed25519, ECDSA or RSA key, and passphrase if it is encrypted",
        error_type=ErrorType.AUTH,
    )
