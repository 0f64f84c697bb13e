"""Values as documents and back, to the last digit; what JSON or an id cannot say is refused with its reason."""

from __future__ import annotations

import datetime as dt
import json
import urllib.request
import uuid
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Token
from dsl.contracts.errors import SchemaError
from dsl.contracts.spec import OptionError
from resources.elasticsearch.documents import DocumentEncoder
from resources.elasticsearch.resource import CONNECTOR, ElasticsearchConnection, ElasticsearchDestination
from resources.sql_types import DECIMAL, JSON, UUID, marked
from resources.testing import sample
from tests.resources.elasticsearch.conftest import Place

TOKEN = Token("values", "load")
MOMENT = dt.datetime(2024, 2, 29, 23, 59, 59, 999999)  # noqa: DTZ001 - a timestamp without a zone
STRUCT = pa.struct([pa.field("a", pa.int64()), pa.field("b", pa.list_(pa.string()))])

VALUES: dict[str, tuple[pa.Field[Any], list[tuple[Any, str]]]] = {
    "int8": (pa.field("v", pa.int8()), [(-128, "-128"), (127, "127")]),
    "int64": (pa.field("v", pa.int64()), [(2**63 - 1, str(2**63 - 1)), (-(2**63), str(-(2**63)))]),
    "uint64": (pa.field("v", pa.uint64()), [(2**64 - 1, str(2**64 - 1))]),
    "double": (pa.field("v", pa.float64()), [(-0.0, "-0.0"), (0.1, "0.1"), (5e-324, "5e-324")]),
    "float": (pa.field("v", pa.float32()), [(0.1, "0.10000000149011612")]),
    "boolean": (pa.field("v", pa.bool_()), [(True, "true"), (False, "false")]),
    "decimal": (pa.field("v", pa.decimal128(15, 4)), [(Decimal("12345678901.2300"), "12345678901.2300")]),
    "long decimal": (
        pa.field("v", pa.decimal128(38, 10)),
        [(Decimal("1234567890123456789012345678.0123456789"), '"1234567890123456789012345678.0123456789"')],
    ),
    "marked decimal": (marked("v", DECIMAL), [("1" * 60, f'"{"1" * 60}"')]),
    "text": (pa.field("v", pa.string()), [("", '""'), ('a"\\\n\x00☃😀\u2028', '"a\\"\\\\\\n\\u0000☃😀\u2028"')]),
    "timestamp": (pa.field("v", pa.timestamp("us")), [(MOMENT, '"2024-02-29T23:59:59.999999"')]),
    "instant": (
        pa.field("v", pa.timestamp("us", "Europe/Berlin")),
        [(dt.datetime(1950, 6, 1, tzinfo=dt.UTC), '"1950-06-01T00:00:00.000000Z"')],
    ),
    "date": (pa.field("v", pa.date32()), [(dt.date(9999, 12, 31), '"9999-12-31"')]),
    "time": (pa.field("v", pa.time64("us")), [(dt.time(23, 59, 59, 1), '"23:59:59.000001"')]),
    "duration": (pa.field("v", pa.duration("us")), [(dt.timedelta(days=-1), "-86400000000")]),
    "interval": (pa.field("v", pa.month_day_nano_interval()), [((1, -2, 3_500_000_000), '"P1M-2DT3.5S"')]),
    "bytes": (pa.field("v", pa.binary()), [(b"\x00\xff", '"AP8="')]),
    "uuid": (pa.field("v", pa.uuid()), [(uuid.UUID(int=1).bytes, f'"{uuid.UUID(int=1)}"')]),
    "marked uuid": (marked("v", UUID), [(str(uuid.UUID(int=2)), f'"{uuid.UUID(int=2)}"')]),
    "dictionary": (pa.field("v", pa.dictionary(pa.int8(), pa.string())), [("x", '"x"')]),
    "json numbers": (
        marked("v", JSON),
        [("1.10", "1.10"), ("null", "null"), ("12345678901234567890", "12345678901234567890")],
    ),
    "json texts": (marked("v", JSON), [('"\\u00e9"', '"\\u00e9"')]),
    "json objects": (marked("v", JSON), [('{"a":\n [1e2, {}]}', '{"a":  [1e2, {}]}')]),
    "json type": (pa.field("v", pa.json_(pa.string())), [("[true]", "[true]")]),
    "list": (pa.field("v", pa.list_(pa.int64())), [([1, None, 3], "[1,null,3]"), ([], "[]")]),
    "lists": (pa.field("v", pa.list_(pa.list_(pa.int64()))), [([[1], None, [2, 3]], "[[1],null,[2,3]]")]),
    "struct": (pa.field("v", STRUCT), [({"a": 1, "b": ["x"]}, '{"a":1,"b":["x"]}'), ({}, '{"a":null,"b":null}')]),
    "structs": (pa.field("v", pa.list_(STRUCT)), [([{"a": 1}, None], '[{"a":1,"b":null},null]')]),
    "map": (pa.field("v", pa.map_(pa.string(), pa.int64())), [([("k", 1), ("l", None)], '{"k":1,"l":null}')]),
    "map of numbers": (
        pa.field("v", pa.map_(pa.int64(), pa.string())),
        [([(1, "x")], '[{"key":1,"value":"x"}]')],
    ),
    "nothing": (pa.field("v", pa.null()), [(None, "null")]),
}


