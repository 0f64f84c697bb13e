"""Moves every edge value of one system to another through a compiled workflow, and judges what arrived; mends nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from dsl.contracts.errors import HeadraceError
from resources.testing.edge_model import Edge
from resources.testing.edges import EDGES
from resources.testing.judging import same
from tests.e2e.capturing import run
from tests.e2e.edges.systems import GIVEN, Found, System
from tests.engine.fakes import DeadLetters

_EDGES: Mapping[str, Edge] = {each.name: each for each in EDGES}
_COLUMN = re.compile(r"column '([a-z0-9_]+)'")


class Fate(StrEnum):
    """What became of a value."""

    EXACT = "exact"
    REFUSED = "dead letter"
    NO_COLUMN = "refused column"
    CHANGED = "CHANGED"
    LOST = "LOST"
    DOUBLED = "DOUBLED"


@dataclass(frozen=True)
class Verdict:
    """What became of one value.

    Attributes:
        edge: Its name.
        fate: In a word.
        note: The reason of the refusal, or what was found instead.
    """

    edge: str
    fate: Fate
    note: str = ""

    @property
    def sound(self) -> bool:
        """Whether nobody was deceived."""
        return self.fate in {Fate.EXACT, Fate.REFUSED, Fate.NO_COLUMN}


PLAIN = frozenset({
    "boolean", "smallint", "integer", "bigint", "decimal_10_2", "decimal_38_10", "double", "text", "bytes", "uuid", "json", "date", "time",
    "timestamp", "timestamptz",
})  # fmt: skip
"""Families that every system has a form of its own for: without the others rows travel in another form to PostgreSQL."""


def move(source: System, destination: System, only: Collection[str] = ()) -> list[Verdict]:
    """Loads the source's table into a new table of the destination, and judges each value.

    Args:
        source: Where the values are.
        destination: Where they go.
        only: The families to move; all if empty.
    """
    table, letters = f"from_{source.kind}{'_plain' * bool(only)}", DeadLetters()
    columns = [each.name for each in source.families() if not only or each.name in only]
    refused = _load(source, destination, table, columns, letters)
    kept = [each.rejection for each in letters.kept.values()]
    reasons = {int(str(each.row.column("id")[0])): each.reason for each in kept}
    stored = destination.stored(table)
    named = {number: name for number, name in source.numbered().items() if name.partition("/")[0] in columns}
    return [_verdict(_EDGES[name], number, stored, reasons, refused) for number, name in named.items()]


def identity(system: System) -> list[Verdict]:
    """Judges the source's own table: says whether the catalogue is true."""
    stored = system.stored(GIVEN)
    return [_verdict(_EDGES[name], number, stored, {}, {}) for number, name in system.numbered().items()]


def _load(
    source: System, destination: System, table: str, asked: Sequence[str], letters: DeadLetters
) -> dict[str, str]:
    """Runs the workflow without the columns that the destination refuses; returns those and why."""
    refused: dict[str, str] = {}
    while True:
        columns = ["id", *(each for each in asked if each not in refused)]
        try:
            # Under the workflow's name the destination keeps how far it came.
            run(_workflow(source, destination, table, columns), dead_letters=letters, workflow=table)
        except HeadraceError as error:
            named = _COLUMN.search(error.message)
            if named is None or named[1] not in columns or named[1] == "id":
                raise
            refused[named[1]] = error.message
        else:
            return refused


def _workflow(source: System, destination: System, table: str, columns: list[str]) -> str:
    return json.dumps(
        {
            "workflow": {
                "name": "edges",
                "on_error": "dlq",
                "source": {"type": source.kind, "config": {**source.config(), "table": GIVEN, "columns": columns}},
                "destination": {"type": destination.kind, "config": {**destination.config(), "table": table}},
            }
        }
    )


def _verdict(
    edge: Edge,
    number: int,
    stored: Mapping[int, Mapping[str, Found]],
    reasons: Mapping[int, str],
    refused: Mapping[str, str],
) -> Verdict:
    column = edge.name.partition("/")[0]
    if column in refused:
        return Verdict(edge.name, Fate.NO_COLUMN, refused[column])
    if number in reasons:
        both = Fate.DOUBLED if number in stored else Fate.REFUSED
        return Verdict(edge.name, both if reasons[number] else Fate.LOST, reasons[number])
    if number not in stored:
        return Verdict(edge.name, Fate.LOST, "neither written nor refused")
    found = stored[number]
    strays = set(found) - {column}
    kind, raw = found.get(column, (None, None))
    if strays or not (raw is None and edge.meaning is None if kind is None else same(edge.meaning, kind, raw)):
        return Verdict(edge.name, Fate.CHANGED, f"{kind}: {raw!r:.100}{f' and {strays}' if strays else ''}")
    return Verdict(edge.name, Fate.EXACT, str(kind or ""))
