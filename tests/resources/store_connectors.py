"""What the suites of all stores of files share: a place to look at by other means, and what is written to it and read from it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import fastavro
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.json as arrow_json
import pyarrow.parquet as pq
import pytest

from dsl.contracts.capabilities import SyncMode, WriteMode
from dsl.contracts.connectors import Committed, Destination, ReadRequest, Source, Token
from dsl.contracts.errors import FencedError
from resources.file_options import StoreConnection, StoreDestination, StoreSource
from resources.formats.codecs import encoder
from resources.formats.options import Compression, FileOptions, Format
from resources.testing import sample

SCHEMA = sample(0, 0).schema
TOKEN = Token(workflow="orders", stage="load", run_id="run-1")


class StorePlace(Protocol):
    """A store, reached by other means than the connector."""

    def put(self, key: str, body: bytes) -> None:
        """Stores a file."""

    def get(self, key: str) -> bytes:
        """Returns a file's bytes."""

    def delete(self, key: str) -> None:
        """Removes a file."""

    def keys(self, prefix: str = "") -> list[str]:
        """Returns the keys below a prefix in order, hidden ones as well."""


@dataclass
class StoreTarget:
    """A folder, read by other means than the connector."""

    place: StorePlace
    made: Callable[[WriteMode], StoreDestination]

    def destination(self, mode: WriteMode) -> Destination:
        return self.made(mode)

    def rows(self) -> list[dict[str, Any]]:
        return rows_in(self.place, "out/orders/part-")


@dataclass
class StoreOrigin:
    """Files written by the encoder alone, two of them where there are two batches."""

    place: StorePlace
    format: Format
    made: Callable[[Format], StoreSource]

    def fill(self, rows: Sequence[pa.RecordBatch]) -> None:
        for number, each in enumerate(rows):
            self.place.put(f"in/rows-{number}.{self.format}", encoded(each, self.format))

    def source(self) -> Source:
        return self.made(self.format).declaring(SCHEMA)


def encoded(rows: pa.RecordBatch, kind: Format) -> bytes:
    sink = io.BytesIO()
    opened = encoder(sink, rows.schema, FileOptions(format=kind))
    opened.write(rows)
    opened.close()
    return sink.getvalue()


def rows_in(place: StorePlace, prefix: str) -> list[dict[str, Any]]:
    """Returns the rows of all Parquet files below a prefix."""
    return [row for key in place.keys(prefix) for row in pq.read_table(io.BytesIO(place.get(key))).to_pylist()]


def ids_in(place: StorePlace, prefix: str) -> list[int]:
    """Returns the ids of all rows below a prefix, in order."""
    return sorted(row["id"] for row in rows_in(place, prefix))


