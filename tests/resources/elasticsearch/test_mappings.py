"""The mapping of an index: made for a schema, completed for another, kept where somebody else made it, swapped by overwriting."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Token
from dsl.contracts.errors import SchemaError
from resources.elasticsearch.types import mappings_of
from resources.sql_types import JSON, marked
from tests.resources.elasticsearch.conftest import Place
from tests.resources.elasticsearch.loading import SCHEMA, TOKEN, rows_of, state_at

KEYWORD = {"type": "keyword", "ignore_above": 8191}
TEXT = {"type": "text", "fields": {"keyword": KEYWORD}}


def schema_of(*fields: tuple[str, Any]) -> pa.Schema:
    return pa.schema([pa.field(*each) for each in fields])


def properties_of(place: Place, name: str = "") -> dict[str, Any]:
    found = place.server.request("GET", f"{name or place.index}/_mapping")
    return dict(next(iter(found.values()))["mappings"].get("properties", {}))


def behind(place: Place) -> list[str]:
    return sorted(place.server.request("GET", place.index))


def touch(place: Place, schema: pa.Schema, **options: Any) -> None:
    with place.destination(**options).open_writer(schema, Token("other", place.index)):
        pass


def test_types_are_mapped_so_that_nothing_is_cut() -> None:
    schema = schema_of(
        ("whole", pa.uint64()),
        ("half", pa.float16()),
        ("price", pa.decimal128(12, 2)),
        ("exact", pa.decimal128(38, 9)),
        ("name", pa.string()),
        ("at", pa.timestamp("us")),
        ("nanos", pa.timestamp("ns")),
        ("user", pa.struct([pa.field("tags", pa.list_(pa.string()))])),
        ("labels", pa.map_(pa.string(), pa.string())),
        ("blob", pa.binary()),
    )
    mapped = mappings_of(schema, {"user.tags": {"type": "text", "analyzer": "english"}})
    assert mapped == {
        "dynamic": "strict",
        "date_detection": False,
        "properties": {
            "whole": {"type": "unsigned_long"},
            "half": {"type": "half_float"},
            "price": {"type": "scaled_float", "scaling_factor": 100},
            "exact": KEYWORD,
            "name": TEXT,
            "at": {"type": "date"},
            "nanos": {"type": "date_nanos"},
            "user": {"properties": {"tags": {"type": "text", "analyzer": "english"}}},
            "labels": {"type": "flattened"},
            "blob": {"type": "binary"},
        },
    }


def test_only_columns_of_json_may_bring_fields(place: Place) -> None:
    user = pa.field("user", pa.struct([pa.field("email", pa.string()), marked("score", JSON)]))
    schema = schema_of(("id", pa.int64()), ("plain", pa.struct([pa.field("a", pa.int64())]))).append(user)
    mapped = mappings_of(schema, {})
    assert mapped["dynamic"] == "strict"
    assert mapped["properties"]["user"] == {"dynamic": True, "properties": {"email": TEXT}}
    assert "dynamic" not in mapped["properties"]["plain"]
    scores = ["1", "2.5", "3", '"many"', "null", "[4, 5.5]"]
    rows = pa.RecordBatch.from_pylist(
        [{"id": at, "plain": None, "user": {"email": "x", "score": each}} for at, each in enumerate(scores)],
        schema=schema,
    )
    with place.destination(WriteMode.UPSERT).open_writer(schema, TOKEN) as writer:
        refused = writer.write(rows)
        writer.commit(1, state_at(6))
    assert properties_of(place)["user"]["properties"]["score"] == {"type": "double"}, (
        "fractions may follow whole numbers"
    )
    assert [each.row.to_pylist()[0]["id"] for each in refused] == [3], (
        "a text where numbers are is refused, not dropped"
    )
    found = {name: each["user"]["score"] for name, each in place.documents().items()}
    assert found == {"0": 1, "1": 2.5, "2": 3, "4": None, "5": [4, 5.5]}


def test_new_fields_are_added(place: Place) -> None:
    touch(place, schema_of(("id", pa.int64()), ("user", pa.struct([pa.field("a", pa.int64())]))))
    user = pa.struct([pa.field("a", pa.int64()), pa.field("b", pa.struct([pa.field("c", pa.bool_())]))])
    touch(place, schema_of(("id", pa.int64()), ("user", user)).append(marked("extra", JSON)))
    assert properties_of(place) == {
        "id": {"type": "long"},
        "user": {"properties": {"a": {"type": "long"}, "b": {"properties": {"c": {"type": "boolean"}}}}},
    }


@pytest.mark.parametrize(
    ("there", "brings", "said"),
    [
        ({"type": "long"}, pa.float64(), "mapped as long, which would cut double values"),
        ({"type": "integer"}, pa.decimal128(10, 2), "mapped as integer, which would cut scaled_float values"),
        ({"type": "keyword"}, pa.struct([pa.field("a", pa.int64())]), "mapped as keyword, rows bring object"),
        ({"properties": {"a": {"type": "long"}}}, pa.string(), "mapped as object, rows bring text"),
    ],
)
def test_a_mapping_that_would_cut_values_is_refused(place: Place, there: Any, brings: pa.DataType, said: str) -> None:
    place.server.request("PUT", place.index, {"mappings": {"properties": {"v": there}}})
    with pytest.raises(SchemaError, match=f"field 'v' is {said}"):
        touch(place, schema_of(("v", brings)))


@pytest.mark.parametrize("name", ["_id", "_source", "", " ", "a..b", "a."])
def test_names_that_no_field_can_have_are_refused(place: Place, name: str) -> None:
    with pytest.raises(SchemaError, match="name"):
        touch(place, schema_of((name, pa.int64())))
    assert place.documents() == {}


def test_mappings_and_settings_of_others_are_kept_over_an_overwrite(place: Place) -> None:
    """Also a plain index gives its name to an alias, in one act."""
    place.server.request(
        "PUT",
        place.index,
        {
            "settings": {"number_of_replicas": 0, "analysis": {"analyzer": {"mine": {"type": "standard"}}}},
            "mappings": {"properties": {"text": {"type": "text", "analyzer": "mine"}, "note": {"type": "keyword"}}},
        },
    )
    place.server.request("PUT", f"{place.index}/_doc/old", {"note": "old"})
    overwrite(place, 5)
    (name,) = behind(place)
    assert name != place.index
    assert properties_of(place) == {
        "id": {"type": "long"},
        "text": {"type": "text", "analyzer": "mine"},
        "note": {"type": "keyword"},
    }
    settings = place.server.request("GET", name)[name]["settings"]["index"]
    assert settings["number_of_replicas"] in {"0", 0}
    assert "mine" in settings["analysis"]["analyzer"]
    assert sorted(each["id"] for each in place.documents().values()) == list(range(5))


def test_each_overwrite_leaves_one_index(place: Place) -> None:
    seen = set()
    for epoch, rows in enumerate((5, 0, 3), 1):
        overwrite(place, rows, epoch)
        (name,) = behind(place)
        seen.add(name)
        assert len(place.documents()) == rows
        assert [each for each in place.server.request("GET", "/*") if each.startswith(place.index)] == [name]
    assert len(seen) == 3


def test_an_index_of_others_behind_an_alias_is_kept(place: Place) -> None:
    theirs = f"{place.index}-theirs"
    place.server.request("PUT", theirs, {"aliases": {place.index: {}}})
    overwrite(place, 4)
    assert behind(place) != [theirs]
    assert len(place.documents()) == 4
    assert theirs in place.server.request("GET", theirs), "it has lost the alias only"


def test_after_an_overwrite_rows_can_be_appended(place: Place) -> None:
    overwrite(place, 4)
    name = behind(place)
    with place.destination().open_writer(SCHEMA, Token("more", "load")) as writer:
        writer.write(rows_of(range(4, 6)))
        writer.commit(1, state_at(2))
    assert behind(place) == name
    assert len(place.documents()) == 6


def test_an_overwrite_that_is_given_up_leaves_nothing(place: Place) -> None:
    with place.destination(WriteMode.OVERWRITE).open_writer(SCHEMA, TOKEN) as writer:
        writer.write(rows_of(range(5)))
    assert [each for each in place.server.request("GET", "/*") if each.startswith(place.index)] == []


def test_several_inputs_have_an_index_each(place: Place) -> None:
    many = place.destination(index=f"{place.index}-{{input}}")
    for each in ("Users", "orders"):
        with many.for_input(each).open_writer(SCHEMA, Token("many", each)) as writer:
            writer.write(rows_of(range(2)))
            writer.commit(1, state_at(2))
    found = [each for each in place.server.request("GET", "/*") if each.startswith(place.index)]
    assert found == [f"{place.index}-orders", f"{place.index}-users"]


def overwrite(place: Place, rows: int, epoch: int = 1) -> None:
    with place.destination(WriteMode.OVERWRITE).open_writer(SCHEMA, TOKEN) as writer:
        if rows:
            writer.write(rows_of(range(rows)))
        writer.commit(epoch, state_at(rows), final=True)
