"""Fields of nested structs: set, with their siblings kept, whatever is NULL and however the batch was cut."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from dsl.processors.columns import with_paths
from engine.operators.struct_paths import value_at, with_values

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64()),
        pa.field(
            "user",
            pa.struct(
                [
                    pa.field("name", pa.string()),
                    pa.field("home", pa.struct([pa.field("city", pa.string()), pa.field("zip", pa.int32())])),
                ]
            ),
        ),
    ]
)
homes = st.none() | st.fixed_dictionaries(
    {"city": st.none() | st.text(max_size=3), "zip": st.none() | st.integers(0, 9)}
)
people = st.none() | st.fixed_dictionaries({"name": st.none() | st.text(max_size=3), "home": homes})
tables = st.lists(st.fixed_dictionaries({"id": st.integers(0, 9), "user": people}), min_size=1, max_size=6)


def expected(row: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """The rule, on a dictionary: a struct on the way is made only where there is a value."""
    held = dict(row)
    if len(path) == 1:
        return {**held, path[0]: value}
    inside = held.get(path[0])
    if inside is None and value is None:
        return {**held, path[0]: None}
    return {**held, path[0]: expected(inside or {}, path[1:], value)}


def without_absent(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: found for key, each in value.items() if (found := without_absent(each)) is not None} or {}
    return value


@given(
    tables,
    st.sampled_from([("new",), ("id",), ("user", "name"), ("user", "score"), ("user", "home", "zip"), ("a", "b", "c")]),
    st.data(),
)
def test_a_path_is_set_and_nothing_else(rows: list[dict[str, Any]], path: tuple[str, ...], data: st.DataObject) -> None:
    held = pa.RecordBatch.from_pylist([*rows, *rows], schema=SCHEMA)
    start = data.draw(st.integers(0, len(rows)))
    cut = held.slice(start, len(rows))
    values = data.draw(st.lists(st.none() | st.integers(0, 99), min_size=len(rows), max_size=len(rows)))
    after = with_paths(SCHEMA, {path: pa.field("", pa.int64())})
    done = with_values(cut, after, {path: pa.array(values, pa.int64())})
    done.validate(full=True)
    assert done.schema.equals(after)
    for before, value, row in zip(cut.to_pylist(), values, done.to_pylist(), strict=True):
        assert without_absent(row) == without_absent(expected(before, path, value))
    assert value_at(done, path).to_pylist() == values


@given(tables)
def test_several_paths_at_once(rows: list[dict[str, Any]]) -> None:
    held = pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
    count = len(rows)
    changes = {
        ("user", "a"): pa.field("", pa.int64()),
        ("user", "home", "city"): pa.field("", pa.int64()),
        ("z",): pa.field("", pa.int64()),
    }
    after = with_paths(SCHEMA, changes)
    done = with_values(
        held, after, {path: pa.array([number] * count, pa.int64()) for number, path in enumerate(changes)}
    )
    for row, before in zip(done.to_pylist(), rows, strict=True):
        assert (row["user"]["a"], row["user"]["home"]["city"], row["z"]) == (0, 1, 2)
        assert row["user"]["name"] == (before["user"] or {}).get("name")
