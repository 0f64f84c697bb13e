"""Searches one point in time of an index page by page; decides nothing about states.

The order is that of one field, and within equal values one that holds only as long as the point in time does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from dsl.contracts.errors import HeadraceError, RetryableError, SchemaError
from resources.elasticsearch.client import Client
from resources.elasticsearch.incoming import parse
from resources.sql import suggestion

LARGEST_PAGE = 10_000
"""What an index gives at once, unless it is told otherwise (`index.max_result_window`)."""
DATES = frozenset({"date", "date_nanos"})
_WHOLE = frozenset({"byte", "short", "integer", "long", "unsigned_long"})
_ORDERED = DATES | _WHOLE | {"keyword"}
_SHOWN, _READ = "strict_date_optional_time_nanos", "strict_date_optional_time"
"""How dates are shown, and how what is shown so is read: with every digit."""


@dataclass(frozen=True)
class Index:
    """What a name leads to.

    Attributes:
        name: An index, an alias or a pattern.
        properties: The mappings of its fields, together.
        several: Whether more than one index is behind it.
        opensearch: Whether the cluster is OpenSearch.
    """

    name: str
    properties: Mapping[str, Any]
    several: bool
    opensearch: bool


@dataclass(frozen=True)
class Order:
    """The field that documents are read in the order of.

    Attributes:
        field: Its path.
        type: Its type in the mapping.
    """

    field: str
    type: str

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers."""
        return self.type in _WHOLE

    def range(self, **bounds: Any) -> dict[str, Any]:
        """Returns a query for the documents with a value within some bounds, as `Order.clause` shows values."""
        read = {"format": _READ} if self.type in DATES else {}
        return {"range": {self.field: {**bounds, **read}}}

    def clause(self, order: str = "asc") -> dict[str, Any]:
        """Returns what to sort by."""
        shown = {"format": _SHOWN} if self.type in DATES else {}
        return {self.field: {"order": order, **shown}}


def find_index(client: Client, name: str) -> Index:
    """Looks up an index and its mapping.

    Raises:
        SchemaError: There is none, it keeps no documents, or its indices disagree about a field.
    """
    where = f"{client.place}: index {name}"
    product = client.ask("GET").body
    opensearch = product.get("version", {}).get("distribution") == "opensearch"
    answer = client.ask("GET", name, "_mapping", where=where)
    if answer.status == 404 or not answer.body:
        known = client.ask("GET", "*", expand_wildcards="open").body
        names = [each for index, facts in known.items() for each in (index, *facts.get("aliases", {}))]
        raise SchemaError(f"there is no index '{name}'", where=where, hint=suggestion(name, names))
    properties: dict[str, Any] = {}
    for index, facts in sorted(answer.body.items()):
        mappings = facts.get("mappings", {})
        if mappings.get("_source", {}).get("enabled") is False:
            raise SchemaError(f"'{index}' does not keep its documents (_source)", where=where, hint="reindex it")
        _merge(properties, mappings.get("properties", {}), where)
    return Index(name, properties, len(answer.body) > 1, opensearch)


def _merge(into: dict[str, Any], more: Mapping[str, Any], where: str, path: str = "") -> None:
    for name, mapping in more.items():
        place = f"{path}.{name}" if path else name
        have = into.setdefault(name, {key: each for key, each in mapping.items() if key != "properties"})
        one, other = (each.get("type", "object") for each in (have, mapping))
        if one != other:
            hint = "name one index, or leave the field out by declaring columns"
            raise SchemaError(f"'{place}' is {one} in one index and {other} in another", where=where, hint=hint)
        if "properties" in mapping:
            _merge(have.setdefault("properties", {}), mapping["properties"], where, place)


def order_of(index: Index, path: str, where: str) -> Order:
    """Returns the order by a field.

    Raises:
        SchemaError: There is no such field, or an index cannot sort by it exactly.
    """
    fields: Mapping[str, Any] = index.properties
    mapping: Mapping[str, Any] = {}
    for name in path.split("."):
        if name not in fields:
            raise SchemaError(f"there is no field '{path}'", where=where, hint=suggestion(name, fields))
        mapping = fields[name]
        fields = {**mapping.get("properties", {}), **mapping.get("fields", {})}
    if mapping.get("type") not in _ORDERED or mapping.get("doc_values") is False:
        raise SchemaError(
            f"'{path}' is {mapping.get('type', 'an object')}, and documents cannot be ordered by it exactly",
            where=where,
            hint="name a field of whole numbers, a date or a keyword (such as name.keyword)",
        )
    return Order(path, str(mapping["type"]))


