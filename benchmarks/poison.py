"""What poison rows cost: one in a million, a tenth, all of them; counts that each row is written or kept. Measures nothing else.

python -m benchmarks.poison            a million rows with one of them poison, 200,000 with a tenth, 50,000 with nothing else
python -m benchmarks.poison 1000000 10 one case: rows, and one poison row in so many
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.generated import Generated, ParquetFile, benchmark_context
from dsl.contracts.connectors import ReadRequest
from dsl.contracts.policies import OnError, Policies
from dsl.plan.physical import ChunkQuery, Scan, Stage, Write
from engine.run import run_stage
from resources.stores.dead_letters import LocalDeadLetters

CASES = ((1_000_000, 1_000_000), (200_000, 10), (50_000, 1))
_CAST = "SELECT id, key, CAST(name AS BIGINT) AS number FROM input"


def measure(rows: int, poison: int, home: Path) -> dict[str, float | int]:
    """Runs one case and counts what became of its rows.

    Args:
        rows: How many.
        poison: One in so many is poison.
        home: For the rows and the dead letters.
    """
    letters, held = LocalDeadLetters(home / "letters"), Policies(on_error=OnError.DLQ)
    source = Scan("source", Generated(rows=rows, keys=1000, poison=poison), ReadRequest(), None, held)
    root = ChunkQuery(("cast",), source, _CAST, None, held)
    stage = Stage("out", root, Write("out", "x", ParquetFile(path=home / "out.parquet"), held))
    began, used = time.perf_counter(), sum(os.times()[:2])
    books = run_stage(stage, replace(benchmark_context(home, 128), dead_letters=letters)).reconciliation
    kept = letters.count("benchmark/out/0")
    letters.close()
    if not books.balanced or books.written + kept != rows or kept != rows // poison:
        sys.exit(f"{rows} rows were read, {books.written} written and {kept} kept")
    return {
        "rows": rows,
        "poison": kept,
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(sum(os.times()[:2]) - used, 1),
    }


def main() -> None:
    """Prints a line of JSON for each case; fails when a row is lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="?", type=int)
    parser.add_argument("poison", nargs="?", type=int, default=1_000_000)
    asked = parser.parse_args()
    for rows, poison in [(asked.rows, asked.poison)] if asked.rows else CASES:
        with tempfile.TemporaryDirectory() as home:
            print(json.dumps(measure(rows, poison, Path(home))), flush=True)


if __name__ == "__main__":
    main()
