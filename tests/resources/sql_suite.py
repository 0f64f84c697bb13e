"""What every transactional SQL connector must do, as classes to inherit; knows no system."""

from __future__ import annotations

import datetime as dt
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import BatchWriter, Committed, Destination, ReadRequest, Source, Token
from dsl.contracts.errors import FencedError, HeadraceError, RejectedRows, SchemaError
from dsl.contracts.rows import Batch, Rejection
from dsl.contracts.state import State, is_complete

TOKEN = Token("orders", "load", run_id="run-1")


def schema_of(**types: pa.DataType) -> pa.Schema:
    """Builds a schema of names and types."""
    return pa.schema([pa.field(name, kind) for name, kind in types.items()])


SCHEMA = schema_of(id=pa.int64(), name=pa.string())


def rows_of(*pairs: tuple[int, str | None]) -> pa.RecordBatch:
    """Builds a batch of the suite's schema."""
    return pa.RecordBatch.from_pylist([{"id": number, "name": name} for number, name in pairs], schema=SCHEMA)


def drain(source: Source, state: State | None = None, **request: Any) -> tuple[list[dict[str, Any]], State | None]:
    """Reads everything; returns the rows and the last state."""
    rows: list[dict[str, Any]] = []
    with source.read(ReadRequest(**request), state) as reader:
        for batch in reader:
            rows += batch.rows.to_pylist()
            state = batch.state if batch.state is not None else state
    return rows, state


def read_all(source: Source, state: State | None = None, **request: Any) -> tuple[list[Batch], list[Rejection]]:
    """Reads everything; returns the batches and the rejections."""
    rejected: list[Rejection] = []
    batches: list[Batch] = []
    with source.read(ReadRequest(**request), state) as reader:
        for batch in reader:
            batches.append(batch)
            rejected += reader.rejections()
        rejected += reader.rejections()
    return batches, rejected


def write_epoch(writer: BatchWriter, epoch: int, *batches: pa.RecordBatch, final: bool = False) -> None:
    """Writes batches and commits them as one epoch."""
    for batch in batches:
        assert writer.write(batch) == ()
    writer.commit(epoch, {"v": 1, "epoch": epoch}, final=final)


