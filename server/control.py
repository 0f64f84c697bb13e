"""Ends, holds and releases runs of a deployment by Dagster's own means, wherever they run; moves no rows and prints nothing."""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from etl_defs.holds import Hold, hold
from etl_defs.library import Library
from etl_defs.naming import TAG_CONTROL, TAG_WORKFLOW, dagster_name
from etl_defs.pulse import NOW, PAUSE
from etl_defs.schedules import IN_PROGRESS
from etl_defs.settings import read_settings
from server.cli.deployment import YAML, compile_one

SHORTEST_ID = 6
PATIENCE = 15.0
"""Seconds that a run may take to end; one that can be reached needs 10."""
SHORT_PATIENCE = 4.0
STOP = "stop"
_LOOK = 0.2


@dataclass(frozen=True)
class Target:
    """What a command is about: a workflow, or one run of it.

    Attributes:
        name: The workflow's Dagster name.
        title: Its own name.
        path: Its file, or None if it is not in the deployment's folder any more.
        run_id: The one run, or "" for all that go on.
    """

    name: str
    title: str
    path: Path | None
    run_id: str = ""

    def going(self, instance: DagsterInstance) -> list[DagsterRun]:
        """Returns the runs that have not ended."""
        wanted = [self.run_id] if self.run_id else None
        jobs = None if self.run_id else self.name
        return list(instance.get_runs(RunsFilter(job_name=jobs, run_ids=wanted, statuses=list(IN_PROGRESS))))


def target_of(instance: DagsterInstance, text: str) -> Target:
    """Returns the workflow of a name or a file, or the run whose id begins so.

    Raises:
        click.UsageError: There is none.
        Faulty: The file does not compile.
    """
    if Path(text).suffix in YAML:
        workflow = compile_one(text, None).compiled.workflow
        return Target(workflow.dagster_name, workflow.name, Path(text))
    library, name = Library(read_settings()), dagster_name(text)
    if library.has(name):
        entry = library.entry(name)
        return Target(name, entry.title, entry.path)
    if instance.get_runs(RunsFilter(job_name=name), limit=1):
        return Target(name, text, None)
    run = _run_of(instance, text)
    if run is None:
        raise click.UsageError(
            f"there is no workflow {text!r} in {read_settings().workflows}, no such file, and no run"
        )
    owner = run.tags.get(TAG_WORKFLOW, run.job_name)
    known = library.entry(owner) if library.has(owner) else None
    return Target(owner, known.title if known else owner, known.path if known else None, run.run_id)


def _run_of(instance: DagsterInstance, text: str) -> DagsterRun | None:
    if (run := instance.get_run_by_id(text)) is not None:
        return run
    found = [each for each in instance.get_runs(RunsFilter(statuses=list(IN_PROGRESS))) if each.run_id.startswith(text)]
    return found[0] if len(found) == 1 and len(text) >= SHORTEST_ID else None


def file_of(target: Target) -> Path:
    """Returns the file of a target's workflow.

    Raises:
        click.UsageError: It is gone.
    """
    if target.path is None:
        raise click.UsageError(f"workflow {target.name} is not in {read_settings().workflows}; name its file")
    return target.path


def hold_and_pause(
    instance: DagsterInstance, target: Target, told: Callable[[DagsterRun], None]
) -> tuple[Hold, list[DagsterRun], list[DagsterRun]]:
    """Holds a workflow, and then ends its runs as paused; returns the hold, the runs that went on, and those that still do."""
    made = hold(instance, target.name, by=f"{getpass.getuser()}@{socket.gethostname()}")
    runs = target.going(instance)
    return made, runs, end(instance, runs, PAUSE, told)


def end(
    instance: DagsterInstance, runs: Iterable[DagsterRun], how: str, told: Callable[[DagsterRun], None]
) -> list[DagsterRun]:
    """Asks runs to end and waits for it; returns those that did not, which is none with `NOW`.

    Args:
        instance: Where the runs are.
        runs: The runs.
        how: `STOP` or `PAUSE` at a batch boundary, or `NOW`.
        told: Hears of each run that has been asked.
    """
    asked = list(runs)
    for each in asked:
        instance.add_run_tags(each.run_id, {TAG_CONTROL: how})
        if each.status is DagsterRunStatus.QUEUED:
            instance.report_run_canceled(each, "Canceled by Headrace before it had started.")
        else:
            instance.report_run_canceling(each, message=f"Headrace was asked to end this run ({how}).")
        told(each)
    left = _still_going(instance, asked, SHORT_PATIENCE if how == NOW else PATIENCE)
    if how != NOW:
        return left
    for each in left:
        # Whoever started it may kill it; where nobody can, its fence keeps it from committing once another run has begun.
        with suppress(Exception):
            instance.run_launcher.terminate(each.run_id)
        instance.report_run_canceled(each, "Ended by 'headrace stop --now'; its process may be gone.")
    return []


def _still_going(instance: DagsterInstance, runs: list[DagsterRun], seconds: float) -> list[DagsterRun]:
    until, left = time.monotonic() + seconds, runs
    while left:
        found = (instance.get_run_by_id(each.run_id) for each in left)
        left = [each for each in found if each is not None and each.status in IN_PROGRESS]
        if not left or time.monotonic() >= until:
            break
        time.sleep(_LOOK)
    return left
