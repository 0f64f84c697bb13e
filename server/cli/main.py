"""The `headrace` command: names its sub-commands and loads each one on use; has no logic of its own."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from server.cli.environment import prepare_environment
from server.cli.exits import Exit

COMMANDS = {
    "init": "server.cli.init:init",
    "validate": "server.cli.validate:validate",
    "plan": "server.cli.plan:plan",
    "preview": "server.cli.preview:preview",
    "run": "server.cli.run:run",
    "status": "server.cli.status:status",
    "stop": "server.cli.control:stop",
    "pause": "server.cli.control:pause",
    "resume": "server.cli.control:resume",
    "dlq": "server.cli.dlq:dlq",
    "connectors": "server.cli.connectors:connectors",
    "schema": "server.cli.schema:schema",
    "ui": "server.cli.ui:ui",
}
SUMMARIES = {
    "init": "Write a first deployment that runs as it is.",
    "validate": "Compile workflow files and show every fault.",
    "plan": "Show what a run will do, and why.",
    "preview": "Show the first rows that leave a node.",
    "run": "Run a workflow now.",
    "status": "Show what every workflow is doing.",
    "stop": "End a run at a batch boundary.",
    "pause": "Hold a workflow, and end its run.",
    "resume": "Release a workflow, and go on.",
    "dlq": "Work with the rows that were refused.",
    "connectors": "List, describe, check and discover connectors.",
    "schema": "Print the JSON Schema for editors.",
    "ui": "Open the Dagster UI.",
}
EXAMPLES = """\b
Examples:
  headrace init shop && cd shop
  headrace validate workflows
  headrace plan workflows/first-workflow.yaml --discover
  headrace run workflows/first-workflow.yaml
"""


class _LazyGroup(click.Group):
    """A group that imports a sub-command only when it is named: `--help` and `validate` never load Dagster."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names in the order in which a newcomer needs them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports one sub-command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the sub-commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Says what the exit codes mean."""
        super().format_epilog(ctx, formatter)
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(each)), each.meaning) for each in Exit])


@click.group(cls=_LazyGroup, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="headrace", prog_name="headrace")
def cli() -> None:
    """Declarative data integration on Dagster: YAML workflows in, exactly-once data movement out.

    Variables in a file .env of the current folder are read; those that are set already win.
    """


def main() -> None:
    """Runs the command line of this process and ends it with the command's exit code."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: Sequence[str]) -> int:
    """Runs one command line; whatever ends it, a person gets one sentence and a script its exit code."""
    asked: dict[str, bool] = {}
    try:
        prepare_environment()
        result = cli.main([*arguments], prog_name="headrace", standalone_mode=False, obj=asked)
        sys.stdout.flush()
    except SystemExit:
        raise
    except BrokenPipeError:
        return close_output()
    except BaseException as error:  # noqa: BLE001 - the last place where an error can become a sentence
        from server.cli.outcomes import tell

        return tell(error, as_json=asked.get("as_json", False))
    return result if isinstance(result, int) else Exit.DONE


def close_output() -> int:
    """Lets nothing more be written to a pipe that nobody reads (`headrace schema | head`)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Exit.BROKEN_PIPE


if __name__ == "__main__":
    main()
