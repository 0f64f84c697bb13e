"""What the source promises on the emulator: the suite, views that expire, values exactly or refused, each new document once."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.connectors import ReadRequest, Source
from dsl.contracts.errors import FatalError, RetryableError, SchemaError
from dsl.contracts.spec import OptionError
from resources.elasticsearch.client import Client
from resources.elasticsearch.incoming import Extra, parse, rows_of, schema_of
from resources.elasticsearch.reader import ElasticsearchReader
from resources.elasticsearch.resource import ElasticsearchConnection, ElasticsearchSource
from resources.sql_reader import REMEMBERED
from resources.testing import SourceOrigin, SourceSuite
from resources.testing.samples import FIELDS
from tests.kit.http_script import Asked, Reply, reply, scripted_server
from tests.resources.elasticsearch.conftest import Place
from tests.resources.sql_suite import drain, read_all

MAPPING = {
    "id": {"type": "long"},
    "name": {"type": "text", "fields": {"keyword": {"type": "keyword"}}},
    "score": {"type": "double"},
    "at": {"type": "date"},
}
OLD = "2024-01-01T00:00:00Z"


def create(place: Place, properties: dict[str, Any] | None = None) -> None:
    place.server.request("PUT", place.index, {"mappings": {"properties": properties or MAPPING}})


def put(place: Place, documents: dict[str, dict[str, Any]]) -> None:
    for number, each in documents.items():
        place.server.request("PUT", f"{place.index}/_doc/{number}", each)
    place.server.request("POST", f"{place.index}/_refresh")


def source(place: Place, **options: Any) -> ElasticsearchSource:
    return ElasticsearchSource(**{"connection": place.connection, "index": place.index, **options})


def growing(place: Place, **options: Any) -> ElasticsearchSource:
    given = {"incremental_column": "at", "lag": timedelta(minutes=1), "columns": ("id",)}
    return source(place, **{**given, **options})


def ids(rows: Sequence[dict[str, Any]]) -> list[int]:
    return sorted(each["id"] for each in rows)


class Origin:
    """One index, for the suite of all connectors; `at` is declared without a zone, as the suite has it."""

    def __init__(self, place: Place, **options: Any) -> None:
        self._place, self._options = place, options
        create(place)

    def fill(self, rows: Sequence[pa.RecordBatch]) -> None:
        made = [row | {"at": row["at"].isoformat()} for each in rows for row in each.to_pylist()]
        put(self._place, {str(each["id"]): each for each in made})

    def source(self) -> Source:
        return source(self._place, **self._options).declaring(pa.schema(list(FIELDS.items())))


class TestSource(SourceSuite):
    """In the order of a field: it resumes, and is divided."""

    @pytest.fixture
    def origin(self, place: Place) -> SourceOrigin:
        return Origin(place, key_field="id")


def test_without_a_key_a_run_is_whole_or_begins_anew(place: Place) -> None:
    create(place)
    put(place, {str(each): {"id": each} for each in range(25)})
    batches, _ = read_all(source(place), batch_rows=7)
    assert ids([row for each in batches for row in each.rows.to_pylist()]) == list(range(25))
    assert [each.state is None for each in batches] == [True] * 4 + [False]


def test_a_view_does_not_see_what_comes_and_goes(place: Place) -> None:
    create(place)
    put(place, {str(each): {"id": each} for each in range(10)})
    with source(place, key_field="id").read(ReadRequest(batch_rows=4), None) as reader:
        batches = iter(reader)
        first = next(batches)
        put(place, {"3": {"id": 300}, "5": {"id": 500}, "99": {"id": 99}})
        rows = [row for each in (first, *batches) for row in each.rows.to_pylist()]
    assert ids(rows) == list(range(10))


def test_a_view_that_expired_is_opened_again_behind_the_last_state(place: Place) -> None:
    create(place)
    put(place, {str(each): {"id": each // 2} for each in range(30)})
    keyed = source(place, key_field="id")
    got: list[int] = []
    state, kept = None, 0
    with keyed.read(ReadRequest(batch_rows=4), None) as reader:
        assert isinstance(reader, ElasticsearchReader)
        batches = iter(reader)
        for _ in range(3):
            each = next(batches)
            got += ids(each.rows.to_pylist())
            if each.state is not None:
                state, kept = each.state, len(got)
        place.server.request("DELETE", "_pit", {"id": reader._view.id})
        with pytest.raises(RetryableError, match="has expired"):
            list(batches)
    rows, _ = drain(keyed, json.loads(json.dumps(state)))
    assert got[:kept] + ids(rows) == [each // 2 for each in range(30)]


@pytest.mark.parametrize("field", ["id", "at", "word"])
def test_documents_of_equal_key_resume_after_every_batch(place: Place, field: str) -> None:
    create(place, {**MAPPING, "word": {"type": "keyword"}})
    made = [
        {"id": each // 4, "word": f"w{each // 4:03d}", "at": f"2024-01-01T00:00:{each // 4:02d}.000123Z", "score": each}
        for each in range(40)
    ]
    put(place, {str(number): each for number, each in enumerate(made)})
    keyed = source(place, key_field=field)
    batches, _ = read_all(keyed, batch_rows=3)
    cuts = [at for at, each in enumerate(batches[:-1]) if each.state is not None]
    assert len(cuts) >= 3
    for at in cuts:
        before = [row["score"] for each in batches[: at + 1] for row in each.rows.to_pylist()]
        after = [row["score"] for row in drain(keyed, batches[at].state, batch_rows=5)[0]]
        assert sorted(before + after) == list(range(40)), at


def test_a_state_is_of_one_key(place: Place) -> None:
    create(place)
    put(place, {str(each): {"id": each, "score": each, "at": OLD} for each in range(9)})
    batches, _ = read_all(source(place, key_field="id"), batch_rows=4)
    with pytest.raises(FatalError, match="the state resumes by 'id', and key_field is another one"):
        drain(source(place, key_field="at"), batches[0].state)


def test_parts_share_one_view(place: Place) -> None:
    create(place)
    put(place, {str(each): {"id": each} for each in range(20)})
    with source(place, key_field="id").together() as shared:
        splits = shared.splits(3)
        put(place, {"100": {"id": 7}})
        rows = [row for each in splits for row in drain(shared.part(each))[0]]
        again = [row for each in splits for row in drain(shared.part(each))[0]]
    assert ids(rows) == ids(again) == list(range(20)), "a reader closes no view that is not its own"


def test_what_orders_must_have_one_value_and_be_there(place: Place) -> None:
    create(place)
    put(place, {"1": {"id": 1}, "2": {"name": "without"}})
    with pytest.raises(FatalError, match="1 documents have no value in 'id'"):
        drain(source(place, key_field="id"))
    assert ids(drain(source(place, key_field="id", query={"exists": {"field": "id"}}))[0]) == [1]
    with pytest.raises(SchemaError, match=r"'name' is text.*name\.keyword"):
        drain(source(place, key_field="name"))
    with pytest.raises(SchemaError, match=r"no field 'idd'.*did you mean 'id'"):
        drain(source(place, key_field="idd"))


# ---- incremental ----------------------------------------------------------------------------------------------------


def test_each_new_document_is_read_once(place: Place) -> None:
    create(place)
    put(place, {"1": {"id": 1, "at": OLD}, "2": {"id": 2, "at": "2024-01-02T00:00:00.5Z"}})
    rows, state = drain(growing(place))
    assert ids(rows) == [1, 2]
    soon = (dt.datetime.now(dt.UTC) + timedelta(hours=1)).isoformat()
    put(place, {
        "3": {"id": 3, "at": "2024-01-02T00:00:00.5Z"}, "4": {"id": 4, "at": "2024-01-03T00:00:00Z"},
        "5": {"id": 5, "at": soon}, "1": {"id": 1, "at": "2024-01-04T00:00:00Z"},
    })  # fmt: skip
    rows, state = drain(growing(place), json.loads(json.dumps(state)))
    assert ids(rows) == [1, 3, 4], "a tie, a newer one, one that changed; not what is younger than the lag"
    assert drain(growing(place), state)[0] == []
    assert drain(growing(place, initial_value="2024-01-03T00:00:00Z"))[0] == [{"id": 4}, {"id": 1}]


def test_an_incremental_read_resumes_after_every_batch_among_ties(place: Place) -> None:
    create(place)
    put(place, {str(each): {"id": each, "at": f"2024-01-01T00:00:{each // 15:02d}Z"} for each in range(60)})
    batches, _ = read_all(growing(place), batch_rows=7)
    assert all(each.state is not None for each in batches)
    for at in range(len(batches)):
        before = [row["id"] for each in batches[: at + 1] for row in each.rows.to_pylist()]
        after = [row["id"] for row in drain(growing(place), batches[at].state, batch_rows=4)[0]]
        assert sorted(before + after) == list(range(60)), at


def test_more_ties_than_a_state_remembers_are_not_cut(place: Place) -> None:
    create(place)
    lines = [
        json.dumps(line)
        for each in range(REMEMBERED + 50)
        for line in ({"index": {"_id": str(each)}}, {"id": each, "at": OLD})
    ]
    with Client(place.connection) as client:
        body = ("\n".join(lines) + "\n").encode()
        client.send("POST", f"/{place.index}/_bulk?refresh=true", body, kind="application/x-ndjson")
    batches, _ = read_all(growing(place), batch_rows=400)
    assert [each.state is None for each in batches] == [False, False, True, False]
    rows, _ = drain(growing(place), batches[-1].state)
    assert rows == []


def test_only_a_date_and_a_lag_bound_what_is_new(place: Place) -> None:
    create(place)
    with pytest.raises(OptionError, match="still on their way"):
        source(place, incremental_column="at")
    with pytest.raises(SchemaError, match="only a date can be read incrementally"):
        drain(growing(place, incremental_column="id"))


# ---- columns and values ---------------------------------------------------------------------------------------------

DEEP = {
    "o": {"properties": {"x": {"type": "integer"}, "tags": {"type": "keyword"}}},
    "n": {"type": "nested", "properties": {"y": {"type": "keyword"}}},
    "geo": {"type": "geo_point"},
    "big": {"type": "unsigned_long"},
    "f": {"type": "float"},
    "b": {"type": "boolean"},
    "bin": {"type": "binary"},
    "own": {"type": "date", "format": "dd/MM/yyyy"},
    "ns": {"type": "date_nanos"},
}


def test_columns_follow_from_the_mapping() -> None:
    schema = schema_of({**MAPPING, **DEEP, "same": {"type": "alias", "path": "id"}}, ("o.tags",), "here")
    assert {each.name: str(each.type) for each in schema} == {
        "id": "int64", "name": "string", "score": "double", "at": "timestamp[us, tz=UTC]",
        "o": "struct<x: int32, tags: list<item: string>>", "n": "list<item: struct<y: string>>", "geo": "string",
        "big": "uint64", "f": "double", "b": "bool", "bin": "binary", "own": "string", "ns": "timestamp[ns, tz=UTC]",
    }  # fmt: skip
    with pytest.raises(SchemaError, match=r"'o\.no', which the mapping does not have"):
        schema_of(DEEP, ("o.no",), "here")


def test_documents_are_read_as_they_were_written(place: Place) -> None:
    create(place, {**MAPPING, **DEEP})
    document = {
        "id": -(2**63), "name": "ü\n🎉", "score": 0.1, "at": "2024-01-01T01:00:00.123456+01:00", "o": {"x": 1, "tags": ["a", "b"]},
        "n": [{"y": "a"}, {"y": None}], "geo": {"lat": 1.50, "lon": 2}, "big": 2**64 - 1, "f": 0.1, "b": True, "bin": "AP8=",
        "own": "31/12/2024", "ns": "2024-01-01T00:00:00.123456789Z",
    }  # fmt: skip
    put(place, {"one": document, "two": {"n": {"y": "single"}, "o": None}})
    found, _ = drain(source(place, arrays=("o.tags",), id_column="key"))
    one, two = sorted(found, key=lambda row: row["key"])
    ns = one.pop("ns")
    assert (ns.value if hasattr(ns, "value") else ns) == 1704067200123456789
    assert one == {
        **{name: document[name] for name in ("id", "name", "score", "o", "n", "big", "f", "b", "own")},
        "at": dt.datetime(2024, 1, 1, 0, 0, 0, 123456, tzinfo=dt.UTC), "geo": one["geo"], "bin": b"\x00\xff", "key": "one",
    }  # fmt: skip
    assert json.loads(one["geo"]) == document["geo"]
    assert (two["n"], two["o"], two["id"]) == ([{"y": "single"}], None, None)


REFUSED: list[tuple[str, Any, str]] = [
    ("id", 1.5, "'id' has a value that int64 cannot hold"),
    ("id", 2**63, "'id' has a value that int64"),
    ("id", [1, 2], "'id' holds 2 values; name it in arrays"),
    ("id", True, "'id' has a value that int64"),
    ("score", 0.12345678901234567890123, ""),
    ("at", "2024-01-01T00:00:00.1234567Z", "'at' has a value that timestamp"),
    ("at", "soon", "'at' has a value that timestamp"),
    ("at", "2023-02-29", "'at' has a value that timestamp"),
    ("o", [{"x": 1}, {"x": 2}], "'o' holds 2 values"),
    ("o", 5, "'o' is no object"),
    ("o", {"x": 2**31}, "'o.x' has a value that int32"),
    ("n", [[{"y": "a"}]], "'n' holds a list within a list"),
    ("bin", "no base64!", "'bin' has a value that binary"),
    ("name", {"a": 1}, "'name' has a value that string"),
]


@pytest.mark.parametrize(("name", "value", "reason"), [each for each in REFUSED if each[2]])
def test_what_a_column_cannot_hold_is_rejected_with_its_document(name: str, value: Any, reason: str) -> None:
    schema = schema_of({**MAPPING, **DEEP}, (), "here")
    hits = [{"_id": "bad", "_source": {name: value}}, {"_id": "good", "_source": {"id": 1}}]
    rows, rejected = rows_of(hits, schema, Extra())
    assert rows.num_rows == 1
    assert [each.reason.startswith(reason) for each in rejected] == [True]
    assert rejected[0].row.column("_id").to_pylist() == ["bad"]


def test_digits_are_kept() -> None:
    hit = parse(b'{"_id": "a", "_source": {"score": 0.1234567890123456789, "money": 12345678901234567.89}}')
    rows, rejected = rows_of([hit], pa.schema([("money", pa.decimal128(38, 2))]), Extra())
    assert rows.to_pylist() == [{"money": Decimal("12345678901234567.89")}]
    assert rejected == []
    rows, rejected = rows_of([hit], pa.schema([("score", pa.float64())]), Extra())
    assert len(rejected) == 1, "a double would cut it"
    rows, _ = rows_of([hit], pa.schema([("doc", pa.string())]), Extra(source="doc"))
    assert rows.to_pylist() == [{"doc": '{"score":0.1234567890123456789,"money":12345678901234567.89}'}]


def test_values_that_are_the_same_to_an_index() -> None:
    schema = schema_of({**MAPPING, **DEEP}, ("o.tags",), "here")
    held = {"id": "5", "score": ["1.50"], "at": 1704067200123, "o.x": 3, "b": "true", "o": {"tags": "a"}, "name": 5}
    rows, rejected = rows_of([{"_id": "1", "_source": held}], schema, Extra())
    assert rejected == []
    row = rows.to_pylist()[0]
    assert (row["id"], row["score"], row["b"], row["name"]) == (5, 1.5, True, "5")
    assert row["at"] == dt.datetime(2024, 1, 1, 0, 0, 0, 123000, tzinfo=dt.UTC)
    assert row["o"] == {"x": 3, "tags": ["a"]}, "with dots and as an object at once"


def test_what_is_missing_is_said(place: Place) -> None:
    with pytest.raises(SchemaError, match="there is no index"):
        source(place).discover_schema()
    create(place)
    with pytest.raises(SchemaError, match=r"no column 'nam'.*did you mean 'name'"):
        source(place, columns=("nam",)).discover_schema()
    with pytest.raises(SchemaError, match="have a field 'id' themselves"):
        source(place, id_column="id").discover_schema()


def test_several_indices_are_read_as_one(place: Place) -> None:
    create(place)
    other = Place(place.server, place.connection, f"{place.index}-b")
    create(other)
    put(place, {"1": {"id": 1, "at": OLD}})
    put(other, {"1": {"id": 2, "at": OLD}})
    assert ids(drain(source(place, index=f"{place.index}*", key_field="id"))[0]) == [1, 2]
    third = Place(place.server, place.connection, f"{place.index}-c")
    create(third, {"id": {"type": "keyword"}})
    with pytest.raises(SchemaError, match="'id' is long in one index and keyword in another"):
        source(place, index=f"{place.index}*").discover_schema()


def test_opensearch_has_its_own_words() -> None:
    """Its path, its name for the id, and no tie-break of its own; the scripted server stands for it."""
    hits = [{"_index": "a", "_id": str(each), "_source": {"id": each}, "sort": [each, str(each)]} for each in range(3)]

    def answer(asked: Asked) -> Reply:
        if asked.path == "/a/_mapping":
            return reply({"a": {"mappings": {"properties": {"id": {"type": "long"}}}}})
        if asked.path == "/a/_search/point_in_time":
            return reply({"pit_id": "view"})
        if asked.path == "/_search":
            told = asked.json
            rest = [each for each in hits if each["sort"] > told.get("search_after", [-1])]
            total = {"total": {"value": 0, "relation": "eq"}}
            return reply({"hits": {"hits": rest[: told["size"]], **total}, "_shards": {"failed": 0}})
        return reply({"version": {"number": "2.15.0", "distribution": "opensearch"}})

    with scripted_server() as server:
        server.route = answer
        connection = ElasticsearchConnection(host="127.0.0.1", port=server.port)
        rows, _ = drain(ElasticsearchSource(connection=connection, index="a", key_field="id"), batch_rows=2)
    assert ids(rows) == [0, 1, 2]
    searches = [each.json for each in server.asked if each.path == "/_search" and each.json["size"]]
    assert [each["sort"] for each in searches] == [[{"id": {"order": "asc"}}, {"_id": "asc"}]] * 2
    assert searches[1]["search_after"] == [1, "1"]
    assert server.asked[-1].json == {"pit_id": ["view"]}
    assert (server.asked[-1].method, server.asked[-1].path) == ("DELETE", "/_search/point_in_time")


def test_shards_that_do_not_answer_are_no_end() -> None:
    def answer(asked: Asked) -> Reply:
        if asked.path == "/_search":
            return reply({"hits": {"hits": [], "total": {"value": 0}}, "_shards": {"failed": 1}})
        if asked.path == "/a/_mapping":
            return reply({"a": {"mappings": {"properties": {"id": {"type": "long"}}}}})
        return reply({"id": "view", "version": {"number": "8.15.0"}})

    with scripted_server() as server:
        server.route = answer
        connection = ElasticsearchConnection(host="127.0.0.1", port=server.port)
        with pytest.raises(RetryableError, match="some shards did not answer"):
            drain(ElasticsearchSource(connection=connection, index="a"))
