"""Elasticsearch's options: how to reach it and where to write; imports no driver and opens nothing itself."""

from __future__ import annotations

import dataclasses
import re
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
from dsl.contracts.state import Json
from resources.sql import SchemaEvolution, Tls

DEFAULT_PORT = 9200
TOKEN_INDEX = "headrace-tokens"  # noqa: S105 - an index's name
_FORBIDDEN = re.compile(r'[\\/*?"<>| ,#:A-Z\x00-\x1f]|^[-_+]|^\.{1,2}$')
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
