"""A server that speaks Snowflake's protocol (fakesnow, on DuckDB), one database a test. It is an emulator: docs/dependencies.md."""

import importlib
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass, field
from typing import Any

from tests.kit.process import SERVICES, ServerProcess, Unavailable, find_program, free_port, make_folder


@dataclass(frozen=True)
class SnowflakeDatabase:
    """One empty database of a test's own, with the address and login of its server."""

    host: str
    port: int
    protocol: str
    account: str
    user: str
    password: str = field(repr=False)
    database: str | None
    schema: str = "PUBLIC"

    def connect(self, **options: Any) -> Any:
        """Open a snowflake.connector connection."""
        connector = importlib.import_module("snowflake.connector")
        settings = {
            "host": self.host,
            "port": self.port,
            "protocol": self.protocol,
            "account": self.account,
            "user": self.user,
            "password": self.password,
            "session_parameters": {"CLIENT_OUT_OF_BAND_TELEMETRY_ENABLED": False},
        }
        if self.database is not None:
            settings |= {"database": self.database, "schema": self.schema}
        return connector.connect(**{**settings, **options})

    def execute(self, *statements: str) -> None:
        """Run statements one after another in one session."""
        with self.connect() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self.connect() as connection, connection.cursor() as cursor:
            return list(cursor.execute(query).fetchall())


@dataclass(frozen=True)
class SnowflakeServer:
    """A running server. `new_database()` isolates a test; any login is accepted."""

    host: str
    port: int
    protocol: str
    account: str
    user: str
    password: str = field(repr=False)
    version: str
    process: ServerProcess = field(repr=False)

    def new_database(self) -> SnowflakeDatabase:
        """Create an empty database, with its PUBLIC schema, under a name nobody else has."""
        name = f"T_{uuid.uuid4().hex[:12].upper()}"
        self._database(None).execute(f"CREATE DATABASE {name}")
        return self._database(name)

    def _database(self, name: str | None) -> SnowflakeDatabase:
        return SnowflakeDatabase(self.host, self.port, self.protocol, self.account, self.user, self.password, name)


def _version() -> str:
    found = list((SERVICES.parent / "lib").glob("python3*/site-packages/fakesnow-*.dist-info"))
    return found[0].name.split("-")[1].removesuffix(".dist") if found else "unknown"


def start_snowflake() -> SnowflakeServer:
    """Start a server on a free port; it imports for ten seconds or so.

    Raises:
        Unavailable: fakesnow or Snowflake's connector is not installed, or the server does not start; carries its log.
    """
    try:
        importlib.import_module("snowflake.connector")
    except ImportError as error:
        msg = "snowflake-connector-python is not installed: run 'make setup'"
        raise Unavailable(msg) from error
    program = find_program("fakesnow")
    folder = make_folder("snowflake")
    port = free_port()
    process = ServerProcess("fakesnow", [program, "-s", "-p", str(port)], folder)

    def ready() -> None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
        except urllib.error.HTTPError as answer:
            answer.close()

    process.wait_until(ready)
    return SnowflakeServer("127.0.0.1", port, "http", "fakesnow", "fake", "snow", f"{_version()} (fakesnow)", process)
