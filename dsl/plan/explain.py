"""The plan for people and for machines: stages, what was pushed, fused and cut, and why; a visitor, and shows no secret.

Nothing of a connection is shown but the physical name of what is read or written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Destination
from dsl.plan.logical import Load, LogicalNode, LogicalPlan, Process, Read, Transform
from dsl.plan.physical import (
    Apply,
    ChunkQuery,
    ExchangeScan,
    ExchangeWrite,
    PhysicalNode,
    PhysicalPlan,
    Scan,
    Stage,
    StreamQuery,
    Write,
    inputs_of,
)

INDENT = "   "


def explain(logical: LogicalPlan, physical: PhysicalPlan) -> str:
    """Returns the plan as a tree of text, one block a stage."""
    count = len(physical.stages)
    head = f"workflow {physical.workflow}: {count} stage{'' if count == 1 else 's'}, plan {physical.fingerprint[:12]}"
    blocks = ["\n".join(_stage_lines(logical, each)) for each in physical.stages]
    return "\n\n".join([head, *blocks]) + "\n"


def as_json(logical: LogicalPlan, physical: PhysicalPlan) -> dict[str, Any]:
    """Returns the plan as plain data."""
    return {
        "workflow": physical.workflow,
        "fingerprint": physical.fingerprint,
        "nodes": [_node_json(each) for each in logical.nodes],
        "stages": [_stage_json(logical, each) for each in physical.stages],
    }


def mermaid(logical: LogicalPlan) -> str:
    """Returns the workflow as a Mermaid flow chart (https://mermaid.js.org/syntax/flowchart.html)."""
    shapes = {Read: ("[(", ")]"), Load: ("[(", ")]")}
    names = {each.id: f"n{index}" for index, each in enumerate(logical.nodes)}
    lines = ["flowchart LR"]
    for each in logical.nodes:
        left, right = shapes.get(type(each), ("[", "]"))
        lines.append(f'  {names[each.id]}{left}"{each.id}"{right}')
    lines += [f"  {names[wanted]} --> {names[each.id]}" for each in logical.nodes for wanted in each.inputs]
    return "\n".join(lines) + "\n"


def guarantee(destination: Destination) -> str:
    """Returns what holds over crashes for a destination as it is configured, and how that was proven."""
    able = destination.capabilities
    keyed = destination.write_mode in {WriteMode.UPSERT, WriteMode.MERGE}
    promise = able.keyed_guarantee if keyed and able.keyed_guarantee is not None else able.guarantee
    return f"{promise.value}, {able.proof.value}"


def _stage_lines(logical: LogicalPlan, stage: Stage) -> Iterator[str]:
    after = f" (after {', '.join(stage.after)})" if stage.after else ""
    yield f"stage {stage.id}{after}"
    yield f"{INDENT}{_writer_line(logical, stage.writer)}"
    if stage.schema is not None:
        yield f"{INDENT}columns: {_columns(stage.schema)}"
    yield from _tree_lines(stage.root, INDENT)


def _writer_line(logical: LogicalPlan, writer: Write | ExchangeWrite) -> str:
    if isinstance(writer, ExchangeWrite):
        return f"writes an exchange: {_why_cut(logical, writer.node)}"
    target = writer.destination
    return f"writes {writer.node}: {_place(target.physical_name)}, {target.write_mode.value}, {guarantee(target)}"


def _why_cut(logical: LogicalPlan, node: str) -> str:
    if node in logical.persisted:
        return f"{node} is persisted"
    consumers = logical.consumers(node)
    return f"{node} feeds {', '.join(each.id for each in consumers)}"


def _tree_lines(node: PhysicalNode, indent: str) -> Iterator[str]:
    said, *details = _node_lines(node)
    yield f"{indent}└─ {said}"
    for detail in details:
        yield f"{indent}{INDENT}{detail}"
    for each in inputs_of(node):
        yield from _tree_lines(each, indent + INDENT)


def _node_lines(node: PhysicalNode) -> list[str]:
    if isinstance(node, Scan):
        return [f"reads {node.node}: {_place(node.source.physical_name)}", *_pushed(node)]
    if isinstance(node, ExchangeScan):
        return [f"reads the exchange of {node.producer}"]
    if isinstance(node, Apply):
        return [f"applies {node.node}: {type(node.processor).__name__.removesuffix('Options').lower()}, batch by batch"]
    how = "batch by batch" if isinstance(node, ChunkQuery) else "over whole inputs, spilling"
    fused = f"{len(node.nodes)} nodes fused" if len(node.nodes) > 1 else "one node"
    return [f"query {' + '.join(node.nodes)}: {how}, {fused}", f"SQL: {node.sql}"]


def _pushed(scan: Scan) -> list[str]:
    request = scan.request
    return [
        *([f"pushed columns: {', '.join(request.columns)}"] if request.columns is not None else []),
        *([f"pushed condition: {request.predicate}"] if request.predicate is not None else []),
        *([f"pushed limit: {request.limit}"] if request.limit is not None else []),
    ]


def _place(name: tuple[str, ...]) -> str:
    return "/".join(name)


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{each.name} {_type(each.type)}" for each in schema)


def _type(kind: pa.DataType) -> str:
    return "?" if pa.types.is_null(kind) else str(kind)


def _schema_json(schema: pa.Schema | None) -> dict[str, str] | None:
    return None if schema is None else {each.name: _type(each.type) for each in schema}


def _node_json(node: LogicalNode) -> dict[str, Any]:
    kind = node.kind if isinstance(node, Transform | Process) else "source" if isinstance(node, Read) else "destination"
    return {
        "id": node.id,
        "kind": kind,
        "inputs": list(node.inputs),
        "schema": _schema_json(node.schema),
        "lineage": {column: [".".join(each) for each in origins] for column, origins in node.lineage.items()},
    }


def _stage_json(logical: LogicalPlan, stage: Stage) -> dict[str, Any]:
    writer = stage.writer
    return {
        "id": stage.id,
        "after": list(stage.after),
        "schema": _schema_json(stage.schema),
        "writer": {"exchange": writer.node, "consumers": list(writer.consumers), "why": _why_cut(logical, writer.node)}
        if isinstance(writer, ExchangeWrite)
        else {
            "node": writer.node,
            "input": writer.input_node,
            "target": list(writer.destination.physical_name),
            "write_mode": writer.destination.write_mode.value,
            "guarantee": guarantee(writer.destination),
        },
        "root": _physical_json(stage.root),
    }


def _physical_json(node: PhysicalNode) -> dict[str, Any]:
    below = [_physical_json(each) for each in inputs_of(node)]
    if isinstance(node, Scan):
        request = node.request
        return {
            "scan": node.node,
            "source": list(node.source.physical_name),
            "columns": None if request.columns is None else list(request.columns),
            "condition": request.predicate,
            "limit": request.limit,
        }
    if isinstance(node, ExchangeScan):
        return {"exchange": node.producer}
    if isinstance(node, Apply):
        return {"apply": node.node, "inputs": below}
    kind = "stream_query" if isinstance(node, StreamQuery) else "chunk_query"
    return {kind: list(node.nodes), "sql": node.sql, "inputs": below}
