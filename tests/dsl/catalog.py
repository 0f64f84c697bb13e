"""Connectors for the compiler's tests, with options of every type; they reach nothing, and opening one is a fault of the test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import ClassVar

import pyarrow as pa

from dsl.contracts.capabilities import (
    DestinationCapabilities,
    Guarantee,
    SeveralInputs,
    SourceCapabilities,
    SyncMode,
    WriteMode,
)
from dsl.contracts.changes import Deletes
from dsl.contracts.connectors import (
    BatchReader,
    BatchWriter,
    CheckResult,
    Connection,
    ConnectorKind,
    Destination,
    ReadRequest,
    Source,
    Token,
)
from dsl.contracts.folders import divided
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError, option
from dsl.contracts.state import Json, State

CLOSED = "the connectors of the compiler's tests cannot be opened"


class Tls(StrEnum):
    """An enumeration."""

    OFF = "off"
    ON = "on"


@dataclass(frozen=True, kw_only=True)
class Login:
    """A nested block of options."""

    user: str = option(doc="Who logs in.")
    level: int = option(default=1, doc="How far they may go.")
    token: Secret | None = option(default=None, doc="A nested secret.")


@dataclass(frozen=True, kw_only=True)
class Header:
    """An item of a list of blocks."""

    name: str = option(doc="The header's name.")
    value: str = option(doc="Its value.")


@dataclass(frozen=True, kw_only=True)
class ShopConnection(Connection):
    """A shop's database: options of every type."""

    host: str = option(doc="The host.", example="db.example.com")
    port: int = option(default=7000, doc="The port.")
    username: str | None = option(default=None, doc="Who logs in.")
    password: Secret | None = option(default=None, doc="The password.", example="${SHOP_PASSWORD}")
    tls: Tls = option(default=Tls.ON, doc="Whether the connection is encrypted.")
    verify: bool = option(default=True, doc="Whether the certificate is checked.")
    timeout: timedelta = option(default=timedelta(seconds=10), doc="How long to wait.")
    buffer: int = option(default=2**20, doc="Bytes of buffer.", unit="size")
    sampling: float = option(default=1.0, doc="Share of the requests that are traced.")
    login: Login | None = option(default=None, doc="How to log in instead.")
    headers: tuple[Header, ...] = option(default=(), doc="What to send along.")
    labels: dict[str, str] = option(default={}, doc="Free labels.")
    extra: Json = option(default=None, doc="Anything.")

    def check(self) -> CheckResult:
        return CheckResult(healthy=True, details="nothing was reached")


@dataclass(frozen=True, kw_only=True)
class ShopSource(Source):
    """A table of the shop."""

    capabilities: ClassVar[SourceCapabilities] = SourceCapabilities(
        sync_modes=frozenset({SyncMode.FULL_REFRESH, SyncMode.INCREMENTAL}), projects=True, limits=True, divides=True
    )

    connection: ShopConnection
    table: str | None = option(default=None, doc="The table.", example="orders")
    query: str | None = option(default=None, doc="A query instead.")
    columns: tuple[str, ...] = option(default=(), doc="The columns.")
    incremental_column: str | None = option(default=None, doc="What grows.")
    primary_key: tuple[str, ...] = option(default=(), doc="What identifies a row.")
    deletes: Deletes | None = option(default=None, doc="What it tells of deleted rows.")

    @property
    def tells(self) -> Deletes:
        return self.deletes or Deletes.IGNORED

    def __post_init__(self) -> None:
        """Refuses a table and a query at once, and neither."""
        if self.table is not None and self.query is not None:
            raise OptionError("query", "there is a table as well", "keep one of them")
        if self.table is None and self.query is None:
            raise OptionError("table", "there is neither table nor query", "name the table to read")

    @property
    def physical_name(self) -> tuple[str, ...]:
        return ("shop", self.connection.host, self.table or "query")

    def discover_schema(self) -> pa.Schema:
        raise AssertionError(CLOSED)

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        raise AssertionError(CLOSED)


