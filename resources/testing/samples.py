"""The rows that the suites write and read, and the canary that must never be shown; nothing random."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

CANARY = "canary-c5a1-never-shown"
"""A connector's tests use this as password or key; the suites search for it in everything printed."""

FIELDS: dict[str, pa.DataType] = {
    "id": pa.int64(),
    "name": pa.string(),
    "score": pa.float64(),
    "at": pa.timestamp("us"),
}


def sample(start: int, count: int, *, mark: str = "") -> pa.RecordBatch:
    """Returns `count` rows with ids from `start`: every fifth name NULL, every seventh empty, quotes and newlines between.

    Args:
        start: The first id.
        count: How many rows.
        mark: Stands in every name, to tell two generations of a row apart.
    """
    ids = range(start, start + count)
    columns: dict[str, list[Any]] = {
        "id": list(ids),
        "name": [_name(each, mark) for each in ids],
        "score": [None if each % 11 == 0 else each / 4 for each in ids],
        "at": [datetime(2024, 1, 1) + timedelta(seconds=each, microseconds=each) for each in ids],  # noqa: DTZ001
    }
    arrays = [pa.array(columns[name], kind) for name, kind in FIELDS.items()]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(list(FIELDS.items())))


def _name(number: int, mark: str) -> str | None:
    if number % 5 == 0:
        return None
    if number % 7 == 0:
        return ""
    return f"{mark}n°{number}, \"quoted\"\nand ünï 'cödé' 😀"


def as_rows(*batches: pa.RecordBatch) -> list[dict[str, Any]]:
    """Returns the rows of batches as dictionaries, sorted by id."""
    return sorted((row for each in batches for row in each.to_pylist()), key=lambda row: row["id"])
