"""Compiles documents and runs their plans on Arrow tables with nothing but DuckDB; knows no connector, no state, no failure."""

from __future__ import annotations

import datetime as dt
import textwrap
from collections.abc import Mapping

import duckdb
import pyarrow as pa

from dsl.compile import CompiledWorkflow, compile_text
from dsl.plan.physical import INPUT_VIEW, ChunkQuery, ExchangeScan, PhysicalNode, PhysicalPlan, Scan, StreamQuery
from tests.dsl.catalog import CATALOG

NOW = dt.datetime(2024, 5, 17, 12, tzinfo=dt.UTC)
CHUNK_ROWS = 3


def document(nodes: str, *, sources: tuple[str, ...] = ("rows",), ends: tuple[str, ...] = ("out",)) -> str:
    """Returns a workflow that reads tables, has some transformations, and writes what some of them give."""
    read = "".join(f"    {each}: {{type: shop, config: {{host: h, table: {each}}}}}\n" for each in sources)
    written = "".join(
        f"    to_{each}: {{inputs: [{each}], type: shop, config: {{host: h, table: to_{each}}}}}\n" for each in ends
    )
    body = textwrap.indent(textwrap.dedent(nodes).strip("\n"), "    ")
    return f"workflow:\n  name: test\n  sources:\n{read}  transformations:\n{body}\n  destinations:\n{written}"


def schema_of(**kinds: pa.DataType) -> pa.Schema:
    """Returns a schema of columns with these types."""
    return pa.schema([pa.field(name, kind) for name, kind in kinds.items()])


def compiled(text: str, schemas: Mapping[str, pa.Schema] | None = None) -> CompiledWorkflow:
    """Compiles the one workflow of a text."""
    (only,) = compile_text(text, "test.yaml", catalog=CATALOG, environment={"KEY": "k"}, schemas=schemas)
    return only


def execute(plan: PhysicalPlan, tables: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    """Runs every stage.

    Args:
        plan: Stages without `Apply`.
        tables: Source node -> its rows.

    Returns:
        What arrives at the writer of each stage.
    """
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        done: dict[str, pa.Table] = {}
        for stage in plan.stages:
            assert set(stage.after) <= set(done)
            done[stage.id] = _run(stage.root, connection, tables, done)
        return done


def run(text: str, **tables: pa.Table) -> tuple[CompiledWorkflow, dict[str, pa.Table]]:
    """Compiles a text against the schemas of some tables and runs it on them."""
    workflow = compiled(text, {name: table.schema for name, table in tables.items()})
    return workflow, execute(workflow.physical, tables)


def result(nodes: str, end: str, **tables: pa.Table) -> pa.Table:
    """Runs some transformations over some tables and returns what one of them gives, checked against its planned schema."""
    workflow, done = run(document(nodes, sources=tuple(tables), ends=(end,)), **tables)
    found = done[f"to_{end}"]
    planned = workflow.logical.node(end).schema
    assert planned is not None
    assert found.schema.equals(planned), f"{found.schema}\nis not the planned\n{planned}"
    return found


def sorted_rows(table: pa.Table) -> list[dict[str, object]]:
    """Returns rows in an order of their own, for comparing."""
    return sorted(table.to_pylist(), key=repr)


def _run(
    node: PhysicalNode,
    connection: duckdb.DuckDBPyConnection,
    tables: Mapping[str, pa.Table],
    done: Mapping[str, pa.Table],
) -> pa.Table:
    if isinstance(node, Scan):
        return _scan(node, tables[node.node], connection)
    if isinstance(node, ExchangeScan):
        return done[node.producer]
    if isinstance(node, ChunkQuery):
        rows = _run(node.input, connection, tables, done)
        parts = [_query(connection, node, {INPUT_VIEW: each}) for each in _batches(rows)]
        return pa.concat_tables(parts) if parts else _query(connection, node, {INPUT_VIEW: rows})
    assert isinstance(node, StreamQuery)
    inputs = {name: _run(each, connection, tables, done) for name, each in node.inputs}
    return _query(connection, node, inputs)


def _batches(rows: pa.Table) -> list[pa.RecordBatch]:
    """Cuts rows into small batches that own their memory: DuckDB refuses structs below an offset."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=CHUNK_ROWS)
    return list(pa.ipc.open_stream(sink.getvalue()))


def _query(
    connection: duckdb.DuckDBPyConnection,
    node: ChunkQuery | StreamQuery,
    inputs: Mapping[str, pa.Table | pa.RecordBatch],
) -> pa.Table:
    for name, rows in inputs.items():
        connection.register(name, rows)
    found: pa.Table = connection.sql(node.sql, params={"now": NOW} if node.uses_now else None).to_arrow_table()
    for name in inputs:
        connection.unregister(name)
    return found


def _scan(node: Scan, table: pa.Table, connection: duckdb.DuckDBPyConnection) -> pa.Table:
    request = node.request
    if request.predicate is not None:
        connection.register("scanned", table)
        table = connection.sql(f"SELECT * FROM scanned WHERE {request.predicate}").to_arrow_table()
        connection.unregister("scanned")
    if request.columns is not None:
        table = table.select(list(request.columns))
    return table if request.limit is None else table.slice(0, request.limit)
