"""What every processor does to values, against the same in pure Python; types are another test's."""

from __future__ import annotations

import datetime as dt
import statistics
from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dsl.plan.executing import document, result, run, schema_of, sorted_rows

USERS = pa.table(
    {
        "id": [1, 2, 3, 4, None],
        "first_name": ["Ann", "Bob", None, "Dan", "Eve"],
        "email": ["a@x", None, "c@x", "d@x", "e@x"],
        "age": ["30", "41", None, "7", "19"],
        "user": pa.array(
            [
                {"city": "Rome", "zip": 1},
                {"city": "Oslo", "zip": None},
                None,
                {"city": None, "zip": 4},
                {"city": "Bonn", "zip": 5},
            ],
            pa.struct([("city", pa.string()), ("zip", pa.int64())]),
        ),
    }
)
ORDERS = pa.table(
    {
        "order_id": [10, 11, 12, 13, 14],
        "id": pa.array([1, 1, 3, 9, None], pa.int32()),
        "amount": pa.array(
            [Decimal("1.10"), Decimal("2.20"), None, Decimal("4.00"), Decimal("5.00")], pa.decimal128(10, 2)
        ),
        "at": [dt.datetime(2024, 5, 13, hour, 30, tzinfo=dt.UTC) for hour in (0, 0, 1, 2, 2)],
    }
)


def test_a_mapping_nests_computes_casts_and_fills() -> None:
    nodes = """
    step:
      inputs: [rows]
      type: mapping
      config:
        mappings:
          - {source: first_name, destination: who.name, default: "it's {x}"}
          - {source: age, destination: who.age, cast: int64, default: -1}
          - {source: user.city, destination: city}
          - {expression: "upper(email)", destination: mail}
    """
    expected = [
        {
            "who": {"name": each["first_name"] or "it's {x}", "age": int(each["age"] or -1)},
            "city": (each["user"] or {}).get("city"),
            "mail": each["email"] and each["email"].upper(),
        }
        for each in USERS.to_pylist()
    ]
    assert result(nodes, "step", rows=USERS).to_pylist() == expected


def test_a_mapping_keeps_the_rest_and_rebuilds_structs() -> None:
    nodes = """
    step:
      inputs: [rows]
      type: mapping
      config:
        keep_unmapped: true
        mappings:
          - {source: first_name, destination: user.name}
          - {source: age, destination: user.zip}
          - {expression: "id + 1", destination: id}
    """
    found = result(nodes, "step", rows=USERS)
    assert found.column_names == ["id", "email", "user"]
    assert found.to_pylist()[0] == {"id": 2, "email": "a@x", "user": {"city": "Rome", "zip": "30", "name": "Ann"}}
    assert found.to_pylist()[2]["user"] == {"city": None, "zip": None, "name": None}


def test_a_column_may_have_a_dot_a_quote_or_a_brace_in_its_name() -> None:
    rows = pa.table({"a.b": [1], 'c"d': [2], "{e}": [3], "user": [{"x y": 4}]})
    nodes = """
    step:
      inputs: [rows]
      type: mapping
      config:
        mappings:
          - {source: a.b, destination: plain}
          - {source: 'c"d', destination: 'q"q'}
          - {source: '{e}', destination: '{f}'}
          - {source: 'user.x y', destination: z}
          - {expression: "concat('{0}', '}')", destination: braces}
    """
    assert result(nodes, "step", rows=rows).to_pylist() == [{"plain": 1, 'q"q': 2, "{f}": 3, "z": 4, "braces": "{0}}"}]


def test_a_filter_keeps_what_is_true() -> None:
    nodes = "step: {inputs: [rows], type: filter, config: {condition: 'email != null && id > 1'}}"
    expected = [each for each in USERS.to_pylist() if each["email"] is not None and (each["id"] or 0) > 1]
    assert result(nodes, "step", rows=USERS).to_pylist() == expected


