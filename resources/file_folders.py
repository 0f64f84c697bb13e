"""Rows by the folder that their hidden column names, and which folders can be; computes no folder and opens no file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from dsl.contracts.folders import FOLDER
from resources.file_paths import fault_of, is_hidden

LONGEST_NAME = 255
"""Bytes in the name of a folder, on all the file systems in use."""
FILE_NAME = 64
"""Bytes that the name of a file takes, at most."""

_Held = TypeVar("_Held", pa.Schema, pa.RecordBatch)


def without_folder(held: _Held) -> _Held:
    """Returns a schema or rows without the hidden column."""
    if isinstance(held, pa.Schema):
        return held.remove(held.get_field_index(FOLDER))
    return held.drop_columns([FOLDER])


def by_folder(rows: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Yields each folder with its rows, in their order; the rows are copies, so that a few do not keep the whole batch."""
    if not rows.num_rows:
        return
    column: Any = rows.column(FOLDER)
    encoded = column.fill_null("").dictionary_encode()
    names = encoded.dictionary.to_pylist()
    if len(names) == 1:
        yield names[0], rows
        return
    order = pc.array_sort_indices(encoded.indices)
    begin = 0
    for number, count in _runs(encoded.indices.take(order)):
        yield names[number], rows.take(order.slice(begin, count))
        begin += count


def _runs(sorted_numbers: Any) -> list[tuple[int, int]]:
    """Returns each number with how often it stands there."""
    return [(each["values"], each["counts"]) for each in pc.value_counts(sorted_numbers).to_pylist()]


def fault_of_folder(path: str, folder: str) -> str:
    """Returns why a folder below a path cannot hold files, or "". The compiler sees to the rest; nothing is taken on trust here."""
    if why := fault_of(f"{path}/{folder}/{'x' * FILE_NAME}"):
        return why
    names = folder.split("/")
    if any(len(each.encode()) > LONGEST_NAME for each in names):
        return f"a name in it is longer than {LONGEST_NAME} bytes"
    return "it is hidden" if is_hidden(folder) else ""