@dataclass(frozen=True, kw_only=True)
class ShopDestination(Destination):
    """A table of the shop: one for all inputs, flat columns."""

    capabilities: ClassVar[DestinationCapabilities] = DestinationCapabilities(
        write_modes=frozenset(WriteMode),
        guarantee=Guarantee.EXACTLY_ONCE,
        compares=True,
    )

    connection: ShopConnection
    table: str = option(doc="The table; `{input}` stands for the input's name.", example="orders")
    key: tuple[str, ...] = option(default=(), doc="What identifies a row.")

    def __post_init__(self) -> None:
        """Refuses an upsert that cannot tell rows apart."""
        if self.write_mode is WriteMode.UPSERT and not self.key:
            raise OptionError("key", "upsert needs a key", "name the columns that identify a row")

    @property
    def physical_name(self) -> tuple[str, ...]:
        return ("shop", self.connection.host, self.table)

    def open_writer(self, schema: pa.Schema, token: Token) -> BatchWriter:
        raise AssertionError(CLOSED)

    def for_input(self, name: str) -> Destination:
        return replace(self, table=self.table.replace("{input}", name))


@dataclass(frozen=True, kw_only=True)
class SpotConnection(Connection):
    """A place that needs nothing to be reached."""

    def check(self) -> CheckResult:
        return CheckResult(healthy=True, details="nothing was reached")


@dataclass(frozen=True, kw_only=True)
class FeedSource(Source):
    """A feed that can only be read, and never ends."""

    capabilities: ClassVar[SourceCapabilities] = SourceCapabilities(sync_modes=frozenset({SyncMode.STREAM}))

    connection: SpotConnection
    topic: str = option(default="news", doc="The topic.")

    @property
    def physical_name(self) -> tuple[str, ...]:
        return ("feed", self.topic)

    def discover_schema(self) -> pa.Schema:
        raise AssertionError(CLOSED)

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        raise AssertionError(CLOSED)


@dataclass(frozen=True, kw_only=True)
class LakeDestination(Destination):
    """A lake that can only be written: nested columns, one prefix for each input."""

    capabilities: ClassVar[DestinationCapabilities] = DestinationCapabilities(
        write_modes=frozenset({WriteMode.APPEND, WriteMode.OVERWRITE}),
        several_inputs=SeveralInputs.PREFIX,
        nested=True,
    )

    connection: SpotConnection
    prefix: str = option(default="lake", doc="Where the files go; values may choose folders.", template="path")

    @property
    def physical_name(self) -> tuple[str, ...]:
        return ("lake", divided(self.prefix)[0])

    def open_writer(self, schema: pa.Schema, token: Token) -> BatchWriter:
        raise AssertionError(CLOSED)

    def for_input(self, name: str) -> Destination:
        return replace(self, prefix=f"{self.prefix}/{name}")


@dataclass(frozen=True, kw_only=True)
class IndexDestination(Destination):
    """A search index that is written by key."""

    capabilities: ClassVar[DestinationCapabilities] = DestinationCapabilities(
        write_modes=frozenset({WriteMode.APPEND, WriteMode.UPSERT, WriteMode.MERGE}),
        guarantee=Guarantee.AT_LEAST_ONCE,
        keyed_guarantee=Guarantee.EFFECTIVELY_ONCE,
        nested=True,
    )

    connection: SpotConnection
    index: str = option(doc="The index.", example="users")
    id_field: str | None = option(default=None, doc="The field whose value is the document's id.")

    @property
    def physical_name(self) -> tuple[str, ...]:
        return ("index", self.index)

    def open_writer(self, schema: pa.Schema, token: Token) -> BatchWriter:
        raise AssertionError(CLOSED)


SHOP = ConnectorKind("shop", "Shop", ShopConnection, ShopSource, ShopDestination)
FEED = ConnectorKind("feed", "Feed", SpotConnection, source=FeedSource)
LAKE = ConnectorKind("lake", "Lake", SpotConnection, destination=LakeDestination)
INDEX = ConnectorKind("index", "Index", SpotConnection, destination=IndexDestination)


class TestCatalog:
    """The connectors above."""

    __test__ = False
    _kinds: ClassVar[Mapping[str, ConnectorKind]] = {each.kind: each for each in (SHOP, FEED, LAKE, INDEX)}

    def kinds(self) -> tuple[str, ...]:
        """Returns their kinds."""
        return tuple(sorted(self._kinds))

    def get(self, kind: str) -> ConnectorKind | None:
        """Returns one of them, or None."""
        return self._kinds.get(kind)


CATALOG = TestCatalog()
