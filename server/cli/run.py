"""`headrace run`: one run of one workflow, shown while it goes on, with its books at the end; decides nothing about the data."""

from __future__ import annotations

from pathlib import Path

import click

from server.cli.deployment import compile_one
from server.cli.outcomes import Exit, print_json
from server.progress import Progress
from server.tables import print_nodes, print_report, terminal


@click.command()
@click.argument("path")
@click.option("--workflow", "name", help="Which workflow of the file.")
@click.option("--nodes", is_flag=True, help="Also show rows and time of every node.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON; no progress is shown.")
def run(path: str, name: str | None, nodes: bool, as_json: bool) -> int:
    """Run a workflow now, in this process; the run stands in the UI like any other.

    A run goes on where the last one ended: what has been committed is not read again, and nothing is written twice.
    """
    from server.runs import Launched, launch  # loads Dagster, which a document that does not compile never needs

    _, compiled = compile_one(path, name)
    progress = Progress(tuple(each.id for each in compiled.physical.stages))
    with progress.shown(terminal(stderr=True, quiet=as_json)):
        done: Launched = launch(Path(path), compiled.workflow.dagster_name, progress)
    if as_json:
        print_json({"run_id": done.run_id, "success": done.success, "error": done.fault, **done.report.as_json()})
    else:
        print_report(done.report)
        if nodes:
            print_nodes(done.report.stages)
    if done.success:
        return Exit.DONE
    click.echo(f"error: {done.fault}\nThe run is {done.run_id}: headrace ui shows its log.", err=True)
    return Exit.FENCED if done.fenced else Exit.FAILED
