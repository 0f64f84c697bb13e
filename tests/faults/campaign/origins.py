"""Where loads are read from: a table of a real server, filled with the rows of a seed; reads nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from tests.faults.campaign.load import Rows
from tests.kit.mariadb import MariaDBServer
from tests.kit.postgres import PostgresServer

_COLUMNS = "(id bigint PRIMARY KEY, name text, amount text, kind int)"


class Origin(ABC):
    """A table `given` in a database of its own.

    Attributes:
        kind: Of the source that reads it.
    """

    kind: str

    @abstractmethod
    def fill(self, rows: Rows) -> None:
        """Creates the table with its rows."""

    @abstractmethod
    def login(self) -> dict[str, Any]:
        """Returns the options of the connection."""


class PostgresOrigin(Origin):
    """A table of PostgreSQL."""

    kind = "postgres"

    def __init__(self, server: PostgresServer) -> None:
        self._database = server.new_database()

    def fill(self, rows: Rows) -> None:
        self._database.execute(f"CREATE TABLE given {_COLUMNS}")
        with self._database.connect() as held, held.cursor() as cursor, cursor.copy("COPY given FROM STDIN") as copy:
            for row in rows.source():
                copy.write_row(row)

    def login(self) -> dict[str, Any]:
        held = self._database
        where = {"host": held.host, "port": held.port, "database": held.database}
        return {**where, "username": held.user, "password": held.password}


class MariaDBOrigin(Origin):
    """A table of MariaDB."""

    kind = "mysql"

    def __init__(self, server: MariaDBServer) -> None:
        self._database = server.new_database()

    def fill(self, rows: Rows) -> None:
        self._database.execute(f"CREATE TABLE given {_COLUMNS}")
        with self._database.connect() as held, held.cursor() as cursor:
            cursor.executemany("INSERT INTO given VALUES (%s, %s, %s, %s)", list(rows.source()))

    def login(self) -> dict[str, Any]:
        held = self._database
        where = {"host": held.host, "port": held.port, "database": held.database}
        return {**where, "username": held.user, "password": held.password}


def origin_on(server: PostgresServer | MariaDBServer) -> Origin:
    """Returns an empty origin in a new database of a server."""
    return PostgresOrigin(server) if isinstance(server, PostgresServer) else MariaDBOrigin(server)
