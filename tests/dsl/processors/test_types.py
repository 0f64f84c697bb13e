"""The schema that is planned is the schema that DuckDB yields, for every processor over every type; compares no values."""

# ruff: noqa: E501 - a node of YAML stands on one line

from __future__ import annotations

import datetime as dt
import uuid

import pyarrow as pa
import pytest

from dsl.processors.columns import MARK
from tests.dsl.plan.executing import compiled, document, execute, result

DAY = dt.datetime(2024, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
ROWS = pa.table(
    {
        "id": pa.array([1, 2, 3, 3], pa.int64()),
        "i8": pa.array([1, None, 3, 4], pa.int8()),
        "i32": pa.array([1, 2, None, 4], pa.int32()),
        "u8": pa.array([1, 2, 3, 4], pa.uint8()),
        "u64": pa.array([1, 2, 3, 2**63], pa.uint64()),
        "f32": pa.array([1.5, None, 2, 3], pa.float32()),
        "f64": pa.array([1.5, None, 2, 3], pa.float64()),
        "money": pa.array([1, 2, None, 4], pa.decimal128(10, 2)),
        "wide": pa.array([1, 2, None, 4], pa.decimal128(38, 4)),
        "flag": pa.array([True, False, None, True]),
        "text": pa.array(["a", "b", None, "{}'x"]),
        "large": pa.array(["a", "b", None, "d"], pa.large_string()),
        "view": pa.array(["a", "b", None, "d"], pa.string_view()),
        "dict": pa.array(["a", "b", None, "a"]).dictionary_encode(),
        "bytes": pa.array([b"a", None, b"c", b"d"], pa.large_binary()),
        "day": pa.array([DAY.date()] * 4, pa.date32()),
        "time": pa.array([DAY.time()] * 4, pa.time64("us")),
        "at_s": pa.array([DAY] * 4, pa.timestamp("s")),
        "at_us": pa.array([DAY] * 4, pa.timestamp("us")),
        "at_ns": pa.array([DAY] * 4, pa.timestamp("ns")),
        "instant": pa.array([DAY] * 4, pa.timestamp("us", tz="UTC")),
        "json": pa.array(['{"a": 1}', "[1]", None, "2"]).cast(pa.json_()),
        "uuid": pa.array([uuid.UUID(int=each).bytes for each in range(4)], pa.uuid()),
        "items": pa.array([[1, 2], [], None, [3]], pa.list_(pa.int32())),
        "fixed": pa.array([[1, 2]] * 4, pa.list_(pa.int32(), 2)),
        "structs": pa.array([[{"k": 1}], [], None, [{"k": 2}]], pa.list_(pa.struct([("k", pa.int64())]))),
        "user": pa.array(
            [{"name": "n", "tags": ["t"], "at": {"city": "c"}}, None, {"name": None}, {"name": "m"}],
            pa.struct(
                [("name", pa.string()), ("tags", pa.list_(pa.string())), ("at", pa.struct([("city", pa.string())]))]
            ),
        ),
        "map": pa.array([[("a", 1)], [], None, [("b", 2)]], pa.map_(pa.string(), pa.int64())),
    }
)
NAMES = ROWS.column_names
NUMBERS = ["i8", "i32", "u8", "u64", "f32", "f64", "money", "wide", "id"]
ORDERED = [each for each in NAMES if each not in {"map", "json"}]


@pytest.mark.parametrize(
    "config",
    [
        "type: filter, config: {condition: 'id > 1'}",
        "type: sort, config: {by: [id, {column: text, direction: desc, nulls: first}]}",
        "type: limit, config: {rows: 2, offset: 1}",
        "type: deduplicate, config: {keys: [id]}",
        "type: deduplicate, config: {keys: [user.name], order_by: [at_us], keep: last}",
        "type: deduplicate, config: {}",
        "type: unnest, config: {column: items}",
        "type: unnest, config: {column: structs, outer: true, destination: one}",
        "type: unnest, config: {column: user.tags}",
        "type: unnest, config: {column: fixed}",
        "type: mapping, config: {mappings: [{source: id, destination: user.at.zip}], keep_unmapped: true}",
        "type: mapping, config: {mappings: [{source: id, destination: key}], keep_unmapped: true}",
        "type: mapping, config: {mappings: [{expression: 'id + 1', destination: id}], keep_unmapped: true}",
        "type: sql, config: {query: 'select * from rows'}",
        "type: sql, config: {query: 'select id as n, text from input where id > 1'}",
        "type: sql, config: {query: 'select count(*) as n from rows', columns: {n: int32}}",
    ],
)
def test_steps_over_every_type(config: str) -> None:
    result(f"step: {{inputs: [rows], {config}}}", "step", rows=ROWS)


@pytest.mark.parametrize("name", NAMES)
def test_a_column_passed_on(name: str) -> None:
    nodes = f"step: {{inputs: [rows], type: mapping, config: {{mappings: [{{source: {name}, destination: a.b}}, {{source: {name}, destination: c}}]}}}}"
    assert result(nodes, "step", rows=ROWS).num_rows == ROWS.num_rows


def test_what_stands_for_json_and_uuid_is_marked() -> None:
    nodes = "step: {inputs: [rows], type: mapping, config: {mappings: [{source: json, destination: a}, {source: uuid, destination: b.c}, {source: text, destination: d, default: x}, {expression: 'text', destination: e, cast: string}, {expression: \"'1'\", destination: j, cast: json}]}}"
    workflow = compiled(document(nodes, ends=("step",)), {"rows": ROWS.schema})
    schema = workflow.logical.node("step").schema
    assert schema is not None
    assert schema.field("a").metadata == {MARK: b"json"}
    assert schema.field("b").type.field("c").metadata == {MARK: b"uuid"}
    assert schema.field("d").metadata is None
    assert schema.field("j").metadata == {MARK: b"json"}
    execute(workflow.physical, {"rows": ROWS})


@pytest.mark.parametrize("cast", ["string", "int64", "double", "decimal(12, 3)", "boolean"])
def test_casts(cast: str) -> None:
    nodes = f"step: {{inputs: [rows], type: mapping, config: {{mappings: [{{source: i8, destination: x, cast: '{cast}'}}]}}}}"
    result(nodes, "step", rows=ROWS)


@pytest.mark.parametrize(
    ("name", "default"),
    [("i8", "5"), ("f32", "1"), ("money", "1.25"), ("flag", "false"), ("text", "'{x}'"), ("day", "'2024-01-01'"), ("at_s", "'2024-01-01T10:00:00'"), ("instant", "'2024-01-01T10:00:00Z'"), ("large", "q")],
)  # fmt: skip
def test_defaults(name: str, default: str) -> None:
    nodes = f"step: {{inputs: [rows], type: mapping, config: {{mappings: [{{source: {name}, destination: x, default: {default}}}]}}}}"
    assert result(nodes, "step", rows=ROWS)["x"].null_count == 0


@pytest.mark.parametrize("function", ["sum", "avg", "stddev", "median"])
def test_aggregates_of_numbers(function: str) -> None:
    each = ", ".join(f"{{function: {function}, field: {name}, destination: {name}}}" for name in NUMBERS)
    result(f"step: {{inputs: [rows], type: aggregate, config: {{aggregates: [{each}]}}}}", "step", rows=ROWS)


@pytest.mark.parametrize("function", ["count", "count_distinct", "min", "max", "list"])
def test_aggregates_of_everything(function: str) -> None:
    each = ", ".join(f"{{function: {function}, field: {name}, destination: {name}}}" for name in ORDERED)
    result(f"step: {{inputs: [rows], type: aggregate, config: {{group_by: [id], aggregates: [{each.replace('destination: id}', 'destination: ids}')}]}}}}", "step", rows=ROWS)  # fmt: skip


@pytest.mark.parametrize("function", ["first", "last"])
def test_aggregates_with_an_order(function: str) -> None:
    each = ", ".join(
        f"{{function: {function}, field: {name}, destination: {name}, order_by: [id]}}" for name in ORDERED
    )
    result(f"step: {{inputs: [rows], type: aggregate, config: {{aggregates: [{each}]}}}}", "step", rows=ROWS)


@pytest.mark.parametrize("name", ["day", "at_s", "at_us", "at_ns", "instant"])
def test_windows(name: str) -> None:
    nodes = f"step: {{inputs: [rows], type: aggregate, config: {{group_by: [user.name], window: {{column: {name}, size: 1h}}, aggregates: [{{function: count, destination: n}}]}}}}"
    result(nodes, "step", rows=ROWS)


@pytest.mark.parametrize("kind", ["inner", "left", "right", "full", "semi", "anti"])
@pytest.mark.parametrize("collision", ["suffix", "left", "right"])
def test_joins(kind: str, collision: str) -> None:
    other = ROWS.rename_columns([each if each in {"id", "text", "day"} else f"o_{each}" for each in NAMES])
    nodes = f"step: {{inputs: [rows, other], type: join, config: {{join_key: id, join_type: {kind}, on_collision: {collision}}}}}"
    result(nodes, "step", rows=ROWS, other=other)


@pytest.mark.parametrize("kind", ["inner", "left", "right", "full"])
@pytest.mark.parametrize(
    ("left", "right"), [("i8", "id"), ("money", "i32"), ("f32", "i32"), ("u8", "i8"), ("text", "large")]
)
def test_joins_over_keys_of_two_types(kind: str, left: str, right: str) -> None:
    rows = ROWS.append_column("a", ROWS["id"]).select([left, "a"]).rename_columns(["k", "a"])
    other = ROWS.append_column("b", ROWS["id"]).select([right, "b"]).rename_columns(["k", "b"])
    nodes = f"step: {{inputs: [rows, other], type: join, config: {{join_key: k, join_type: {kind}}}}}"
    result(nodes, "step", rows=rows, other=other)


@pytest.mark.parametrize(
    ("left", "right"), [("i8", "id"), ("money", "i32"), ("f32", "i32"), ("text", "large"), ("day", "at_us")]
)
def test_unions_widen(left: str, right: str) -> None:
    rows = ROWS.append_column("a", ROWS["id"]).select([left, "a"]).rename_columns(["k", "a"])
    other = ROWS.append_column("a", ROWS["id"]).select(["a", right]).rename_columns(["a", "k"])
    assert result("step: {inputs: [rows, other], type: union}", "step", rows=rows, other=other).num_rows == 8