class SqlDestinationSuite:
    """Rows and token together, fenced; the subclass says where."""

    concurrent = True
    widens = True
    rejects_null_key = True

    @abstractmethod
    def destination(self, **options: Any) -> Destination:
        """A destination that writes the table `target` of the test's own database."""

    @abstractmethod
    def stored(self, columns: str = "id, name", table: str = "target") -> list[tuple[Any, ...]]:
        """The rows that others see, ordered by the first column; [] when there is no such table."""

    @abstractmethod
    def leftovers(self) -> list[str]:
        """Names of tables that begin with `_headrace_stage`."""

    def open(self, schema: pa.Schema = SCHEMA, token: Token = TOKEN, **options: Any) -> BatchWriter:
        return self.destination(**options).open_writer(schema, token)

    def test_appends_epochs_with_their_token(self) -> None:
        with self.open() as writer:
            assert writer.get_state() is None
            assert writer.write(rows_of((1, "a"), (2, None))) == ()
            stats = writer.commit(1, {"v": 1, "n": 2})
            assert (stats.rows, stats.inserted, stats.updated) == (2, 2, 0)
            assert stats.bytes > 0
            write_epoch(writer, 2, rows_of((3, "")))
        assert self.stored() == [(1, "a"), (2, None), (3, "")]
        with self.open() as writer:
            assert writer.get_state() == Committed(2, {"v": 1, "epoch": 2})

    def test_an_epoch_that_is_not_committed_leaves_nothing(self) -> None:
        with self.open() as writer:
            write_epoch(writer, 1, rows_of((1, "a")))
            writer.write(rows_of((2, "b")))
        assert self.stored() == [(1, "a")]
        with self.open() as writer:
            found = writer.get_state()
            assert found is not None
            assert found.epoch == 1

    def test_rows_are_unseen_until_the_commit(self) -> None:
        if not self.concurrent:
            pytest.skip("one process at a time")
        with self.open() as writer:
            writer.write(rows_of((1, "a")))
            assert self.stored() == []
            writer.commit(1, {"v": 1})
        assert self.stored() == [(1, "a")]

    def test_an_epoch_without_rows_moves_the_token(self) -> None:
        with self.open() as writer:
            stats = writer.commit(1, {"v": 1, "complete": True}, final=True)
            assert stats.rows == 0
        with self.open() as writer:
            assert writer.get_state() == Committed(1, {"v": 1, "complete": True})

    def test_the_second_writer_fences_the_first(self) -> None:
        first = self.open()
        write_epoch(first, 1, rows_of((1, "a")))
        with self.open() as second:
            with pytest.raises(FencedError, match=r"another run owns this stream"):
                write_epoch(first, 2, rows_of((2, "zombie")))
            first.close()
            write_epoch(second, 2, rows_of((2, "b")))
        assert self.stored() == [(1, "a"), (2, "b")]

    def test_streams_do_not_fence_each_other(self) -> None:
        with self.open() as first:
            write_epoch(first, 1, rows_of((1, "a")))
            with self.open(token=Token("orders", "load", split=1)) as other:
                assert other.get_state() is None
                write_epoch(other, 1, rows_of((2, "b")))
            write_epoch(first, 2, rows_of((3, "c")))
        assert self.stored() == [(1, "a"), (2, "b"), (3, "c")]

    def test_overwrite_swaps_at_the_end(self) -> None:
        with self.open() as writer:
            write_epoch(writer, 1, rows_of((1, "old"), (9, "gone")))
        other = Token("orders", "replace")
        with self.open(write_mode=WriteMode.OVERWRITE, token=other) as writer:
            write_epoch(writer, 1, rows_of((1, "new")))
            assert self.stored() == [(1, "old"), (9, "gone")]
        with self.open(write_mode=WriteMode.OVERWRITE, token=other) as writer:
            found = writer.get_state()
            assert found is not None
            assert found.epoch == 1
            writer.write(rows_of((7, "lost with its epoch")))
        with self.open(write_mode=WriteMode.OVERWRITE, token=other) as writer:
            write_epoch(writer, 2, rows_of((2, "more")))
            write_epoch(writer, 3, rows_of((3, "last")), final=True)
        assert self.stored() == [(1, "new"), (2, "more"), (3, "last")]
        assert self.leftovers() == []
        with self.open(write_mode=WriteMode.OVERWRITE, token=other) as writer:
            write_epoch(writer, 4, rows_of((5, "again")), final=True)
        assert self.stored() == [(5, "again")]

    def test_overwrite_with_nothing_empties_the_table(self) -> None:
        with self.open(write_mode=WriteMode.OVERWRITE) as writer:
            write_epoch(writer, 1, rows_of((1, "a")), final=True)
            write_epoch(writer, 2, final=True)
        assert self.stored() == []
        assert self.leftovers() == []

    def test_upsert_updates_by_key_and_the_last_of_a_batch_wins(self) -> None:
        with self.open(write_mode=WriteMode.UPSERT, primary_key=("id",)) as writer:
            write_epoch(writer, 1, rows_of((1, "a"), (2, "b"), (1, "c")))
            assert writer.write(rows_of((2, "d"), (3, "e"))) == ()
            assert writer.write(rows_of((3, "f"))) == ()
            stats = writer.commit(2, {"v": 1})
            assert stats.rows == 3
        assert self.stored() == [(1, "c"), (2, "d"), (3, "f")]

    def test_a_refused_batch_leaves_nothing_and_the_epoch_goes_on(self) -> None:
        if not self.rejects_null_key:
            pytest.skip("the system enforces no constraint")
        keyless = pa.RecordBatch.from_pylist([{"id": 8, "name": "x"}, {"id": None, "name": "y"}], schema=SCHEMA)
        with self.open(write_mode=WriteMode.UPSERT, primary_key=("id",)) as writer:
            writer.write(rows_of((1, "a")))
            with pytest.raises(RejectedRows):
                writer.write(keyless)
            writer.write(rows_of((2, "b")))
            assert writer.commit(1, {"v": 1}).rows == 2
        assert self.stored() == [(1, "a"), (2, "b")]

    def test_new_columns_are_added_and_types_widened(self) -> None:
        small = schema_of(id=pa.int32(), name=pa.string())
        with self.open(schema=small) as writer:
            write_epoch(writer, 1, rows_of((1, "a")).cast(small))
        large = pa.schema([*(SCHEMA if self.widens else small), pa.field("price", pa.decimal128(12, 2))])
        row = {"id": 2**40 if self.widens else 2, "name": "b", "price": Decimal("1.50")}
        with self.open(schema=large) as writer:
            write_epoch(writer, 2, pa.RecordBatch.from_pylist([row], schema=large))
        found = self.stored("id, name, price")
        assert [each[:2] for each in found] == [(1, "a"), (row["id"], "b")]
        assert found[0][2] is None
        assert Decimal(str(found[1][2])) == Decimal("1.5")

    def test_fewer_columns_leave_the_others_null(self) -> None:
        with self.open() as writer:
            write_epoch(writer, 1, rows_of((1, "a")))
        with self.open(schema=schema_of(id=pa.int64())) as writer:
            write_epoch(writer, 2, pa.RecordBatch.from_pydict({"id": pa.array([2], pa.int64())}))
        assert self.stored() == [(1, "a"), (2, None)]

    def test_a_frozen_table_refuses_new_columns(self) -> None:
        with self.open() as writer:
            write_epoch(writer, 1, rows_of((1, "a")))
        wider = pa.schema([*SCHEMA, pa.field("extra", pa.string())])
        with pytest.raises(SchemaError, match=r"no column 'extra'"):
            self.open(schema=wider, schema_evolution="freeze")

    def test_types_that_do_not_fit_are_all_named(self) -> None:
        with self.open() as writer:
            write_epoch(writer, 1, rows_of((1, "a")))
        wrong = schema_of(id=pa.date32(), name=pa.binary())
        with pytest.raises(SchemaError, match=r"column 'id' is .* column 'name' is ") as raised:
            self.open(schema=wrong)
        assert "cast the column" in str(raised.value)

    def test_an_epoch_out_of_order_is_refused(self) -> None:
        with self.open() as writer, pytest.raises(HeadraceError, match=r"epoch 3 cannot follow epoch 0"):
            writer.commit(3, {"v": 1})

    def test_names_are_quoted(self) -> None:
        kinds: dict[str, pa.DataType] = {"select": pa.int64(), 'we"ird`; DROP': pa.string(), "per%s?cent": pa.string()}
        schema = schema_of(**kinds)
        row = {"select": 1, 'we"ird`; DROP': "x", "per%s?cent": "100%"}
        with self.open(schema=schema, write_mode=WriteMode.UPSERT, primary_key=("select",)) as writer:
            write_epoch(writer, 1, pa.RecordBatch.from_pylist([row], schema=schema))
        with self.open(schema=schema) as writer:
            found = writer.get_state()
            assert found is not None
            assert found.epoch == 1

    def test_several_inputs_may_have_tables_of_their_own(self) -> None:
        made = self.destination(table="{input}").for_input("users")
        assert made.physical_name[-1].lower() == "users"


