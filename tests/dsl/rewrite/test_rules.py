"""Each rule: what it changes, what it leaves alone, and that the result stays the same; asks no source."""

# ruff: noqa: E501 - a node of YAML stands on one line

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pyarrow as pa
import pytest

from dsl.bind import Allow, bind
from dsl.check import check
from dsl.contracts.capabilities import SourceCapabilities
from dsl.contracts.connectors import ReadRequest
from dsl.diagnostics import Diagnostics
from dsl.plan.logical import LogicalPlan, Read
from dsl.plan.lower import lower
from dsl.rewrite import RULES, rewrite
from tests.dsl.catalog import CATALOG, ShopSource
from tests.dsl.plan.executing import compiled, document, execute, schema_of, sorted_rows

ROWS = pa.table(
    {"id": [1, 2, 3, 4], "name": ["a", "b", None, "d"], "age": [5, 6, 7, None], "items": [[1, 2], [], None, [3]]}
)
OTHER = pa.table({"id": [2, 3, 3], "city": ["x", "y", "z"], "extra": [0.5, 1.5, 2.5]})


@dataclass(frozen=True, kw_only=True)
class AbleSource(ShopSource):
    """A source that can do everything."""

    capabilities: ClassVar[SourceCapabilities] = SourceCapabilities(projects=True, filters=True, limits=True)


def unrewritten(nodes: str, *ends: str, able: bool = True) -> LogicalPlan:
    """Returns the plan of some transformations as no rule has seen it."""
    plan = compiled(
        document(nodes, sources=("rows", "other"), ends=(*ends, "other")), {"rows": ROWS.schema, "other": OTHER.schema}
    )
    found = Diagnostics()
    bound = bind(plan.workflow, CATALOG, {}, Allow(), found)
    assert bound is not None
    logical = check(bound, {"rows": ROWS.schema, "other": OTHER.schema}, found)
    assert not found.found
    return replace(
        logical, nodes=tuple(_enabled(each) if able and isinstance(each, Read) else each for each in logical.nodes)
    )


def _enabled(node: Read) -> Read:
    source = node.source
    assert isinstance(source, ShopSource)
    return replace(
        node,
        source=AbleSource(
            connection=source.connection, table=source.table, incremental_column=source.incremental_column
        ),
    )


def request_of(plan: LogicalPlan, name: str = "rows") -> ReadRequest:
    """Returns what a source is asked for."""
    node = plan.node(name)
    assert isinstance(node, Read)
    return node.request


FILTER = "a: {inputs: [rows], type: filter, config: {condition: 'id > 1'}}"


def test_a_filter_is_pushed() -> None:
    plan = rewrite(unrewritten(FILTER, "a"))
    assert request_of(plan).predicate is not None
    assert plan.node("a").inputs == ("rows",)


def test_filters_in_a_row_are_pushed_together() -> None:
    nodes = FILTER + "\nb: {inputs: [a], type: filter, config: {condition: \"name != 'd'\"}}"
    predicate = request_of(rewrite(unrewritten(nodes, "b"))).predicate
    assert predicate is not None
    assert ") AND (" in predicate


@pytest.mark.parametrize(
    "nodes",
    [
        "a: {inputs: [rows], type: filter, config: {condition: 'cast(name as int64) > 1'}}",
        "a: {inputs: [rows], type: filter, config: {condition: \"now() > timestamptz '2024-01-01'\"}}",
        "a: {inputs: [b], type: filter, config: {condition: 'id > 1'}}\nb: {inputs: [rows], type: limit, config: {rows: 3}}",
        "b: {inputs: [rows], type: filter, config: {condition: 'id < 3'}}\n"
        + FILTER
        + "\nc: {inputs: [a, b], type: union}",
    ],
)
def test_a_filter_that_is_not_pushed(nodes: str) -> None:
    end = "c" if "union" in nodes else "a"
    assert request_of(rewrite(unrewritten(nodes, end))).predicate is None


def test_a_source_that_cannot_is_asked_for_nothing() -> None:
    found = rewrite(unrewritten(FILTER, "a", able=False))
    assert request_of(found).predicate is None


def test_only_needed_columns_are_read() -> None:
    nodes = """
    a: {inputs: [rows, other], type: join, config: {join_key: id}}
    b: {inputs: [a], type: filter, config: {condition: 'age > 1'}}
    c: {inputs: [b], type: sort, config: {by: [name]}}
    d: {inputs: [c], type: mapping, config: {mappings: [{source: city, destination: city}]}}
    """
    plan = rewrite(unrewritten(nodes, "d"))
    assert request_of(plan).columns == ("id", "name", "age")
    assert plan.node("a").schema == schema_of(id=pa.int64(), name=pa.string(), age=pa.int64(), city=pa.string(), extra=pa.float64())  # fmt: skip


