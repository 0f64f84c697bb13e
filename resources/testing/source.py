"""What every source must do, as a pytest class to inherit; it opens what the subclass gives it and nothing else.

class TestMine(SourceSuite):
    @pytest.fixture
    def origin(self, my_server) -> SourceOrigin: ...
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa
import pytest

from dsl.contracts.connectors import BatchReader, Connection, ReadRequest, Source
from dsl.contracts.errors import HeadraceError, SchemaError
from dsl.contracts.rows import Batch
from dsl.contracts.state import State, is_complete
from resources.testing.samples import CANARY, as_rows, sample
from resources.testing.waivers import Waivable


class SourceOrigin(Protocol):
    """One place of a test's own that can be filled and read."""

    def fill(self, rows: Sequence[pa.RecordBatch]) -> None:
        """Puts exactly these rows there by other means than the connector; `sample(0, 0)` for none."""

    def source(self) -> Source:
        """Returns a full-refresh source of that place."""


class SourceSuite(Waivable):
    """The promises of a source. Subclasses give the fixture `origin`; class attributes say what does not apply.

    Attributes:
        ordered: Whether the same read gives the rows in the same order.
    """

    ordered = True

    @pytest.fixture
    def origin(self) -> SourceOrigin:
        """Must be overridden."""
        pytest.fail(f"{type(self).__name__} gives no fixture 'origin'")

    def test_every_row_is_read_with_its_values(self, origin: SourceOrigin) -> None:
        origin.fill([sample(0, 30), sample(30, 25)])
        batches = _read(origin.source())
        assert as_rows(*_rows(batches)) == as_rows(sample(0, 55))

    def test_schema_equals_data(self, origin: SourceOrigin) -> None:
        origin.fill([sample(1, 20)])
        source = origin.source()
        discovered = source.discover_schema()
        with source.read(ReadRequest(batch_rows=6), None) as reader:
            assert reader.schema.equals(discovered)
            assert all(each.rows.schema.equals(discovered) for each in reader)

    def test_a_full_refresh_ends_complete(self, origin: SourceOrigin) -> None:
        origin.fill([sample(0, 20)])
        batches = _read(origin.source(), ReadRequest(batch_rows=6))
        assert [is_complete(each.state) for each in batches] == [False] * (len(batches) - 1) + [True]

    def test_nothing_to_read(self, origin: SourceOrigin) -> None:
        origin.fill([sample(0, 0)])
        batches = _read(origin.source())
        assert sum(each.rows.num_rows for each in batches) == 0
        assert is_complete(batches[-1].state)

    def test_resumes_after_every_batch(self, origin: SourceOrigin) -> None:
        origin.fill([sample(0, 23), sample(23, 17)])
        source = origin.source()
        batches = _read(source, ReadRequest(batch_rows=5))
        whole = as_rows(*_rows(batches))
        assert len(whole) == 40
        for at, each in enumerate(batches[:-1]):
            if each.state is None:
                continue
            for size in (5, 7):
                rest = _read(source, ReadRequest(batch_rows=size), json.loads(json.dumps(each.state)))
                assert as_rows(*_rows(batches[: at + 1]), *_rows(rest)) == whole, (
                    f"resumed after batch {at}, batches of {size}"
                )

    def test_states_are_small_versioned_json(self, origin: SourceOrigin) -> None:
        origin.fill([sample(0, 40)])
        seen = 0
        for each in _read(origin.source(), ReadRequest(batch_rows=9)):
            seen += each.rows.num_rows
            if each.state is not None:
                assert json.loads(json.dumps(each.state, allow_nan=False)) == each.state
                assert len(json.dumps(each.state)) < 4096
                assert each.state["v"] == 1
                assert each.state["records_read"] == seen

    def test_batches_are_no_larger_than_asked(self, origin: SourceOrigin) -> None:
        origin.fill([sample(0, 40)])
        assert max(each.rows.num_rows for each in _read(origin.source(), ReadRequest(batch_rows=9))) <= 9

    def test_two_readers_do_not_disturb_each_other(self, origin: SourceOrigin) -> None:
        origin.fill([sample(0, 30)])
        source = origin.source()
        request = ReadRequest(batch_rows=4)
        with source.read(request, None) as one, source.read(request, None) as other:
            pairs = list(zip(one, other, strict=True))
        assert as_rows(*_rows([pair[0] for pair in pairs])) == as_rows(sample(0, 30))
        assert as_rows(*_rows([pair[1] for pair in pairs])) == as_rows(sample(0, 30))

    def test_a_reader_may_be_left_early_and_closed_twice(self, origin: SourceOrigin) -> None:
        origin.fill([sample(0, 30)])
        source = origin.source()
        with source.read(ReadRequest(batch_rows=4), None) as reader:
            assert next(iter(reader)).rows.num_rows
            reader.close()
        with source.read(ReadRequest(), None):
            pass
        assert len(as_rows(*_rows(_read(source)))) == 30

    def test_reads_the_columns_asked_for_in_that_order(self, origin: SourceOrigin) -> None:
        origin.fill([sample(0, 10)])
        source = origin.source()
        if not source.capabilities.projects:
            pytest.skip("does not choose columns")
        rows = _rows(_read(source, ReadRequest(columns=("score", "id"))))
        assert all(each.schema.names == ["score", "id"] for each in rows)
        assert as_rows(*rows) == as_rows(sample(0, 10).select(["score", "id"]))

    def test_a_column_that_is_gone_is_said(self, origin: SourceOrigin) -> None:
        origin.fill([sample(0, 10)])
        source = origin.source()
        if not source.capabilities.projects:
            pytest.skip("does not choose columns")
        with pytest.raises(SchemaError, match="no_such_column"):
            _read(source, ReadRequest(columns=("id", "no_such_column")))

    def test_honours_a_limit(self, origin: SourceOrigin) -> None:
        origin.fill([sample(0, 30)])
        source = origin.source()
        if not source.capabilities.limits:
            pytest.skip("does not limit")
        batches = _read(source, ReadRequest(batch_rows=4, limit=10))
        assert sum(each.rows.num_rows for each in batches) == 10
        assert is_complete(batches[-1].state)

    def test_parts_are_the_whole_and_each_resumes_at_every_batch(self, origin: SourceOrigin) -> None:
        origin.fill([sample(0, 20), sample(20, 15), sample(35, 15)])
        source = origin.source()
        splits = source.splits(3)
        if not source.capabilities.divides:
            assert splits == ()
            return
        assert 1 < len(splits) <= 3
        request, rows = ReadRequest(batch_rows=4), []
        for each in splits:
            batches = _read(source.part(json.loads(json.dumps(each))), request)
            assert is_complete(batches[-1].state)
            rows += _rows(batches)
            for at, batch in enumerate(batches[:-1]):
                if batch.state is not None:
                    rest = _rows(_read(source.part(each), request, batch.state))
                    assert as_rows(*rest) == as_rows(*_rows(batches[at + 1 :]))
        assert as_rows(*rows) == as_rows(sample(0, 50))

    def test_what_can_be_read_is_discovered(self, origin: SourceOrigin) -> None:
        origin.fill([sample(0, 1)])
        connection = origin.source().connection
        if type(connection).discover is Connection.discover:
            pytest.skip("does not discover")
        found = connection.discover()
        assert found
        assert all(each.name for each in found)
        assert len({each.name for each in found}) == len(found)

    def test_is_healthy_and_shows_no_secret(self, origin: SourceOrigin) -> None:
        origin.fill([sample(0, 1)])
        source = origin.source()
        checked = source.connection.check()
        assert checked.healthy, checked.details
        shown = f"{source!r} {source} {source.connection!r} {checked} {source.physical_name} {source.connection.discover()!r}"
        assert CANARY not in shown

    def test_errors_show_no_secret(self, origin: SourceOrigin) -> None:
        origin.fill([sample(0, 1)])
        source = origin.source()
        try:
            _read(source, ReadRequest(columns=("no_such_column",)))
        except HeadraceError as error:
            assert CANARY not in f"{error} {error!r} {error.__cause__!r}"  # noqa: PT017 - not every source can fail so


def _read(source: Source, request: ReadRequest | None = None, state: State | None = None) -> list[Batch]:
    reader: BatchReader
    with source.read(request or ReadRequest(), state) as reader:
        return list(reader)


def _rows(batches: Sequence[Batch]) -> list[pa.RecordBatch]:
    return [each.rows for each in batches]
