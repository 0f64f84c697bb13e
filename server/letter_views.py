"""Dead letters on a terminal and as JSON: groups, letters, the ways that they would take; given only what may be shown."""

from __future__ import annotations

import json
from collections.abc import Iterable

import click

from dsl.contracts.redaction import scrub
from etl_defs.replays import Group as Way
from resources.stores.dead_letters import Group, Held
from server.cli.exits import Exit
from server.letters import Shown
from server.progress import Progress
from server.runs import Launched
from server.tables import list_table, terminal

SHORT = 12


def workflow_of(key: str) -> str:
    """Returns the workflow whose stream has a key."""
    return key.rsplit("/", 2)[0]


def print_groups(told: Iterable[tuple[Group, str]]) -> None:
    """Prints how many there are, by what they have in common."""
    table = list_table("workflow", "node", "code", "status", title="Dead letters")
    table.add_column("letters", justify="right")
    for name in ("oldest", "newest"):
        table.add_column(name)
    table.add_column("reason", overflow="fold")
    for each, reason in told:
        first, last = (f"{at:%Y-%m-%d %H:%M}" for at in (each.first, each.last))
        facts = (workflow_of(each.key), each.node, each.code, str(each.status), f"{each.count:,}", first, last)
        table.add_row(*facts, scrub(reason))
    terminal().print(table)


def group_as_json(group: Group, reason: str) -> dict[str, object]:
    """Returns a group for machines."""
    return {
        "workflow": workflow_of(group.key),
        "stage": group.key.rsplit("/", 2)[1],
        "node": group.node,
        "code": group.code,
        "status": str(group.status),
        "reason": reason,
        "letters": group.count,
        "oldest": group.first.isoformat(),
        "newest": group.last.isoformat(),
        "sample": group.sample,
    }


def print_letter(held: Held, veiled: Shown) -> None:
    """Prints a letter with what was done to it."""
    letter = held.letter
    head = (letter.id[:SHORT], str(held.status), letter.rejection.node, letter.rejection.code)
    click.echo("  ".join((*head, f"{letter.rejected_at:%Y-%m-%d %H:%M:%S}", f"run {letter.run_id}")))
    lines = [veiled.reason, json.dumps(veiled.row, ensure_ascii=False)]
    if letter.replay_of:
        lines.append(f"replay of {letter.replay_of[:SHORT]}")
    before = iter(veiled.before)
    for each in held.changes:
        was = f"; it was {json.dumps(next(before, None), ensure_ascii=False)}" if each.row is not None else ""
        why = f": {each.why}" if each.why else ""
        lines.append(f"{each.action} {each.at:%Y-%m-%d %H:%M:%S} by {each.who}{why}{was}")
    lines += [f"refused again as {each[:SHORT]}" for each in held.refused_again]
    for line in lines:
        click.echo(f"  {scrub(line)}")


def letter_as_json(held: Held, veiled: Shown) -> dict[str, object]:
    """Returns a letter for machines."""
    letter = held.letter
    workflow, stage, _ = letter.key.rsplit("/", 2)
    before = iter(veiled.before)
    return {
        "id": letter.id,
        "status": str(held.status),
        "workflow": workflow,
        "stage": stage,
        "node": letter.rejection.node,
        "entry": letter.entry,
        "code": letter.rejection.code,
        "reason": veiled.reason,
        "run_id": letter.run_id,
        "epoch": letter.epoch,
        "rejected_at": letter.rejected_at.isoformat(),
        "fingerprint": letter.fingerprint,
        "row": veiled.row,
        "types": {each.name: str(each.type) for each in letter.rejection.row.schema},
        "hidden": list(veiled.hidden),
        "replay_of": letter.replay_of or None,
        "refused_again": list(held.refused_again),
        "changes": [
            {
                "action": each.action,
                "at": each.at.isoformat(),
                "by": each.who,
                "why": each.why or None,
                "row_before": next(before, None) if each.row is not None else None,
            }
            for each in held.changes
        ],
    }


def print_ways(ways: Iterable[Way]) -> None:
    """Prints which letters would arrive where, and which would not."""
    ways = list(ways)
    if not ways:
        click.echo("There are no such dead letters.")
    for each in ways:
        for rest in each.rests:
            target = " / ".join(rest.load.destination.physical_name)
            click.echo(scrub(f"{each.ready:,} dead letters of {each.shape.entry} to {target}"))
        for said in each.warnings:
            click.echo(scrub(f"  warning: {said}"), err=True)
        if each.refusal is not None:
            click.echo(scrub(f"  {each.shape.letters:,} cannot be replayed: {each.refusal}"), err=True)
        if each.waiting:
            click.echo(f"  {each.waiting:,} are left: their run has not committed; run the workflow first", err=True)
        if each.unedited:
            click.echo(
                f"  {each.unedited:,} are left: their reader could not read them, and nobody has edited them", err=True
            )


def way_as_json(way: Way) -> dict[str, object]:
    """Returns a way for machines."""
    return {
        "entry": way.shape.entry,
        "stage": way.shape.key.rsplit("/", 2)[1],
        "letters": way.shape.letters,
        "ready": way.ready,
        "waiting": way.waiting,
        "unedited": way.unedited,
        "runs": dict(way.shape.runs),
        "targets": [{"stream": each.stream, "place": list(each.load.destination.physical_name)} for each in way.rests],
        "warnings": way.warnings,
        "refusal": None if way.refusal is None else str(way.refusal),
    }


def replay_as_json(
    done: Launched, progress: Progress, ways: Iterable[Way], code: Exit, letters: int, again: int
) -> dict[str, object]:
    """Returns what came of a replay for machines."""
    committed = {name: {"rows": each.committed, "epoch": each.epoch} for name, each in progress.seen.items()}
    found: dict[str, object] = {"success": code is Exit.DONE, **done.report.as_json(), "outcome": str(done.ending)}
    found |= {
        "replayed": letters,
        "refused_again": again,
        "committed": committed,
        "ways": [way_as_json(each) for each in ways],
    }
    if done.fault:
        found["error"] = {"exit": int(code), "message": done.fault}
    return found
