"""`headrace status`: what every workflow is doing, once or each second; reads what runs told and changes nothing."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from dsl.contracts.redaction import scrub
from server.cli.arguments import examples
from server.cli.exits import Exit
from server.cli.outcomes import json_option, print_json

if TYPE_CHECKING:
    from datetime import datetime

    from rich.table import Table

    from server.status import Overview, WorkflowStatus

EVERY = 1.0


@click.command(
    epilog=examples(
        "headrace status",
        "headrace status orders --watch",
        "headrace status orders --watch | tee progress.log",
        "headrace status --json | jq '.workflows[] | select(.status == \"failed\")'",
    )
)
@click.argument("workflow", metavar="[WORKFLOW]", required=False)
@click.option("--watch", is_flag=True, help="Show it each second until no run goes on any more, or Ctrl-C.")
@json_option("Print JSON; with --watch one document a line.")
def status(workflow: str | None, watch: bool, as_json: bool) -> int:
    """Show every workflow, or one: held or not, its last run and how far that is, what waits.

    A run is starting, running, pausing or stopping; then paused, stopped, completed or failed. `lag` is how old the
    newest committed row is, by the source's cursor, where that is a time. With --watch the command ends with 1 if a run
    that it saw going on has failed.
    """
    from dagster import DagsterInstance

    from server.control import target_of
    from server.home import prepare_home
    from server.status import Overview

    prepare_home()
    with DagsterInstance.get() as instance:
        overview = Overview(instance, None if workflow is None else target_of(instance, workflow))
        if watch:
            try:
                return _watch(overview, as_json=as_json)
            except KeyboardInterrupt:
                return Exit.DONE
        found = overview.look()
    if as_json:
        print_json({"workflows": [each.as_json() for each in found]})
    elif not found:
        click.echo("There are no workflows.")
    else:
        _print(found)
    return Exit.DONE


def _watch(overview: Overview, *, as_json: bool) -> int:
    from server.tables import terminal

    console = terminal()
    if console.is_terminal and not as_json:
        return _renewed(overview)
    told: dict[str, str] = {}
    seen: set[str] = set()
    while True:
        found = overview.look()
        if as_json:
            click.echo(scrub(json.dumps({"workflows": [each.as_json() for each in found]}, ensure_ascii=False)))
        for each in () if as_json else found:
            if told.get(each.name) != (line := _line(each)):
                told[each.name] = line
                click.echo(line)
        seen |= {each.run_id for each in found if each.going}
        if not any(each.going for each in found):
            return _code(found, seen)
        time.sleep(EVERY)


def _renewed(overview: Overview) -> int:
    from rich.live import Live

    from server.tables import terminal

    found, seen = overview.look(), set[str]()
    with Live(_table(found), console=terminal(), auto_refresh=False) as live:
        while True:
            live.update(_table(found), refresh=True)
            seen |= {each.run_id for each in found if each.going}
            if not any(each.going for each in found):
                return _code(found, seen)
            time.sleep(EVERY)
            found = overview.look()


def _code(found: list[WorkflowStatus], seen: set[str]) -> Exit:
    return Exit.FAILED if any(each.status == "failed" and each.run_id in seen for each in found) else Exit.DONE


def _line(each: WorkflowStatus) -> str:
    stages = "; ".join(f"{stage.stage} {stage.sentence()}" for stage in each.stages)
    return scrub(f"{each.name}: {_word(each)}" + (f": {stages}" if stages else ""))


def _print(found: list[WorkflowStatus]) -> None:
    from server.tables import terminal

    terminal().print(_table(found))


def _table(found: list[WorkflowStatus]) -> Table:
    from rich.text import Text

    from server.tables import list_table

    table = list_table("workflow", "status", "run", "last success", "next tick")
    for name in ("letters", "lag", "read", "written", "rows/s", "epoch"):
        table.add_column(name, justify="right")
    for each in found:
        facts = (each.name, _word(each), each.run_id[:8], _short(each.last_success), _short(each.next_tick))
        waits = (f"{each.dead_letters:,}" if each.dead_letters else "", _span(each.lag))
        table.add_row(*map(Text, (*facts, *waits, *_progress(each))))
        for stage in each.stages:
            if stage.note:
                table.add_row("", Text(scrub(f"{stage.stage}: {stage.note}"), style="yellow"))
    return table


def _progress(each: WorkflowStatus) -> tuple[str, ...]:
    if not each.stages:
        return ("", "", "", "")
    sums = [sum(stage.metrics.get(name, 0) for stage in each.stages) for name in ("rows_read", "rows_written")]
    last = each.stages[-1]
    rate = last.metrics.get("rows_per_second", 0) if each.going else 0
    epoch = int(last.metrics.get("epoch", 0))
    return (*(f"{int(found):,}" for found in sums), f"{rate:,.0f}" if rate else "", str(epoch) if epoch else "")


def _word(each: WorkflowStatus) -> str:
    silent = each.silent
    told = each.status if silent is None else f"{each.status}, silent for {_span(silent)}"
    return f"{told}, held" if each.hold is not None else told


def _short(at: datetime | None) -> str:
    return "" if at is None else f"{at.astimezone():%m-%d %H:%M}"


def _span(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"
