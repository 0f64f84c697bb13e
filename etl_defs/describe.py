"""Stages as text for people: what is read, the SQL that runs, what is written; the same words in the UI and in the plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from dsl.contracts.redaction import scrub
from dsl.plan.memory import Keys
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


def stage_text(stage: Stage) -> str:
    """Returns a stage as text, from its readers to its writer."""
    lines = [*_node_lines(stage.root), _writer_line(stage)]
    return scrub("\n".join(lines))


def stage_description(stage: Stage) -> str:
    """Returns a stage as the description of an op: a sentence, then its text as a block."""
    writer = stage.writer
    target = (
        f"exchange {writer.node!r}"
        if isinstance(writer, ExchangeWrite)
        else " / ".join(writer.destination.physical_name)
    )
    return f"Writes {target}.\n\n```sql\n{stage_text(stage)}\n```"


def _node_lines(node: PhysicalNode) -> Iterator[str]:
    for each in inputs_of(node):
        yield from _node_lines(each)
    if isinstance(node, Scan):
        yield f"-- read {node.node}: {' / '.join(node.source.physical_name)}{_request(node)}"
    elif isinstance(node, ExchangeScan):
        yield f"-- read what stage {node.producer} wrote for {node.node}"
    elif isinstance(node, Remember):
        yield f"-- {node.node}: remembers {'keys' if isinstance(node.memory, Keys) else 'rows of open windows'} between batches"
    elif isinstance(node, Apply):
        yield f"-- {node.node}: {_kind_of(node.processor)}"
    else:
        yield f"-- {', '.join(node.nodes)} ({_how(node)})"
        yield node.sql


def _request(scan: Scan) -> str:
    wanted = scan.request
    parts = []
    if wanted.columns is not None:
        parts.append(f"columns {', '.join(wanted.columns) or 'none'}")
    if wanted.predicate:
        parts.append(f"where {wanted.predicate}")
    if wanted.limit is not None:
        parts.append(f"at most {wanted.limit} rows")
    return f" ({'; '.join(parts)})" if parts else ""


def _how(node: ChunkQuery | StreamQuery) -> str:
    return "batch by batch" if isinstance(node, ChunkQuery) else "over the whole input, spilling to disk"


def _kind_of(processor: object) -> str:
    name = type(processor).__name__.removesuffix("Options").lower()
    return f"{name} with {', '.join(each.name for each in fields(processor))}" if is_dataclass(processor) else name


def _writer_line(stage: Stage) -> str:
    writer = stage.writer
    if isinstance(writer, ExchangeWrite):
        return f"-- write an exchange for {', '.join(writer.consumers)}"
    return f"-- write {writer.node}: {' / '.join(writer.destination.physical_name)} ({writer.destination.write_mode.value})"
