"""Where plans are cut, what is fused, and that stages can be told apart; runs queries only to see that fusing changes no value."""

# ruff: noqa: E501 - a node of YAML stands on one line

from __future__ import annotations

import pyarrow as pa
import pytest

from dsl.plan.logical import Load
from dsl.plan.physical import Apply, ChunkQuery, ExchangeScan, ExchangeWrite, Scan, Stage, StreamQuery, Write
from tests.dsl.plan.executing import compiled, document, result, run, schema_of, sorted_rows

SCHEMA = schema_of(id=pa.int64(), name=pa.string(), n=pa.string())
ROWS = pa.table({"id": [3, 1, 2, 1], "name": ["c", "a", "b", "a"], "n": ["3", "1", "2", "1"]}, schema=SCHEMA)
SAFE = "{inputs: [%s], type: filter, config: {condition: 'id > 1'}}"
CASTS = "{inputs: [%s], type: mapping, config: {mappings: [{source: id, destination: id}, {source: n, destination: n, cast: int64}]}}"
BACK = "{inputs: [%s], type: mapping, config: {mappings: [{source: id, destination: id}, {source: n, destination: n, cast: string}]}}"
DISTINCT = "{inputs: [%s], type: deduplicate}"


def chain(*steps: tuple[str, str]) -> str:
    """Returns the YAML of steps that feed one another, the first one fed by `rows`."""
    names = ["rows", *(name for name, _ in steps)]
    return "\n".join(f"{name}: {step % before}" for (name, step), before in zip(steps, names, strict=False))


def stages(nodes: str, *ends: str, sources: tuple[str, ...] = ("rows",)) -> dict[str, Stage]:
    """Compiles some transformations and returns their stages."""
    plan = compiled(document(nodes, sources=sources, ends=ends), dict.fromkeys(sources, SCHEMA)).physical
    return {each.id: each for each in plan.stages}


def test_row_local_steps_become_one_query_by_the_batch() -> None:
    root = stages(chain(("a", SAFE), ("b", CASTS), ("c", SAFE)), "c")["to_c"].root
    assert isinstance(root, ChunkQuery)
    assert root.nodes == ("a", "b", "c")
    assert isinstance(root.input, Scan)
    assert (root.filters, root.expands) == (True, False)


def test_total_steps_join_the_query_of_a_blocking_one() -> None:
    root = stages(chain(("a", SAFE), ("b", DISTINCT), ("c", SAFE)), "c")["to_c"].root
    assert isinstance(root, StreamQuery)
    assert root.nodes == ("a", "b", "c")


def test_a_step_that_can_fail_stays_beside_a_blocking_one() -> None:
    root = stages(chain(("a", CASTS), ("b", SAFE), ("c", DISTINCT), ("d", SAFE), ("e", BACK), ("f", CASTS)), "f")[
        "to_f"
    ].root
    assert isinstance(root, ChunkQuery)
    assert root.nodes == ("f",)
    middle = root.input
    assert isinstance(middle, StreamQuery)
    assert middle.nodes == ("c", "d", "e")
    (_, before) = middle.inputs[0]
    assert isinstance(before, ChunkQuery)
    assert before.nodes == ("a", "b")


def test_fusing_changes_no_value() -> None:
    nodes = chain(("a", CASTS), ("b", SAFE), ("c", DISTINCT), ("d", SAFE), ("e", BACK), ("f", CASTS))
    assert sorted_rows(result(nodes, "f", rows=ROWS)) == [{"id": 2, "n": 2}, {"id": 3, "n": 3}]


def test_steps_whose_rows_fail_differently_stand_alone() -> None:
    drop = CASTS.replace("type:", "on_error: drop, type:")
    root = stages(chain(("a", drop), ("b", SAFE), ("c", CASTS)), "c")["to_c"].root
    assert isinstance(root, ChunkQuery)
    assert root.nodes == ("b", "c")
    assert isinstance(root.input, ChunkQuery)
    assert root.input.nodes == ("a",)
    assert root.input.policies.on_error == "drop"


def test_two_consumers_cut() -> None:
    found = stages(chain(("a-b", SAFE), ("c", SAFE)), "a-b", "c")
    assert list(found) == ["a_b", "to_a_b", "to_c"]
    writer = found["a_b"].writer
    assert isinstance(writer, ExchangeWrite)
    assert writer.consumers == ("to_a_b", "to_c")
    assert found["to_c"].after == ("a_b",)
    root = found["to_a_b"].root
    assert isinstance(root, ExchangeScan)
    assert (root.node, root.producer) == ("a-b", "a_b")


