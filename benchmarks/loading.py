"""How long a folder of many workflow files takes to load: names, the whole location, one run's share; prints a table, judges nothing.

    .venv/bin/python benchmarks/loading.py [FILES]

Each line is measured in a process of its own, in seconds of CPU, so that a busy machine does not change the answer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

FILES = 1_000
TEXT = """\
workflow:
  name: flow-{number:05}
  description: Orders of shop {number}, with their regions.
  owners: ["team:shop"]
  schedule: "{minute} * * * *"
  sources:
    orders:
      type: duckdb
      config: {{path: shops/{number}.duckdb, table: orders}}
    regions:
      type: duckdb
      config: {{path: shared/regions.duckdb, table: regions}}
  transformations:
    paid:
      inputs: [orders]
      type: filter
      config: {{condition: "paid and amount > 0"}}
    named:
      inputs: [paid]
      type: mapping
      config:
        mappings:
          - {{source: id, destination: id}}
          - {{source: region_id, destination: region_id}}
          - {{expression: "round(amount * 1.19, 2)", destination: gross}}
    joined:
      inputs: [named, regions]
      type: join
      config: {{join_key: region_id, join_type: left}}
  destinations:
    warehouse:
      inputs: [joined]
      type: duckdb
      config: {{path: warehouse.duckdb, table: orders_{number:05}, write_mode: overwrite}}
"""


def nothing() -> str:
    """Imports Dagster: the part that is not ours."""
    import dagster

    return dagster.__version__


def names() -> str:
    """Loads the module and asks for the names of all jobs."""
    from etl_defs.definitions import defs

    found = defs.job_names
    return f"{len(found)} names, {_compilations(defs)} compilations"


def one_job() -> str:
    """Does what the process of a run does first: builds the one job that it runs."""
    from etl_defs.definitions import defs

    defs.get_job("flow_00007")
    return f"{_compilations(defs)} compilations"


def location() -> str:
    """Does what a code server does: builds everything and the snapshot that the web server and the daemon get."""
    from dagster._core.definitions.repository_definition import RepositoryDefinition
    from dagster._core.remote_representation.external_data import RepositorySnap
    from dagster_shared.serdes import serialize_value

    from etl_defs.definitions import defs

    assert isinstance(defs, RepositoryDefinition)  # noqa: S101 - narrows the type for the reader
    snapshot = RepositorySnap.from_def(defs, defer_snapshots=True)
    size = len(serialize_value(snapshot))
    return f"{len(snapshot.asset_nodes)} assets, {_compilations(defs)} compilations, {size / 1e6:.1f} MB"


TASKS: dict[str, Callable[[], str]] = {each.__name__: each for each in (nothing, names, one_job, location)}


def _compilations(repository: object) -> int:
    return int(repository._repository_data.library.compilations)  # type: ignore[attr-defined]  # noqa: SLF001 - counts what was compiled


def measure(task: str, folder: Path) -> dict[str, object]:
    """Runs one task in a process of its own; returns its CPU seconds and what it found."""
    environment = {**os.environ, "HEADRACE_WORKFLOWS": str(folder), "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, __file__, "--task", task]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Prints the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else FILES
    with tempfile.TemporaryDirectory(prefix="headrace-loading-") as folder:
        for number in range(count):
            text = TEXT.format(number=number, minute=number % 60)
            (Path(folder) / f"flow_{number:05}.yaml").write_text(text, encoding="utf-8")
        print(f"{count} workflow files\n{'task':<10} {'CPU s':>7} {'wall s':>7}  found")
        for task in TASKS:
            found = measure(task, Path(folder))
            print(f"{task:<10} {found['cpu']:>7} {found['wall']:>7}  {found['said']}")


def work(task: str) -> None:
    """Does one task and prints what it took."""
    began = time.monotonic()
    said = TASKS[task]()
    took = {"cpu": round(time.process_time(), 2), "wall": round(time.monotonic() - began, 2), "said": said}
    print(json.dumps(took))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--task"]:
        work(sys.argv[2])
    else:
        main()