class SqlSourceSuite:
    """Resumes after every batch; the subclass fills the table `origin`(id key, name, changed)."""

    @abstractmethod
    def source(self, **options: Any) -> Source:
        """A source that reads the table `origin` unless told otherwise."""

    @abstractmethod
    def fill(self, rows: Sequence[tuple[int, str, dt.datetime | None]]) -> None:
        """Creates `origin` unless it is there, and adds rows."""

    def test_schema_equals_what_is_read(self) -> None:
        self.fill([(1, "a", None)])
        source = self.source()
        with source.read(ReadRequest(), None) as reader:
            assert reader.schema == source.discover_schema()
            for batch in reader:
                assert batch.rows.schema == reader.schema

    def test_a_full_refresh_resumes_after_every_batch(self) -> None:
        self.fill([(number, f"row {number}", None) for number in range(1, 24)])
        whole, last = drain(self.source(), batch_rows=5)
        assert [each["id"] for each in whole] == list(range(1, 24))
        assert is_complete(last)
        assert last is not None
        assert last["records_read"] == 23
        batches, _ = read_all(self.source(), batch_rows=5)
        assert len(batches) == 6
        for place, batch in enumerate(batches[:-1]):
            before = [each["id"] for done in batches[: place + 1] for each in done.rows.to_pylist()]
            after, end = drain(self.source(), batch.state, batch_rows=7)
            assert before + [each["id"] for each in after] == list(range(1, 24))
            assert end is not None
            assert end["records_read"] == 23

    def test_columns_and_limit_are_honoured(self) -> None:
        self.fill([(number, "x", None) for number in range(1, 11)])
        rows, _ = drain(self.source(), columns=("name",), limit=4, batch_rows=3)
        assert rows == [{"name": "x"}] * 4
        rows, _ = drain(self.source(), columns=("name", "id"), limit=1)
        assert list(rows[0]) == ["name", "id"]

    def test_an_empty_table_gives_a_complete_state(self) -> None:
        self.fill([])
        rows, state = drain(self.source())
        assert rows == []
        assert is_complete(state)

    def test_two_readers_do_not_disturb_each_other(self) -> None:
        self.fill([(number, "x", None) for number in range(1, 11)])
        with self.source().read(ReadRequest(batch_rows=2), None) as one:
            first: Iterator[Batch] = iter(one)
            next(first)
            assert len(drain(self.source())[0]) == 10
            assert sum(each.rows.num_rows for each in first) == 8

    def test_missing_table_and_columns_are_said(self) -> None:
        self.fill([])
        with pytest.raises(SchemaError, match=r"no table"):
            self.source(table="orgin").discover_schema()
        with pytest.raises(SchemaError, match=r"no column 'nam'.*did you mean 'name'"):
            self.source().read(ReadRequest(columns=("nam",)), None)
        with pytest.raises(SchemaError, match=r"no column 'change'"):
            self.source(incremental_column="change").read(ReadRequest(), None)
