"""`headrace plan`: shows the very plan that a run executes; asks sources for their schemas only when told to."""

from __future__ import annotations

import click

from dsl.plan.explain import as_json as plan_as_json
from dsl.plan.explain import explain
from server.cli.deployment import compile_one, discovered
from server.cli.outcomes import Exit, print_json


@click.command()
@click.argument("path")
@click.option("--workflow", "name", help="Which workflow of the file.")
@click.option("--discover", is_flag=True, help="Ask the sources for their schemas, as a run does.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(path: str, name: str | None, discover: bool, as_json: bool) -> int:
    """Show the stages of a workflow: what was pushed into sources, fused into one query, and cut, and why."""
    _, compiled = compile_one(path, name)
    if discover:
        compiled = discovered(path, compiled)
    if as_json:
        print_json(plan_as_json(compiled.logical, compiled.physical))
    else:
        click.echo(explain(compiled.logical, compiled.physical))
    return Exit.DONE
