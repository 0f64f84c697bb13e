"""Iceberg's options: which catalog, which table; imports no driver and opens nothing itself."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlsplit

import pyarrow as pa

from dsl.contracts.capabilities import DestinationCapabilities, Guarantee, Proof, WriteMode
from dsl.contracts.connectors import BatchWriter, CheckResult, Connection, ConnectorKind, Destination, Token
from dsl.contracts.errors import HeadraceError
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError, option
from resources.sql import SchemaEvolution, check_writing, loopback

_REST = frozenset({"http", "https"})


@dataclass(frozen=True, kw_only=True)
class IcebergConnection(Connection):
    """A catalog of Iceberg tables: a REST service, or tables of a SQL database (SQLite)."""

    uri: str = option(
        doc="The catalog: `https://…` for a REST service, `sqlite:///…` for a database.",
        example="https://catalog.example.com",
    )
    warehouse: str | None = option(
        default=None, doc="Where new tables lie (a SQL catalog needs it), or the name of a warehouse of the service."
    )
    catalog: str = option(
        default="default",
        doc="The catalog's name: a SQL database may hold several, and tables of one are not in another.",
    )
    token: Secret | None = option(default=None, doc="A bearer token of the service.", example="${CATALOG_TOKEN}")
    credential: Secret | None = option(default=None, doc="`id:secret` of an OAuth2 client of the service.")
    properties: dict[str, str] = option(
        default={},
        doc="Further properties of the catalog, as pyiceberg names them.",
        example={"s3.region": "eu-west-1"},
    )
    secrets: dict[str, Secret] = option(
        default={},
        doc="Further properties, as references to secrets.",
        example={"s3.secret-access-key": "${AWS_SECRET_ACCESS_KEY}"},
    )

    def __post_init__(self) -> None:
        """Refuses an address that is none, and secrets that are written out.

        Raises:
            OptionError: Options do not fit together.
        """
        scheme = urlsplit(self.uri).scheme
        if scheme not in _REST and not scheme.startswith("sqlite"):
            raise OptionError("uri", "it is no address of a catalog", "write https://host, or sqlite:///file")
        if "@" in urlsplit(self.uri).netloc:
            raise OptionError("uri", "it holds a password", "give `credential` or `token`")
        if scheme == "http" and not loopback(urlsplit(self.uri).hostname or ""):
            raise OptionError("uri", "http:// shows tokens to whoever sees the network", "write https://")
        if scheme not in _REST and not self.warehouse:
            raise OptionError("warehouse", "a SQL catalog does not know where tables lie", "write file:///data/lake")
        if any(each.literal for each in self.secrets.values()):
            raise OptionError("secrets", "a secret is written into the document", "write a reference to it: ${NAME}")

    @property
    def rest(self) -> bool:
        """Whether it is a REST service."""
        return urlsplit(self.uri).scheme in _REST

    def check(self) -> CheckResult:
        from resources.iceberg.client import reach

        try:
            return CheckResult(healthy=True, details=reach(self))
        except HeadraceError as error:
            return CheckResult(healthy=False, details=str(error))


@dataclass(frozen=True, kw_only=True)
class IcebergDestination(Destination):
    """A table, written in one commit of its catalog for each epoch, which also moves the token: exactly once.

    The token is a property of the table, set in the commit that adds the rows; every commit adds a snapshot and asks that the one before
    it be the newest, so a second writer of a stream is refused. Rows wait on the local disk until their commit; those of an upsert are
    then held in memory. Iceberg has no intervals or decimals of more than 38 digits: cast them to text.
    """

    capabilities: ClassVar[DestinationCapabilities] = DestinationCapabilities(
        write_modes=frozenset({WriteMode.APPEND, WriteMode.OVERWRITE, WriteMode.UPSERT}),
        guarantee=Guarantee.EXACTLY_ONCE,
        proof=Proof.REAL,
        nested=True,
    )

    connection: IcebergConnection
    table: str = option(
        doc="The table with its namespace; `{input}` stands for the input's name.", example="sales.orders"
    )
    primary_key: tuple[str, ...] = option(
        default=(), doc="The columns that identify a row, for upsert.", example=["id"]
    )
    schema_evolution: SchemaEvolution = option(
        default=SchemaEvolution.EVOLVE, doc="Add columns as rows need it, or refuse such rows."
    )

    def __post_init__(self) -> None:
        """Refuses a table without a namespace, and a key that does not fit the mode.

        Raises:
            OptionError: Options do not fit together.
        """
        check_writing(self.write_mode, self.primary_key, self.capabilities.write_modes)
        parts = self.table.split(".")
        if len(parts) < 2 or not all(parts) or "/" in self.table:
            raise OptionError("table", f"'{self.table}' is no table with a namespace", "write it like sales.orders")

    @property
    def physical_name(self) -> tuple[str, ...]:
        found = urlsplit(self.connection.uri)
        held = self.connection.warehouse if self.connection.rest else self.connection.catalog
        place = (found.netloc, *found.path.split("/"), held)
        return ("iceberg", *(each for each in place if each), *self.table.split("."))

    @property
    def place(self) -> str:
        """How errors name the table."""
        return f"iceberg table '{self.table}'"

    def open_writer(self, schema: pa.Schema, token: Token) -> BatchWriter:
        from resources.iceberg.writer import IcebergWriter

        return IcebergWriter(self, schema, token)

    def for_input(self, name: str) -> Destination:
        return dataclasses.replace(self, table=self.table.replace("{input}", name))


CONNECTOR = ConnectorKind(
    kind="iceberg",
    title="Apache Iceberg",
    connection=IcebergConnection,
    destination=IcebergDestination,
    extra="iceberg",
    example="""\
type: iceberg
config:
  uri: https://catalog.example.com
  warehouse: lake
  token: ${CATALOG_TOKEN}
  table: sales.orders
""",
)
