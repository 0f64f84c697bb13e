"""Rows and reports as tables for a terminal; never prints a value that a secret hides."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from dsl.contracts.redaction import scrub
from engine.report import NodeReport, RunReport, StageReport

CELL = 60
WIDTH = 120


def terminal(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Returns a console that is as wide as the terminal, and wide enough for a table where there is none."""
    console = Console(stderr=stderr, quiet=quiet)
    return console if console.is_terminal else Console(stderr=stderr, quiet=quiet, width=WIDTH)


def print_rows(rows: pa.Table, title: str | None = None, console: Console | None = None) -> None:
    """Prints Arrow rows with a column for each field; long values are cut."""
    table = Table(title=title, title_justify="left")
    for each in rows.schema:
        number = pa.types.is_integer(each.type) or pa.types.is_floating(each.type) or pa.types.is_decimal(each.type)
        table.add_column(each.name, justify="right" if number else "left")
    for row in rows.to_pylist():
        table.add_row(*(_cell(value) for value in row.values()))
    (console or terminal()).print(table)


def print_report(report: RunReport, console: Console | None = None) -> None:
    """Prints what a run did: one line a stage, and whether its books balance."""
    table = Table(title=f"{report.workflow}: {report.outcome} in {report.seconds:.1f} s", title_justify="left")
    for name in ("stage", "read", "folded", "written", "filtered", "rejected", "epochs", "seconds", "books"):
        table.add_column(name, justify="left" if name in {"stage", "books"} else "right")
    for each in report.stages:
        table.add_row(*_stage_row(each))
    (console or terminal()).print(table)


def print_nodes(stages: Iterable[StageReport], console: Console | None = None) -> None:
    """Prints where the rows and the time of a run went, node by node."""
    table = Table("stage", "nodes", "kind", title="Nodes", title_justify="left")
    for name in ("rows in", "rows out", "seconds"):
        table.add_column(name, justify="right")
    for stage in stages:
        for node in stage.nodes:
            table.add_row(stage.stage, *_node_row(node))
    (console or terminal()).print(table)


def _stage_row(stage: StageReport) -> tuple[str, ...]:
    books = stage.reconciliation
    folded = f"{books.folded_in:,} → {books.folded_out:,}" if books.folded_in or books.folded_out else ""
    return (
        stage.stage,
        f"{books.read:,}",
        folded,
        f"{books.written:,}",
        f"{books.filtered:,}",
        f"{books.rejected:,}",
        str(stage.epochs),
        f"{stage.seconds:.2f}",
        "[green]balanced[/]" if books.balanced else "[red]NOT BALANCED[/]",
    )


def _node_row(node: NodeReport) -> tuple[str, ...]:
    return (" + ".join(node.nodes), node.kind, f"{node.rows_in:,}", f"{node.rows_out:,}", f"{node.seconds:.2f}")


def _cell(value: object) -> str:
    if value is None:
        return "∅"
    text = scrub(str(value)).replace("\n", "⏎")
    return text if len(text) <= CELL else f"{text[: CELL - 1]}…"
