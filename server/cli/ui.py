"""`headrace ui`: Dagster's web server and daemon on this deployment's instance; adds nothing to them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from server.cli.arguments import examples
from server.home import prepare_home

WORKSPACE = Path("workspace.yaml")


@click.command(epilog=examples("headrace ui", "headrace ui --port 4000 --workspace deploy/workspace.yaml"))
@click.option("--port", default=3000, show_default=True, help="Port of the web server.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address it listens on.")
@click.option(
    "--workspace",
    type=click.Path(exists=True, dir_okay=False),
    help="A workspace.yaml. By default that of the current folder, else the workflows of HEADRACE_WORKFLOWS.",
)
def ui(port: int, host: str, workspace: str | None) -> None:
    """Open the Dagster UI: jobs, assets, runs, schedules and sensors of this deployment.

    The instance is DAGSTER_HOME, or .headrace/dagster in the current folder: the one that 'headrace run' writes to.
    """
    home = prepare_home()
    click.echo(f"Dagster UI on http://{host}:{port} (instance: {home}); Ctrl-C ends it")
    sys.stdout.flush()
    command = [sys.executable, "-m", "dagster", "dev", *_location(workspace), "-h", host, "-p", str(port)]
    os.execv(sys.executable, command)  # noqa: S606 - our own interpreter and arguments, no shell


def _location(workspace: str | None) -> list[str]:
    file = Path(workspace) if workspace else WORKSPACE
    return ["-w", str(file.absolute())] if file.exists() else ["-m", "etl_defs.definitions", "-a", "defs"]
