"""`headrace run`: one run of one workflow, shown while it goes on, with its books at the end; decides nothing about the data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from server.cli.arguments import FILE, WORKFLOW, examples
from server.cli.deployment import compile_one, neighbours
from server.cli.exits import Exit
from server.cli.outcomes import json_option, print_json

if TYPE_CHECKING:
    from etl_defs.library import Library
    from server.progress import Progress
    from server.runs import Launched

AGAIN = "Run the same command again to go on from there."
CODES = {
    "finished": Exit.DONE,
    "failed": Exit.FAILED,
    "unavailable": Exit.UNAVAILABLE,
    "invalid": Exit.INVALID,
    "fenced": Exit.FENCED,
    "interrupted": Exit.INTERRUPTED,
}


@click.command(
    epilog=examples(
        "headrace run orders.yaml",
        "headrace run orders.yaml --nodes",
        "headrace run orders.yaml --json > report.json",
    )
)
@FILE
@WORKFLOW
@click.option("--nodes", is_flag=True, help="Also show rows and time of every node.")
@json_option("Print the report as JSON, and no progress.")
def run(path: str, name: str | None, nodes: bool, as_json: bool) -> int:
    """Run a workflow now, in this process; the run stands in the UI like any other.

    A run goes on where the last one ended: what has been committed is not read again, and nothing is written twice.
    Ctrl-C ends it at the next batch boundary, with what it has read so far committed.
    """
    # Loads Dagster, which a document that does not compile never needs.
    one = compile_one(path, name)
    from server.runs import library_of

    library = library_of(Path(path), beside=neighbours(Path(path)))
    return run_and_show(library, one.compiled.workflow.dagster_name, nodes=nodes, as_json=as_json)


def run_and_show(library: Library, name: str, *, nodes: bool, as_json: bool) -> int:
    """Runs a workflow of a library by its Dagster name, shows it, and returns the exit code."""
    from server.progress import Progress
    from server.runs import launch_job
    from server.tables import print_nodes, print_report

    progress = Progress(tuple(each.id for each in library.compiled(name).physical.stages))
    with progress.on_stderr(quiet=as_json):
        done = launch_job(library, name, library.entry(name).title, progress)
    code = CODES[done.ending]
    if as_json:
        print_json(_as_json(done, progress, code))
        return code
    print_report(done.report, done.ending)
    if nodes:
        print_nodes(done.report.stages)
    if code is not Exit.DONE:
        click.echo(_last_words(done, progress), err=True)
    return code


def _as_json(done: Launched, progress: Progress, code: Exit) -> dict[str, object]:
    found: dict[str, object] = {"success": code is Exit.DONE, **done.report.as_json(), "outcome": str(done.ending)}
    found["committed"] = {name: {"rows": each.committed, "epoch": each.epoch} for name, each in progress.seen.items()}
    if code is not Exit.DONE:
        found["error"] = {"exit": int(code), "message": done.fault}
    return found


def _last_words(done: Launched, progress: Progress) -> str:
    """Returns why the run did not finish, what of it stays, and how to go on."""
    kept = {name: each for name, each in progress.seen.items() if each.committed}
    committed = [f"{name}: {each.committed:,} rows committed, up to epoch {each.epoch}." for name, each in kept.items()]
    if done.ending == "interrupted":
        return "\n".join(["Interrupted.", *(committed or ["Nothing was committed."]), AGAIN])
    stays = [*committed, f"What is committed stays. {AGAIN}"] if committed else []
    return "\n".join([f"error: {done.fault}", *stays, f"The run is {done.run_id}: 'headrace ui' shows its log."])
