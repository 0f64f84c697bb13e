"""`headrace init`: writes the first files of a deployment into a folder; never overwrites one."""

from __future__ import annotations

from pathlib import Path

import click

from server.cli.outcomes import Exit
from server.home import SETTINGS

WORKFLOW = """\
# What a file of this kind may say: headrace schema, and the guide.
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
load_from:
  - python_module:
      module_name: etl_defs.definitions
      attribute: defs
      location_name: headrace
"""
ENVIRONMENT = """\
# Variables of this deployment; copy to .env, which Dagster reads, and keep that one out of Git.
HEADRACE_WORKFLOWS=workflows
"""
FILES = {
    "workflows/first-workflow.yaml": WORKFLOW,
    "data/orders.csv": ORDERS,
    "workspace.yaml": WORKSPACE,
    ".env.example": ENVIRONMENT,
    ".env": ENVIRONMENT.partition("\n")[2],
    ".gitignore": ".env\n.headrace/\ndata/*.db\n",
    ".headrace/dagster/dagster.yaml": SETTINGS,
}


@click.command()
@click.argument("folder", type=click.Path(file_okay=False), default=".")
def init(folder: str) -> int:
    """Write a first deployment into FOLDER: a workflow, its data, workspace.yaml and an instance for the UI."""
    root = Path(folder)
    for name, text in FILES.items():
        _write(root / name, text)
    click.echo(f"Next: cd {folder} && headrace validate workflows && headrace run workflows/first-workflow.yaml")
    return Exit.DONE


def _write(file: Path, text: str) -> None:
    if file.exists():
        click.echo(f"kept     {file}")
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    click.echo(f"written  {file}")
