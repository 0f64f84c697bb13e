"""`headrace plan`: shows the very plan that a run executes; asks sources for their schemas only when told to."""

from __future__ import annotations

import click

from dsl.contracts.redaction import scrub
from dsl.plan.explain import as_json as plan_as_json
from dsl.plan.explain import explain, mermaid
from server.cli.arguments import FILE, WORKFLOW, examples
from server.cli.deployment import compile_one
from server.cli.exits import Exit
from server.cli.outcomes import json_option, print_json


@click.command(
    epilog=examples(
        "headrace plan orders.yaml",
        "headrace plan orders.yaml --discover",
        "headrace plan orders.yaml --mermaid > orders.mmd",
        "headrace plan orders.yaml --json | jq '.nodes[] | {id, pushed}'",
    )
)
@FILE
@WORKFLOW
@click.option("--discover", is_flag=True, help="Ask the sources for their columns, as a run does.")
@click.option("--mermaid", "as_mermaid", is_flag=True, help="Print nodes and edges as a Mermaid flowchart.")
@json_option("Print the plan as JSON.")
def plan(path: str, name: str | None, discover: bool, as_mermaid: bool, as_json: bool) -> int:
    """Show the stages of a workflow: what is pushed into sources, fused into one query, and cut, and why.

    Without --discover no system is reached, and columns that only a source knows stay unknown. With it, a column that
    has been dropped or changed its type is a fault with the line that names it, before a row has moved.
    """
    one = compile_one(path, name)
    compiled = one.discovered() if discover else one.compiled
    if as_json:
        print_json(plan_as_json(compiled.logical, compiled.physical))
    else:
        text = mermaid(compiled.logical) if as_mermaid else explain(compiled.logical, compiled.physical)
        click.echo(scrub(text), nl=False)
    return Exit.DONE