class PointInTime:
    """One view of an index, kept as long as it is read.

    Args:
        client: The connection.
        index: What is read.
        keep: How long the view is kept between two pages, in seconds.
        shared: The id of a view that somebody else opened and closes, or "".
    """

    def __init__(self, client: Client, index: Index, keep: int, shared: str = "") -> None:
        self._client, self._index, self._keep = client, index, f"{keep}s"
        self.where = f"{client.place}: index {index.name}"
        self._owned = not shared
        self.id = shared or self._open()

    def _open(self) -> str:
        path = ("_search", "point_in_time") if self._index.opensearch else ("_pit",)
        answer = self._client.ask("POST", self._index.name, *path, where=self.where, keep_alive=self._keep)
        if answer.status >= 300:
            raise self._client.refusal(answer, self.where)
        return str(answer.body["pit_id" if self._index.opensearch else "id"])

    def search(self, **body: Any) -> list[dict[str, Any]]:
        """Returns the hits of one search, and keeps the view; raises as `Client.ask` does, and where shards failed."""
        return list(self._ask(body)["hits"]["hits"])

    def count(self, query: Mapping[str, Any]) -> int:
        """Counts the documents that a query finds."""
        return int(self._ask({"size": 0, "query": query, "track_total_hits": True})["hits"]["total"]["value"])

    def _ask(self, body: Mapping[str, Any]) -> dict[str, Any]:
        asked = {**body, "pit": {"id": self.id, "keep_alive": self._keep}}
        target = "/_search?allow_partial_search_results=false"
        answer = self._client.send(
            "POST", target, json.dumps(asked, allow_nan=False).encode(), where=self.where, parse=parse
        )
        if answer.status == 404:
            raise RetryableError(
                f"the view of the index has expired: {answer.reason}", where=self.where, hint="raise keep_alive?"
            )
        if answer.status >= 300:
            raise self._client.refusal(answer, self.where)
        if not isinstance(answer.body, dict):
            raise self._client.no_json(answer, self.where)
        if answer.body.get("timed_out") or answer.body.get("_shards", {}).get("failed"):
            raise RetryableError("some shards did not answer", where=self.where)
        self.id = str(answer.body.get("pit_id") or self.id)
        return answer.body

    def pages(
        self, query: Mapping[str, Any], order: Order | None, sizes: Iterator[int], **body: Any
    ) -> Iterator[list[dict[str, Any]]]:
        """Yields pages of hits in order, each as large as the next of `sizes` says, until nothing is left."""
        after: Sequence[Any] | None = None
        for size in sizes:
            more = {} if after is None else {"search_after": after}
            asked = {"size": size, "query": query, "sort": self._sort(order), "track_total_hits": False}
            hits = self.search(**asked, **body, **more)
            if hits:
                yield hits
            if len(hits) < size:
                return
            after = hits[-1]["sort"]

    def _sort(self, order: Order | None) -> list[dict[str, Any]]:
        """Elasticsearch itself adds the place of a document within the view, OpenSearch does not."""
        last = [{"_id": "asc"}] if self._index.opensearch else []
        if order is None:
            return last or [{"_shard_doc": "asc"}]
        return [order.clause(), *last]

    def ends(self, query: Mapping[str, Any], order: Order) -> tuple[Any, Any] | None:
        """Returns the least and the greatest value of a field, or None where there is none."""
        held = {"bool": {"filter": [query, {"exists": {"field": order.field}}]}}
        found = [self.search(size=1, query=held, sort=[order.clause(way)], _source=False) for way in ("asc", "desc")]
        if not all(found):
            return None
        return found[0][0]["sort"][0], found[1][0]["sort"][0]

    def close(self) -> None:
        """Lets the view go; a view that is not let go ends by itself."""
        if self._owned:
            self._owned = False
            body: dict[str, Any] = {"pit_id": [self.id]} if self._index.opensearch else {"id": self.id}
            path = "/_search/point_in_time" if self._index.opensearch else "/_pit"
            with suppress(HeadraceError):
                self._client.send("DELETE", path, json.dumps(body).encode(), where=self.where)


@contextmanager
def held_view(client: Client, name: str, keep: int) -> Iterator[str]:
    """Holds a view open that several readers share; yields its id."""
    view = PointInTime(client, find_index(client, name), keep)
    try:
        yield view.id
    finally:
        view.close()
