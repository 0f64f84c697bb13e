"""The servers of a campaign, started when a target first needs one; it disturbs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Protocol, TypeVar

from tests.faults.campaign.crashes import Crashing
from tests.faults.campaign.load import Rows
from tests.faults.campaign.modes import Course, Cutting
from tests.faults.campaign.targets import (
    S3,
    DuckDB,
    Elasticsearch,
    Files,
    MariaDB,
    Postgres,
    PostgresWithLetters,
    SQLite,
    Target,
)
from tests.faults.campaign.trial import Ground
from tests.kit.elasticsearch import start_elasticsearch
from tests.kit.mariadb import MariaDBServer, start_mariadb
from tests.kit.postgres import PostgresServer, start_postgres
from tests.kit.process import ServerProcess
from tests.kit.proxy import fault_proxy
from tests.kit.s3 import start_s3


class _Server(Protocol):
    @property
    def process(self) -> ServerProcess: ...


S = TypeVar("S", bound=_Server)

NAMES: dict[str, Callable[[Field], Target]] = {
    "postgres": lambda field: Postgres(field.postgres.new_database()),
    "postgres+letters": lambda field: PostgresWithLetters(field.postgres.new_database()),
    "mysql": lambda field: MariaDB(field.mariadb.new_database()),
    "sqlite": lambda _: SQLite(),
    "duckdb": lambda _: DuckDB(),
    "file-parquet": lambda _: Files("parquet"),
    "file-csv": lambda _: Files("csv"),
    "s3": lambda field: S3(field.started(start_s3).new_bucket()),
    "elasticsearch": lambda field: Elasticsearch(field.started(start_elasticsearch)),
}
"""Target -> how it is made."""


class Field:
    """The servers, and what all loads share.

    Args:
        rows: What the source holds.
        stack: Ends them.
    """

    def __init__(self, rows: Rows, stack: ExitStack) -> None:
        self._stack = stack
        # A server of its own: what a dead run leaves open in a destination does not concern the source.
        self.ground = Ground(rows, self.started(start_postgres))
        stack.callback(self.ground.close)

    @classmethod
    @contextmanager
    def opened(cls, rows: Rows) -> Iterator[Field]:
        """Opens a field until the block ends."""
        with ExitStack() as stack:
            yield cls(rows, stack)

    def started(self, start: Callable[[], S]) -> S:
        """Starts a server that ends with the campaign."""
        server = start()
        self._stack.callback(server.process.stop)
        return server

    @cached_property
    def postgres(self) -> PostgresServer:
        """The server of PostgreSQL's destinations."""
        return self.started(start_postgres)

    @cached_property
    def mariadb(self) -> MariaDBServer:
        """The server of MariaDB's destinations."""
        return self.started(start_mariadb)

    def target(self, name: str) -> Target:
        """Makes a target."""
        return NAMES[name](self)

    @contextmanager
    def cutting(self, name: str) -> Iterator[Cutting]:
        """Puts a proxy before a SQL server."""
        server = self.postgres if name == "postgres" else self.mariadb
        with fault_proxy(server.host, server.port) as proxy:
            yield Cutting(proxy, Course(self.ground, sql_target(server, proxy.port)))


def sql_target(server: PostgresServer | MariaDBServer, port: int | None = None) -> Target:
    """Returns a target in a new database of a SQL server, over a proxy if its port is given."""
    if isinstance(server, PostgresServer):
        return Postgres(server.new_database(), port)
    return MariaDB(server.new_database(), port)


@contextmanager
def crashing(name: str, beside: Ground) -> Iterator[Crashing]:
    """Starts two servers of a kind that may be killed, and puts the loads of another ground between them."""
    start: Callable[..., PostgresServer | MariaDBServer] = start_postgres if name == "postgres" else start_mariadb
    with ExitStack() as stack:
        source, destination = start(durable=True), start(durable=True)
        stack.callback(source.process.stop)
        stack.callback(destination.process.stop)
        ground = Ground(beside.rows, source, beside.warm)
        stack.callback(ground.close)
        yield Crashing(Course(ground, sql_target(destination)), source, destination)
