"""Decoded rows with the records that could not be decoded, numbered so that reading can resume after any of them; no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Malformed:
    """One record that is no row.

    Attributes:
        record: Its number in the file, counted from 0 over good and bad ones.
        line: The line it begins at, counted from 1; 0 where the format has no lines.
        text: The record as it stands in the file, shortened.
        reason: What is wrong with it; empty for a blank line, which is nobody's row.
    """

    record: int
    line: int
    text: str
    reason: str


@dataclass(frozen=True)
class Chunk:
    """Consecutive records of a file: those that are rows, and those that are not.

    Attributes:
        first: The number of the first record.
        rows: The good ones, in order.
        malformed: The others, in order.
    """

    first: int
    rows: pa.RecordBatch
    malformed: tuple[Malformed, ...] = ()

    @property
    def end(self) -> int:
        """The number of the first record after these."""
        return self.first + self.rows.num_rows + len(self.malformed)


def after(chunk: Chunk, record: int) -> Chunk:
    """Returns the part of a chunk from a record on."""
    if record <= chunk.first:
        return chunk
    kept = tuple(each for each in chunk.malformed if each.record >= record)
    dropped = len(chunk.malformed) - len(kept)
    rows = min(max(record - chunk.first - dropped, 0), chunk.rows.num_rows)
    return Chunk(record, chunk.rows.slice(rows), kept)


def pieces(chunk: Chunk, rows: int) -> Iterator[Chunk]:
    """Divides a chunk into chunks of at most `rows` good rows."""
    rest = chunk
    while rest.rows.num_rows > rows:
        cut = _record_of(rest, rows)
        yield Chunk(rest.first, rest.rows.slice(0, rows), tuple(each for each in rest.malformed if each.record < cut))
        rest = after(rest, cut)
    yield rest


def _record_of(chunk: Chunk, row: int) -> int:
    record = chunk.first + row
    for each in chunk.malformed:
        if each.record > record:
            break
        record += 1
    return record


def shortened(text: str, size: int = 2000) -> str:
    """Returns a text that fits into a dead letter."""
    return text if len(text) <= size else f"{text[:size]}… ({len(text)} characters)"