@pytest.mark.parametrize("kind", ["inner", "left", "right", "full", "semi", "anti"])
def test_joins(kind: str) -> None:
    nodes = f"step: {{inputs: [users, orders], type: join, config: {{join_key: id, join_type: {kind}}}}}"
    users = USERS.select(["id", "first_name"])
    found = result(nodes, "step", users=users, orders=ORDERS)
    left, right = users.to_pylist(), ORDERS.to_pylist()
    pairs: list[tuple[dict[str, Any] | None, dict[str, Any] | None]]
    pairs = [(a, b) for a in left for b in right if a["id"] is not None and a["id"] == b["id"]]
    lone_left = [a for a in left if not any(a is each for each, _ in pairs)]
    lone_right = [b for b in right if not any(b is each for _, each in pairs)]
    if kind in {"semi", "anti"}:
        expected = lone_left if kind == "anti" else [a for a in left if a not in lone_left]
    else:
        pairs += [(a, None) for a in lone_left] if kind in {"left", "full"} else []
        pairs += [(None, b) for b in lone_right] if kind in {"right", "full"} else []
        blank_left, blank_right = dict.fromkeys(users.column_names), dict.fromkeys(ORDERS.column_names)
        expected = [{**(b or blank_right), **(a or blank_left), "id": (a or b or {})["id"]} for a, b in pairs]
        expected = [{name: each[name] for name in found.column_names} for each in expected]
    assert sorted_rows(found) == sorted(expected, key=repr)


def test_a_join_over_keys_with_different_names_and_paths() -> None:
    rows = pa.table({"user": [{"id": 1}, {"id": 2}], "name": ["a", "b"]})
    other = pa.table({"user_id": [2, 2, 3], "name": ["x", "y", "z"]})
    nodes = """
    step:
      inputs: [rows, other]
      type: join
      config: {join_key: {left: user.id, right: user_id}, on_collision: suffix}
    """
    assert sorted_rows(result(nodes, "step", rows=rows, other=other)) == [
        {"user": {"id": 2}, "name": "b", "user_id": 2, "name_other": "x"},
        {"user": {"id": 2}, "name": "b", "user_id": 2, "name_other": "y"},
    ]


@pytest.mark.parametrize(("collision", "name"), [("left", "a"), ("right", "x")])
def test_a_collision_keeps_the_side_that_is_named(collision: str, name: str) -> None:
    rows, other = pa.table({"id": [1], "name": ["a"]}), pa.table({"id": [1], "name": ["x"]})
    nodes = f"step: {{inputs: [rows, other], type: join, config: {{join_key: id, on_collision: {collision}}}}}"
    assert result(nodes, "step", rows=rows, other=other).to_pylist() == [{"id": 1, "name": name}]


VALUES = st.lists(
    st.fixed_dictionaries(
        {
            "k": st.sampled_from(["a", "b", None]),
            "v": st.none() | st.integers(-1000, 1000),
            "t": st.none() | st.sampled_from(["x", "y", "z"]),
            "n": st.integers(0, 3),
        }
    ),
    max_size=30,
)
SCHEMA = schema_of(k=pa.string(), v=pa.int64(), t=pa.string(), n=pa.int64())


@settings(max_examples=25, deadline=None)
@given(VALUES)
def test_aggregates(rows: list[dict[str, Any]]) -> None:
    nodes = """
    step:
      inputs: [rows]
      type: aggregate
      config:
        group_by: [k]
        aggregates:
          - {function: count, destination: rows}
          - {function: count, field: v, destination: count}
          - {function: count_distinct, field: v, destination: distinct}
          - {function: sum, field: v, destination: sum}
          - {function: avg, field: v, destination: avg}
          - {function: min, field: v, destination: min}
          - {function: max, field: v, destination: max}
          - {function: median, field: v, destination: median}
          - {function: stddev, field: v, destination: stddev}
          - {function: string_agg, field: t, destination: text, separator: "{'|"}
          - {function: list, field: n, destination: list, order_by: [{column: n, direction: desc}]}
          - {function: first, field: v, destination: first, order_by: [n]}
          - {function: last, field: v, destination: last, order_by: [n]}
    """
    found = result(nodes, "step", rows=pa.Table.from_pylist(rows, SCHEMA))
    groups: dict[str | None, list[dict[str, Any]]] = defaultdict(list)
    for each in rows:
        groups[each["k"]].append(each)
    approximate = {"avg", "stddev"}
    seen = {each["k"]: each for each in found.to_pylist()}
    assert seen.keys() == groups.keys()
    for key, members in groups.items():
        expected = _aggregated(key, members)
        assert {n: v for n, v in seen[key].items() if n not in approximate} == {
            n: v for n, v in expected.items() if n not in approximate
        }
        assert {n: seen[key][n] for n in approximate} == pytest.approx({n: expected[n] for n in approximate})


