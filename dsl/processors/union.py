"""`union`: all rows of several inputs with the same columns, matched by name; leaves none out, not even doubles."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from dsl.codes import Code
from dsl.diagnostics import Diagnostics, Span
from dsl.expressions.types import common, duckdb_name, exported, show
from dsl.processors.columns import Field, quoted
from dsl.processors.kind import ProcessorKind
from dsl.processors.step import NOTHING, Planned, Relation, Step


@dataclass(frozen=True, kw_only=True)
class UnionOptions:
    """All rows of the inputs, which must have the same columns; they are matched by name, and numbers widen."""


def plan(step: Step) -> Planned:
    """Plans a union."""
    return union_of(step.inputs, step.found, step.node.spans.at())


def union_of(inputs: tuple[Relation, ...], found: Diagnostics, span: Span) -> Planned:
    """Plans the union of some relations, noting at `span` where they differ."""
    first = inputs[0]
    if any(each.schema is None for each in inputs):
        return _planned(inputs, None, " UNION ALL BY NAME ".join(f"SELECT * FROM {{{i}}}" for i in range(len(inputs))))
    count = len(found.found)
    for each in inputs[1:]:
        _check_names(first, each, found, span)
    if len(found.found) > count:
        return NOTHING
    fields = [_field(name, inputs, found, span) for name in first.names]
    if any(each is None for each in fields):
        return NOTHING
    schema = pa.schema([each for each in fields if each is not None])
    selects = [f"SELECT {_select(each, schema)} FROM {{{index}}}" for index, each in enumerate(inputs)]
    return _planned(inputs, schema, " UNION ALL ".join(selects))


def arm_of(relation: Relation, schema: pa.Schema | None) -> str:
    """The part of a union by which the rows of one input come, as a SELECT from `{0}`.

    Args:
        relation: The input.
        schema: What leaves the union.
    """
    return f"SELECT {'*' if schema is None else _select(relation, schema)} FROM {{0}}"


def _planned(inputs: tuple[Relation, ...], schema: pa.Schema | None, sql: str) -> Planned:
    lineage = {
        name: tuple(sorted({pair for each in inputs for pair in each.lineage.get(name, ())}))
        for name in (schema.names if schema is not None else ())
    }
    return Planned(schema, lineage, sql, row_local=False, total=True, reads=tuple(None for _ in inputs))


def _check_names(first: Relation, other: Relation, found: Diagnostics, span: Span) -> None:
    missing = [each for each in first.names if each not in other.names]
    extra = [each for each in other.names if each not in first.names]
    if missing:
        told = f"{other.name!r} has no column {missing[0]!r}, which {first.name!r} has"
        found.add(span, Code.SCHEMAS_DIFFER, told, "bring both to the same columns with a mapping")
    elif extra:
        told = f"{first.name!r} has no column {extra[0]!r}, which {other.name!r} has"
        found.add(span, Code.SCHEMAS_DIFFER, told, "bring both to the same columns with a mapping")


def _field(name: str, inputs: tuple[Relation, ...], found: Diagnostics, span: Span) -> Field | None:
    fields = [each.schema.field(name) for each in inputs if each.schema is not None]
    result = fields[0]
    for relation, field in zip(inputs[1:], fields[1:], strict=True):
        kind = common(result.type, field.type)
        if kind is None:
            told = f"column {name!r} is {show(result.type)} in {inputs[0].name!r} and {show(field.type)} in {relation.name!r}"
            found.add(span, Code.SCHEMAS_DIFFER, told, "cast one of them in a mapping")
            return None
        result = pa.field(name, exported(kind), metadata=result.metadata if result.metadata == field.metadata else None)
    return result


def _select(relation: Relation, schema: pa.Schema) -> str:
    parts = []
    for each in schema:
        own = relation.schema.field(each.name).type if relation.schema is not None else each.type
        plain = own == each.type or pa.types.is_null(each.type)
        sql = quoted(each.name) if plain else f"CAST({quoted(each.name)} AS {duckdb_name(each.type)})"
        parts.append(f"{sql} AS {quoted(each.name)}")
    return ", ".join(parts)


KIND = ProcessorKind(
    kind="union",
    title="All rows of several inputs",
    options=UnionOptions,
    min_inputs=2,
    max_inputs=None,
    plan=plan,
    example="""inputs: [orders_2023, orders_2024]
type: union
""",
)
