"""`headrace validate`: compiles documents and shows everything that is wrong with them; reaches no system."""

from __future__ import annotations

import click

from server.cli.arguments import examples
from server.cli.deployment import Compilation, compile_paths
from server.cli.exits import Exit
from server.cli.faults import diagnostic_as_json, show_diagnostics
from server.cli.outcomes import json_option, print_json


@click.command(
    epilog=examples(
        "headrace validate orders.yaml",
        "headrace validate workflows --strict",
        "headrace validate workflows --json | jq '.diagnostics[]'",
    )
)
@click.argument("paths", metavar="[FILE|FOLDER]...", nargs=-1, type=click.Path())
@click.option("--strict", is_flag=True, help="End with 3 for advice (W…) as well as for faults (E…).")
@json_option("Print faults and advice as JSON.")
def validate(paths: tuple[str, ...], strict: bool, as_json: bool) -> int:
    """Compile workflow files and show every fault with its file, line and column.

    Without a path it takes the deployment's folder (HEADRACE_WORKFLOWS). No system is reached, so this needs no server:
    only the variables that the documents name. What compiles and may still not do what its author wants is told as
    advice.
    """
    done = compile_paths(paths)
    if as_json:
        print_json(_as_json(done))
    else:
        show_diagnostics(sorted([*done.faults, *done.advice], key=lambda each: each.span), done.texts)
        click.echo(_summary(done))
    return Exit.INVALID if done.faults or (strict and done.advice) else Exit.DONE


def _as_json(done: Compilation) -> dict[str, object]:
    found = [{"name": each.compiled.workflow.name, "path": str(each.path)} for each in done.workflows]
    return {
        "valid": not done.faults,
        "workflows": found,
        "diagnostics": [diagnostic_as_json(each) for each in done.faults],
        "advice": [diagnostic_as_json(each) for each in done.advice],
    }


def _summary(done: Compilation) -> str:
    files = {each.span.path for each in done.faults} | set(done.texts)
    told = [
        f"{_count(len(done.workflows), 'workflow')} in {_count(len(files), 'file')} compile"
        + ("s" if len(done.workflows) == 1 else "")
    ]
    if done.faults:
        told.append(_count(len(done.faults), "fault"))
    if done.advice:
        told.append(f"{len(done.advice)} to look at")
    return "; ".join(told)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
