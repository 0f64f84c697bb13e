"""The index that is written: found by its name or alias, made, its mapping completed, put in another's place; writes no documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from dsl.contracts.errors import FatalError, SchemaError
from resources.elasticsearch.client import Client
from resources.elasticsearch.types import dynamic_templates, mappings_of, missing
from resources.sql import SchemaEvolution

# What an index that takes another's place keeps of it; the rest belongs to the one index (its uuid, its blocks).
_KEPT = (
    "analysis",
    "codec",
    "default_pipeline",
    "final_pipeline",
    "gc_deletes",
    "mapping",
    "max_result_window",
    "number_of_replicas",
    "number_of_shards",
    "refresh_interval",
    "similarity",
    "sort",
    "translog",
)
_GC_DELETES = "10m"
_OWNER = "headrace"


@dataclass(frozen=True)
class Index:
    """One index as it stands.

    Attributes:
        name: Its own name.
        alias: Whether the target's name is an alias of it.
        mappings: Its mappings.
        settings: Its settings, those below `index`.
    """

    name: str
    alias: bool
    mappings: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def properties(self) -> dict[str, Any]:
        """Its fields."""
        return dict(self.mappings.get("properties", {}))

    @property
    def ours(self) -> bool:
        """Whether it was made here."""
        return _OWNER in (self.mappings.get("_meta") or {})

    @property
    def durable(self) -> bool:
        """Whether it has on disk what it has acknowledged."""
        translog = self.settings.get("translog") or {}
        return "async" not in {translog.get("durability"), self.settings.get("translog.durability")}


@dataclass(frozen=True)
class Target:
    """The name that is written.

    Attributes:
        client: The cluster.
        name: An index or an alias.
        schema: The schema of the rows.
        given: Mappings that the document gives, by path.
        settings: Settings that the document gives.
        evolution: Whether a mapping may be completed.
    """

    client: Client
    name: str
    schema: pa.Schema
    given: Mapping[str, Any]
    settings: Mapping[str, Any]
    evolution: SchemaEvolution

    @property
    def where(self) -> str:
        """How errors name it."""
        return f"{self.client.place}: index {self.name}"

    def find(self, name: str = "") -> tuple[Index, ...]:
        """Returns the indices behind a name, the target's own if absent."""
        asked = name or self.name
        answer = self.client.ask("GET", asked, where=self.where, expand_wildcards="all")
        if answer.status == 404:
            return ()
        return tuple(
            Index(each, each != asked, facts.get("mappings") or {}, (facts.get("settings") or {}).get("index") or {})
            for each, facts in sorted(answer.body.items())
        )

    def ready(self) -> Index:
        """Returns the one index behind the name, made or completed for the schema.

        Raises:
            SchemaError: It cannot hold the rows, or may not be changed.
            FatalError: The name stands for several indices, or for a data stream.
        """
        index = self.only()
        if index is None:
            return self.make(self.name, None)
        self._complete(index)
        return index

    def only(self) -> Index | None:
        """Returns the one index behind the name, or None; raises as `ready` does."""
        found = self.find()
        if any(each.name.startswith(".ds-") for each in found):
            raise FatalError("it is a data stream", where=self.where, hint="name an index or an alias of one index")
        if len(found) > 1:
            names = ", ".join(each.name for each in found)
            raise FatalError(
                f"it is an alias of several indices ({names})", where=self.where, hint="name the one to write"
            )
        return found[0] if found else None

    def make(self, name: str, like: Index | None) -> Index:
        """Creates an index for the schema, with the settings of another, and its mappings if somebody else made that one."""
        wanted = mappings_of(self.schema, self.given)
        if like is not None and not like.ours:
            added = missing(wanted["properties"], like.properties, self.where)
            wanted = {**wanted, **like.mappings, "properties": _merged(like.properties, added)}
        wanted["_meta"] = {**(wanted.get("_meta") or {}), _OWNER: {"version": 1}}
        kept = {} if like is None else {each: like.settings[each] for each in _KEPT if each in like.settings}
        settings = {"gc_deletes": _GC_DELETES, **kept, **self.settings}
        self.client.create_index(name, {"settings": {"index": settings}, "mappings": wanted}, where=self.where)
        found = self.find(name)
        if not found:
            raise SchemaError("the index that was made is not there", where=self.where, hint="was it deleted?")
        return found[0]

    def take_place(self, staging: str) -> None:
        """Gives the target's name to an index in one act; safe to repeat, and does nothing if that index is gone.

        The index that had the name goes in the same act, so that no crash leaves it behind: one that was made here or
        that is called so itself; an index of somebody else's only loses the alias.
        """
        if not self.find(staging):
            return
        actions: list[dict[str, Any]] = []
        for each in self.find():
            if each.name == staging:
                continue
            gone = not each.alias or each.ours
            actions.append(
                {"remove_index": {"index": each.name}} if gone else {"remove": {"index": each.name, "alias": self.name}}
            )
        actions.append({"add": {"index": staging, "alias": self.name, "is_write_index": True}})
        self.client.ask("POST", "_aliases", body={"actions": actions}, where=self.where)

    def check_kept(self, index: Index) -> None:
        """Makes sure that an index is still the one it was.

        Raises:
            FatalError: It was deleted, and perhaps made again by what was written since.
        """
        if [each.settings.get("uuid") for each in self.find(index.name)] != [index.settings.get("uuid")]:
            raise FatalError(
                f"index '{index.name}' was deleted or replaced while it was written",
                where=self.where,
                hint="nothing of this epoch was committed; run again to write what it lost, after deleting its token",
            )

    def drop(self, name: str) -> None:
        """Deletes an index if it is there."""
        self.client.ask("DELETE", name, where=self.where)

    def _complete(self, index: Index) -> None:
        wanted = mappings_of(self.schema, self.given)
        added = missing(wanted["properties"], index.properties, self.where)
        if not added:
            return
        if self.evolution is SchemaEvolution.FREEZE:
            raise SchemaError(
                f"the index does not have the fields {', '.join(sorted(added))}",
                where=self.where,
                hint="add them, leave them out, or say schema_evolution: evolve",
            )
        body: dict[str, Any] = {"properties": added}
        if index.ours and (templates := _new_templates(self.schema, index)):
            body["dynamic_templates"] = templates
        self.client.ask("PUT", index.name, "_mapping", body=body, where=self.where)


def _new_templates(schema: pa.Schema, index: Index) -> list[Any]:
    """Returns the templates of an index with those that it lacks; none if it lacks none."""
    held = list(index.mappings.get("dynamic_templates") or [])
    names = {name for each in held for name in each}
    fresh = [each for each in dynamic_templates(schema) if not names.issuperset(each)]
    return [*held, *fresh] if fresh else []


def _merged(there: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(there)
    for name, mapping in added.items():
        inside = there.get(name)
        if inside is None:
            merged[name] = mapping
        else:
            merged[name] = {**inside, "properties": _merged(inside.get("properties", {}), mapping["properties"])}
    return merged
