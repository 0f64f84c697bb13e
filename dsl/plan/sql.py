"""SQL of several steps put together as nested sub-queries over views; makes no SQL of a step's own."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace

import pyarrow as pa

from dsl.expressions.types import duckdb_name, exported
from dsl.plan.memory import Keys, Memory
from dsl.processors.columns import needs_text


def view_name(node_id: str, taken: Container[str]) -> str:
    """Returns the view's name of what feeds a query: the node's, with a mark that no node's name has."""
    name, number = f"_{node_id}", 2
    while name in taken:
        name, number = f"_{node_id} {number}", number + 1
    return name


def quoted_view(name: str) -> str:
    """Returns a view's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def settled_view(name: str, schema: pa.Schema | None) -> str:
    """Returns SQL that reads a view, JSON and UUID brought to text: inside a query they are what leaves it."""
    casts = [
        f"CAST({quoted_view(each.name)} AS {duckdb_name(exported(each.type))}) AS {quoted_view(each.name)}"
        for each in schema or ()
        if needs_text(each.type)
    ]
    if not casts:
        return quoted_view(name)
    return f"SELECT * REPLACE ({', '.join(casts)}) FROM {quoted_view(name)}"


def filled(template: str, inputs: Sequence[str]) -> str:
    """Returns a step's SQL with its inputs in place: views by name, queries in parentheses."""
    return template.format(*(each if each.startswith('"') else f"({each})" for each in inputs))


def settled(memory: Memory) -> Memory:
    """Returns what a step remembers with SQL in place of templates; that of windows has its rows yet to come."""
    if isinstance(memory, Keys):
        return replace(memory, keys=tuple(each.format() for each in memory.keys), time=memory.time.format())
    return replace(memory, time=memory.time.format())
