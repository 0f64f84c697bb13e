"""Arguments that several sub-commands take, so that they are called and explained alike."""

from __future__ import annotations

import click

FILE = click.argument("path", metavar="FILE", type=click.Path())
WORKFLOW = click.option("--workflow", "name", metavar="NAME", help="Which workflow, where the file holds several.")


def examples(*lines: str) -> str:
    """Returns the examples at the end of a command's help, as they are written."""
    return "\b\n" + "\n".join(["Examples:", *(f"  {each}" for each in lines)])
