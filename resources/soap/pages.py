"""Calls an operation for one page after another; knows no rows and keeps no state."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import pyarrow as pa

from dsl.contracts.connectors import BatchReader, ReadRequest, Source
from dsl.contracts.state import Json, State
from resources.http_json import Path
from resources.http_paging import Follower, Page
from resources.http_reader import PagedReader
from resources.http_source import COUNTED, Pagination
from resources.soap.resource import SoapSource
from resources.soap.service import Service
from resources.soap.types import plain, schema_of


class SoapPages:
    """The pages of an operation's result.

    Args:
        source: What to call, and how.
        service: The service; closed with this.
    """

    def __init__(self, source: SoapSource, service: Service) -> None:
        self._source, self._service = source, service
        self.paging: Pagination = source.pagination
        self.where = source.place
        self._records = Path(source.records, self.where)
        self._follower = Follower(self.paging, self.where)

    def fetch(self, position: Json, since: str | None, carried: Mapping[str, Any], etag: str | None = None) -> Page:
        del carried, etag  # an operation has no parents and no ETag
        paging, arguments = self.paging, dict[str, Any](self._source.arguments)
        if paging.size_param is not None:
            arguments[paging.size_param] = paging.size
        at = paging.first if position is None and paging.type in COUNTED else position
        if paging.param is not None and at is not None:
            arguments[paging.param] = at
        if since is not None and self._source.incremental_param is not None:
            arguments[self._source.incremental_param] = since
        result = self._service.call(self._source.operation, arguments)
        document = plain(result)
        name = (
            self.where if at is None else f"{self.where}: {paging.type} {at if paging.type in COUNTED else ''}".strip()
        )
        records = self._records.all(document)
        following, told, total = self._follower.follow(position, document, {}, "", len(records))
        return Page(records, following, told, total, name)

    def close(self) -> None:
        self._service.close()


def open_reader(source: SoapSource, request: ReadRequest, state: State | None) -> BatchReader:
    """Opens a reader; raises as `Source.read` says."""
    service = Service(source.connection, source.place)
    try:
        return PagedReader(_known(source, service), SoapPages(source, service), request, state)
    except BaseException:
        service.close()
        raise


def discover(source: SoapSource) -> pa.Schema:
    """Returns the schema that reading will yield; raises as `Source.discover_schema` says."""
    if source.declared is not None:
        return source.declared
    with closing(Service(source.connection, source.place)) as service:
        return schema_of(service.output(source.operation), source.records, source.place)


def _known(source: SoapSource, service: Service) -> SoapSource:
    """Returns the source with columns: where none are declared, those of the XML Schema."""
    if source.declared is not None:
        return source
    declared: Source = source.declaring(schema_of(service.output(source.operation), source.records, source.place))
    assert isinstance(declared, SoapSource)  # noqa: S101 - its own
    return declared
