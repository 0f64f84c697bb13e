"""A real MariaDB with TLS and a row-based binary log, one database a test. It may not know what the tests store in it."""

import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql

from tests.kit.process import (
    ServerProcess,
    find_program,
    folder_from_template,
    free_port,
    give_to_server,
    run_as_server,
)
from tests.kit.tls import make_certificates

_SETTINGS = (
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--innodb-buffer-pool-size=32M",
    "--innodb-log-file-size=8M",
    "--performance-schema=OFF",
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_unicode_ci",
    "--sql-mode=STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION",
    "--server-id=1",
    "--log-bin=binlog",
    "--binlog-format=ROW",
    "--binlog-row-image=FULL",
    "--binlog-row-metadata=FULL",
)
_CARELESS = ("--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync")
_DURABLE = ("--innodb-flush-log-at-trx-commit=1", "--sync-binlog=1")


@dataclass(frozen=True)
class MariaDBDatabase:
    """One empty database of a test's own, with the address and login of its server."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str | None
    ca_file: Path

    def connect(self, **options: Any) -> "pymysql.connections.Connection[Any]":
        """Open a connection over TLS; it commits each statement unless told otherwise."""
        settings = {"autocommit": True, "charset": "utf8mb4", "ssl": {"ca": str(self.ca_file)}, **options}
        return pymysql.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            database=self.database,
            **settings,
        )

    def execute(self, *statements: str) -> None:
        """Run statements, each in a transaction of its own."""
        with self.connect() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(query, parameters or None)
            return list(cursor.fetchall())


@dataclass(frozen=True)
class MariaDBServer:
    """A running server. `new_database()` isolates a test; the user has all rights and may replicate."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    ca_file: Path
    version: str
    process: ServerProcess = field(repr=False)

    def new_database(self) -> MariaDBDatabase:
        """Create an empty database with a name nobody else has."""
        name = f"t_{uuid.uuid4().hex[:12]}"
        self.default_database.execute(f"CREATE DATABASE `{name}`")
        return MariaDBDatabase(self.host, self.port, self.user, self.password, name, self.ca_file)

    def restart(self) -> None:
        """Start it again after a crash, and wait until it answers."""
        self.process.restart()
        self.process.wait_until(lambda: self.default_database.rows("SELECT 1"))

    @property
    def default_database(self) -> MariaDBDatabase:
        """A connection without a database."""
        return MariaDBDatabase(self.host, self.port, self.user, self.password, None, self.ca_file)


def _initialise(folder: Path) -> None:
    run_as_server(
        [
            find_program("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={folder / 'data'}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
            "--innodb-log-file-size=8M",
        ]
    )


def start_mariadb(*, durable: bool = False) -> MariaDBServer:
    """Start a server on a free port.

    Args:
        durable: Whether it waits for its disk, and may be killed.

    Raises:
        Unavailable: There is no MariaDB on this machine, or it does not start; carries its log.
    """
    program = find_program("mariadbd", "/usr/sbin")
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    version = said.split("Ver ")[1].split("-")[0]
    folder = folder_from_template(f"mariadb-{version}", _initialise)
    certificates = make_certificates(folder)
    password = uuid.uuid4().hex
    setup = folder / "setup.sql"
    setup.write_text(
        f"CREATE USER IF NOT EXISTS headrace@'127.0.0.1' IDENTIFIED BY '{password}';\n"
        "GRANT ALL ON *.* TO headrace@'127.0.0.1' WITH GRANT OPTION;\n"
        "DROP USER IF EXISTS root@localhost;\n"
    )
    setup.chmod(0o600)
    give_to_server(folder)
    port = free_port()
    command: list[str | Path] = [
        program,
        "--no-defaults",
        f"--datadir={folder / 'data'}",
        f"--port={port}",
        f"--socket={folder / 'socket'}",
        f"--pid-file={folder / 'pid'}",
        f"--init-file={setup}",
        f"--ssl-ca={certificates.authority}",
        f"--ssl-cert={certificates.certificate}",
        f"--ssl-key={certificates.key}",
        *_SETTINGS,
        *(_DURABLE if durable else _CARELESS),
    ]
    process = ServerProcess("mariadb", command, folder, drop_root=True)
    server = MariaDBServer("127.0.0.1", port, "headrace", password, certificates.authority, version, process)
    process.wait_until(lambda: server.default_database.rows("SELECT 1"))
    return server
