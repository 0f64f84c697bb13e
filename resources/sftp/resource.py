"""SFTP's options: how to reach a server and a folder of it; imports no driver and opens nothing itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from dsl.contracts.connectors import ConnectorKind
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError, option
from resources.file_options import StoreConnection, StoreDestination, StoreSource
from resources.object_store import ObjectStore


@dataclass(frozen=True, kw_only=True)
class SftpConnection(StoreConnection):
    """A folder of an SFTP server. Nothing outside of it is read or written, whatever names and links say.

    The server's key is always compared: with `host_keys`, or with the machine's `known_hosts`. One that is not known ends
    the check with the line to add, once it has been compared with what the server's owner says.
    """

    host: str = option(doc="The server.", example="sftp.example.com")
    port: int = option(default=22, doc="Its port.")
    username: str = option(doc="The account on the server.", example="loader")
    password: Secret | None = option(
        default=None, doc="Its password; a private key if absent.", example="${SFTP_PASSWORD}"
    )
    private_key: Secret | None = option(
        default=None,
        doc="A private key in OpenSSH's or PEM form; the agent and the keys in ~/.ssh if it and the password are absent.",
        example="${secret:file/id_ed25519}",
    )
    passphrase: Secret | None = option(
        default=None, doc="What the private key is encrypted with.", example="${SFTP_PASSPHRASE}"
    )
    host_keys: tuple[str, ...] = option(
        default=(),
        doc="The server's keys, as `ssh-keyscan` prints them without the host; those in known_hosts if absent.",
        example=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKk0..."],
    )
    known_hosts: str | None = option(
        default=None, doc="A file of known servers; ~/.ssh/known_hosts if absent.", advanced=True
    )
    root: str = option(
        default=".",
        doc="The folder that all paths are relative to, itself relative to the login's; made when something is written.",
        example="/upload",
    )
    connect_timeout: timedelta = option(
        default=timedelta(seconds=10), doc="How long to wait for a connection.", advanced=True
    )
    timeout: timedelta = option(
        default=timedelta(seconds=60), doc="How long to wait for the server's next bytes.", advanced=True
    )

    def __post_init__(self) -> None:
        if not self.host or any(each in self.host for each in "/@ ") or "\0" in self.host:
            raise OptionError(
                "host", f"'{self.host}' is no host", "write the name alone; username and port have options"
            )
        if not 0 < self.port < 2**16:
            raise OptionError("port", f"{self.port} is no port", "leave it out for 22")
        if not self.root or "\0" in self.root:
            raise OptionError("root", "it names no folder", "root: upload")
        if self.passphrase is not None and self.private_key is None:
            raise OptionError("passphrase", "it belongs to a private key that is not given", "add private_key")
        if any(len(each.split()) < 2 for each in self.host_keys):
            raise OptionError("host_keys", "a key has a type and a text", "write ssh-ed25519 AAAA...")
        for name in ("connect_timeout", "timeout"):
            if getattr(self, name) <= timedelta():
                raise OptionError(name, "an answer takes longer than nothing", "write a duration such as 60s")

    @property
    def place(self) -> str:
        """How errors name it."""
        port = "" if self.port == 22 else f":{self.port}"
        folder = "" if self.root == "." else f"/{self.root.strip('/')}"
        return f"sftp://{self.username}@{self.host}{port}{folder}"

    def open_store(self, *, create: bool = False) -> ObjectStore:
        from resources.sftp.store import SftpStore

        return SftpStore(self, create=create)

    def key_of(self, *parts: str) -> tuple[str, ...]:
        server = self.host if self.port == 22 else f"{self.host}_{self.port}"
        # A folder that is relative to a login's is another one for each login.
        login = () if self.root.startswith("/") else (self.username,)
        return ("sftp", server, *login, *(each for each in self.root.split("/") if each not in {"", "."}), *parts)


@dataclass(frozen=True, kw_only=True)
class SftpSource(StoreSource):
    """Files of a server: one, a folder, or all that a glob matches, in the order of their names.

    `schema` names the columns to read and their types; without it the first file suggests them. The protocol tells sizes
    and whole seconds: a file that is replaced within the second by one of the same size is taken for the same, so that
    `settle` should not be set below its two seconds.
    """

    connection: SftpConnection


@dataclass(frozen=True, kw_only=True)
class SftpDestination(StoreDestination):
    """A folder of a server, with files of one format.

    Exactly once: rows are files in `_headrace/tmp`; a hard link, which of many writers one alone can make, brings the entry
    of a log into being and is the commit; then the files are renamed to where they are seen, each whole. A server without
    `hardlink@openssh.com` must refuse a rename onto an existing file, which is tried once for each connection. What the
    server said to have written survives its own loss of power where it knows `fsync@openssh.com`.
    """

    connection: SftpConnection


CONNECTOR = ConnectorKind(
    kind="sftp",
    title="SFTP",
    connection=SftpConnection,
    source=SftpSource,
    destination=SftpDestination,
    extra="sftp",
    example="""\
type: sftp
config:
  host: sftp.example.com
  username: loader
  private_key: ${secret:file/id_ed25519}
  root: /upload
  path: orders/*.csv
""",
)
