"""A plan as people and machines read it: nodes, schemas, what was pushed, fused, cut and why; never shows a secret."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from dsl.contracts.capabilities import Guarantee, WriteMode
from dsl.contracts.connectors import Destination, ReadRequest
from dsl.expressions.types import show
from dsl.plan.logical import Load, LogicalNode, LogicalPlan, Process, Read, Transform
from dsl.plan.lower import cut_nodes
from dsl.plan.memory import Keys
from dsl.plan.physical import (
    Apply,
    ChunkQuery,
    ExchangeScan,
    ExchangeWrite,
    PhysicalNode,
    PhysicalPlan,
    Remember,
    Scan,
    Stage,
    StreamQuery,
    Write,
    inputs_of,
)
from dsl.streams import grows

_SHORT = 12


def explain(logical: LogicalPlan, physical: PhysicalPlan) -> str:
    """Returns the plan as text: nodes with their columns, then stages with what runs in each."""
    count = len(physical.stages)
    lines = [f"workflow {logical.workflow}: {count} stage{'s' * (count != 1)}, plan {physical.fingerprint[:_SHORT]}"]
    lines += ["", "nodes"]
    for node in logical.nodes:
        lines += _node_lines(node)
    for cut, reason in cut_nodes(logical).items():
        lines += ["", f"cut behind {cut}: {reason}"]
    for stage in physical.stages:
        lines += ["", *_stage_lines(stage)]
    return "\n".join(lines) + "\n"


def as_json(logical: LogicalPlan, physical: PhysicalPlan) -> dict[str, Any]:
    """Returns the plan as plain data, the same facts as `explain`."""
    return {
        "workflow": logical.workflow,
        "fingerprint": physical.fingerprint,
        "nodes": [_node_json(each) for each in logical.nodes],
        "cuts": cut_nodes(logical),
        "stages": [_stage_json(each) for each in physical.stages],
    }


def mermaid(logical: LogicalPlan) -> str:
    """Returns the nodes and edges as a Mermaid flowchart (https://mermaid.js.org/syntax/flowchart.html)."""
    ids = {each.id: f"n{index}" for index, each in enumerate(logical.nodes)}
    lines = ["flowchart LR"]
    for each in logical.nodes:
        before, after = ("[(", ")]") if isinstance(each, Read | Load) else ("[", "]")
        lines.append(f'  {ids[each.id]}{before}"{_escaped(each.id)}<br/>{_escaped(kind_of(each))}"{after}')
    lines += [f"  {ids[before]} --> {ids[each.id]}" for each in logical.nodes for before in each.inputs]
    return "\n".join(lines) + "\n"


def guarantee_of(destination: Destination) -> Guarantee:
    """Returns what holds for the rows of a destination when a run is killed anywhere and started again."""
    able = destination.capabilities
    keyed = destination.write_mode in {WriteMode.UPSERT, WriteMode.MERGE}
    return able.keyed_guarantee if keyed and able.keyed_guarantee is not None else able.guarantee


def kind_of(node: LogicalNode) -> str:
    """Returns what a node is, in a word or two."""
    if isinstance(node, Read):
        return f"read {_physical(node.source.physical_name)}"
    if isinstance(node, Load):
        return f"write {_physical(node.destination.physical_name)}"
    return node.kind if isinstance(node, Transform | Process) else "node"


def _physical(name: tuple[str, ...]) -> str:
    return "/".join(name)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")


def columns_of(schema: pa.Schema | None) -> dict[str, str] | None:
    """Returns the columns of a schema with their types as the language writes them."""
    return None if schema is None else {each.name: show(each.type) for each in schema}


def pushed_of(request: ReadRequest) -> dict[str, Any]:
    """Returns what a source is asked to do itself."""
    asked = {"columns": request.columns, "predicate": request.predicate, "limit": request.limit}
    return {name: list(each) if isinstance(each, tuple) else each for name, each in asked.items() if each is not None}


# ---- nodes --------------------------------------------------------------------------------------------------------------


def _node_lines(node: LogicalNode) -> list[str]:
    fed = f" <- {', '.join(node.inputs)}" if node.inputs else ""
    columns = columns_of(node.schema)
    shown = "columns unknown until it runs" if columns is None else ", ".join(f"{n} {t}" for n, t in columns.items())
    lines = [
        f"  {node.id}: {kind_of(node)}{fed}",
        *textwrap.wrap(shown, 110, initial_indent="    ", subsequent_indent="    "),
    ]
    if isinstance(node, Read):
        lines += [f"    pushed {name}: {_listed(each)}" for name, each in pushed_of(node.request).items()]
    if isinstance(node, Load):
        lines.append(f"    {_promise(node.destination)}")
    return lines


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _promise(destination: Destination) -> str:
    return f"{destination.write_mode}, {guarantee_of(destination)} ({destination.capabilities.proof})"


def _node_json(node: LogicalNode) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "id": node.id,
        "kind": kind_of(node),
        "inputs": list(node.inputs),
        "columns": columns_of(node.schema),
        "lineage": _lineage(node.lineage),
    }
    if isinstance(node, Read):
        facts["pushed"] = pushed_of(node.request)
    if isinstance(node, Load):
        facts |= _promise_json(node.destination)
    return facts


