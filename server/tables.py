"""Rows and reports as tables for a terminal of any width; never prints a value that a secret or a mask hides."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import pyarrow as pa
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dsl.contracts.redaction import scrub
from engine.report import NodeReport, RunReport, StageReport

CELL = 60
WIDTH = 120
WIDE = 100


def terminal(*, stderr: bool = False) -> Console:
    """Returns a console as wide as the terminal; 120 columns, or what COLUMNS says, where there is none."""
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal or os.environ.get("COLUMNS") else Console(stderr=stderr, width=WIDTH)


@contextmanager
def private_stderr() -> Iterator[Console]:
    """Gives a console on a copy of stderr, which goes on being the terminal while Dagster captures the output of a step."""
    with os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace") as file:
        console = Console(file=file, highlight=False)
        yield console if console.is_terminal else Console(file=file, width=WIDTH, highlight=False)


def list_table(*columns: str, title: str | None = None) -> Table:
    """Returns an empty table with little around its cells; columns are left-aligned."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.padding = (0, 1, 0, 0)
    for each in columns:
        table.add_column(each)
    return table


def print_rows(
    rows: pa.Table, *, title: str | None = None, types: Mapping[str, str] | None = None, console: Console | None = None
) -> None:
    """Prints Arrow rows with a column for each field; long values are cut.

    Args:
        rows: What to print; values that may not be seen are hidden already.
        title: Stands above the table.
        types: Column -> its type, shown below its name.
        console: Where to print; stdout if absent.
    """
    table = list_table(title=title)
    for each in rows.schema:
        number = pa.types.is_integer(each.type) or pa.types.is_floating(each.type) or pa.types.is_decimal(each.type)
        head = Text(each.name) if types is None else Text(f"{each.name}\n").append(types[each.name], style="dim")
        table.add_column(head, justify="right" if number else "left", overflow="fold")
    for row in rows.to_pylist():
        table.add_row(*(_cell(value) for value in row.values()))
    (console or terminal()).print(table)


def print_report(report: RunReport, outcome: str, console: Console | None = None) -> None:
    """Prints what a run did: one line a stage, then the books of each.

    Args:
        report: The stages that ended.
        outcome: How the run ended, in a word.
        console: Where to print; stdout if absent.
    """
    console = console or terminal()
    wide = console.width >= WIDE
    numbers = ("read", "written", "filtered", "rejected", *(("epochs", "bytes") if wide else ()), "seconds")
    table = list_table("stage", title=f"{report.workflow}: {outcome} in {report.seconds:.1f} s")
    for name in numbers:
        table.add_column(name, justify="right")
    for each in report.stages:
        table.add_row(Text(each.stage), *(_numbers(each)[name] for name in numbers))
    if report.stages:
        console.print(table)
    else:
        console.print(Text(str(table.title), style="bold"))
    for each in report.stages:
        console.print(_books(each))
        for code, count in each.rejected_by_code.items():
            console.print(Text(f"    rejected {count:,} by {code}"))
        for name, count in each.fallbacks.items():
            console.print(Text(f"    went on with a fallback: {count:,} by {name}"))


def print_nodes(stages: Iterable[StageReport], console: Console | None = None) -> None:
    """Prints where the rows and the time of a run went, node by node."""
    table = list_table("stage", "nodes", "kind", title="Nodes")
    for name in ("rows in", "rows out", "seconds"):
        table.add_column(name, justify="right")
    for stage in stages:
        for node in stage.nodes:
            table.add_row(Text(stage.stage), *_node_row(node))
    (console or terminal()).print(table)


def _numbers(stage: StageReport) -> dict[str, str]:
    books = stage.reconciliation
    return {
        "read": f"{books.read:,}",
        "written": f"{books.written:,}",
        "filtered": f"{books.filtered:,}",
        "rejected": f"{books.rejected:,}",
        "epochs": str(stage.epochs),
        "bytes": f"{stage.bytes_written:,}",
        "seconds": f"{stage.seconds:.2f}",
    }


def _books(stage: StageReport) -> Text:
    """Returns the reconciliation of a stage as the sum that it is."""
    books = stage.reconciliation
    came = [("read", books.read), ("expanded", books.expanded), ("folded out", books.folded_out)]
    went = [
        ("written", books.written),
        ("filtered", books.filtered),
        ("rejected", books.rejected),
        ("folded in", books.folded_in),
    ]
    always = {"read", "written"}
    left, right = (
        " + ".join(f"{count:,} {name}" for name, count in side if count or name in always) for side in (came, went)
    )
    sign, style = ("=", "green") if books.balanced else ("≠", "bold red")
    return Text.assemble((f"{stage.stage}: ", "bold"), f"{left} ", (sign, style), f" {right}")


def _node_row(node: NodeReport) -> tuple[Text | str, ...]:
    counts = (f"{node.rows_in:,}", f"{node.rows_out:,}", f"{node.seconds:.2f}")
    return (Text(" + ".join(node.nodes)), node.kind, *counts)


def _cell(value: object) -> Text:
    if value is None:
        return Text("∅", style="dim")
    text = scrub(str(value)).replace("\n", "⏎").replace("\x1b", "␛")
    return Text(text if len(text) <= CELL else f"{text[: CELL - 1]}…")
