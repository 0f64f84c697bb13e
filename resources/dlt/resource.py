"""dlt's options: which function, its arguments, which resource; imports nothing of dlt and runs nothing itself."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from dsl.contracts.capabilities import SourceCapabilities, SyncMode
from dsl.contracts.connectors import (
    BatchReader,
    CheckResult,
    Connection,
    ConnectorKind,
    ReadRequest,
    Source,
    Stream,
)
from dsl.contracts.errors import HeadraceError
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError, option
from dsl.contracts.state import Json, State

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, kw_only=True)
class DltConnection(Connection):
    """A source or a resource of dlt, installed where workflows run. Off unless the deployment allows workflows to run code."""

    source: str = option(
        doc="The function, or the resource itself, by its import path.", example="dlt.sources.sql_database:sql_table"
    )
    arguments: dict[str, Json] = option(default={}, doc="Its arguments, without secrets.", example={"table": "orders"})
    secrets: dict[str, Secret] = option(
        default={}, doc="Further arguments, as references to secrets.", example={"credentials": "${SHOP_DATABASE_URL}"}
    )

    def __post_init__(self) -> None:
        """Refuses what names no function, and secrets that are written out.

        Raises:
            OptionError: Options do not fit together.
        """
        if not _FUNCTION.fullmatch(self.source):
            raise OptionError("source", f"{self.source!r} names no function", "write module:function")
        if any(each.literal for each in self.secrets.values()):
            raise OptionError("secrets", "a secret is written into the document", "write a reference to it: ${NAME}")
        twice = sorted(set(self.arguments) & set(self.secrets))
        if twice:
            raise OptionError("arguments", f"'{twice[0]}' is given twice", "leave it to `secrets`")

    @property
    def place(self) -> str:
        """How errors name it."""
        return f"dlt '{self.source}'"

    def check(self) -> CheckResult:
        try:
            found = self.discover()
        except HeadraceError as error:
            return CheckResult(healthy=False, details=str(error))
        return CheckResult(healthy=True, details=f"resources: {', '.join(each.name for each in found)}")

    def discover(self) -> Sequence[Stream]:
        from resources.dlt.loading import streams_of

        return streams_of(self)


@dataclass(frozen=True, kw_only=True)
class DltSource(Source):
    """One resource: the rows that it yields as dictionaries, Arrow tables or data frames, under the names that it gives them.

    A run is one whole extraction: dlt's state moves when all rows of it are committed, and stands nowhere in between. So rows are
    delivered exactly once, as far as the resource itself yields each row for one state only.
    Dictionaries and lists within rows are JSON texts unless `schema` declares them.
    """

    capabilities: ClassVar[SourceCapabilities] = SourceCapabilities(
        sync_modes=frozenset({SyncMode.FULL_REFRESH, SyncMode.INCREMENTAL}), projects=True
    )

    connection: DltConnection
    resource: str | None = option(default=None, doc="The resource; needed where there are several.", example="orders")
    sync_mode: SyncMode = option(
        default=SyncMode.INCREMENTAL,
        doc="`incremental` gives the resource its state of the last run; `full_refresh` begins anew with every run.",
    )
    infer_rows: int = option(
        default=1000, doc="Rows that tell the columns where `schema` declares none.", advanced=True
    )
    declared: pa.Schema | None = None

    def __post_init__(self) -> None:
        """Refuses a sample of nothing.

        Raises:
            OptionError: `infer_rows` is too small.
        """
        if self.infer_rows < 1:
            raise OptionError("infer_rows", "columns cannot be told from no rows", "write 1 or more")

    @property
    def physical_name(self) -> tuple[str, ...]:
        name = self.resource or self.connection.source.partition(":")[2]
        return ("dlt", *self.connection.source.partition(":")[0].split("."), name)

    @property
    def place(self) -> str:
        """How errors name the resource."""
        return self.connection.place + (f": resource '{self.resource}'" if self.resource else "")

    def declaring(self, schema: pa.Schema) -> Source:
        return dataclasses.replace(self, declared=schema)

    def discover_schema(self) -> pa.Schema:
        from resources.dlt.reader import discover_schema

        return discover_schema(self)

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        from resources.dlt.reader import DltReader

        return DltReader(self, request, state)


CONNECTOR = ConnectorKind(
    kind="dlt",
    title="dlt source",
    connection=DltConnection,
    source=DltSource,
    extra="dlt",
    runs_code=True,
    example="""\
type: dlt
config:
  source: shop_sources:orders
  arguments:
    updated_since: "2026-01-01"
  secrets:
    api_key: ${SHOP_API_KEY}
""",
)
