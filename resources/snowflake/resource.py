"""Snowflake's options: how to reach an account, what to read, where to write; imports no driver and opens nothing itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import ClassVar

import pyarrow as pa

from dsl.contracts.capabilities import (
    DestinationCapabilities,
    Guarantee,
    Proof,
    SourceCapabilities,
    SyncMode,
    WriteMode,
)
from dsl.contracts.connectors import (
    BatchReader,
    BatchWriter,
    CheckResult,
    Connection,
    ConnectorKind,
    Destination,
    ReadRequest,
    Source,
    Stream,
    Token,
)
from dsl.contracts.errors import HeadraceError
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError, option
from dsl.contracts.state import State
from resources.sql import (
    NullCursor,
    SchemaEvolution,
    TableName,
    check_incremental,
    check_reading,
    check_writing,
    loopback,
    query_name,
)
from resources.sql_deletes import DeletionOptions, check_deletes, refuse_cdc, telling, told_schema

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
class SnowflakeSource(DeletionOptions, Source):
    """A table, a view or a query, each pass over it one statement and so one snapshot.

    A full refresh with a `primary_key` resumes after any batch; the rows that follow come from a newer snapshot. Snowflake enforces no
    key, so its columns are named here. It does not show which transactions are open either: an incremental read stays `lag` behind the
    clock, longer than any transaction that writes the table lasts. A TIMESTAMP_NTZ or DATE is taken for UTC: where it holds the time of
    a zone that is behind UTC, lag must be longer by that. A value with nanoseconds is rejected with its row.
    """

    capabilities: ClassVar[SourceCapabilities] = SourceCapabilities(
        sync_modes=frozenset({SyncMode.FULL_REFRESH, SyncMode.INCREMENTAL}), projects=True, limits=True
    )

    connection: SnowflakeConnection
    table: str | None = option(
        default=None, doc="The table or view, with its schema if not the connection's.", example="PUBLIC.ORDERS"
    )
    query: str | None = option(
        default=None, doc="One SELECT to read instead of a table.", example="SELECT id, total FROM orders"
    )
    columns: tuple[str, ...] = option(default=(), doc="The columns to read; all if absent.", example=["ID", "TOTAL"])
    incremental_column: str | None = option(
        default=None, doc="Read only rows whose time here is new since the last run.", example="UPDATED_AT"
    )
    primary_key: tuple[str, ...] = option(default=(), doc="The columns that identify a row.", example=["ID"])
    initial_value: str | None = option(
        default=None, doc="The first value of the incremental column to read; all if absent.", example="2024-01-01"
    )
    lag: timedelta | None = option(
        default=None,
        doc="Stay this far behind the account's clock: longer than any transaction that writes the table lasts.",
        example="1h",
    )
    null_cursor: NullCursor = option(
        default=NullCursor.REFUSE, doc="Refuse to run, or read once, rows whose incremental column is NULL."
    )

    def __post_init__(self) -> None:
        check_reading(self.table, self.query)
        refuse_cdc(self)
        check_deletes(self, incremental=self.incremental_column is not None)
        if self.table is not None:
            self.connection.table_name(self.table)
        check_incremental(self.incremental_column, {"initial_value": self.initial_value, "lag": self.lag})
        if self.incremental_column is not None and self.lag is None:
            said = (
                "Snowflake does not show which transactions are open, so nobody can tell which rows are still to come"
            )
            raise OptionError("lag", said, "add lag: 1h, or whatever is longer than any transaction lasts")

    @property
    def physical_name(self) -> tuple[str, ...]:
        if self.table is None:
            return self.connection.key_of(query_name(self.query))
        table = self.connection.table_name(self.table)
        return self.connection.key_of(table.schema, table.name)

    def discover_schema(self) -> pa.Schema:
        from resources.snowflake.reader import discover_schema

        return told_schema(self, discover_schema(self))

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        from resources.snowflake.reader import open_reader

        return telling(self, request, state, open_reader)


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
    source=SnowflakeSource,
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