def test_two_consumers_need_the_union() -> None:
    nodes = """
    a: {inputs: [rows], type: mapping, config: {mappings: [{source: id, destination: x}]}}
    b: {inputs: [rows], type: aggregate, config: {aggregates: [{function: max, field: age, destination: x}]}}
    """
    assert request_of(rewrite(unrewritten(nodes, "a", "b"))).columns == ("id", "age")


def test_counting_reads_one_column() -> None:
    nodes = "a: {inputs: [rows], type: aggregate, config: {aggregates: [{function: count, destination: n}]}}"
    plan = rewrite(unrewritten(nodes, "a"))
    assert request_of(plan).columns == ("id",)
    assert execute(lower(plan), {"rows": ROWS, "other": OTHER})["to_a"].to_pylist() == [{"n": 4}]


def test_a_destination_needs_everything() -> None:
    assert request_of(rewrite(unrewritten(FILTER, "a"))).columns is None


def test_a_limit_is_pushed_through_what_keeps_every_row() -> None:
    nodes = """
    a: {inputs: [rows], type: mapping, config: {mappings: [{source: id, destination: x}]}}
    b: {inputs: [a], type: limit, config: {rows: 2, offset: 1}}
    """
    assert request_of(rewrite(unrewritten(nodes, "b"))).limit == 3


@pytest.mark.parametrize(
    "nodes",
    [
        FILTER + "\nb: {inputs: [a], type: limit, config: {rows: 2}}",
        "a: {inputs: [rows], type: sort, config: {by: [name]}}\nb: {inputs: [a], type: limit, config: {rows: 2}}",
        "a: {inputs: [rows], type: unnest, config: {column: items}}\nb: {inputs: [a], type: limit, config: {rows: 2}}",
        "a: {inputs: [rows], type: mapping, config: {mappings: [{source: name, destination: n, cast: int64}]}}\nb: {inputs: [a], type: limit, config: {rows: 2}}",
    ],
)
def test_a_limit_stays_behind_what_changes_the_number_of_rows(nodes: str) -> None:
    assert request_of(rewrite(unrewritten(nodes, "b"))).limit is None


def test_a_source_that_goes_on_is_not_limited() -> None:
    plan = unrewritten("b: {inputs: [rows], type: limit, config: {rows: 2}}", "b")
    read = plan.node("rows")
    assert isinstance(read, Read)
    growing = replace(read, source=replace(read.source, incremental_column="id"))  # type: ignore[call-arg]
    changed = replace(plan, nodes=tuple(growing if each.id == "rows" else each for each in plan.nodes))
    assert request_of(rewrite(plan)).limit == 2
    assert request_of(rewrite(changed)).limit is None


PLANS = [
    FILTER + "\nb: {inputs: [a], type: mapping, config: {mappings: [{source: name, destination: who.name}]}}",
    "b: {inputs: [rows, other], type: join, config: {join_key: id, join_type: full}}",
    FILTER + "\nc: {inputs: [a, other], type: join, config: {join_key: id, join_type: left}}\nb: {inputs: [c], type: aggregate, config: {group_by: [city], aggregates: [{function: sum, field: age, destination: s}]}}",
    "c: {inputs: [rows, other], type: join, config: {join_key: id, join_type: right}}\nb: {inputs: [c], type: mapping, config: {mappings: [{source: city, destination: city}]}}",
    "c: {inputs: [rows, other], type: join, config: {join_key: id, join_type: semi}}\nb: {inputs: [c], type: mapping, config: {mappings: [{source: name, destination: name}]}}",
    "c: {inputs: [rows], type: unnest, config: {column: items, destination: item}}\nb: {inputs: [c], type: mapping, config: {mappings: [{source: item, destination: item}]}}",
    "c: {inputs: [rows], type: deduplicate, config: {keys: [name]}}\nb: {inputs: [c], type: mapping, config: {mappings: [{source: name, destination: name}]}}",
    "c: {inputs: [rows], type: sort, config: {by: [age]}}\nb: {inputs: [c], type: limit, config: {rows: 2}}",
    "c: {inputs: [rows, other], type: sql, config: {query: 'select r.name, o.city from rows r join other o on r.id = o.id'}}\nb: {inputs: [c], type: filter, config: {condition: 'city = \"y\"'}}",
]  # fmt: skip


@pytest.mark.parametrize("nodes", PLANS)
def test_the_rules_change_no_row(nodes: str) -> None:
    plan = unrewritten(nodes, "b")
    tables = {"rows": ROWS, "other": OTHER}
    expected = sorted_rows(execute(lower(plan), tables)["to_b"])
    assert expected
    for rule in (*RULES, rewrite):
        found = execute(lower(rule(plan)), tables)["to_b"]
        assert sorted_rows(found) == expected
        assert found.schema.equals(rule(plan).node("b").schema or found.schema)
