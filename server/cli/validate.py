"""`headrace validate`: compiles documents and shows everything that is wrong with them; reaches no system."""

from __future__ import annotations

import click

from server.cli.deployment import Compilation, compile_files
from server.cli.outcomes import Exit, diagnostic_as_json, print_json, show_diagnostics


@click.command()
@click.argument("paths", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print the faults as JSON.")
def validate(paths: tuple[str, ...], as_json: bool) -> int:
    """Compile workflow files and report every fault with its file, line and column.

    PATHS are files or folders; without any, the deployment's folder (HEADRACE_WORKFLOWS). Sources are not asked, so this
    needs no server: only the variables that the documents name.
    """
    done = compile_files(paths)
    if as_json:
        print_json(_as_json(done))
    else:
        show_diagnostics(done.faults, done.texts)
        click.echo(_summary(done))
    return Exit.INVALID if done.faults else Exit.DONE


def _as_json(done: Compilation) -> dict[str, object]:
    return {
        "valid": not done.faults,
        "workflows": [{"name": each.workflow.name, "path": str(file)} for file, each in done.workflows],
        "diagnostics": [diagnostic_as_json(each) for each in done.faults],
    }


def _summary(done: Compilation) -> str:
    good = f"{len(done.workflows)} workflow{'' if len(done.workflows) == 1 else 's'} in {len(done.texts)} files compile"
    return f"{good}; {len(done.faults)} fault{'' if len(done.faults) == 1 else 's'}" if done.faults else good