def table_of(data: bytes, kind: Format) -> pa.Table:
    """Decodes a file by other means than the connector."""
    if kind is Format.PARQUET:
        return pq.read_table(io.BytesIO(data))
    if kind is Format.AVRO:
        read: list[Any] = list(fastavro.reader(io.BytesIO(data)))
        return pa.Table.from_pylist([{**row, "at": row["at"].replace(tzinfo=None)} for row in read], SCHEMA)
    if kind is Format.JSON:
        data = data.strip().removeprefix(b"[").removesuffix(b"]").replace(b"},", b"}")
    if kind is not Format.CSV:
        return arrow_json.read_json(io.BytesIO(data), parse_options=arrow_json.ParseOptions(explicit_schema=SCHEMA))
    return arrow_csv.read_csv(
        io.BytesIO(data),
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(
            column_types=SCHEMA, strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )


class StoreConnectorSuite:
    """Source and destination of a store together. Subclasses give the classes and the fixture `place`; `connection` is their folder's.

    Attributes:
        source_class: The source's options.
        destination_class: The destination's options.
    """

    source_class: type[StoreSource]
    destination_class: type[StoreDestination]

    @pytest.fixture
    def place(self) -> StorePlace:
        """Must be overridden."""
        pytest.fail(f"{type(self).__name__} gives no fixture 'place'")

    @pytest.mark.parametrize("kind", list(Format))
    def test_every_format_goes_out_and_comes_back(
        self, place: StorePlace, connection: StoreConnection, kind: Format
    ) -> None:
        compression = Compression.GZIP if kind in {Format.CSV, Format.JSONL} else Compression.NONE
        destination = self.destination_class(connection=connection, path="lake", format=kind, compression=compression)
        with destination.open_writer(SCHEMA, TOKEN) as writer:
            for epoch in (1, 2):
                writer.write(sample(epoch * 100, 50))
                writer.commit(epoch, {"v": 1}, final=epoch == 2)
        whole = pa.Table.from_batches([sample(100, 50), sample(200, 50)])
        keys = place.keys("lake/part-")
        assert len(keys) == 2
        if compression is Compression.NONE:
            assert pa.concat_tables([table_of(place.get(key), kind).cast(SCHEMA) for key in keys]).equals(whole)
        source = self.source_class(connection=connection, path="lake", format=kind).declaring(SCHEMA)
        with source.read(ReadRequest(batch_rows=30), None) as reader:
            read = pa.Table.from_batches([each.rows for each in reader])
        assert read.equals(whole)
        assert source.physical_name == destination.physical_name

    def test_what_can_be_read_is_listed(self, place: StorePlace, connection: StoreConnection) -> None:
        for key in ("orders/2026/a.csv", "orders/2026/b.parquet", "orders/_headrace/x.json", "notes.md"):
            place.put(key, b"1")
        assert [each.name for each in connection.discover()] == ["orders/2026/a.csv", "orders/2026/b.parquet"]

    def test_files_that_others_take_away_once_they_appeared_stop_nobody(
        self, place: StorePlace, connection: StoreConnection
    ) -> None:
        destination = self.destination_class(connection=connection, path="inbox")
        with destination.open_writer(SCHEMA, TOKEN) as writer:
            writer.write(sample(0, 10))
            writer.commit(1, {"v": 1})
        for key in place.keys("inbox/part-"):
            place.delete(key)
        with destination.open_writer(SCHEMA, TOKEN) as writer:
            assert writer.get_state() == Committed(1, {"v": 1})
            writer.write(sample(10, 10))
            writer.commit(2, {"v": 1}, final=True)
        assert ids_in(place, "inbox/part-") == list(range(10, 20))

    def test_a_fenced_writer_leaves_nothing_behind(self, place: StorePlace, connection: StoreConnection) -> None:
        destination = self.destination_class(connection=connection, path="lake")
        with destination.open_writer(SCHEMA, TOKEN) as zombie:
            zombie.write(sample(0, 10))
            with destination.open_writer(SCHEMA, TOKEN) as writer:
                writer.write(sample(0, 10))
                writer.commit(1, {"v": 1}, final=True)
                with pytest.raises(FencedError):
                    zombie.commit(1, {"v": 1})
        assert len(rows_in(place, "lake/part-")) == 10
        assert [each for each in place.keys() if "_headrace/tmp/" in each] == []  # noqa: SIM118 - no dictionary

    def test_new_files_alone_are_read_the_next_time(self, place: StorePlace, connection: StoreConnection) -> None:
        source = self.source_class(
            connection=connection, path="in/*.parquet", sync_mode=SyncMode.INCREMENTAL, settle=timedelta()
        ).declaring(SCHEMA)
        state = None
        for number, expected in ((0, [*range(10)]), (1, [*range(10, 20)])):
            place.put(f"in/{number}.parquet", encoded(sample(number * 10, 10), Format.PARQUET))
            for wanted in (expected, []):
                with source.read(ReadRequest(), state) as reader:
                    batches = list(reader)
                assert [row["id"] for each in batches for row in each.rows.to_pylist()] == wanted
                state = batches[-1].state
