"""The `headrace` command: names its sub-commands and loads each one on use; has no logic of its own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

import click

from dsl.contracts.errors import HeadraceError, UnavailableError
from dsl.contracts.redaction import scrub
from server.cli.outcomes import Exit

COMMANDS = {
    "init": "server.cli.init:init",
    "validate": "server.cli.validate:validate",
    "plan": "server.cli.plan:plan",
    "preview": "server.cli.preview:preview",
    "run": "server.cli.run:run",
    "connectors": "server.cli.connectors:connectors",
    "schema": "server.cli.schema:schema",
    "ui": "server.cli.ui:ui",
}


class _LazyGroup(click.Group):
    """A group that imports a sub-command only when it is named: `--help` and `validate` never load Dagster."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


EPILOG = (
    "Exit codes: 0 done; 1 the run failed; 2 wrong usage; 3 a document does not compile; "
    "4 a system cannot be reached; 5 another run owns the stream; 130 interrupted."
)


@click.group(cls=_LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="headrace", prog_name="headrace")
def cli() -> None:
    """Declarative data integration on Dagster: YAML workflows in, exactly-once data movement out."""


def main() -> None:
    """Runs the command; an error that a person can act on is one sentence on stderr, never a traceback."""
    sys.exit(_guarded(lambda: cli.main(standalone_mode=False)))


def _guarded(call: Callable[[], object]) -> int:
    try:
        result = call()
    except click.exceptions.Abort:
        click.echo("Interrupted.", err=True)
        return Exit.INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except UnavailableError as error:
        return _tell(error, Exit.UNAVAILABLE)
    except HeadraceError as error:
        return _tell(error, Exit.FAILED)
    return result if isinstance(result, int) else Exit.DONE


def _tell(error: HeadraceError, code: Exit) -> int:
    click.echo(scrub(f"error: {error}"), err=True)
    return code


if __name__ == "__main__":
    main()
