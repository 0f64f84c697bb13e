"""The suites of connectors on a bucket of a real server, in every format."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.json as arrow_json
import pyarrow.parquet as pq
import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Committed, Destination, ReadRequest, Source, Token
from dsl.contracts.errors import FencedError
from resources.formats.codecs import encoder
from resources.formats.options import Compression, FileOptions, Format
from resources.s3.resource import S3Connection, S3Destination, S3Source
from resources.testing import DestinationSuite, DestinationTarget, SourceOrigin, SourceSuite, sample
from tests.kit.s3 import Bucket

SCHEMA = sample(0, 0).schema
TOKEN = Token(workflow="orders", stage="load", run_id="run-1")


@dataclass
class Target:
    """A prefix, read by other means than the connector."""

    bucket: Bucket
    connection: S3Connection

    def destination(self, mode: WriteMode) -> Destination:
        return S3Destination(connection=self.connection, path="out/orders", write_mode=mode)

    def rows(self) -> list[dict[str, Any]]:
        return rows_in(self.bucket, "out/orders/part-")


@dataclass
class Origin:
    """Objects written by the encoder alone, two of them where there are two batches."""

    bucket: Bucket
    connection: S3Connection
    format: Format
    compression: Compression = Compression.NONE

    def fill(self, rows: Sequence[pa.RecordBatch]) -> None:
        for number, each in enumerate(rows):
            self.bucket.put(f"in/rows-{number}.{self.format}", encoded(each, self.format))

    def source(self) -> Source:
        source = S3Source(connection=self.connection, path="in/*", format=self.format)
        return source.declaring(SCHEMA)


def encoded(rows: pa.RecordBatch, kind: Format) -> bytes:
    sink = io.BytesIO()
    opened = encoder(sink, rows.schema, FileOptions(format=kind))
    opened.write(rows)
    opened.close()
    return sink.getvalue()


def rows_in(bucket: Bucket, prefix: str) -> list[dict[str, Any]]:
    """Returns the rows of all Parquet objects below a prefix."""
    return [row for key in bucket.keys(prefix) for row in pq.read_table(io.BytesIO(bucket.get(key))).to_pylist()]


class TestDestination(DestinationSuite):
    @pytest.fixture
    def target(self, bucket: Bucket, connection: S3Connection) -> DestinationTarget:
        return Target(bucket, connection)


@pytest.mark.parametrize("kind", [Format.CSV, Format.PARQUET])
class TestSource(SourceSuite):
    @pytest.fixture
    def origin(self, bucket: Bucket, connection: S3Connection, kind: Format) -> SourceOrigin:
        return Origin(bucket, connection, kind)


def table_of(data: bytes, kind: Format) -> pa.Table:
    """Decodes a file by other means than the connector."""
    if kind is Format.PARQUET:
        return pq.read_table(io.BytesIO(data))
    if kind is Format.AVRO:
        read: list[Any] = list(fastavro.reader(io.BytesIO(data)))
        rows = [{**row, "at": row["at"].replace(tzinfo=None)} for row in read]
        return pa.Table.from_pylist(rows, SCHEMA)
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


@pytest.mark.parametrize("kind", list(Format))
def test_every_format_goes_out_and_comes_back(bucket: Bucket, connection: S3Connection, kind: Format) -> None:
    compression = Compression.GZIP if kind in {Format.CSV, Format.JSONL} else Compression.NONE
    destination = S3Destination(connection=connection, path="lake", format=kind, compression=compression)
    with destination.open_writer(SCHEMA, TOKEN) as writer:
        for epoch in (1, 2):
            writer.write(sample(epoch * 100, 50))
            writer.commit(epoch, {"v": 1}, final=epoch == 2)
    whole = pa.Table.from_batches([sample(100, 50), sample(200, 50)])
    keys = bucket.keys("lake/part-")
    assert len(keys) == 2
    if compression is Compression.NONE:
        found = pa.concat_tables([table_of(bucket.get(key), kind).cast(SCHEMA) for key in keys])
        assert found.equals(whole)
    source = S3Source(connection=connection, path="lake", format=kind).declaring(SCHEMA)
    with source.read(ReadRequest(batch_rows=30), None) as reader:
        read = pa.Table.from_batches([each.rows for each in reader])
    assert read.equals(whole)
    assert source.physical_name == destination.physical_name


def test_names_are_equal_for_everyone_and_hold_no_credentials() -> None:
    amazon = S3Connection(bucket="lake", region="eu-central-1", prefix="team/a")
    explicit = S3Connection(bucket="lake", endpoint="https://s3.eu-central-1.amazonaws.com", prefix="team/a/")
    assert S3Destination(connection=amazon, path="orders").physical_name == ("s3", "lake", "team", "a", "orders")
    assert S3Source(connection=explicit, path="orders/*.csv").physical_name == ("s3", "lake", "team", "a", "orders")
    elsewhere = S3Connection(bucket="lake", endpoint="https://minio.example.com:9000")
    assert S3Source(connection=elsewhere, path="a.csv").physical_name[:3] == ("s3", "minio.example.com_9000", "lake")


def test_what_can_be_read_is_listed(bucket: Bucket, connection: S3Connection) -> None:
    for key in ("orders/2026/a.csv", "orders/2026/b.parquet", "orders/_headrace/x.json", "notes.md"):
        bucket.put(key, b"1")
    assert [each.name for each in connection.discover()] == ["orders/2026/a.csv", "orders/2026/b.parquet"]


def test_a_folder_that_a_console_made_is_no_file(bucket: Bucket, connection: S3Connection) -> None:
    bucket.put("in/", b"")
    bucket.put("in/a.parquet", encoded(sample(0, 5), Format.PARQUET))
    with S3Source(connection=connection, path="in").read(ReadRequest(), None) as reader:
        assert sum(each.rows.num_rows for each in reader) == 5


def test_files_that_others_take_away_once_they_appeared_stop_nobody(bucket: Bucket, connection: S3Connection) -> None:
    destination = S3Destination(connection=connection, path="inbox")
    with destination.open_writer(SCHEMA, TOKEN) as writer:
        writer.write(sample(0, 10))
        writer.commit(1, {"v": 1})
    for key in bucket.keys("inbox/part-"):
        bucket.client().delete_object(Bucket=bucket.bucket, Key=key)
    with destination.open_writer(SCHEMA, TOKEN) as writer:
        assert writer.get_state() == Committed(1, {"v": 1})
        writer.write(sample(10, 10))
        writer.commit(2, {"v": 1}, final=True)
    assert [row["id"] for row in rows_in(bucket, "inbox/part-")] == list(range(10, 20))


def test_a_fenced_writer_leaves_nothing_behind(bucket: Bucket, connection: S3Connection) -> None:
    destination = S3Destination(connection=connection, path="lake")
    with destination.open_writer(SCHEMA, TOKEN) as zombie:
        zombie.write(sample(0, 10))
        with destination.open_writer(SCHEMA, TOKEN) as writer:
            writer.write(sample(0, 10))
            writer.commit(1, {"v": 1}, final=True)
            with pytest.raises(FencedError):
                zombie.commit(1, {"v": 1})
    assert len(rows_in(bucket, "lake/part-")) == 10
    assert bucket.client().list_multipart_uploads(Bucket=bucket.bucket).get("Uploads", []) == []


def test_a_writer_whose_upload_a_newer_run_has_swept_is_fenced(bucket: Bucket, connection: S3Connection) -> None:
    destination = S3Destination(connection=connection, path="lake", format=Format.CSV)
    schema = pa.schema({"text": pa.string()})
    wide = pa.RecordBatch.from_pydict({"text": ["x" * 9 * 2**20]}, schema)
    with destination.open_writer(schema, TOKEN) as zombie:
        zombie.write(wide)
        assert bucket.client().list_multipart_uploads(Bucket=bucket.bucket)["Uploads"], "a part is under way"

        def go_on() -> None:
            zombie.write(wide)
            zombie.commit(1, {"v": 1})

        with destination.open_writer(schema, TOKEN), pytest.raises(FencedError):
            go_on()
