"""The suites of connectors on real files, in every format."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Destination, Source
from resources.files.resource import FileConnection, FileDestination, FileSource
from resources.formats.codecs import encoder
from resources.formats.options import Compression, FileOptions, Format
from resources.testing import DestinationSuite, DestinationTarget, SourceOrigin, SourceSuite, sample

SCHEMA = sample(0, 0).schema
COMPRESSED = [
    (Format.CSV, Compression.GZIP),
    (Format.JSONL, Compression.ZSTD),
    (Format.JSON, Compression.XZ),
    (Format.CSV, Compression.BZ2),
]
UNPACK: dict[Compression, Callable[[bytes], bytes]] = {
    Compression.NONE: bytes,
    Compression.GZIP: gzip.decompress,
    Compression.BZ2: bz2.decompress,
    Compression.XZ: lzma.decompress,
    Compression.ZSTD: lambda data: pa.CompressedInputStream(pa.BufferReader(data), "zstd").read(),
}
KINDS = [*((each, Compression.NONE) for each in Format), *COMPRESSED]


@dataclass
class Target:
    """A folder, read by other means than the connector."""

    root: Path
    format: Format
    compression: Compression

    def destination(self, mode: WriteMode) -> Destination:
        return FileDestination(
            connection=FileConnection(root=str(self.root)),
            path="out/orders",
            write_mode=mode,
            format=self.format,
            compression=self.compression,
        )

    def rows(self) -> list[dict[str, Any]]:
        files = sorted(each for each in (self.root / "out" / "orders").glob("*") if each.name[0] not in "._")
        return [row for each in files for row in self._read(each).to_pylist()]

    def _read(self, file: Path) -> pa.Table:
        if self.format is Format.PARQUET:
            return pq.read_table(file)
        return self._table(UNPACK[self.compression](file.read_bytes()))

    def _table(self, data: bytes) -> pa.Table:
        if self.format is Format.AVRO:
            return _plain(list(fastavro.reader(io.BytesIO(data))))
        if self.format is Format.CSV:
            convert = arrow_csv.ConvertOptions(
                column_types=SCHEMA, strings_can_be_null=True, quoted_strings_can_be_null=False
            )
            parse = arrow_csv.ParseOptions(newlines_in_values=True)
            return arrow_csv.read_csv(io.BytesIO(data), parse_options=parse, convert_options=convert)
        rows = json.loads(data) if self.format is Format.JSON else [json.loads(each) for each in data.splitlines()]
        return _plain(rows)


def _plain(rows: list[Any]) -> pa.Table:
    columns = [pa.array([each[name] for each in rows]) for name in SCHEMA.names]
    return pa.table(columns, names=SCHEMA.names).cast(SCHEMA) if rows else pa.Table.from_batches([], SCHEMA)


@dataclass
class Origin:
    """Files written by the encoder alone, two of them where there are two batches."""

    root: Path
    format: Format
    compression: Compression

    def fill(self, rows: Sequence[pa.RecordBatch]) -> None:
        (self.root / "in").mkdir()
        for number, each in enumerate(rows):
            write(self.root / "in" / f"rows-{number}.{self.format}", each, self.format, self.compression)

    def source(self) -> Source:
        source = FileSource(
            connection=FileConnection(root=str(self.root)),
            path="in/*",
            format=self.format,
            compression=self.compression,
        )
        return source.declaring(SCHEMA)


def write(path: Path, rows: pa.RecordBatch, kind: Format, compression: Compression = Compression.NONE) -> None:
    """Writes one file."""
    with path.open("wb") as sink:
        opened = encoder(sink, rows.schema, FileOptions(format=kind, compression=compression))
        opened.write(rows)
        opened.close()


@pytest.mark.parametrize("kind", KINDS, ids=lambda each: f"{each[0]}-{each[1]}")
class TestDestination(DestinationSuite):
    @pytest.fixture
    def target(self, tmp_path: Path, kind: tuple[Format, Compression]) -> DestinationTarget:
        return Target(tmp_path, *kind)


@pytest.mark.parametrize("kind", KINDS, ids=lambda each: f"{each[0]}-{each[1]}")
class TestSource(SourceSuite):
    @pytest.fixture
    def origin(self, tmp_path: Path, kind: tuple[Format, Compression]) -> SourceOrigin:
        return Origin(tmp_path, *kind)
