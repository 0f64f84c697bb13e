"""`headrace stop`, `pause` and `resume`: what a person wants of runs that go on elsewhere; ends none by force unless told to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from server.cli.arguments import examples
from server.cli.exits import Exit
from server.cli.outcomes import json_option, print_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from dagster import DagsterRun

_SHORT = 8
_NOT_ENDED = (
    "error: run {run} did not end within {seconds:.0f} s: its process hangs or is gone; "
    "'headrace stop --now {run}' ends it, and the next run goes on from its last commit"
)


@click.command(
    epilog=examples("headrace stop orders", "headrace stop orders.yaml", "headrace stop 3f2a9c1b --now"),
)
@click.argument("workflow", metavar="WORKFLOW|RUN")
@click.option("--now", is_flag=True, help="Do not wait for a batch boundary: the last commit stays, and no more.")
@json_option("Print JSON.")
def stop(workflow: str, now: bool, as_json: bool) -> int:
    """End the runs of a workflow, or one run, at a batch boundary; "Terminate" in the UI does the same.

    What has been read is committed where a boundary comes within some seconds; a run that a slow system keeps waiting is
    left at its last commit. Either way it ends within 10 seconds, stands as canceled, and the next run goes on from
    there. The schedule starts it again when its time comes: to prevent that, pause it.
    """
    from dagster import DagsterInstance

    from etl_defs.pulse import NOW
    from server.control import STOP, end, target_of
    from server.home import prepare_home

    prepare_home()
    with DagsterInstance.get() as instance:
        target = target_of(instance, workflow)
        runs = target.going(instance)
        left = end(instance, runs, NOW if now else STOP, _telling("stopping", quiet=as_json))
    if as_json:
        print_json(_as_json(target.name, runs, left))
    elif not runs:
        click.echo(f"No run of {target.name} goes on.")
    else:
        _tell(target.name, runs, left, "stopped; the next run goes on from its last commit")
    return Exit.FAILED if left else Exit.DONE


@click.command(epilog=examples("headrace pause orders", "headrace pause orders --json"))
@click.argument("workflow", metavar="WORKFLOW")
@json_option("Print JSON.")
def pause(workflow: str, as_json: bool) -> int:
    """Hold a workflow: its runs end at a batch boundary, and none starts until it is resumed.

    Its schedule and its triggers pass it over, and a run that somebody starts by hand is refused. It stays held when
    everything is restarted.
    """
    from dagster import DagsterInstance

    from server.control import hold_and_pause, target_of
    from server.home import prepare_home

    prepare_home()
    with DagsterInstance.get() as instance:
        target = target_of(instance, workflow)
        made, runs, left = hold_and_pause(instance, target, _telling("pausing", quiet=as_json))
    since = made.since.isoformat(timespec="seconds")
    if as_json:
        print_json({**_as_json(target.name, runs, left), "held": {"since": since, "by": made.by}})
    else:
        _tell(target.name, runs, left, "paused at its last commit")
        click.echo(f"{target.name} is held since {since} by {made.by}. 'headrace resume {workflow}' goes on.")
    return Exit.FAILED if left else Exit.DONE


@click.command(epilog=examples("headrace resume orders", "headrace resume orders --no-run"))
@click.argument("workflow", metavar="WORKFLOW")
@click.option("--no-run", is_flag=True, help="Only release it: its schedule and triggers start it again.")
@json_option("Print the report of the run as JSON, and no progress.")
def resume(workflow: str, no_run: bool, as_json: bool) -> int:
    """Release a workflow that was paused, and run it now, in this process, from its last commit."""
    from dagster import DagsterInstance

    from etl_defs.holds import release
    from server.cli.deployment import neighbours
    from server.cli.run import run_and_show
    from server.control import file_of, target_of
    from server.home import prepare_home
    from server.runs import library_of

    prepare_home()
    with DagsterInstance.get() as instance:
        target = target_of(instance, workflow)
        file = None if no_run else file_of(target)  # before it is released: without its file there is no run
        was_held = release(instance, target.name)
    said = f"{target.name} is released." if was_held else f"{target.name} was not held."
    if file is None:
        if as_json:
            print_json({"workflow": target.name, "was_held": was_held})
        else:
            click.echo(said)
        return Exit.DONE
    if not as_json:
        click.echo(said, err=True)
    library = library_of(file, beside=neighbours(file))
    return run_and_show(library, target.name, nodes=False, as_json=as_json)


def _telling(word: str, *, quiet: bool) -> Callable[[DagsterRun], None]:
    def told(run: DagsterRun) -> None:
        if not quiet:
            click.echo(f"run {run.run_id[:_SHORT]} of {run.job_name}: {word}", err=True)

    return told


def _tell(name: str, runs: list[DagsterRun], left: list[DagsterRun], how: str) -> None:
    from server.control import PATIENCE

    going = {each.run_id for each in left}
    for each in runs:
        if each.run_id in going:
            click.echo(_NOT_ENDED.format(run=each.run_id[:_SHORT], seconds=PATIENCE), err=True)
        else:
            click.echo(f"run {each.run_id[:_SHORT]} of {name} is {how}.")


def _as_json(name: str, runs: list[DagsterRun], left: list[DagsterRun]) -> dict[str, object]:
    going = {each.run_id for each in left}
    told = [{"run_id": each.run_id, "ended": each.run_id not in going} for each in runs]
    return {"success": not left, "workflow": name, "runs": told}
