"""Peak memory of a run for 1, 5 and 20 million rows: mapping, filter, join, aggregate, sort, two destinations; measures nothing else.

python -m benchmarks.memory            every case, each in a process of its own
python -m benchmarks.memory join 5     one case
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.generated import Generated, ParquetFile, benchmark_context
from dsl.contracts.connectors import ReadRequest
from dsl.plan.physical import (
    ChunkQuery,
    ExchangeScan,
    ExchangeWrite,
    PhysicalNode,
    PhysicalPlan,
    Scan,
    Stage,
    StreamQuery,
    Write,
)

LIMIT_MIB = 512
CASES = ("map", "aggregate", "join", "sort", "fan_out")
_MAP = "SELECT id, key, amount * 2 AS amount, upper(name) AS name FROM input WHERE id % 10 != 0"
_SUM = "SELECT key, sum(amount) AS total, max(name) AS name FROM a GROUP BY key"
_JOIN = "SELECT a.*, b.name AS other FROM a JOIN b ON a.key = b.id"


def plan_of(case: str, rows: int, home: Path) -> PhysicalPlan:
    """The plan of a case over so many rows."""
    source = Scan("left", Generated(rows=rows, keys=max(rows // 4, 1)), ReadRequest(), None)
    mapped = ChunkQuery(("map", "filter"), source, _MAP, None, filters=True)
    match case:
        case "map":
            stages = [_stage("out", mapped, home)]
        case "aggregate":
            stages = [_stage("out", StreamQuery(("sum",), (("a", mapped),), _SUM, None), home)]
        case "sort":
            order = "SELECT * FROM a ORDER BY amount, id"
            stages = [_stage("out", StreamQuery(("sort",), (("a", mapped),), order, None), home)]
        case "join":
            right = Scan("right", Generated(rows=rows // 4, keys=1000), ReadRequest(), None)
            stages = [_stage("out", StreamQuery(("join",), (("a", mapped), ("b", right)), _JOIN, None), home)]
        case _:
            shared = ExchangeScan("map", "map", None)
            stages = [
                Stage("map", mapped, ExchangeWrite("map", ("copy", "sums"))),
                _stage("copy", shared, home),
                _stage("sums", StreamQuery(("sum",), (("a", shared),), _SUM, None), home),
            ]
    return PhysicalPlan("benchmark", tuple(stages), "")


def _stage(name: str, root: PhysicalNode, home: Path) -> Stage:
    return Stage(name, root, Write(name, "x", ParquetFile(path=home / f"{name}.parquet")))


def measure(case: str, rows: int, home: Path, memory: int) -> dict[str, float | int | str]:
    """Runs one case in this process, with all that a Dagster run imports, and returns what it took."""
    import etl_defs.definitions  # noqa: F401 - its memory counts
    from engine.run import run_plan

    imported = _peak_mib()
    began = time.perf_counter()
    report = run_plan(plan_of(case, rows, home), benchmark_context(home, memory))
    return {
        "case": case,
        "rows": rows,
        "rows_out": report.stages[-1].reconciliation.written,
        "seconds": round(time.perf_counter() - began, 1),
        "imported_mib": imported,
        "peak_mib": _peak_mib(),
    }


def _peak_mib() -> int:
    # Not getrusage: what it says of a process is at least what its parent had when it started it.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found.group(1)) // 1024 if found else 0


def main() -> None:
    """Prints a line of JSON for each case; fails when one passes the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", nargs="?", choices=CASES)
    parser.add_argument("millions", nargs="?", type=float)
    parser.add_argument("--memory", type=int, default=128, help="MiB for the relational operators")
    parser.add_argument("--home", type=Path, help="folder for what spills (a temporary one)")
    asked = parser.parse_args()
    if asked.case and asked.millions:
        with tempfile.TemporaryDirectory(dir=asked.home) as home:
            print(json.dumps(measure(asked.case, int(asked.millions * 1e6), Path(home), asked.memory)), flush=True)
        return
    worst = 0
    for case in [asked.case] if asked.case else CASES:
        for millions in (1, 5, 20):
            command = [sys.executable, "-m", "benchmarks.memory", case, str(millions), "--memory", str(asked.memory)]
            line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            worst = max(worst, json.loads(line)["peak_mib"])
            print(line, end="", flush=True)
    if worst > LIMIT_MIB:
        sys.exit(f"the peak of {worst} MiB is over the limit of {LIMIT_MIB} MiB")


if __name__ == "__main__":
    main()
