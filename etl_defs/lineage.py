"""Finds circles in the lineage between workflows, which Dagster's asset graph cannot hold; changes no workflow."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from dagster import AssetKey


def circles(
    reads: Mapping[str, AbstractSet[AssetKey]], writes: Mapping[str, AbstractSet[AssetKey]]
) -> dict[str, frozenset[AssetKey]]:
    """Returns the sources to leave out of each workflow's lineage so that no workflow depends on itself.

    Workflows are taken in the order of their names; what would close a circle is left out of the one that closes it.

    Args:
        reads: Workflow -> the assets it reads.
        writes: Workflow -> the assets it writes.
    """
    writer = {key: name for name in sorted(writes, reverse=True) for key in writes[name]}
    upstream: dict[str, set[str]] = {}
    found: dict[str, frozenset[AssetKey]] = {}
    for name in sorted(reads):
        cut = set()
        for key in sorted(reads[name]):
            origin = writer.get(key)
            if origin is None:
                continue
            if origin == name or _depends(upstream, origin, name):
                cut.add(key)
            else:
                upstream.setdefault(name, set()).add(origin)
        if cut:
            found[name] = frozenset(cut)
    return found


def _depends(upstream: Mapping[str, set[str]], name: str, on: str) -> bool:
    """Tells whether a workflow depends on another, through any number of others."""
    waiting, seen = [name], {name}
    while waiting:
        for each in upstream.get(waiting.pop(), ()):
            if each == on:
                return True
            if each not in seen:
                seen.add(each)
                waiting.append(each)
    return False
