"""What checkpoints and tokens cost: one load with one epoch, with epochs of 200,000 rows and of 50,000, in turn; a table, no judgement.

python -m benchmarks.overhead                       a million rows into PostgreSQL that waits for its disk, five rounds
python -m benchmarks.overhead --to sqlite --rows 400000 --rounds 7

Each round runs all three, every other round in the opposite order, so that whatever else the machine does falls on all of them.
The one epoch has its token too, but moves it once.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from dagster import DagsterInstance

from benchmarks.generated import Generated
from etl_defs.runner import run_workflow
from etl_defs.settings import Settings
from server.home import SETTINGS
from tests.kit.mariadb import MariaDBServer, start_mariadb
from tests.kit.postgres import PostgresServer, start_postgres

BATCH = 25_000
ALL = 10**12
EPOCHS = (ALL, 200_000, 50_000)
"""Rows in an epoch; the first holds everything."""
SERVERS: Mapping[str, Callable[..., PostgresServer | MariaDBServer]] = {
    "postgres": start_postgres,
    "mysql": start_mariadb,
}


@dataclass(frozen=True)
class Cost:
    """What one load took.

    Attributes:
        seconds: Of a clock.
        processor: Of a processor, in this process and in the server.
    """

    seconds: float
    processor: float


def _options(kind: str, home: Path, server: PostgresServer | MariaDBServer | None) -> dict[str, Any]:
    if server is not None:
        held = server.new_database()
        login = {"username": held.user, "password": held.password, "database": held.database}
        return {"host": held.host, "port": held.port, **login, "table": "rows"}
    if kind == "file":
        return {"root": str(home), "path": "out", "format": "parquet"}
    return {"path": str(home / "out.db"), "table": "rows"}


def load(home: Path, rows: int, kind: str, server: PostgresServer | MariaDBServer | None, epoch: int) -> Cost:
    """Runs one load of `home/rows.parquet` into a new table.

    Raises:
        SystemExit: Not every row arrived.
    """
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder)
        (own / "dagster.yaml").write_text(SETTINGS, encoding="utf-8")
        workflow = {
            "name": "overhead",
            "checkpoint": {"rows": epoch, "bytes": "1TB", "period": "24h"},
            "batch": {"rows": BATCH},
            "source": {"type": "file", "config": {"root": str(home), "path": "rows.parquet", "format": "parquet"}},
            "destination": {"type": kind, "config": {**_options(kind, own, server), "write_mode": "append"}},
        }
        file = own / "overhead.yaml"
        file.write_text(yaml.safe_dump({"workflow": workflow}, sort_keys=False), encoding="utf-8")
        with DagsterInstance.from_config(str(own)) as instance:
            settings = Settings(file, own / "kept")
            began, used = time.perf_counter(), _processor(server)
            report = run_workflow(settings.workflows, settings=settings, instance=instance)
            cost = Cost(time.perf_counter() - began, _processor(server) - used)
    [stage] = report.stages
    if stage.reconciliation.written != rows:
        sys.exit(f"{stage.reconciliation.written} of {rows} rows arrived")
    return cost


def _processor(server: PostgresServer | MariaDBServer | None) -> float:
    return sum(os.times()[:2]) + (0.0 if server is None else server.process.processor())


def rounds(count: int, run: Callable[[int], Cost]) -> Iterator[dict[int, Cost]]:
    """Runs every epoch's size once a round, every other round backwards."""
    for number in range(count):
        yield {epoch: run(epoch) for epoch in (EPOCHS if number % 2 == 0 else EPOCHS[::-1])}


def table(found: list[dict[int, Cost]]) -> str:
    """Returns the medians and the least seconds, and how they compare with those of one epoch."""
    lines = ["| rows in an epoch | median s | | least s | | median processor s | |", "|---|---|---|---|---|---|---|"]
    values = {epoch: _summary([each[epoch] for each in found]) for epoch in EPOCHS}
    for epoch, mine in values.items():
        compared = (f"{value:.2f} | {value / one:.3f}" for value, one in zip(mine, values[ALL], strict=True))
        lines.append(f"| {'all' if epoch == ALL else f'{epoch:,}'} | {' | '.join(compared)} |")
    return "\n".join(lines)


def _summary(costs: list[Cost]) -> tuple[float, float, float]:
    seconds = [each.seconds for each in costs]
    return statistics.median(seconds), min(seconds), statistics.median(each.processor for each in costs)


@contextmanager
def _server(kind: str) -> Iterator[PostgresServer | MariaDBServer | None]:
    if kind not in SERVERS:
        yield None
        return
    server = SERVERS[kind](durable=True)
    try:
        yield server
    finally:
        server.process.stop()


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", default="postgres", choices=[*SERVERS, "sqlite", "duckdb", "file"])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, _server(asked.to) as server:
        home = Path(folder)
        made = Generated(rows=asked.rows, keys=1000)
        with pq.ParquetWriter(home / "rows.parquet", made.discover_schema()) as file:
            for start in range(0, asked.rows, 100_000):
                file.write_batch(made.batch(start, min(100_000, asked.rows - start)))
        load(home, asked.rows, asked.to, server, ALL)  # what is imported and read the first time counts for nobody
        found = []
        for each in rounds(asked.rounds, lambda epoch: load(home, asked.rows, asked.to, server, epoch)):
            found.append(each)
            sys.stderr.write(f"{ {epoch: round(cost.seconds, 2) for epoch, cost in each.items()} }\n")
    sys.stdout.write(f"{asked.rows:,} rows into {asked.to}, {asked.rounds} rounds\n{table(found)}\n")


if __name__ == "__main__":
    main()
