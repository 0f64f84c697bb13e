"""Singer's options: which tap, its configuration, which stream; starts nothing itself.

The guarantee is at least once: a tap says of its STATE that what came before it need not be read again, not that nothing of it will be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePath
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


@dataclass(frozen=True, kw_only=True)
class SingerConnection(Connection):
    """A Singer tap: a program that is installed where workflows run. Off unless the deployment allows workflows to run code."""

    command: tuple[str, ...] = option(
        doc="The program and its arguments; no shell sees them. `--config` and the like are added.",
        example=["tap-github"],
    )
    config: dict[str, Json] = option(
        default={},
        doc="The tap's configuration, without its secrets; given in a file that only this user may read.",
        example={"repository": "octocat/hello"},
    )
    secrets: dict[str, Secret] = option(
        default={},
        doc="Further fields of the configuration, as references to secrets; `auth.token` is field `token` of object `auth`.",
        example={"access_token": "${GITHUB_TOKEN}"},
    )
    environment: dict[str, Secret] = option(
        default={},
        doc="Variables that the tap gets. It sees no others of the run but PATH, HOME, locale, certificates and proxies.",
        advanced=True,
    )
    discover_streams: bool = option(
        default=True,
        doc="Whether the tap knows `--discover` and `--catalog`; else all its streams are taken as they come.",
    )
    catalog: str | None = option(
        default=None,
        doc="A catalog file to use instead of what `--discover` says.",
        example="catalog.json",
        advanced=True,
    )
    silence: timedelta = option(
        default=timedelta(hours=1), doc="How long the tap may say nothing before it is ended.", advanced=True
    )

    def __post_init__(self) -> None:
        """Refuses a command that names nothing, and secrets that are written out.

        Raises:
            OptionError: Options do not fit together.
        """
        if not self.command or not self.command[0]:
            raise OptionError("command", "no program is named", "write a list: [tap-github]")
        if self.silence <= timedelta():
            raise OptionError("silence", "it is no length of time", "write 10m")
        if self.catalog is not None and not self.discover_streams:
            raise OptionError("catalog", "a tap without `--catalog` takes none", "leave out one of the two")
        for name in ("secrets", "environment"):
            if any(each.literal for each in getattr(self, name).values()):
                raise OptionError(name, "a secret is written into the document", "write a reference to it: ${NAME}")

    @property
    def place(self) -> str:
        """How errors name the tap."""
        return f"singer tap '{self.program}'"

    @property
    def program(self) -> str:
        """The program's name without its folder."""
        return PurePath(self.command[0]).name

    def check(self) -> CheckResult:
        from resources.singer.process import check_program

        try:
            check_program(self.command[0], self.place)
            found = self.discover()
        except HeadraceError as error:
            return CheckResult(healthy=False, details=str(error))
        told = f"{len(found)} streams" if self.discover_streams else "installed; its streams are known when it runs"
        return CheckResult(healthy=True, details=told)

    def discover(self) -> Sequence[Stream]:
        from resources.singer.catalog import streams_of

        return streams_of(self)


@dataclass(frozen=True, kw_only=True)
class SingerSource(Source):
    """One stream of a tap. A run that died goes on from the last STATE that the tap said and that was committed.

    Types follow the stream's JSON Schema: date-times are UTC timestamps, numbers with `multipleOf: 0.01` decimals, lists of plain values
    lists; objects and what may be of several types are JSON texts. Records that break the schema are refused with the reason.
    Delivery is at least once, because taps read what stands at their bookmark again: prefer `write_mode: upsert` with the stream's key.
    """

    capabilities: ClassVar[SourceCapabilities] = SourceCapabilities(
        sync_modes=frozenset({SyncMode.FULL_REFRESH, SyncMode.INCREMENTAL}), projects=True, replayable=False
    )

    connection: SingerConnection
    stream: str = option(doc="The stream to read.", example="issues")
    sync_mode: SyncMode = option(
        default=SyncMode.INCREMENTAL,
        doc="`incremental` gives the tap its STATE of the last run; `full_refresh` begins anew with every run.",
    )
    declared: pa.Schema | None = None

    @property
    def physical_name(self) -> tuple[str, ...]:
        return ("singer", self.connection.program, self.stream)

    def declaring(self, schema: pa.Schema) -> Source:
        return dataclasses.replace(self, declared=schema)

    def discover_schema(self) -> pa.Schema:
        from resources.singer.reader import planned

        return planned(self).columns

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        from resources.singer.reader import SingerReader

        return SingerReader(self, request, state)


CONNECTOR = ConnectorKind(
    kind="singer",
    title="Singer tap",
    connection=SingerConnection,
    source=SingerSource,
    runs_code=True,
    example="""\
type: singer
config:
  command: [tap-github]
  config:
    repository: octocat/hello
    start_date: "2026-01-01T00:00:00Z"
  secrets:
    access_token: ${GITHUB_TOKEN}
  stream: issues
""",
)
