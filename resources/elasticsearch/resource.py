"""Elasticsearch's options: how to reach it, what to read, where to write; imports no driver and opens nothing itself."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from dsl.contracts.state import Json, State
from resources.sql import SchemaEvolution, Tls, check_incremental

DEFAULT_PORT = 9200
TOKEN_INDEX = "headrace-tokens"  # noqa: S105 - an index's name
_FORBIDDEN = re.compile(r'[\\/*?"<>| ,#:A-Z\x00-\x1f]|^[-_+]|^\.{1,2}$')
_UNREADABLE = re.compile(r'[\\/?"<>| #:A-Z\x00-\x1f]|^[-_+]|^\.{1,2}$')
_LONGEST_NAME = 200
INPUT = "{input}"


class Refresh(StrEnum):
    """When written documents can be found by a search."""

    COMMIT = "commit"
    INDEX = "index"


@dataclass(frozen=True, kw_only=True)
class ElasticsearchConnection(Connection):
    """An Elasticsearch cluster (7.10 or newer), or an OpenSearch one."""

    host: str = option(doc="Host name or address.", example="search.example.com")
    port: int = option(default=DEFAULT_PORT, doc="Its port.")
    username: str | None = option(default=None, doc="The user to log in as.", example="headrace")
    password: Secret | None = option(default=None, doc="Its password.", example="${ES_PASSWORD}")
    api_key: Secret | None = option(
        default=None, doc="An API key, encoded as the server gave it, instead of a user.", example="${ES_API_KEY}"
    )
    tls: Tls = option(
        default=Tls.AUTO,
        doc="auto speaks HTTPS and verifies certificate and host name, except with the loopback address, where it speaks "
        "plain HTTP. disable speaks plain HTTP: whoever sees the network sees rows and passwords.",
    )
    ca_file: str | None = option(
        default=None, doc="Certificates to trust, as a PEM file; the system's if absent.", advanced=True
    )
    timeout: timedelta = option(default=timedelta(seconds=60), doc="How long one request may take.", advanced=True)

    def __post_init__(self) -> None:
        if "/" in self.host or not self.host:
            raise OptionError(
                "host", f"'{self.host}' is no host name", "write host, port and tls apart, without https://"
            )
        if self.api_key is not None and self.username is not None:
            raise OptionError("api_key", "both api_key and username are given", "keep one of them")
        if self.password is not None and self.username is None:
            raise OptionError("password", "it has no meaning without username", "add username")
        if self.timeout <= timedelta():
            raise OptionError("timeout", "a request takes longer than nothing", "write a duration such as 60s")

    def check(self) -> CheckResult:
        from resources.elasticsearch.client import server_version

        try:
            return CheckResult(healthy=True, details=server_version(self))
        except HeadraceError as error:
            return CheckResult(healthy=False, details=str(error))

    def discover(self) -> Sequence[Stream]:
        from resources.elasticsearch.client import list_indices

        return list_indices(self)

    def key_of(self, *parts: str) -> tuple[str, ...]:
        """Returns the asset key of something in this cluster."""
        host = self.host if self.port == DEFAULT_PORT else f"{self.host}_{self.port}"
        return ("elasticsearch", host, *parts)


@dataclass(frozen=True, kw_only=True)
class ElasticsearchSource(Source):
    """An index, an alias or a pattern of them, read off one point in time (Elasticsearch 7.12, OpenSearch 2.4 or newer).

    Columns come from the mapping: an object is a struct, `nested` a list of them, what has no type of its own JSON text. An index does
    not say where a document holds several values: name such fields in `arrays`; elsewhere such a document is rejected with its reason, as
    is every value that its column cannot hold exactly. Fields outside of the mapping (`dynamic: false`) are read where columns are
    declared, or whole documents by `source_column`.

    With `key_field` a full refresh resumes after any batch, in a newer point in time, and can be divided (`partitions`) where it holds
    whole numbers. An incremental read stays `lag` behind the clock: longer than from the moment a date is set until its document is found
    by searches. Documents that share the last date are told apart by their ids.
    """

    capabilities: ClassVar[SourceCapabilities] = SourceCapabilities(
        sync_modes=frozenset({SyncMode.FULL_REFRESH, SyncMode.INCREMENTAL}), projects=True, limits=True, divides=True
    )

    connection: ElasticsearchConnection
    index: str = option(doc="The index, alias, or pattern such as `logs-*`.", example="users")
    query: dict[str, Json] = option(
        default={},
        doc="A query in the server's own words; all documents if absent.",
        example={"term": {"active": True}},
    )
    columns: tuple[str, ...] = option(default=(), doc="The fields to read; all if absent.", example=["id", "name"])
    arrays: tuple[str, ...] = option(default=(), doc="Paths of fields that hold several values.", example=["tags"])
    key_field: str | None = option(
        default=None,
        doc="The field by whose order a full refresh resumes: whole numbers, a date or a keyword.",
        example="id",
    )
    incremental_column: str | None = option(
        default=None, doc="Read only documents whose date here is new since the last run.", example="updated_at"
    )
    initial_value: str | None = option(
        default=None, doc="The first date to read; all if absent.", example="2024-01-01T00:00:00Z"
    )
    lag: timedelta | None = option(
        default=None,
        doc="Stay this far behind the clock: longer than it takes from setting the date until a search finds the document.",
        example="5m",
    )
    id_column: str | None = option(default=None, doc="A column to add for the document's id.", example="_id")
    source_column: str | None = option(default=None, doc="A column to add for the whole document, as JSON.")
    keep_alive: timedelta = option(
        default=timedelta(minutes=10), doc="How long the point in time is kept between two pages.", advanced=True
    )

    declared: pa.Schema | None = dataclasses.field(default=None, repr=False)
    within: tuple[int | None, int | None] | None = dataclasses.field(default=None, repr=False)
    view: str = dataclasses.field(default="", repr=False)

    def __post_init__(self) -> None:
        if not self.index or _UNREADABLE.search(self.index):
            raise OptionError("index", f"'{self.index}' cannot be the name of an index", "write users, or logs-*")
        check_incremental(self.incremental_column, {"initial_value": self.initial_value, "lag": self.lag})
        if self.incremental_column is not None and self.lag is None:
            said = "an index does not say which documents are still on their way"
            raise OptionError("lag", said, "add lag: 5m, or whatever is longer than a document takes")
        if self.incremental_column is not None and self.key_field is not None:
            raise OptionError("key_field", "it has no meaning with incremental_column", "leave it out")
        if self.keep_alive < timedelta(seconds=1):
            raise OptionError("keep_alive", "it is too short", "write a duration such as 10m")

    @property
    def physical_name(self) -> tuple[str, ...]:
        return self.connection.key_of(self.index)

    def declaring(self, schema: pa.Schema) -> Source:
        return dataclasses.replace(self, declared=schema)

    def discover_schema(self) -> pa.Schema:
        from resources.elasticsearch.reader import discover_schema

        return discover_schema(self)

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        from resources.elasticsearch.reader import open_reader

        return open_reader(self, request, state)

    def splits(self, count: int) -> tuple[Json, ...]:
        from resources.elasticsearch.reader import divided

        return () if self.key_field is None else divided(self, count)

    def part(self, split: Json) -> Source:
        assert isinstance(split, list)  # noqa: S101 - `splits` made it
        after, end = (each if isinstance(each, int) else None for each in split)
        return dataclasses.replace(self, within=(after, end))

    @contextmanager
    def together(self) -> Iterator[Source]:
        from resources.elasticsearch.client import Client
        from resources.elasticsearch.pages import held_view

        with (
            Client(self.connection) as client,
            held_view(client, self.index, int(self.keep_alive.total_seconds())) as view,
        ):
            yield dataclasses.replace(self, view=view)


@dataclass(frozen=True, kw_only=True)
class ElasticsearchDestination(Destination):
    """An index or an alias, written by `_bulk` under ids that a replay repeats or takes back.

    With `id_field` a document is replaced by the newest row of its key (`upsert`, which is then what `append` means).
    Without it, each row is a document of its own. `overwrite` gathers the rows in a new index; the final commit gives it
    the name as an alias, in one act that also removes the index that had it.

    Documents hold what JSON can say exactly: decimals of up to 15 digits are numbers, longer ones texts; a column of JSON
    is the value itself; NaN and infinities are refused. Mappings come from the schema, unless `properties` says otherwise.

    Effectively once: an epoch's documents can be searched before it commits, and after a crash until the next run takes
    them back (append, overwrite) or replaces them (upsert). Which ids an epoch may have written is noted in the cluster
    itself, in the token's document, before the first of them is sent; so nothing depends on the machine that ran, and rows
    are never kept on a disk of ours. A row that the server refuses is rejected with the reason; the others are written.
    Two limits: a run that was stopped in the middle of a request for longer than `index.gc_deletes` (ten minutes in
    indices made here, else one) and then goes on can bring back documents of an epoch that was taken back; and with
    `index.translog.durability: async` each commit flushes the index first.
    """

    capabilities: ClassVar[DestinationCapabilities] = DestinationCapabilities(
        write_modes=frozenset({WriteMode.APPEND, WriteMode.OVERWRITE, WriteMode.UPSERT}),
        guarantee=Guarantee.EFFECTIVELY_ONCE,
        proof=Proof.EMULATOR,
        nested=True,
    )

    connection: ElasticsearchConnection
    index: str = option(
        doc="The index or alias, made if absent; `{input}` stands for the input's name.", example="users"
    )
    id_field: str | None = option(
        default=None, doc="The field whose value is the document's id; a path leads into a struct.", example="user.id"
    )
    schema_evolution: SchemaEvolution = option(
        default=SchemaEvolution.EVOLVE, doc="Add fields to the mapping as rows need it, or refuse such rows."
    )
    properties: dict[str, Json] = option(
        default={},
        doc="Mappings to use instead of those that the schema suggests, by path.",
        example={"user.bio": {"type": "text", "analyzer": "english"}},
        advanced=True,
    )
    settings: dict[str, Json] = option(
        default={}, doc="Settings of an index that is made.", example={"number_of_shards": 3}, advanced=True
    )
    refresh: Refresh = option(
        default=Refresh.COMMIT, doc="commit: found by searches once committed; index: when the index says so."
    )
    request_bytes: int = option(
        default=8 * 2**20, doc="Bytes in a request, about; at most 10MiB.", unit="size", advanced=True
    )
    token_index: str = option(default=TOKEN_INDEX, doc="The index that keeps the tokens.", advanced=True)

    def __post_init__(self) -> None:
        if self.id_field is not None and self.write_mode is WriteMode.APPEND:
            # The dataclass is frozen for everyone else: with a key, appending and replacing by key are the same.
            object.__setattr__(self, "write_mode", WriteMode.UPSERT)
        if self.write_mode is WriteMode.UPSERT and self.id_field is None:
            raise OptionError("id_field", "upsert needs the field that identifies a document", "add id_field")
        if self.id_field is not None and not all(self.id_field.split(".")):
            raise OptionError("id_field", f"'{self.id_field}' is no path", "write names with dots between them")
        for name, value in (("index", self.index.replace(INPUT, "")), ("token_index", self.token_index)):
            _check_name(name, value, empty=name == "index" and INPUT in self.index)
        if not 1 <= self.request_bytes <= 10 * 2**20:
            raise OptionError("request_bytes", "a request holds 1 byte to 10MiB", "leave it out for 8MiB")
        for path, mapping in self.properties.items():
            if not isinstance(mapping, dict):
                raise OptionError("properties", f"'{path}' is no mapping", "write {type: keyword} or the like")

    @property
    def physical_name(self) -> tuple[str, ...]:
        return self.connection.key_of(self.index)

    def open_writer(self, schema: pa.Schema, token: Token) -> BatchWriter:
        from resources.elasticsearch.writer import open_writer

        return open_writer(self, schema, token)

    def for_input(self, name: str) -> Destination:
        return dataclasses.replace(self, index=self.index.replace(INPUT, name.lower()))


def _check_name(option_name: str, name: str, *, empty: bool) -> None:
    if not name and empty:
        return
    if not name or _FORBIDDEN.search(name) or len(name.encode()) > _LONGEST_NAME:
        raise OptionError(
            option_name,
            f"'{name}' cannot be the name of an index",
            "small letters, digits, - _ and ., not beginning with - _ or +",
        )


CONNECTOR = ConnectorKind(
    kind="elasticsearch",
    title="Elasticsearch",
    connection=ElasticsearchConnection,
    source=ElasticsearchSource,
    destination=ElasticsearchDestination,
    example="""\
type: elasticsearch
config:
  host: search.example.com
  username: headrace
  password: ${ES_PASSWORD}
  index: users
  id_field: user.id
""",
)
