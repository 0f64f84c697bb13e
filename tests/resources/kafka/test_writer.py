"""What the messages of a topic are: keys, values, headers, partitions, tombstones; and rows that cannot be one."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.changes import OPERATION, Operation
from dsl.contracts.connectors import Token
from dsl.contracts.errors import FatalError, SchemaError
from dsl.contracts.rows import Rejection
from dsl.contracts.spec import OptionError
from tests.resources.kafka.conftest import Place

TOKEN = Token("messages", "load")
TYPES: dict[str, pa.DataType] = {
    "id": pa.int64(),
    "part": pa.string(),
    "price": pa.decimal128(20, 2),
    "trace": pa.string(),
    "place": pa.int32(),
}
ROWS = pa.RecordBatch.from_pylist(
    [
        {"id": 1, "part": "é", "price": Decimal("12345678901234567.80"), "trace": "t1", "place": 1},
        {"id": 2, "part": None, "price": None, "trace": None, "place": 0},
    ],
    schema=pa.schema(TYPES),
)


def written(place: Place, rows: pa.RecordBatch, mode: WriteMode = WriteMode.APPEND, **options: Any) -> list[Rejection]:
    with place.destination(mode, **options).open_writer(rows.schema, TOKEN) as writer:
        refused = list(writer.write(rows))
        assert writer.commit(1, {"v": 1}).rows == rows.num_rows - len(refused)
    return refused


def test_key_value_headers_and_partition(place: Place) -> None:
    options: dict[str, Any] = {"primary_key": ("id",), "header_fields": ("trace",), "partition_field": "place"}
    assert written(place, ROWS, **options) == []
    second, first = place.server.messages(place.topic)
    assert (first.partition(), first.key(), first.headers()) == (1, b"1", [("trace", b"t1")])
    assert json.loads(first.value()) == {"id": 1, "part": "é", "price": "12345678901234567.80"}
    assert (second.partition(), second.key(), second.headers()) == (0, b"2", [("trace", None)])


def test_a_key_of_several_columns_and_one_that_is_null(place: Place) -> None:
    refused = written(place, ROWS, primary_key=("id", "part"))
    assert [(each.code, each.reason, each.row.column("id").to_pylist()) for each in refused] == [
        ("not_null", "its key is NULL", [2])
    ]
    assert [each.key().decode() for each in place.server.messages(place.topic)] == ['[1,"é"]']


def test_a_column_may_be_the_whole_value(place: Place) -> None:
    assert written(place, ROWS, value_field="part", primary_key=("id",)) == []
    assert sorted((each.key(), each.value()) for each in place.server.messages(place.topic)) == [
        (b"1", "é".encode()),
        (b"2", None),
    ]


def test_a_partition_that_is_not_there(place: Place) -> None:
    rows = ROWS.set_column(4, "place", pa.array([7, None], pa.int32()))
    refused = written(place, rows, partition_field="place")
    assert [each.reason for each in refused] == ["there is no partition 7", "it names no partition"]
    assert place.server.messages(place.topic) == []


def test_a_row_that_is_larger_than_a_message(place: Place) -> None:
    rows = pa.RecordBatch.from_pydict({"id": [1, 2], "text": ["x" * 2_000_000, "y"]})
    refused = written(place, rows)
    assert [each.reason for each in refused] == ["it is larger than a message may be"]
    assert [row["id"] for row in place.documents()] == [2]


def test_deletions_are_tombstones(place: Place) -> None:
    told = [(1, Operation.INSERT), (2, Operation.INSERT), (1, Operation.DELETE), (None, Operation.TRUNCATE)]
    columns: dict[str, Any] = {
        "id": pa.array([each for each, _ in told], pa.int64()),
        OPERATION: [str(each) for _, each in told],
    }
    refused = written(place, pa.RecordBatch.from_pydict(columns), WriteMode.MERGE)
    assert ["'truncate'" in each.reason for each in refused] == [True]
    assert place.documents() == [{"id": 2}]
    assert [each.value() for each in place.server.messages(place.topic) if each.key() == b"1"] == [b'{"id":1}', None]


def test_columns_that_are_missing_or_of_no_use(place: Place) -> None:
    for options, said in (
        ({"primary_key": ("no",)}, "'no' is missing"),
        ({"value_field": "price"}, "'price' is no text"),
        ({"partition_field": "part"}, "'part' is no number"),
    ):
        with pytest.raises(SchemaError, match=said):
            place.destination(**options).open_writer(ROWS.schema, TOKEN)
    with pytest.raises(OptionError, match="identify a row"):
        place.destination(WriteMode.UPSERT, primary_key=())


def test_epochs_are_counted(place: Place) -> None:
    with (
        place.destination().open_writer(ROWS.schema, TOKEN) as writer,
        pytest.raises(FatalError, match="but 1 is next"),
    ):
        writer.commit(2, {"v": 1})
