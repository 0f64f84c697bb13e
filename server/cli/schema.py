"""`headrace schema`: the JSON Schema of the language for editors; from the same specs that compile it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from dsl.schema import document_schema
from resources.registry import CatalogOf
from server.cli.arguments import examples
from server.cli.exits import Exit
from server.cli.outcomes import print_json
from server.reference import installed


@click.command(epilog=examples("headrace schema > headrace.schema.json"))
def schema() -> int:
    """Print the JSON Schema of workflow files, with every connector that is installed.

    Save it as headrace.schema.json and begin a file with "# yaml-language-server: $schema=headrace.schema.json": the
    editor then completes and checks as you type. 'headrace init' does both.
    """
    print_json(editor_schema())
    return Exit.DONE


def editor_schema() -> Mapping[str, Any]:
    """Returns the schema; a connector that cannot be loaded is not in it."""
    return document_schema(CatalogOf(*installed().kinds))
