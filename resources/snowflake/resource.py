"""Snowflake's options: how to reach an account, where to write; imports no driver and opens nothing itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import ClassVar

import pyarrow as pa

from dsl.contracts.capabilities import DestinationCapabilities, Guarantee, Proof, WriteMode
from dsl.contracts.connectors import (
    BatchWriter,
    CheckResult,
    Connection,
    ConnectorKind,
    Destination,
    Stream,
    Token,
)
from dsl.contracts.errors import HeadraceError
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError, option
from resources.sql import SchemaEvolution, TableName, check_writing, loopback

DEFAULT_SCHEMA = "PUBLIC"


class Protocol(StrEnum):
    """How an account is spoken to."""

    HTTPS = "https"
    HTTP = "http"


@dataclass(frozen=True, kw_only=True)
class SnowflakeConnection(Connection):
    """A Snowflake account and one of its databases. Over https certificates are verified, and their revocation where its server answers.

    The role needs USAGE on warehouse, database and schema, and CREATE TABLE and CREATE STAGE on the schema.
    """

    account: str = option(doc="The account's identifier.", example="myorg-myaccount")
    username: str = option(doc="The user to log in as.", example="headrace")
    password: Secret | None = option(default=None, doc="Its password.", example="${SNOWFLAKE_PASSWORD}")
    private_key: Secret | None = option(
        default=None, doc="Its private key instead of a password: PEM text.", example="${secret:file/snowflake.p8}"
    )
    private_key_passphrase: Secret | None = option(
        default=None, doc="What the private key is encrypted with.", advanced=True
    )
    database: str = option(doc="The database.", example="ANALYTICS")
    schema: str = option(default=DEFAULT_SCHEMA, doc="The schema of tables that name none.")
    warehouse: str | None = option(default=None, doc="The warehouse that loads; the user's own if absent.")
    role: str | None = option(default=None, doc="The role; the user's own if absent.")
    host: str | None = option(
        default=None, doc="Where the account is served, if not below snowflakecomputing.com.", advanced=True
    )
    port: int | None = option(default=None, doc="Its port, if not the usual one.", advanced=True)
    protocol: Protocol = option(
        default=Protocol.HTTPS, doc="http is for emulators on the loopback address.", advanced=True
    )
    insecure: bool = option(
        default=False, doc="Allow http elsewhere, where everyone on the way reads along.", advanced=True
    )
    connect_timeout: timedelta = option(
        default=timedelta(seconds=30), doc="How long to wait for a login.", advanced=True
    )

    def __post_init__(self) -> None:
        """Refuses what cannot log in, or would send a password in the clear.

        Raises:
            OptionError: Names the option at fault.
        """
        if (self.password is None) == (self.private_key is None):
            raise OptionError(
                "password", "one of password and private_key must be given", "add password: ${SNOWFLAKE_PASSWORD}"
            )
        if self.protocol is Protocol.HTTP and not self.insecure and not loopback(self.host or ""):
            raise OptionError(
                "protocol", "http sends passwords and rows in the clear", "remove it, or add insecure: true"
            )

    def check(self) -> CheckResult:
        from resources.snowflake.client import server_version

        try:
            return CheckResult(healthy=True, details=server_version(self))
        except HeadraceError as error:
            return CheckResult(healthy=False, details=str(error))

    def discover(self) -> Sequence[Stream]:
        from resources.snowflake.client import list_tables

        return list_tables(self)

    def key_of(self, *parts: str) -> tuple[str, ...]:
        """Returns the asset key of something in this database."""
        return ("snowflake", self.account, self.database, *parts)

    def table_name(self, text: str) -> TableName:
        """Reads `table` or `schema.table`."""
        return TableName.parse(text, self.schema)


@dataclass(frozen=True, kw_only=True)
class SnowflakeDestination(Destination):
    """A table, loaded by PUT and COPY INTO in one transaction an epoch that also moves the token: exactly once.

    Names are quoted and keep their case; a table or column that is there already is found whatever its case. Nested
    values, and text marked as JSON, become VARIANT, which keeps their values, not their spelling. An overwrite refills
    the table in the transaction of the token, so that grants, streams and policies stay. Snowflake enforces no key: an
    upsert updates every row of a key. DDL commits by itself there, so tables are changed before an epoch, never within.
    Run one workflow for a new stream at a time: without enforced keys, two first runs at once leave two tokens, which is
    an error for both.
    """

    capabilities: ClassVar[DestinationCapabilities] = DestinationCapabilities(
        write_modes=frozenset({WriteMode.APPEND, WriteMode.OVERWRITE, WriteMode.UPSERT}),
        guarantee=Guarantee.EXACTLY_ONCE,
        proof=Proof.EMULATOR,
    )

    connection: SnowflakeConnection
    table: str = option(
        doc="The table, with its schema if not the connection's; `{input}` stands for the input's name.",
        example="PUBLIC.user_orders",
    )
    primary_key: tuple[str, ...] = option(
        default=(), doc="The columns that identify a row, for upsert.", example=["id"]
    )
    schema_evolution: SchemaEvolution = option(
        default=SchemaEvolution.EVOLVE, doc="Add columns and widen types as rows need it, or refuse such rows."
    )

    def __post_init__(self) -> None:
        check_writing(self.write_mode, self.primary_key, self.capabilities.write_modes)
        self.connection.table_name(self.table)

    @property
    def physical_name(self) -> tuple[str, ...]:
        table = self.connection.table_name(self.table)
        return self.connection.key_of(table.schema, table.name)

    def open_writer(self, schema: pa.Schema, token: Token) -> BatchWriter:
        from resources.snowflake.writer import open_writer

        return open_writer(self, schema, token)

    def for_input(self, name: str) -> Destination:
        return dataclasses.replace(self, table=self.table.replace("{input}", name))


CONNECTOR = ConnectorKind(
    kind="snowflake",
    title="Snowflake",
    connection=SnowflakeConnection,
    destination=SnowflakeDestination,
    extra="snowflake",
    example="""\
type: snowflake
config:
  account: myorg-myaccount
  username: headrace
  password: ${SNOWFLAKE_PASSWORD}
  database: ANALYTICS
  table: user_orders
""",
)