def _lineage(lineage: Mapping[str, tuple[tuple[str, str], ...]]) -> dict[str, list[str]]:
    return {name: [f"{source}.{column}" for source, column in pairs] for name, pairs in lineage.items()}


def _promise_json(destination: Destination) -> dict[str, Any]:
    return {
        "write_mode": str(destination.write_mode),
        "guarantee": str(guarantee_of(destination)),
        "proof": str(destination.capabilities.proof),
    }


# ---- stages -------------------------------------------------------------------------------------------------------------


def _stage_lines(stage: Stage) -> list[str]:
    after = f", after {', '.join(stage.after)}" if stage.after else ""
    return [f"stage {stage.id}{after}", *(f"  {each}" for each in (*_writer_lines(stage), *_tree_lines(stage.root, 1)))]


def _writer_lines(stage: Stage) -> Iterator[str]:
    writer = stage.writer
    if isinstance(writer, ExchangeWrite):
        yield f"write an exchange for {', '.join(writer.consumers)}"
    else:
        yield f"write {writer.node} ({_physical(writer.destination.physical_name)}): {_promise(writer.destination)}"


def _tree_lines(node: PhysicalNode, depth: int) -> Iterator[str]:
    pad = "  " * depth
    yield pad + _headline(node)
    if isinstance(node, ChunkQuery | StreamQuery):
        yield from (f"{pad}  {line}" for line in node.sql.splitlines())
    for each in inputs_of(node):
        yield from _tree_lines(each, depth + 1)


def _headline(node: PhysicalNode) -> str:
    if isinstance(node, Scan):
        return f"read {node.node} ({_physical(node.source.physical_name)}){_going_on(node)}"
    if isinstance(node, ExchangeScan):
        return f"read the exchange of {node.node}"
    if isinstance(node, Remember):
        what = "the keys it has seen" if isinstance(node.memory, Keys) else "the rows of windows that are open"
        return f"{node.node}, batch by batch: remembers {what}, committed with each epoch"
    if isinstance(node, Apply):
        return f"apply {node.node}, batch by batch"
    fused = "fused " if len(node.nodes) > 1 else ""
    if isinstance(node, ChunkQuery):
        return f"{fused}{' + '.join(node.nodes)}: one query for each batch, because every row stands for itself"
    return f"{fused}{' + '.join(node.nodes)}: one query over the whole input, committed at its end"


def _going_on(node: Scan) -> str:
    if node.poll is None:
        count, at_once = node.policies.partitions or node.policies.parallelism, node.policies.parallelism
        divided = count > 1 and node.source.capabilities.divides and not grows(node.source)
        return f", in up to {count} parts, {min(at_once, count)} at a time" if divided else ""
    return ", for ever" if node.request.follow else f", for ever, every {node.poll.total_seconds():g} s"


def _stage_json(stage: Stage) -> dict[str, Any]:
    return {
        "id": stage.id,
        "after": list(stage.after),
        "writer": _writer_json(stage.writer),
        "columns": columns_of(stage.schema),
        "root": _tree_json(stage.root),
    }


def _writer_json(writer: Write | ExchangeWrite) -> dict[str, Any]:
    if isinstance(writer, ExchangeWrite):
        return {"exchange": writer.node, "consumers": list(writer.consumers)}
    return {
        "node": writer.node,
        "input": writer.input_node,
        "target": list(writer.destination.physical_name),
        **_promise_json(writer.destination),
    }


def _tree_json(node: PhysicalNode) -> dict[str, Any]:
    below = [_tree_json(each) for each in inputs_of(node)]
    columns = columns_of(node.schema)
    if isinstance(node, Scan):
        name = list(node.source.physical_name)
        going = {} if node.poll is None else {"poll": node.poll.total_seconds(), "follow": node.request.follow}
        return {"read": node.node, "from": name, "pushed": pushed_of(node.request), "columns": columns, **going}
    if isinstance(node, ExchangeScan):
        return {"exchange": node.node, "producer": node.producer, "columns": columns}
    if isinstance(node, Remember):
        kind = "keys" if isinstance(node.memory, Keys) else "windows"
        return {"remember": node.node, "memory": kind, "columns": columns, "inputs": below}
    if isinstance(node, Apply):
        return {"apply": node.node, "columns": columns, "inputs": below}
    kind = "chunk_query" if isinstance(node, ChunkQuery) else "stream_query"
    return {kind: list(node.nodes), "sql": node.sql, "columns": columns, "inputs": below}