def batch(field: pa.Field[Any], values: list[Any]) -> pa.RecordBatch:
    storage = field.type.storage_type if isinstance(field.type, pa.BaseExtensionType) else field.type
    column: Any = pa.array(values, storage)
    if isinstance(field.type, pa.BaseExtensionType):
        column = pa.ExtensionArray.from_storage(field.type, column)
    ids = pa.array(range(len(values)), pa.int64())
    return pa.RecordBatch.from_arrays([ids, column], schema=pa.schema([pa.field("id", pa.int64())]).append(field))


def source_of(place: Place, name: str) -> str:
    """The document as the server keeps it, to the letter."""
    with urllib.request.urlopen(f"{place.server.url}/{place.index}/_source/{name}", timeout=30) as answer:
        return str(answer.read().decode())


def exactly(text: str) -> Any:
    return json.loads(text, parse_float=Decimal)


@pytest.mark.parametrize("kind", VALUES)
def test_values_arrive_to_the_last_digit(place: Place, kind: str) -> None:
    field, pairs = VALUES[kind]
    rows = batch(field, [value for value, _ in pairs] + [None])
    sliced = pa.Table.from_batches([rows, rows]).combine_chunks().to_batches()[0].slice(rows.num_rows)
    with place.destination(WriteMode.UPSERT).open_writer(rows.schema, TOKEN) as writer:
        assert writer.write(sliced) == []
        assert writer.commit(1, {"v": 1}, final=True).rows == rows.num_rows
    for number, text in enumerate([text for _, text in pairs] + ["null"]):
        assert exactly(source_of(place, str(number))) == {"id": number, "v": exactly(text)}
    encoded = DocumentEncoder(rows.schema, "id", "").encode(sliced)
    assert encoded.texts == [f'{{"id":{at},"v":{text}}}' for at, text in enumerate([t for _, t in pairs] + ["null"])]


