"""A workflow that has changed: `plan` says whether it goes on, begins again or refuses, and the run does so; counted by SQLite itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.server.command import Ended

Here = Callable[..., Ended]
FLOW = """\
workflow:
  name: flow
  batch: {rows: 10}
  source:
    type: sqlite
    config: {path: in.db, table: a, incremental_column: changed, primary_key: [id]}
  transformations:
    - type: filter
      config: {condition: "id != 5"}
  destination:
    type: sqlite
    config: {path: out.db, table: t, write_mode: append}
"""
UPSERT = FLOW.replace("write_mode: append", "write_mode: upsert, primary_key: [id]")
ROWS = 100


@pytest.fixture
def flow(folder: Path) -> Path:
    """Two tables, of which the first has been read by a workflow that appends; since then each has got a row more."""
    with closing(sqlite3.connect(folder / "in.db")) as database, database:
        for name in ("a", "b"):
            database.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, changed INTEGER, touched INTEGER)")
            rows = [(number, number, ROWS - number) for number in range(ROWS)]
            database.executemany(f"INSERT INTO {name} VALUES (?, ?, ?)", rows)
    return folder


def ran(folder: Path, here: Here, text: str) -> Ended:
    (folder / "flow.yaml").write_text(text, encoding="utf-8")
    return here("run", "flow.yaml", "--json")


def started(folder: Path, here: Here, text: str) -> None:
    assert ran(folder, here, text).code == 0
    with closing(sqlite3.connect(folder / "in.db")) as database, database:
        for name in ("a", "b"):
            database.execute(f"INSERT INTO {name} VALUES (?, ?, ?)", (ROWS, ROWS, ROWS))


def planned(folder: Path, here: Here, text: str) -> dict[str, Any]:
    (folder / "flow.yaml").write_text(text, encoding="utf-8")
    shown = here("plan", "flow.yaml", "--json")
    assert shown.code == 0, shown.said
    [found] = shown.json["resumes"]
    assert found["why"] in here("plan", "flow.yaml").out
    return dict(found)


def held(folder: Path, table: str = "t", file: str = "out.db") -> list[int]:
    with closing(sqlite3.connect(folder / file)) as database:
        return [row[0] for row in database.execute(f"SELECT id FROM {table} ORDER BY id")]


ALL = [each for each in range(ROWS + 1) if each != 5]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("rows: 10", "rows: 7", ALL),
        ("id != 5", f"id != 5 AND id != {ROWS}", ALL[:-1]),
        pytest.param("table: t", "schema_evolution: freeze, table: t", ALL, marks=pytest.mark.slow),
    ],
    ids=["batch", "filter", "destination option"],
)
def test_what_says_nothing_about_the_place_resumes(
    flow: Path, here: Here, old: str, new: str, expected: list[int]
) -> None:
    started(flow, here, FLOW)
    found = planned(flow, here, FLOW.replace(old, new))
    assert found["outcome"] == "resumes", found
    done = ran(flow, here, FLOW.replace(old, new))
    assert done.code == 0, done.said
    assert done.json["stages"][0]["read"] < ROWS // 2
    assert held(flow) == expected


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("table: a", "table: b", "place was 'sqlite/"),
        pytest.param(
            "incremental_column: changed",
            "incremental_column: touched",
            "incremental_column was 'changed'",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_another_source_is_read_again_by_key_and_refused_where_rows_would_double(
    flow: Path, here: Here, old: str, new: str, says: str
) -> None:
    started(flow, here, FLOW)
    changed = FLOW.replace(old, new)
    found = planned(flow, here, changed)
    assert found["outcome"] == "refuses"
    assert says in found["why"]
    refused = ran(flow, here, changed)
    assert refused.code == 1
    assert says in refused.said
    assert "give the source node another name" in refused.said
    assert ran(flow, here, FLOW).code == 0, "put back, it goes on"
    assert held(flow) == ALL
    (flow / "out.db").unlink()
    by_key = UPSERT.replace("name: flow", "name: by_key")
    assert ran(flow, here, by_key).code == 0
    found = planned(flow, here, by_key.replace(old, new))
    assert found["outcome"] == "void"
    assert "the next run reads everything" in found["why"]
    done = ran(flow, here, by_key.replace(old, new))
    assert done.code == 0, done.said
    assert done.json["stages"][0]["read"] == ROWS + 1
    assert held(flow) == ALL


def test_another_destination_gets_everything_and_the_first_goes_on_when_it_is_back(flow: Path, here: Here) -> None:
    started(flow, here, FLOW)
    elsewhere = FLOW.replace("path: out.db", "path: other.db")
    found = planned(flow, here, elsewhere)
    assert found["outcome"] == "void"
    assert "the destination was sqlite/" in found["why"]
    assert ran(flow, here, elsewhere).code == 0
    assert held(flow, file="other.db") == ALL
    assert ran(flow, here, FLOW).code == 0
    assert held(flow) == ALL


def test_a_destination_whose_columns_changed_refuses_or_goes_on(flow: Path, here: Here) -> None:
    started(flow, here, FLOW)
    with closing(sqlite3.connect(flow / "out.db")) as database, database:
        database.execute("ALTER TABLE t RENAME COLUMN touched TO renamed")
    refused = ran(flow, here, FLOW.replace("table: t", "schema_evolution: freeze, table: t"))
    assert refused.code == 1, refused.said
    assert held(flow) == ALL[:-1], "nothing of it was written"
    with closing(sqlite3.connect(flow / "out.db")) as database, database:
        database.execute("ALTER TABLE t RENAME COLUMN renamed TO touched")
    assert ran(flow, here, FLOW).code == 0
    assert held(flow) == ALL
