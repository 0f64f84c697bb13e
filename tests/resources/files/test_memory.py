"""Memory does not grow with the file: millions of rows are written and read in a process that says how large it became."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from resources.formats.options import Compression, Format

RUN = """
import json, resource, sys
import fastavro, pyarrow as pa, pyarrow.csv, pyarrow.parquet
from dsl.contracts.connectors import ReadRequest, Token
from resources.files.resource import FileConnection, FileDestination, FileSource
from resources.formats.options import Compression, Format

root, kind, compression, count = sys.argv[1], Format(sys.argv[2]), Compression(sys.argv[3]), int(sys.argv[4])
connection = FileConnection(root=root)
schema = pa.schema({"id": pa.int64(), "name": pa.string(), "score": pa.float64()})

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def rows(start, size=20_000):
    ids = range(start, start + size)
    columns = [pa.array(ids), pa.array([f"the name of number {each}" for each in ids]), pa.array([each / 7 for each in ids])]
    return pa.RecordBatch.from_arrays(columns, schema=schema)

rows(0)
before = peak()
opened = FileDestination(connection=connection, path="out", format=kind, compression=compression)
with opened.open_writer(schema, Token(workflow="memory", stage="load")) as writer:
    for start in range(0, count, 20_000):
        writer.write(rows(start))
    writer.commit(1, {"v": 1}, final=True)
written = peak() - before
total = seen = 0
source = FileSource(connection=connection, path="out", format=kind).declaring(schema)
with source.read(ReadRequest(), None) as reader:
    for batch in reader:
        seen += batch.rows.num_rows
        total += sum(batch.rows.column("id").to_pylist())
print(json.dumps([written, peak() - before, seen, total]))
"""


@pytest.mark.parametrize(
    ("kind", "compression", "count"),
    [
        (Format.CSV, Compression.NONE, 2_000_000),
        (Format.PARQUET, Compression.NONE, 2_000_000),
        pytest.param(Format.CSV, Compression.ZSTD, 400_000, marks=pytest.mark.slow),
        pytest.param(Format.JSONL, Compression.NONE, 300_000, marks=pytest.mark.slow),
        pytest.param(Format.JSON, Compression.GZIP, 140_000, marks=pytest.mark.slow),
        pytest.param(Format.AVRO, Compression.NONE, 200_000, marks=pytest.mark.slow),
    ],
)
def test_memory_does_not_grow_with_the_file(tmp_path: Path, kind: Format, compression: Compression, count: int) -> None:
    command = [sys.executable, "-c", RUN, str(tmp_path), kind, compression, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr[-2000:]
    written, grown, seen, total = json.loads(done.stdout)
    assert (seen, total) == (count, count * (count - 1) // 2)
    assert written < 160
    assert grown < 200, "MiB, of which the rows of this test alone take some"
