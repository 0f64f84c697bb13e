"""`python -m tests.e2e.edges.page` moves all edge values and writes docs/reference/types.md; judges nothing itself."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from resources.testing.edge_model import SYSTEMS
from resources.testing.edges import EDGES, FAMILIES
from tests.e2e.edges.matrix import Fate, Verdict, move
from tests.e2e.edges.systems import DuckDB, MariaDB, Postgres, SQLite, System
from tests.kit.mariadb import start_mariadb
from tests.kit.postgres import start_postgres

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "types.md"
_TITLES = {"postgres": "PostgreSQL", "mysql": "MariaDB", "sqlite": "SQLite", "duckdb": "DuckDB"}
_HEAD = """<!-- Written by `python -m tests.e2e.edges.page` from a run; a test compares it. -->

# Types at their edges

{count} values at the edges of SQL types were moved from each of these systems to each other one, by a workflow with `on_error: dlq`.
The destination was then read by its own driver, and each value judged by code that shares nothing with Headrace's readers and writers:
it is there exactly, or its row is a dead letter with a reason. Nothing was silently changed.

A value counts as exact in these forms, and in no other:

- a boolean as 0 or 1; a number in another type of number that is equal to it (the sign of -0.0 counts);
- a number, UUID, date, time, timestamp, interval or JSON document as a text that says it, where the system has no type for it;
- a timestamp with a time zone as the same instant; the zone it was written in is kept by no system;
- a list as a JSON array; what JSON has no number for (`NaN`, infinities, `-0.0`) as a text in it, bytes in base64;
- JSON as an equal document: whitespace, the order and repetition of keys, escapes, and the way a number is written do not count.

The values and how each system writes them are data in `resources/testing/edges.py`, which a connector elsewhere can move as well.

## In all

Rows are sources, columns are destinations: exact / refused.

"""


def page(results: Mapping[tuple[str, str], Sequence[Verdict]]) -> str:
    """Returns the page's text."""
    lines = [_HEAD.format(count=len(EDGES)) + f"| | {' | '.join(_TITLES[each] for each in SYSTEMS)} |", _rule(4)]
    for source in SYSTEMS:
        cells = [_tally(results[source, destination]) for destination in SYSTEMS]
        lines.append(f"| **{_TITLES[source]}** | {' | '.join(cells)} |")
    for source in SYSTEMS:
        lines += _source(source, results)
    return "\n".join(lines) + "\n"


def _rule(columns: int) -> str:
    return "|---" * (columns + 1) + "|"


def _tally(verdicts: Sequence[Verdict]) -> str:
    exact = sum(each.fate is Fate.EXACT for each in verdicts)
    return f"{exact} / {len(verdicts) - exact}"


def _source(source: str, results: Mapping[tuple[str, str], Sequence[Verdict]]) -> list[str]:
    """Returns the table of one source: a row for each column, and what is refused."""
    lines = [
        "",
        f"## From {_TITLES[source]}",
        "",
        f"| Type | {' | '.join(_TITLES[each] for each in SYSTEMS)} |",
        _rule(4),
    ]
    for family in (each for each in FAMILIES if source in each.types):
        cells = [_cell(family.name, results[source, destination]) for destination in SYSTEMS]
        lines.append(f"| `{family.types[source]}` | {' | '.join(cells)} |")
    return lines


def _cell(family: str, verdicts: Sequence[Verdict]) -> str:
    mine = [each for each in verdicts if each.edge.partition("/")[0] == family]
    if all(each.fate is Fate.NO_COLUMN for each in mine):
        return "the column is refused"
    refused = [_shortened(each.edge.partition("/")[2]) for each in mine if each.fate is Fate.REFUSED]
    exact = f"{len(mine) - len(refused)} exact"
    return f"{exact}; refused: {', '.join(refused)}" if refused else exact


def _shortened(name: str) -> str:
    text = re.sub(r"(\d)\1{9,}", lambda run: f"{run[1]}…", name).replace("_", " ")
    return re.sub(r"^minus (?=[\d.])", "-", text)


def main() -> None:
    """Starts the servers, moves everything, writes the page."""
    with ExitStack() as stack:
        postgres, mariadb = start_postgres(), start_mariadb()
        stack.callback(postgres.process.stop)
        stack.callback(mariadb.process.stop)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        systems: list[System] = [
            Postgres(postgres.new_database()), MariaDB(mariadb.new_database()), SQLite(folder), DuckDB(folder),
        ]  # fmt: skip
        for each in systems:
            each.fill()
        results = {(one.kind, other.kind): move(one, other) for one in systems for other in systems}
    PAGE.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
