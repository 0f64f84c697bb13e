"""Bombs: small files that claim or become very much are refused before memory is taken; run in a process that may not have it."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import subprocess
import sys
import zlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from resources.formats.avro import MAGIC
from resources.formats.options import Compression, FileOptions, Format, Limits
from resources.formats.streams import DecodeError
from tests.resources.formats.test_round_trips import decoded

ZEROS = bytes(2**20)
MEGABYTES = 300
READ = """
import json, resource, sys
import pyarrow as pa, fastavro, pyarrow.parquet, pyarrow.csv
from dsl.contracts.errors import HeadraceError
from resources.formats.codecs import decode, infer
from resources.formats.columns import Wanted
from resources.formats.options import FileOptions, Format, compression_of, format_of

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

before, said = peak(), {}
for path in sys.argv[1:]:
    schema = pa.schema({"a": pa.string()})
    options = FileOptions(format=format_of(path), compression=compression_of(path))
    reasons = set()
    try:
        if options.format in {Format.PARQUET, Format.AVRO}:
            with open(path, "rb") as header:
                schema = infer(header, options, path)
        with open(path, "rb") as opened:
            for chunk in decode(opened, Wanted(schema, tuple(schema.names)), options, path):
                reasons |= {each.reason for each in chunk.malformed}
    except HeadraceError as error:
        reasons.add(f"refused: {error}")
    said[path] = [sorted(reasons), peak() - before]
print(json.dumps(said))
"""


@cache
def bomb(ending: str, size: int) -> bytes:
    """Returns a compressed file of very many zeros."""
    if ending == "gz":
        return gzip.compress(ZEROS * size, 9)
    if ending == "bz2":
        return bz2.compress(ZEROS * size)
    if ending == "xz":
        return lzma.compress(ZEROS * size)
    return pa.compress(ZEROS * size, codec="zstd", asbytes=True)


def long(value: int) -> bytes:
    """Encodes a number as Avro does."""
    left, found = value << 1, bytearray()
    while left > 0x7F:
        found.append((left & 0x7F) | 0x80)
        left >>= 7
    return bytes([*found, left])


def avro(schema: object, count: int, data: bytes, codec: bytes = b"null") -> bytes:
    """Returns an Avro file of one block."""
    text = json.dumps(schema).encode()
    pairs = ((b"avro.schema", text), (b"avro.codec", codec))
    meta = b"".join(long(len(part)) + part for pair in pairs for part in pair)
    return MAGIC + long(2) + meta + long(0) + bytes(16) + long(count) + long(len(data)) + data + bytes(16)


def record(kind: object) -> dict[str, object]:
    """Returns the schema of rows of one field."""
    return {"type": "record", "name": "r", "fields": [{"name": "a", "type": kind}]}


def deflated(data: bytes) -> bytes:
    """Compresses as Avro does."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def parquet_of(column: Any) -> bytes:
    """Returns a Parquet file of one column that repeats itself."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": column}), sink, compression="zstd")
    return sink.getvalue()


BOMBS: dict[str, Callable[[], bytes]] = {
    **{
        f"{kind}.{ending}": partial(bomb, ending, 100)
        for kind in ("csv", "jsonl", "json")
        for ending in ("gz", "bz2", "xz", "zst")
    },
    "one-line.jsonl": lambda: b'{"a": "' + b"x" * 60_000_000,
    "one-text.json": lambda: b'[{"a": "' + b"x" * 60_000_000,
    "one-value.csv": lambda: b'a\n"' + b"x" * 60_000_000,
    "one-header.csv": lambda: b"a," * 30_000_000,
    "many-brackets.json": lambda: b"[" * 50_000_000,
    "avro-block.avro": lambda: avro(record("string"), 1, deflated(long(500 * 2**20) + ZEROS * 500), b"deflate"),
    "avro-claims-rows.avro": lambda: avro(record("null"), 2**60, b""),
    "avro-claims-bytes.avro": lambda: avro(record("string"), 1, long(2**40)),
    "avro-nothing.avro": lambda: avro(record({"type": "array", "items": "null"}), 1, long(2**50) + long(0)),
    "avro-large-block.avro": lambda: avro(record("string"), 1, b"")[:-17] + long(2**40),
    "avro-deep.avro": lambda: avro(record(json.loads('{"type":"array","items":' * 300 + '"int"' + "}" * 300)), 0, b""),
    "avro-recursive.avro": lambda: avro(
        {"type": "record", "name": "r", "fields": [{"name": "a", "type": ["null", "r"]}]}, 0, b""
    ),
    "one-list.parquet": lambda: parquet_of(
        pa.ListArray.from_arrays(pa.array([0, 60_000_000], pa.int32()), pa.nulls(60_000_000, pa.int8()))
    ),
    "long-texts.parquet": lambda: parquet_of(pa.array(["x" * 1_000_000] * 1_000).dictionary_encode()),
    "long-plain-texts.parquet": lambda: parquet_of(pa.array(["x" * 1_000_000] * 1_000)),
}


@pytest.fixture(scope="module")
def readings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[str], int]]:
    """What one process says of all bombs, and by how many MiB it had grown after each."""
    folder = tmp_path_factory.mktemp("bombs")
    paths = {name: folder / (name if "-" in name else f"bomb.{name}") for name in BOMBS}
    for name, path in paths.items():
        path.write_bytes(BOMBS[name]())
    command = [sys.executable, "-c", READ, *map(str, paths.values())]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout)
    return {name: tuple(said[str(path)]) for name, path in paths.items()}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_little_memory(name: str, readings: dict[str, tuple[list[str], int]]) -> None:
    reasons, grown = readings[name]
    assert grown < MEGABYTES
    assert reasons or name.endswith("texts.parquet"), "long texts that repeat are read, in small batches"


def test_a_file_may_be_allowed_to_hold_little() -> None:
    options = FileOptions(format=Format.CSV, limits=Limits(bytes=1000))
    with pytest.raises(DecodeError, match="more than 1000 bytes"):
        decoded(b"a\n" + b"1\n" * 1000, pa.schema([pa.field("a", pa.int64())]), options)


def test_a_file_that_really_compresses_well_is_read() -> None:
    data = gzip.compress(b"a\n" + b"1\n" * 1_000_000)
    options = FileOptions(format=Format.CSV, compression=Compression.GZIP)
    chunks = decoded(data, pa.schema([pa.field("a", pa.int64())]), options)
    assert sum(each.rows.num_rows for each in chunks) == 1_000_000
