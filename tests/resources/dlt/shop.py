"""Resources of dlt that the tests read, by import path; what they yield is set by the tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt
import pandas as pd
import pyarrow as pa

GIVEN: dict[str, Any] = {"items": [], "token": None, "started": 0}
"""What `anything` yields, what it was given, and how often it began."""


@dlt.resource
def anything(token: str = "") -> Iterator[Any]:
    """Yields what the test says; an exception is raised."""
    GIVEN["token"], GIVEN["started"] = token, GIVEN["started"] + 1
    for each in GIVEN["items"]:
        if isinstance(each, Exception):
            raise each
        yield each


@dlt.resource
def of_file(path: str) -> Iterator[Any]:
    """Yields the Arrow tables of a folder."""
    for each in sorted(Path(path).glob("*.arrow")):
        yield pa.ipc.open_file(str(each)).read_all()


@dlt.resource
def growing(path: str, at: Any = dlt.sources.incremental("at", initial_value=0)) -> Iterator[Any]:  # noqa: B008 - as dlt is written
    """Yields the rows of a JSON file from the last value on, the last ones first."""
    rows = json.loads(Path(path).read_text())
    yield [each for each in reversed(rows) if each["at"] >= at.start_value]


@dlt.resource
def noting(pages: int, note: str = "") -> Iterator[Any]:
    """Notes a page as done before it yields it, as many resources do."""
    done = dlt.current.resource_state().setdefault("done", [])
    dlt.current.resource_state()["note"] = note
    for page in range(pages):
        if page not in done:
            done.append(page)
            yield [{"page": page, "row": row} for row in range(3)]


@dlt.source
def two(token: str = dlt.secrets.value) -> Any:
    """Two resources."""
    return dlt.resource([{"a": token}], name="a"), dlt.resource([pd.DataFrame({"b": [1, 2]})], name="b")


once = dlt.resource((each for each in [{"a": 1}]), name="once")
nothing = 5