REFUSED: dict[str, tuple[pa.Field[Any], Any, str]] = {
    "NaN": (pa.field("v", pa.float64()), float("nan"), "not_finite"),
    "infinity": (pa.field("v", pa.float32()), float("-inf"), "not_finite"),
    "NaN in a list": (pa.field("v", pa.list_(pa.float64())), [1.0, float("nan")], "not_finite"),
    "NaN in a struct": (pa.field("v", pa.struct([("f", pa.float64())])), {"f": float("inf")}, "not_finite"),
    "NaN in a map": (pa.field("v", pa.map_(pa.string(), pa.float64())), [("k", float("nan"))], "not_finite"),
    "a key twice": (pa.field("v", pa.map_(pa.string(), pa.int64())), [("k", 1), ("k", 2)], "duplicate_key"),
    "no JSON": (marked("v", JSON), "{'a': 1}", "json"),
    "NaN in JSON": (marked("v", JSON), '{"a": NaN}', "json"),
    "deep JSON": (marked("v", JSON), "[" * 100_000 + "]" * 100_000, "json"),
    "a far year": (pa.field("v", pa.timestamp("s")), 2**38, "date_range"),
    "a far day": (pa.field("v", pa.date32()), 2**30, "date_range"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_json_cannot_say_is_refused_alone(place: Place, kind: str) -> None:
    field, bad, code = REFUSED[kind]
    rows = batch(field, [None, bad, None])
    with place.destination(WriteMode.UPSERT).open_writer(rows.schema, TOKEN) as writer:
        refused = writer.write(rows)
        assert writer.commit(1, {"v": 1}, final=True).rows == 2
    assert [each.code for each in refused] == [code]
    assert refused[0].row.column(0).to_pylist() == [1]
    assert "'v" in refused[0].reason
    assert sorted(place.documents()) == ["0", "2"]


def test_text_that_is_not_utf8_is_refused(place: Place) -> None:
    field = pa.field("v", pa.string())
    raw = pa.array([b"good", b"\xff\xfe"], pa.binary())
    column = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    rows = pa.RecordBatch.from_arrays([pa.array([0, 1]), column], schema=pa.schema([("id", pa.int64())]).append(field))
    with place.destination(WriteMode.UPSERT).open_writer(rows.schema, TOKEN) as writer:
        assert [each.code for each in writer.write(rows)] == ["encoding"]


# ---- ids --------------------------------------------------------------------------------------------------------------


def nested(values: list[Any], kind: pa.DataType) -> pa.RecordBatch:
    user = pa.struct([pa.field("email", kind)])
    held = [None if each is ... else {"email": each} for each in values]
    return pa.RecordBatch.from_arrays([pa.array(held, user)], names=["user"])


IDS: dict[str, tuple[pa.DataType, list[Any], list[str]]] = {
    "text": (pa.string(), ['x","a":1', "Ünï ☃", "a/b?c"], ['x","a":1', "Ünï ☃", "a/b?c"]),
    "number": (pa.int64(), [2**63 - 1, -1], [str(2**63 - 1), "-1"]),
    "date": (pa.date32(), [dt.date(2024, 1, 2)], ["2024-01-02"]),
    "moment": (pa.timestamp("us", "UTC"), [dt.datetime(2024, 1, 2, tzinfo=dt.UTC)], ["2024-01-02T00:00:00.000000Z"]),
    "decimal": (pa.decimal128(10, 2), [Decimal("1.50")], ["1.50"]),
}


@pytest.mark.parametrize("kind", IDS)
def test_the_id_is_the_value_at_a_path(place: Place, kind: str) -> None:
    made, values, expected = IDS[kind]
    rows = nested(values, made)
    with place.destination(id_field="user.email").open_writer(rows.schema, TOKEN) as writer:
        assert writer.write(rows) == []
        writer.commit(1, {"v": 1})
    assert sorted(place.documents()) == sorted(expected)


def test_rows_without_an_id_are_refused(place: Place) -> None:
    rows = nested(["a", None, ..., "", "é" * 257, "é" * 256], pa.string())
    with place.destination(id_field="user.email").open_writer(rows.schema, TOKEN) as writer:
        refused = writer.write(rows)
        writer.commit(1, {"v": 1})
    assert [each.code for each in refused] == ["null_id", "null_id", "bad_id", "bad_id"]
    assert sorted(place.documents()) == ["a", "é" * 256]


def test_the_last_of_a_key_wins_in_one_batch(place: Place) -> None:
    schema = pa.schema([pa.field("id", pa.int64())]).append(pa.field("n", pa.int64()))
    rows = pa.RecordBatch.from_pylist([{"id": each % 3, "n": each} for each in range(30)], schema=schema)
    with place.destination(WriteMode.UPSERT).open_writer(schema, TOKEN) as writer:
        writer.write(rows)
        stats = writer.commit(1, {"v": 1})
    assert {name: each["n"] for name, each in place.documents().items()} == {"0": 27, "1": 28, "2": 29}
    assert (stats.rows, stats.inserted, stats.updated) == (30, 3, 27)


@pytest.mark.parametrize(
    ("id_field", "said"),
    [
        ("user.mail", "did you mean 'email'"),
        ("usr", "did you mean 'user'"),
        ("user", "cannot identify a document"),
        ("user.email.x", "there is no field"),
    ],
)
def test_an_id_field_that_cannot_be_is_named(place: Place, id_field: str, said: str) -> None:
    with pytest.raises(SchemaError, match=said):
        place.destination(id_field=id_field).open_writer(nested([], pa.string()).schema, TOKEN)
    with pytest.raises(SchemaError, match="cannot identify"):
        place.destination(id_field="user.email").open_writer(nested([], pa.float64()).schema, TOKEN)


def test_a_key_makes_appending_an_upsert() -> None:
    connection = ElasticsearchConnection(host="localhost")
    keyed = ElasticsearchDestination(connection=connection, index="users", id_field="user.email")
    assert keyed.write_mode is WriteMode.UPSERT
    assert keyed.for_input("x").write_mode is WriteMode.UPSERT
    assert keyed.physical_name == ("elasticsearch", "localhost", "users")
    many = ElasticsearchDestination(connection=connection, index="raw-{input}")
    assert many.for_input("Orders").physical_name == ("elasticsearch", "localhost", "raw-orders")
    elsewhere = ElasticsearchConnection(host="localhost", port=9201)
    assert ElasticsearchDestination(connection=elsewhere, index="users").physical_name[1] == "localhost_9201"


@pytest.mark.parametrize(
    ("option", "options"),
    [
        ("index", {"index": "Users"}),
        ("index", {"index": ""}),
        ("index", {"index": "a,b"}),
        ("index", {"index": "a*"}),
        ("index", {"index": "_all"}),
        ("index", {"index": ".."}),
        ("index", {"index": "x" * 256}),
        ("index", {"index": "a/../b"}),
        ("id_field", {"write_mode": WriteMode.UPSERT}),
        ("id_field", {"id_field": "user..email"}),
        ("request_bytes", {"request_bytes": 2**30}),
        ("properties", {"properties": {"a": "keyword"}}),
        ("token_index", {"token_index": "A"}),
    ],
)
def test_options_that_cannot_be_are_refused(option: str, options: dict[str, Any]) -> None:
    with pytest.raises(OptionError) as caught:
        ElasticsearchDestination(
            **{"connection": ElasticsearchConnection(host="localhost"), "index": "users", **options}
        )
    assert caught.value.name == option


@pytest.mark.parametrize("host", ["https://es.example.com", "", "es/path"])
def test_a_host_is_a_name(host: str) -> None:
    with pytest.raises(OptionError):
        ElasticsearchConnection(host=host)


def test_what_can_be_read_is_listed(place: Place) -> None:
    with place.destination().open_writer(sample(0, 0).schema, TOKEN):
        pass
    assert place.index in [each.name for each in place.connection.discover()]
    assert place.connection.check().details.startswith("Elasticsearch 8.")
    assert CONNECTOR.kind == "elasticsearch"
