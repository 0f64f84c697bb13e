"""`headrace plan`: shows the very plan that a run executes; asks sources for their schemas only when told to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dsl.contracts.redaction import scrub
from dsl.plan.explain import as_json as plan_as_json
from dsl.plan.explain import explain, mermaid
from server.cli.arguments import FILE, WORKFLOW, examples
from server.cli.deployment import compile_one
from server.cli.exits import Exit
from server.cli.outcomes import json_option, print_json

if TYPE_CHECKING:
    from dsl.compile import CompiledWorkflow
    from server.resumption import Resumption


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

    Where the workflow has run before, it also says for each source where the next run goes on; or which state a change
    of the workflow has made void and why, and whether the next run reads everything again or refuses.
    """
    one = compile_one(path, name)
    compiled = one.discovered() if discover else one.compiled
    if as_json:
        found = _resumptions(compiled)
        more = {} if found is None else {"resumes": [each.as_json() for each in found]}
        print_json({**plan_as_json(compiled.logical, compiled.physical), **more})
        return Exit.DONE
    text = mermaid(compiled.logical) if as_mermaid else explain(compiled.logical, compiled.physical)
    click.echo(scrub(text), nl=False)
    if not as_mermaid and (found := _resumptions(compiled)):
        click.echo("\nThe next run, by the checkpoints of this deployment:")
        for each in found:
            click.echo(scrub(f"  {each.source} (stage {each.stage}): {each.why}"))
    return Exit.DONE


def _resumptions(compiled: CompiledWorkflow) -> list[Resumption] | None:
    home = os.environ.get("DAGSTER_HOME")
    if not home or not (Path(home) / "dagster.yaml").is_file():
        return None
    # Loads Dagster, which a deployment that has not run yet never needs.
    from server.resumption import resumptions

    return resumptions(compiled.physical)
