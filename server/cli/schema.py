"""`headrace schema`: the JSON Schema of the language for editors; from the same specs that compile it."""

from __future__ import annotations

import click

from dsl.schema import document_schema
from resources.registry import InstalledCatalog
from server.cli.arguments import examples
from server.cli.exits import Exit
from server.cli.outcomes import print_json


@click.command(epilog=examples("headrace schema > headrace.schema.json"))
def schema() -> int:
    """Print the JSON Schema of workflow files, with every connector that is installed.

    Save it as headrace.schema.json and begin a file with "# yaml-language-server: $schema=headrace.schema.json": the
    editor then completes and checks as you type. 'headrace init' does both.
    """
    print_json(document_schema(InstalledCatalog()))
    return Exit.DONE
