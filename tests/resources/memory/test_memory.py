"""The memory connector under the suites, and its scripted faults."""

import uuid
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Committed, ReadRequest, Token
from dsl.contracts.errors import RetryableError, SchemaError
from dsl.contracts.spec import OptionError
from resources.memory.resource import MemoryConnection, MemoryDestination, MemorySource
from resources.memory.tables import MemoryTable, forget, names
from resources.testing import DestinationSuite, DestinationTarget, SourceOrigin, SourceSuite, sample


class MemoryPlace:
    def __init__(self) -> None:
        self.connection = MemoryConnection(space=uuid.uuid4().hex)

    @property
    def table(self) -> MemoryTable:
        return self.connection.table("t")

    def fill(self, rows: Sequence[pa.RecordBatch]) -> None:
        self.table.fill(rows)

    def source(self) -> MemorySource:
        return MemorySource(connection=self.connection, table="t")

    def destination(self, mode: WriteMode) -> MemoryDestination:
        key = ("id",) if mode is WriteMode.UPSERT else ()
        return MemoryDestination(connection=self.connection, table="t", write_mode=mode, primary_key=key)

    def rows(self) -> list[dict[str, Any]]:
        return self.table.to_table().to_pylist()


@pytest.fixture
def place() -> MemoryPlace:
    return MemoryPlace()


class TestSource(SourceSuite):
    @pytest.fixture
    def origin(self) -> SourceOrigin:
        return MemoryPlace()


class TestDestination(DestinationSuite):
    @pytest.fixture
    def target(self) -> DestinationTarget:
        return MemoryPlace()


def test_incremental_reads_what_was_added(place: MemoryPlace) -> None:
    place.fill([sample(0, 5)])
    source = MemorySource(connection=place.connection, table="t", incremental=True)
    with source.read(ReadRequest(), None) as reader:
        [first] = reader
    place.fill([sample(0, 8)])
    with source.read(ReadRequest(), first.state) as reader:
        [second] = reader
    assert second.rows.equals(sample(5, 3))


@pytest.mark.parametrize(("failpoint", "committed"), [("write", None), ("commit", None), ("committed", 1)])
def test_scripted_faults(place: MemoryPlace, failpoint: str, committed: int | None) -> None:
    place.table.fail(failpoint, 1, RetryableError("scripted"))
    token = Token("w", "s")
    destination = place.destination(WriteMode.APPEND)

    def load() -> None:
        with destination.open_writer(sample(0, 0).schema, token) as writer:
            writer.write(sample(0, 5))
            writer.commit(1, {"v": 1})

    with pytest.raises(RetryableError, match="scripted"):
        load()
    with destination.open_writer(sample(0, 0).schema, token) as writer:
        assert writer.get_state() == (None if committed is None else Committed(1, {"v": 1}))
    assert len(place.rows()) == (5 if committed else 0)


def test_faults_strike_at_the_call_they_name(place: MemoryPlace) -> None:
    place.fill([sample(0, 30)])
    struck: list[int] = []

    def strike() -> None:
        struck.append(place.table.calls["read"])

    place.table.fail("read", 3, strike)
    with place.source().read(ReadRequest(batch_rows=5), None) as reader:
        assert len(list(reader)) == 6
    assert struck == [3]


def test_refused_rows_come_back_with_reasons(place: MemoryPlace) -> None:
    place.table.refuse = lambda row: "odd" if int(str(row["id"])) % 2 else None
    with place.destination(WriteMode.APPEND).open_writer(sample(0, 0).schema, Token("w", "s")) as writer:
        refused = writer.write(sample(0, 5))
        writer.commit(1, {"v": 1})
    assert [(each.row.column("id")[0].as_py(), each.reason) for each in refused] == [(1, "odd"), (3, "odd")]
    assert len(place.rows()) == 3


def test_options_and_names(place: MemoryPlace) -> None:
    with pytest.raises(OptionError, match="needs a key"):
        MemoryDestination(connection=place.connection, table="t", write_mode=WriteMode.UPSERT)
    with pytest.raises(SchemaError, match="no such table"):
        place.source().discover_schema()
    template = MemoryDestination(connection=place.connection, table="to_{input}")
    assert template.for_input("users").physical_name == ("memory", place.connection.space, "to_users")
    place.fill([sample(0, 1)])
    assert [each.name for each in place.connection.discover()] == ["t"]
    forget(place.connection.space)
    assert names(place.connection.space) == ()