def _aggregated(key: str | None, members: list[dict[str, Any]]) -> dict[str, Any]:
    values = [each["v"] for each in members if each["v"] is not None]
    # NULL comes last among values of one rank.
    ranked = sorted(members, key=lambda each: (each["n"], each["v"] is None, each["v"] or 0))
    texts = sorted(each["t"] for each in members if each["t"] is not None)
    return {
        "k": key,
        "rows": len(members),
        "count": len(values),
        "distinct": len(set(values)),
        "sum": sum(values) if values else None,
        "avg": statistics.mean(values) if values else None,
        "min": min(values, default=None),
        "max": max(values, default=None),
        "median": float(statistics.median(values)) if values else None,
        "stddev": statistics.stdev(values) if len(values) > 1 else None,
        "text": "{'|".join(texts) if texts else None,
        "list": sorted((each["n"] for each in members), reverse=True),
        "first": ranked[0]["v"],
        "last": ranked[-1]["v"],
    }


def test_windows_tumble() -> None:
    nodes = """
    step:
      inputs: [rows]
      type: aggregate
      config:
        window: {column: at, size: 1h}
        aggregates: [{function: sum, field: amount, destination: total}]
    """
    found = sorted_rows(result(nodes, "step", rows=ORDERS))
    midnight = dt.datetime(2024, 5, 13, tzinfo=dt.UTC)
    hour = dt.timedelta(hours=1)
    assert [(each["window_start"], each["window_end"], each["total"]) for each in found] == [
        (midnight, midnight + hour, Decimal("3.30")),
        (midnight + hour, midnight + 2 * hour, None),
        (midnight + 2 * hour, midnight + 3 * hour, Decimal("9.00")),
    ]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.integers(-(10**9), 10**10)), max_size=12), st.integers(1, 90), st.integers(1, 90)
)
def test_windows_hop(seconds: list[int | None], one: int, other: int) -> None:
    size, every = dt.timedelta(minutes=max(one, other)), dt.timedelta(minutes=min(one, other))
    nodes = f"""
    step:
      inputs: [rows]
      type: aggregate
      config:
        window: {{column: at, size: {max(one, other)}m, every: {min(one, other)}m}}
        aggregates: [{{function: count, destination: n}}]
    """
    monday = dt.datetime(2000, 1, 3)  # noqa: DTZ001 - a timestamp without a zone
    times = [None if each is None else monday + dt.timedelta(seconds=each) for each in seconds]
    expected = Counter[dt.datetime | None]()
    for at in times:
        if at is None:
            expected[None] += 1
            continue
        start = monday + (at - monday) // every * every
        while start + size > at:
            expected[start] += 1
            start -= every
    found = result(nodes, "step", rows=pa.table({"at": times}, schema=pa.schema([pa.field("at", pa.timestamp("us"))])))
    assert {each["window_start"]: each["n"] for each in found.to_pylist()} == expected
    assert all(each["window_end"] == each["window_start"] + size for each in found.to_pylist() if each["window_start"])


@settings(max_examples=25, deadline=None)
@given(VALUES, st.sampled_from(["first", "last"]))
def test_deduplication_keeps_the_same_row_every_time(rows: list[dict[str, Any]], keep: str) -> None:
    nodes = f"step: {{inputs: [rows], type: deduplicate, config: {{keys: [k], order_by: [v], keep: {keep}}}}}"
    found = {each["k"]: each for each in result(nodes, "step", rows=pa.Table.from_pylist(rows, SCHEMA)).to_pylist()}
    backwards = pa.Table.from_pylist(rows[::-1], SCHEMA)
    assert {each["k"]: each for each in result(nodes, "step", rows=backwards).to_pylist()} == found
    assert found.keys() == {each["k"] for each in rows}
    for key, row in found.items():
        ranks = [(each["v"] is None, each["v"] or 0) for each in rows if each["k"] == key]
        assert (row["v"] is None, row["v"] or 0) == (min(ranks) if keep == "first" else max(ranks))


