"""`headrace init`: writes the first files of a deployment into a folder; never overwrites one."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from server.cli.arguments import examples
from server.cli.exits import Exit
from server.cli.outcomes import json_option, print_json
from server.home import SETTINGS

WORKFLOW = """\
# yaml-language-server: $schema=../headrace.schema.json
workflow:
  name: first-workflow
  description: Copies the paid orders of a CSV file into an SQLite table.

  source:
    type: file
    config:
      root: data
      path: orders.csv

  transformations:
    - type: filter
      config:
        condition: "status == 'paid'"

    - type: mapping
      config:
        mappings:
          - source: id
            destination: order_id
          - source: customer
            destination: customer
          - expression: "round(amount * 1.19, 2)"
            destination: gross_amount

  destination:
    type: sqlite
    config:
      path: data/orders.db
      table: paid_orders
      write_mode: overwrite
"""
ORDERS = """\
id,customer,amount,status
1,ada,120.50,paid
2,grace,80.00,open
3,edsger,42.10,paid
"""
WORKSPACE = """\
# What Dagster loads: one job and its assets for each workflow of HEADRACE_WORKFLOWS (see .env).
load_from:
  - python_module:
      module_name: etl_defs.definitions
      attribute: defs
      location_name: headrace
"""
ENVIRONMENT = """\
# Variables of this deployment, which headrace and dagster read; those that are set already win. Keep secrets out of Git.
HEADRACE_WORKFLOWS=workflows
"""
IGNORED = """\
.env
.headrace/
data/*.db*
"""


def _schema() -> str:
    # Imported here: the compiler is needed for this one file only.
    from server.cli.schema import editor_schema

    return json.dumps(editor_schema(), indent=2, ensure_ascii=False) + "\n"


FILES: Mapping[str, Callable[[], str]] = {
    "workflows/first-workflow.yaml": lambda: WORKFLOW,
    "data/orders.csv": lambda: ORDERS,
    "headrace.schema.json": _schema,
    "workspace.yaml": lambda: WORKSPACE,
    ".env": lambda: ENVIRONMENT,
    ".env.example": lambda: ENVIRONMENT,
    ".gitignore": lambda: IGNORED,
    ".headrace/dagster/dagster.yaml": lambda: SETTINGS,
}


@click.command(epilog=examples("headrace init shop && cd shop", "headrace run workflows/first-workflow.yaml"))
@click.argument("folder", type=click.Path(file_okay=False), default=".")
@json_option("Print what was written and kept as JSON.")
def init(folder: str, as_json: bool) -> int:
    """Write a first deployment into FOLDER: a workflow with its data, and what the UI and an editor need.

    It runs as it is, without any server. A file that is there already is kept as it is.
    """
    root = Path(folder)
    written = {name: _write(root / name, text) for name, text in FILES.items()}
    if as_json:
        kept = [name for name, new in written.items() if not new]
        print_json({"folder": str(root), "written": [name for name in written if name not in kept], "kept": kept})
        return Exit.DONE
    for name, new in written.items():
        click.echo(f"{'written' if new else 'kept   '}  {root / name}")
    enter = "" if folder == "." else f"cd {shlex.quote(folder)} && "
    click.echo(f"Next: {enter}headrace run workflows/first-workflow.yaml")
    return Exit.DONE


def _write(file: Path, text: Callable[[], str]) -> bool:
    """Writes a file that is not there; tells whether it was not."""
    if file.exists() or file.is_symlink():
        return False
    private = ".headrace" in file.parts
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if private else 0o777)
    with file.open("x", encoding="utf-8") as opened:
        opened.write(text())
    return True
