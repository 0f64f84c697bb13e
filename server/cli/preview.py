"""`headrace preview`: the first rows that leave a node, with nothing written anywhere; keeps no state."""

from __future__ import annotations

import click

from dsl.expressions.types import show as show_type
from dsl.plan.logical import Load
from server.cli.arguments import FILE, WORKFLOW, examples
from server.cli.deployment import compile_one
from server.cli.exits import Exit
from server.cli.outcomes import json_option, print_json
from server.previews import first_rows, veiled_rows
from server.tables import print_rows


@click.command(
    epilog=examples(
        "headrace preview orders.yaml source",
        "headrace preview orders.yaml 1_filter --rows 20",
        "headrace preview orders.yaml 2_mapping --json | jq '.rows[]'",
    )
)
@FILE
@click.argument("node")
@WORKFLOW
@click.option("--rows", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many rows, at most.")
@json_option("Print columns and rows as JSON.")
def preview(path: str, node: str, name: str | None, rows: int, as_json: bool) -> int:
    """Show the first rows that leave NODE of a workflow, and their types. Nothing is written and no state moves.

    The nodes of the linear form are called source, 1_filter, 2_mapping … and destination. Values of columns that the
    workflow masks further down, and of columns that are named like a secret, are hidden. A node behind a join, a sort or
    an aggregate needs its whole input; an enrich node calls its API for the rows that are shown.
    """
    one = compile_one(path, name)
    known = [each.id for each in one.compiled.logical.nodes if not isinstance(each, Load)]
    if node not in known:
        raise click.UsageError(f"there is no node {node!r} to preview; the workflow has: {', '.join(known)}")
    plan = one.checked()
    found = veiled_rows(first_rows(plan, node, rows), plan, node)
    types = {each.name: show_type(each.type) for each in found.schema}
    if as_json:
        print_json({"node": node, "columns": types, "rows": found.to_pylist()})
    else:
        print_rows(found, types=types)
        if not found.num_rows:
            click.echo("no rows", err=True)
    return Exit.DONE
