"""The kinds of processors: options, schema, lineage and SQL of each; runs none of them.

A kind is a module with a `KIND`; adding one means adding it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from dsl.processors import (
    aggregate,
    deduplicate,
    enrich,
    filtering,
    join,
    limit,
    mapping,
    mask,
    python,
    sort,
    sql,
    union,
    unnest,
)
from dsl.processors.kind import ProcessorKind as ProcessorKind

PROCESSORS: Mapping[str, ProcessorKind] = MappingProxyType(
    {
        module.KIND.kind: module.KIND
        for module in (
            mapping, filtering, aggregate, join, deduplicate, sort, limit, unnest, union, mask, sql, python, enrich,
        )
    }
)  # fmt: skip
"""Value of `type` -> its kind, in the order of the reference."""
