"""What a reader of streams does beyond the suite: growth, trimming, malformed entries, following; and what a writer refuses."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.capabilities import SyncMode, WriteMode
from dsl.contracts.changes import OPERATION, Operation
from dsl.contracts.connectors import ReadRequest, Token
from dsl.contracts.errors import RegressionError, SchemaError
from dsl.contracts.rows import Rejection
from dsl.contracts.spec import OptionError
from dsl.contracts.state import State
from resources.redis.resource import EntryFormat, OnLost, RedisConnection, Store
from tests.resources.redis.conftest import Place

ID = pa.schema([pa.field("id", pa.int64())])
TOKEN = Token("streams", "load")


class Reading:
    """Runs of one source, each going on where the one before ended."""

    def __init__(self, place: Place, **options: Any) -> None:
        self.source = place.source(**{"declared": ID, "sync_mode": SyncMode.INCREMENTAL, **options})
        self.state: State | None = None
        self.rejected: list[Rejection] = []

    def run(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        with self.source.read(ReadRequest(), self.state) as reader:
            for each in reader:
                rows += each.rows.to_pylist()
                self.state = each.state
                self.rejected += reader.rejections()
        return rows

    def ids(self) -> list[int]:
        return [row["id"] for row in self.run()]


def add(place: Place, *numbers: int) -> None:
    for each in numbers:
        place.server.client().xadd(place.key, {"id": each})


def test_each_run_reads_what_is_new(place: Place) -> None:
    add(place, 1, 2)
    reading = Reading(place)
    assert (reading.ids(), reading.ids()) == ([1, 2], [])
    add(place, 3)
    assert reading.source.backlog(reading.state) == 1  # type: ignore[attr-defined]
    assert (reading.ids(), reading.ids()) == ([3], [])


def test_what_was_trimmed_is_said_or_noted(place: Place) -> None:
    add(place, 0, 1)
    reading = Reading(place)
    assert reading.ids() == [0, 1]
    add(place, 2, 3, 4, 5)
    place.server.client().xtrim(place.key, maxlen=1, approximate=False)
    with pytest.raises(RegressionError, match=r"3 entries after .* were removed"):
        reading.run()
    noting = Reading(place, on_lost=OnLost.REJECT)
    noting.state = reading.state
    assert noting.ids() == [5]
    assert noting.rejected[0].row.column("entries").to_pylist() == [3]
    assert noting.ids() == []


def test_entries_that_are_read_may_be_removed(place: Place) -> None:
    add(place, 1, 2, 3)
    reading = Reading(place)
    reading.run()
    place.server.client().xtrim(place.key, maxlen=0, approximate=False)
    assert reading.ids() == []
    add(place, 4)
    assert reading.ids() == [4]


def test_a_stream_that_was_made_anew(place: Place) -> None:
    add(place, 1)
    reading = Reading(place)
    reading.run()
    place.server.client().delete(place.key)
    with pytest.raises(SchemaError, match="no such stream"):
        reading.run()
    place.server.client().xadd(place.key, {"id": 1}, id="5-1")
    with pytest.raises(RegressionError, match="ends at 5-1, before"):
        reading.run()


def test_malformed_entries(place: Place) -> None:
    client = place.server.client()
    for fields in ({"id": "x"}, {"id": b"\xff"}, {"id": "7"}, {"id": "9999999999999999999"}):
        client.xadd(place.key, fields)
    reading = Reading(place)
    assert reading.ids() == [7]
    assert ["int64" in each.reason or "UTF-8" in each.reason for each in reading.rejected] == [True] * 3
    assert reading.rejected[1].row.column("text").to_pylist() == ['{"id": "\\\\xff"}']


def test_json_in_a_field_and_what_the_id_says(place: Place) -> None:
    client = place.server.client()
    client.xadd(place.key, {"value": '{"id": 1}'}, id="1700000000123-4")
    client.xadd(place.key, {"other": "x"})
    facts = {"entry": "id", "time": "timestamp"}
    reading = Reading(place, format=EntryFormat.JSON, metadata=facts, declared=None)
    undeclared = Reading(place, metadata=facts)
    with pytest.raises(SchemaError, match="'entry' of `metadata` is not declared"):
        undeclared.run()
    (row,) = reading.run()
    assert row.pop("time").isoformat() == "2023-11-14T22:13:20.123000+00:00"
    assert row == {"id": 1, "entry": "1700000000123-4"}
    assert "has no field 'value'" in reading.rejected[0].reason


def test_it_goes_on_for_ever_when_asked(place: Place) -> None:
    add(place, 1)
    seen = []
    with Reading(place).source.read(ReadRequest(follow=True), None) as reader:
        for batch in reader:
            seen += [row["id"] for row in batch.rows.to_pylist()]
            if not batch.rows.num_rows:
                assert seen == [1], "it says that nothing has come"
                add(place, 2)
            if 2 in seen:
                break
    assert seen == [1, 2]


def test_deletions_remove_keys(place: Place) -> None:
    told = [(1, Operation.INSERT), (2, Operation.INSERT), (1, Operation.DELETE), (None, Operation.TRUNCATE)]
    columns: dict[str, Any] = {
        "id": pa.array([each for each, _ in told], pa.int64()),
        OPERATION: [str(each) for _, each in told],
    }
    rows = pa.RecordBatch.from_pydict(columns)
    with place.destination(WriteMode.MERGE).open_writer(rows.schema, TOKEN) as writer:
        refused = writer.write(rows)
        writer.commit(1, {"v": 1})
    assert ["'truncate'" in each.reason for each in refused] == [True]
    assert place.rows() == [{"id": 2}]


def test_what_cannot_be_written(place: Place) -> None:
    rows = pa.RecordBatch.from_pydict({"id": pa.array([None, 1], pa.int64())})
    with place.destination().open_writer(rows.schema, TOKEN) as writer:
        assert ["all its columns are NULL" in each.reason for each in writer.write(rows)] == [True]
    place.server.client().set(place.key, "something else")
    with pytest.raises(SchemaError, match="it is a string"):
        place.destination().open_writer(rows.schema, TOKEN)
    with pytest.raises(OptionError, match="do not fit together"):
        place.destination(store=Store.HASH)
    wrong = RedisConnection(
        host=place.server.host, port=place.server.port, username="nobody", password=place.connection.password
    )
    assert "not allowed" in wrong.check().details