def test_persist_cuts() -> None:
    found = stages(chain(("a", SAFE.replace("type:", "persist: true, type:")), ("b", SAFE)), "b")
    assert list(found) == ["a", "to_b"]


def test_a_source_read_twice_is_read_once() -> None:
    nodes = "a: {inputs: [rows, rows2], type: join, config: {join_key: id, on_collision: left}}\nrows2: {inputs: [rows], type: filter, config: {condition: 'id > 1'}}"
    found = stages(nodes, "a")
    assert list(found) == ["rows", "to_a"]
    root = found["to_a"].root
    assert isinstance(root, StreamQuery)
    assert len({name for name, _ in root.inputs}) == 2


def test_processors_are_applied_between_queries() -> None:
    mask = "{inputs: [%s], type: mask, config: {rules: [{field: name, method: full}]}}"
    root = stages(chain(("a", SAFE), ("b", mask), ("c", SAFE)), "c")["to_c"].root
    assert isinstance(root, ChunkQuery)
    assert isinstance(root.input, Apply)
    assert isinstance(root.input.input, ChunkQuery)


def test_the_stage_of_a_destination_says_who_feeds_it() -> None:
    writer = stages(chain(("a", SAFE)), "a")["to_a"].writer
    assert isinstance(writer, Write)
    assert (writer.node, writer.input_node) == ("to_a", "a")


LAKE = """
workflow:
  name: several
  sources:
    one: {type: feed, schema: {id: int64}}
    two: {type: feed, config: {topic: other}, schema: {id: int32}}
  destinations:
    lake: {type: lake, inputs: [one, two]}
    table: {type: shop, inputs: [one, two], config: {host: h, table: all}}
    tables: {type: shop, inputs: [one, two], config: {host: h, table: "of_{input}"}}
"""


def test_destinations_with_several_inputs() -> None:
    workflow = compiled(LAKE)
    loads = {each.id: each for each in workflow.logical.nodes if isinstance(each, Load)}
    assert list(loads) == ["lake__one", "lake__two", "table", "tables__one", "tables__two"]
    assert loads["lake__two"].destination.physical_name == ("lake", "lake/two")
    assert loads["tables__one"].destination.physical_name == ("shop", "h", "of_one")
    assert loads["table"].inputs == ("table__union",)
    assert loads["table"].schema == schema_of(id=pa.int64())
    assert [each.id for each in workflow.physical.stages] == ["one", "two", *loads]


def test_a_union_before_a_destination_has_the_rows_of_both() -> None:
    _, done = run(LAKE, one=pa.table({"id": [1, 2]}), two=pa.table({"id": pa.array([3], pa.int32())}))
    assert sorted_rows(done["table"]) == [{"id": 1}, {"id": 2}, {"id": 3}]


def test_lineage_leads_to_the_sources() -> None:
    nodes = """
    a: {inputs: [rows], type: mapping, config: {mappings: [{source: id, destination: key}, {expression: "concat(name, n)", destination: user.name}]}}
    b: {inputs: [a, other], type: join, config: {join_key: {left: key, right: id}, on_collision: suffix}}
    c: {inputs: [b], type: aggregate, config: {group_by: [user.name], aggregates: [{function: max, field: n, destination: top}, {function: count, destination: rows}]}}
    d: {inputs: [c, other], type: sql, config: {query: "select c.name as who, other.n, c.top || other.name as both from c join other on true"}}
    """
    text = document(nodes, sources=("rows", "other"), ends=("d",))
    lineage = compiled(text, {"rows": SCHEMA, "other": SCHEMA}).logical.node("to_d").lineage
    assert lineage == {
        "who": (("rows", "n"), ("rows", "name")),
        "n": (("other", "n"),),
        "both": (("other", "n"), ("other", "name")),
    }


@pytest.mark.parametrize("change", ["'id > 2'", "'id > 1 and id < 9'"])
def test_the_fingerprint_follows_the_meaning(change: str) -> None:
    text = document(chain(("a", SAFE)), ends=("a",))
    first = compiled(text, {"rows": SCHEMA}).physical.fingerprint
    assert compiled("# a comment\n" + text, {"rows": SCHEMA}).physical.fingerprint == first
    scheduled = text.replace("  name: test\n", "  name: test\n  schedule: '0 0 * * *'\n")
    assert compiled(scheduled, {"rows": SCHEMA}).physical.fingerprint == first
    assert compiled(text.replace("'id > 1'", change), {"rows": SCHEMA}).physical.fingerprint != first
