"""`headrace ui`: Dagster's web server and daemon on this deployment's instance; adds nothing to them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from server.home import prepare_home

WORKSPACE = Path(__file__).parent.parent.parent / "workspace.yaml"


@click.command()
@click.option("--port", default=3000, show_default=True, help="Port of the web server.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address it listens on.")
@click.option(
    "--workspace", type=click.Path(exists=True, dir_okay=False), help="A workspace.yaml; this deployment's by default."
)
def ui(port: int, host: str, workspace: str | None) -> None:
    """Open the Dagster UI: jobs, assets, runs, schedules and sensors of this deployment."""
    home = prepare_home()
    file = Path(workspace) if workspace else next(each for each in (Path("workspace.yaml"), WORKSPACE) if each.exists())
    click.echo(f"Dagster UI on http://{host}:{port} (instance: {home}); Ctrl-C ends it")
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(file.absolute()), "-h", host, "-p", str(port)]
    os.execv(sys.executable, command)  # noqa: S606 - our own interpreter and arguments, no shell
