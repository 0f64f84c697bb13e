"""Delta Lake's options: which folder or bucket, which table; imports no driver and opens nothing itself."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from dsl.contracts.capabilities import DestinationCapabilities, Guarantee, Proof, WriteMode
from dsl.contracts.connectors import BatchWriter, CheckResult, Connection, ConnectorKind, Destination, Token
from dsl.contracts.errors import HeadraceError
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError, option
from resources.endpoints import address_of, check_endpoint, name_of
from resources.file_paths import fault_of
from resources.sql import SchemaEvolution, Tls, check_writing

_S3 = "s3://"


@dataclass(frozen=True, kw_only=True)
class DeltaConnection(Connection):
    """A folder, or a folder of an S3 bucket, below which tables lie: nothing outside it can be named.

    A server must honour `If-None-Match` in a put (Amazon's does, MinIO's, SeaweedFS's). Credentials are the two keys, or what the
    environment and the role of the machine or the pod give.
    """

    location: str = option(doc="The folder, or `s3://bucket/folder`.", example="s3://lake/bronze")
    region: str | None = option(default=None, doc="The bucket's region; AWS_REGION or us-east-1 if absent.")
    endpoint: str | None = option(
        default=None, doc="The server's address; Amazon's if absent or empty.", example="https://minio.example.com:9000"
    )
    access_key_id: Secret | None = option(default=None, doc="The access key's id.", example="${AWS_ACCESS_KEY_ID}")
    secret_access_key: Secret | None = option(
        default=None, doc="The access key's secret.", example="${AWS_SECRET_ACCESS_KEY}"
    )
    session_token: Secret | None = option(default=None, doc="The token that belongs to temporary keys.")
    tls: Tls = option(
        default=Tls.AUTO,
        doc="auto verifies the certificate and allows an http:// endpoint on the loopback address only; disable allows it anywhere.",
    )

    def __post_init__(self) -> None:
        """Refuses a place that is none, and options that fit another.

        Raises:
            OptionError: Options do not fit together.
        """
        if "://" in self.location and not self.location.startswith(_S3):
            raise OptionError("location", "it is neither a folder nor a bucket of S3", "write s3://bucket/folder")
        if not self.location.removeprefix(_S3).strip("/") and self.location != "/":
            raise OptionError("location", "it names no place", "write a folder, or s3://bucket/folder")
        if not self.remote and any((self.region, self.endpoint, self.access_key_id, self.secret_access_key)):
            raise OptionError("location", "a folder needs neither region nor endpoint nor keys", "remove them")
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise OptionError("access_key_id", "both keys are needed, or neither", "add the other")
        if self.remote:
            check_endpoint(self.endpoint, self.tls, "Amazon")

    @property
    def remote(self) -> bool:
        """Whether it is a bucket."""
        return self.location.startswith(_S3)

    def uri(self, table: str) -> str:
        """Returns where a table lies."""
        root = self.location.rstrip("/") if self.remote else str(Path(self.location).absolute())
        return f"{root}/{table}"

    def key_of(self, table: str) -> tuple[str, ...]:
        """Returns the asset key of a table."""
        address = address_of(self.endpoint)
        server = () if address is None else (name_of(address),)
        root = self.location.removeprefix(_S3) if self.remote else str(Path(self.location).absolute())
        return ("delta", *server, *(each for each in (*root.split("/"), *table.split("/")) if each))

    def check(self) -> CheckResult:
        from resources.delta.client import reach

        try:
            return CheckResult(healthy=True, details=reach(self))
        except HeadraceError as error:
            return CheckResult(healthy=False, details=str(error))


@dataclass(frozen=True, kw_only=True)
class DeltaDestination(Destination):
    """A table, written in one entry of its log for each epoch, which also moves the token: exactly once.

    The token is the table's own mark of an application's transaction; the state lies in a file that this mark names, in the table's
    folder `_headrace`, which readers and VACUUM pass over. Other writers may append at the same time. Rows wait on the local disk until
    their commit. Delta has no times of day, intervals or decimals of more than 38 digits: cast them to text.
    """

    capabilities: ClassVar[DestinationCapabilities] = DestinationCapabilities(
        write_modes=frozenset({WriteMode.APPEND, WriteMode.OVERWRITE, WriteMode.UPSERT}),
        guarantee=Guarantee.EXACTLY_ONCE,
        proof=Proof.REAL,
        nested=True,
    )

    connection: DeltaConnection
    table: str = option(
        doc="The table's folder below `location`; `{input}` stands for the input's name.", example="orders"
    )
    primary_key: tuple[str, ...] = option(
        default=(), doc="The columns that identify a row, for upsert.", example=["id"]
    )
    partition_by: tuple[str, ...] = option(
        default=(), doc="The columns by which a table is partitioned that is created here.", example=["day"]
    )
    schema_evolution: SchemaEvolution = option(
        default=SchemaEvolution.EVOLVE, doc="Add columns as rows need it, or refuse such rows."
    )

    def __post_init__(self) -> None:
        """Refuses a table outside the place, and a key that does not fit the mode.

        Raises:
            OptionError: Options do not fit together.
        """
        check_writing(self.write_mode, self.primary_key, self.capabilities.write_modes)
        why = fault_of(self.table.replace("{input}", "input"))
        if why:
            raise OptionError("table", f"'{self.table}' is no folder: {why}", "write it like sales/orders")

    @property
    def physical_name(self) -> tuple[str, ...]:
        return self.connection.key_of(self.table)

    @property
    def place(self) -> str:
        """How errors name the table."""
        return f"delta table '{self.connection.uri(self.table)}'"

    def open_writer(self, schema: pa.Schema, token: Token) -> BatchWriter:
        from resources.delta.writer import DeltaWriter

        return DeltaWriter(self, schema, token)

    def for_input(self, name: str) -> Destination:
        return dataclasses.replace(self, table=self.table.replace("{input}", name))


CONNECTOR = ConnectorKind(
    kind="delta",
    title="Delta Lake",
    connection=DeltaConnection,
    destination=DeltaDestination,
    extra="delta",
    example="""\
type: delta
config:
  location: s3://lake/bronze
  table: orders
  write_mode: upsert
  primary_key: [id]
""",
)
