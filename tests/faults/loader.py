"""A process that loads a growing table into two DuckDB files over an exchange, to be killed at any moment; checks nothing itself.

python -m tests.faults.loader HOME ROWS RUN
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from dsl.contracts.policies import OnError
from dsl.contracts.stores import Event
from dsl.plan.physical import ExchangeScan, ExchangeWrite, PhysicalPlan, Stage, Write
from engine.run import run_plan
from resources.duckdb.resource import DuckDBConnection, DuckDBDestination
from resources.stores.dead_letters import LocalDeadLetters
from tests.engine.fakes import Tape, chunk, context, numbers, policies, scan

POISON_EVERY = 97


def poison_of(rows: int) -> set[int]:
    """The rows that cannot be cast."""
    return set(range(50, rows, POISON_EVERY))


def plan_of(home: Path, rows: int) -> PhysicalPlan:
    """One source, cut in two: a copy in each of two files."""
    held = policies(epoch=400, on_error=OnError.DLQ)
    tape = Tape(
        numbers(rows, poison=poison_of(rows)), batch=100, incremental=True, at_batch=lambda _: time.sleep(0.001)
    )
    cast = chunk(scan(tape, held=held), "SELECT id, CAST(text AS BIGINT) AS n FROM input", held, nodes=("cast",))
    shared = ExchangeScan("cast", "cast", None, held)
    stages = [Stage("cast", cast, ExchangeWrite("cast", ("one", "two"), held))]
    for name in ("one", "two"):
        destination = DuckDBDestination(connection=DuckDBConnection(path=str(home / f"{name}.duckdb")), table="t")
        stages.append(Stage(name, shared, Write(name, "cast", destination, held)))
    return PhysicalPlan("flow", tuple(stages), "")


class Aloud:
    """Says what happens, so that whoever kills the process can choose when."""

    def emit(self, event: Event) -> None:
        sys.stdout.write(f"{event.stage} {event.name}\n")
        sys.stdout.flush()


def main() -> None:
    """Runs once; says `done` at the end."""
    home, rows, run = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    letters = LocalDeadLetters(home / "letters")
    given = replace(context(home, dead_letters=letters, events=Aloud()), run_id=run, logical_time=datetime.now(UTC))
    run_plan(plan_of(home, rows), given)
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main()