@settings(max_examples=25, deadline=None)
@given(VALUES)
def test_sort_then_limit(rows: list[dict[str, Any]]) -> None:
    nodes = """
    sorted: {inputs: [rows], type: sort, config: {by: [{column: v, direction: desc}, {column: k, nulls: first}, t, n]}}
    step: {inputs: [sorted], type: limit, config: {rows: 5, offset: 2}}
    """
    ranked = sorted(
        rows,
        key=lambda each: (
            each["v"] is None,
            -(each["v"] or 0),
            each["k"] is not None,
            each["k"] or "",
            each["t"] is None,
            each["t"] or "",
            each["n"],
        ),
    )
    assert result(nodes, "step", rows=pa.Table.from_pylist(rows, SCHEMA)).to_pylist() == ranked[2:7]


def test_unnest() -> None:
    rows = pa.table(
        {"id": [1, 2, 3], "items": pa.array([[{"n": 1}, {"n": 2}], [], None], pa.list_(pa.struct([("n", pa.int64())])))}
    )
    inner = "step: {inputs: [rows], type: unnest, config: {column: items, destination: item}}"
    outer = "step: {inputs: [rows], type: unnest, config: {column: items, outer: true}}"
    expected = [{"id": 1, "item": {"n": 1}}, {"id": 1, "item": {"n": 2}}]
    assert result(inner, "step", rows=rows).to_pylist() == expected
    assert result(outer, "step", rows=rows).to_pylist() == [
        {"id": 1, "items": {"n": 1}},
        {"id": 1, "items": {"n": 2}},
        {"id": 2, "items": None},
        {"id": 3, "items": None},
    ]


def test_union_matches_names() -> None:
    rows, other = pa.table({"a": [1], "b": ["x"]}), pa.table({"b": ["y"], "a": pa.array([2], pa.int8())})
    found = result("step: {inputs: [rows, other], type: union}", "step", rows=rows, other=other)
    assert sorted_rows(found) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


def test_sql_over_its_inputs() -> None:
    nodes = """
    step:
      inputs: [users, orders]
      type: sql
      config:
        query: |
          with paid as (select id, sum(amount) as total from orders where id is not null group by id)
          select u.first_name, cast(p.total as varchar) as total, now() as seen
          from users u join paid p on p.id = u.id
        columns: {first_name: string, total: string, seen: timestamptz}
    """
    assert sorted_rows(result(nodes, "step", users=USERS, orders=ORDERS)) == [
        {"first_name": "Ann", "total": "3.30", "seen": dt.datetime(2024, 5, 17, 12, tzinfo=dt.UTC)},
        {"first_name": None, "total": None, "seen": dt.datetime(2024, 5, 17, 12, tzinfo=dt.UTC)},
    ]


def test_two_destinations_get_the_same_rows() -> None:
    nodes = """
    clean: {inputs: [rows], type: filter, config: {condition: "v > 0"}}
    counted: {inputs: [clean], type: aggregate, config: {aggregates: [{function: count, destination: n}]}}
    again: {inputs: [clean, clean2], type: join, config: {join_key: n, on_collision: suffix}}
    clean2: {inputs: [clean], type: deduplicate, config: {keys: [n], order_by: [v]}}
    """
    rows = pa.Table.from_pylist([{"k": "a", "v": each, "t": "x", "n": each % 3} for each in range(-3, 9)], SCHEMA)
    text = document(nodes, ends=("clean", "counted", "again"))
    workflow, done = run(text, rows=rows)
    assert workflow.physical.stages[0].id == "clean"
    assert done["to_counted"].to_pylist() == [{"n": 8}]
    assert done["to_clean"].num_rows == done["to_again"].num_rows == 8
