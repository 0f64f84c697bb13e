"""CSV read in small windows gives the same rows as in one: wherever a window ends, in whatever value; only the reading is tested."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.formats import csv_blocks
from resources.formats.csv_blocks import Blocks
from resources.formats.options import CsvOptions

PIECES = st.sampled_from(["a", "1", '"', '""', ",", "\n", "\r\n", "é", '"x"', '"x\ny"', '"q""r"', " ", '5" pipe'])


class Trickle(io.RawIOBase):
    """A stream that gives a few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data, self._step, self._at = data, step, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        found = self._data[self._at : self._at + min(size, self._step)]
        self._at += len(found)
        return found


def everything(
    data: bytes, names: list[str], step: int, **options: Any
) -> tuple[list[Any], list[tuple[int, str]], int]:
    """Returns all good rows, the bad ones with their numbers, and the count of line breaks."""
    blocks = Blocks(Trickle(data, step), CsvOptions(**options), "f")  # type: ignore[arg-type]
    good: list[Any] = []
    bad: list[tuple[int, str]] = []
    first = breaks = 0
    while (block := blocks.next(names, 0)) is not None:
        good += [tuple(row.values()) for row in block.rows.to_pylist()]
        bad += [(first + each.at, each.text) for each in block.bad]
        first, breaks = first + block.count, breaks + block.breaks
    return good, bad, breaks


@settings(deadline=None, max_examples=400)
@given(
    text=st.lists(PIECES, max_size=40).map("".join),
    columns=st.integers(1, 3),
    window=st.integers(4, 30),
    step=st.integers(1, 9),
)
def test_the_size_of_a_window_changes_nothing(text: str, columns: int, window: int, step: int) -> None:
    names = [f"c{each}" for each in range(columns)]
    data = text.encode()
    whole = everything(data, names, 1 << 20)
    normal, csv_blocks.WINDOW = csv_blocks.WINDOW, window
    try:
        assert everything(data, names, step)[:2] == whole[:2]
    finally:
        csv_blocks.WINDOW = normal


@pytest.mark.parametrize("step", range(1, 12))
def test_returns_and_line_feeds_may_be_torn_apart(step: int) -> None:
    data = b'1\r\n"2\r\n3"\r\n\r\n4\r\n'
    normal, csv_blocks.WINDOW = csv_blocks.WINDOW, 4
    try:
        good, bad, _ = everything(data, ["n"], step)
    finally:
        csv_blocks.WINDOW = normal
    assert (good, bad) == ([(b"1",), (b"2\r\n3",), (None,), (b"4",)], [])
