"""Footers of Parquet read without Arrow: the same numbers as Arrow's, and damaged ones are refused and nothing worse."""

from __future__ import annotations

import io
import random
from contextlib import suppress
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from resources.formats.codecs import decode, infer
from resources.formats.columns import Wanted
from resources.formats.options import FileOptions, Format, Limits
from resources.formats.parquet_footer import FooterError, values_of
from resources.formats.streams import DecodeError


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A file of another writer, with lists in structs and maps."""
    made = tmp_path / "a.parquet"
    columns = "i, [i, i + 1] AS l, {'a': [i], 'b': 'x'} AS s, map {'k': i} AS m"
    with duckdb.connect() as opened:
        opened.execute(
            f"COPY (SELECT {columns} FROM range(5000) t(i)) TO '{made}' (FORMAT parquet, ROW_GROUP_SIZE 2048)"
        )
    return made


def test_numbers_are_those_that_arrow_reads(written: Path) -> None:
    facts = pq.ParquetFile(written).metadata
    expected = [
        [
            (each.path_in_schema, each.num_values)
            for each in map(facts.row_group(group).column, range(facts.num_columns))
        ]
        for group in range(facts.num_row_groups)
    ]
    with written.open("rb") as opened:
        assert values_of(opened) == expected
    assert len(expected) > 1


def test_damaged_footers_are_refused_or_read(written: Path) -> None:
    whole, dice, refused = written.read_bytes(), random.Random(1), 0
    footer = whole[-8 - int.from_bytes(whole[-8:-4], "little") :]
    for _ in range(1000):
        damaged = bytearray(footer)
        for _ in range(dice.randint(1, 4)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        with suppress(FooterError):
            values_of(io.BytesIO(bytes(damaged)))
            continue
        refused += 1
    assert refused > 100
    for short in (b"", b"PAR1", footer[-8:], footer[20:]):
        with pytest.raises(FooterError):
            values_of(io.BytesIO(short))


def test_a_row_that_unfolds_into_millions_is_refused_by_name_unless_it_is_meant() -> None:
    count = 20_000_000
    column = pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), pa.nulls(count, pa.int8()))
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": column, "b": [1]}), sink)
    options = FileOptions(format=Format.PARQUET)
    schema = infer(sink, options, "bomb")
    with pytest.raises(DecodeError, match=rf"lake/x: a list column holds {count} values.*raise `limits.ratio`"):
        list(decode(sink, Wanted(schema, tuple(schema.names)), options, "lake/x"))
    plain = pa.schema([schema.field("b")])
    assert [each.rows.num_rows for each in decode(sink, Wanted(plain, tuple(schema.names)), options, "x")] == [1]
    meant = FileOptions(format=Format.PARQUET, limits=Limits(ratio=10_000_000))
    assert sum(each.rows.num_rows for each in decode(sink, Wanted(schema, tuple(schema.names)), meant, "x")) == 1
