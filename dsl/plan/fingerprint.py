"""What decides the meaning of a state, as one hash: readers, SQL, options, writers; never a secret, a schedule or a description."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from dsl.contracts.connectors import Connection, Destination, ReadRequest, Source
from dsl.contracts.secret import Secret
from dsl.contracts.spec import spec_of
from dsl.plan.physical import (
    Apply,
    ChunkQuery,
    ExchangeScan,
    ExchangeWrite,
    PhysicalNode,
    Remember,
    Scan,
    Stage,
    StreamQuery,
    inputs_of,
)


def fingerprint(stages: tuple[Stage, ...]) -> str:
    """Returns the sha256, in hex, of what some stages do."""
    text = json.dumps([_stage(each) for each in stages], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def options_of(configured: object) -> dict[str, Any]:
    """Returns the options of a configured object as plain data; secrets as references, connections left out."""
    kind: type[Any] = type(configured)
    names = [each.name for each in spec_of(kind).options] if dataclasses.is_dataclass(kind) else []
    return {name: plain(getattr(configured, name)) for name in names if name != "connection"}


def plain(value: object) -> Any:
    """Returns a value of an option as plain data."""
    if value is None or isinstance(value, bool | int | float | str):
        return value if not isinstance(value, str) else str(value)
    if isinstance(value, Secret | Connection):
        return str(value) if isinstance(value, Secret) else type(value).__name__
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [plain(each) for each in value]
    return str(value)


def _stage(stage: Stage) -> dict[str, Any]:
    writer = stage.writer
    if isinstance(writer, ExchangeWrite):
        return {"id": stage.id, "root": _node(stage.root), "exchange": writer.node}
    return {"id": stage.id, "root": _node(stage.root), "writer": _endpoint(writer.destination)}


def _node(node: PhysicalNode) -> dict[str, Any]:
    below = [_node(each) for each in inputs_of(node)]
    if isinstance(node, Scan):
        return {"node": node.node, "source": _endpoint(node.source), **_request(node.request)}
    if isinstance(node, ExchangeScan):
        return {"exchange": node.node}
    if isinstance(node, Remember):
        return {"node": node.node, "view": node.view, "memory": plain(node.memory), "inputs": below}
    if isinstance(node, Apply):
        return {"node": node.node, "options": options_of(node.processor), "inputs": below}
    assert isinstance(node, ChunkQuery | StreamQuery)  # noqa: S101 - the union is closed
    return {"nodes": node.nodes, "sql": node.sql, "inputs": below}


def _request(request: ReadRequest) -> dict[str, Any]:
    return {"columns": request.columns, "predicate": request.predicate, "limit": request.limit}


def _endpoint(configured: Source | Destination) -> dict[str, Any]:
    return {
        "class": type(configured).__name__,
        "name": list(configured.physical_name),
        "options": options_of(configured),
    }
