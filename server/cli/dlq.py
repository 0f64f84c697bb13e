"""`headrace dlq`: what was refused, why, and what to do about it; shows no masked value unless it is told to, and applies no row itself."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from resources.stores.dead_letters import ANY, Group
from resources.stores.letter_choice import OPEN, Choice, Status
from server.cli.arguments import examples
from server.cli.exits import Exit
from server.cli.outcomes import json_option, print_json

if TYPE_CHECKING:
    from etl_defs.replays import Group as Way
    from etl_defs.replays import Replay
    from server.letters import Desk
    from server.runs import Launched

C = TypeVar("C", bound=Callable[..., Any])
_WORKFLOW = click.argument("workflow", metavar="WORKFLOW")
_FILTERS = (
    click.option("--node", help="Only letters that this node refused."),
    click.option("--code", help="Only letters refused for this fault, such as `conversion`."),
    click.option("--says", metavar="TEXT", help="Only letters whose reason holds this text."),
    click.option("--run", "run_id", metavar="RUN", help="Only letters that this run refused."),
    click.option("--id", "ids", metavar="ID", multiple=True, help="Only this letter; may be given more than once."),
)


def _filters(command: C) -> C:
    for each in reversed(_FILTERS):
        command = each(command)
    return command


def _choice(of: Mapping[str, Any], title: str, statuses: tuple[Status, ...] = OPEN) -> Choice:
    return Choice(
        workflow=title,
        node=of["node"],
        code=of["code"],
        reason=of["says"],
        run_id=of["run_id"],
        ids=tuple(each.lower() for each in of["ids"]),
        statuses=statuses,
    )


@click.group()
def dlq() -> None:
    """List, show, edit, replay and discard dead letters: rows that a workflow refused under `on_error: dlq`.

    WORKFLOW is its name, or the file that holds it.
    """


@dlq.command(
    "list",
    short_help="Count them by workflow, node and reason.",
    epilog=examples("headrace dlq list", "headrace dlq list orders --all", "headrace dlq list --json"),
)
@click.argument("workflow", metavar="[WORKFLOW]", required=False)
@click.option("--all", "everything", is_flag=True, help="Also those that were replayed or discarded.")
@json_option("Print JSON.")
def list_letters(workflow: str | None, everything: bool, as_json: bool) -> int:
    """Count dead letters by workflow, node, code and reason; values in reasons are left out."""
    # Loads Dagster, which a deployment without dead letters never needs.
    from server.letter_views import group_as_json, print_groups, workflow_of
    from server.letters import deployment, desk_of, shown

    desk = None if workflow is None else _opened(desk_of(workflow))
    letters = deployment()[1] if desk is None else desk.letters
    groups = letters.groups(None if desk is None else desk.title, statuses=ANY if everything else OPEN)

    desks = {} if desk is None else {desk.title: desk}

    def reason_of(group: Group) -> str:
        title = workflow_of(group.key)
        found = desks[title] = desks.get(title) or desk_of(title)
        [held] = found.letters.page(Choice(ids=(group.sample,), statuses=ANY), limit=1)
        veiled = shown(found, held)
        return veiled.reason if veiled.hidden else group.pattern

    told = [(each, reason_of(each)) for each in groups]
    if as_json:
        print_json({"groups": [group_as_json(group, reason) for group, reason in told]})
    elif not told:
        click.echo("There are no dead letters.")
    else:
        print_groups(told)
    return Exit.DONE


@dlq.command(
    short_help="Show some, masked.",
    epilog=examples(
        "headrace dlq show orders",
        "headrace dlq show orders --code conversion --limit 3",
        "headrace dlq show orders --id 3f2a9c1b7e55 --json",
    ),
)
@_WORKFLOW
@_filters
@click.option("--limit", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many, at most.")
@click.option("--after", metavar="ID", help="Go on behind this letter, the last one of the page before.")
@click.option("--all", "everything", is_flag=True, help="Also those that were replayed or discarded.")
@click.option("--unmasked", is_flag=True, help="Show the values that a mask would hide.")
@json_option("Print JSON.")
def show(
    workflow: str, limit: int, after: str | None, everything: bool, unmasked: bool, as_json: bool, **of: Any
) -> int:
    """Show dead letters, the latest first: the row as it came to the node that refused it, the reason, and what was done since.

    Values that a `mask` hides anywhere in the workflow are hidden, and so are they in the reason. Where the code that refused a row is
    not kept any more, nobody can tell what is masked: then all of it is hidden.
    """
    from server.letter_views import SHORT, letter_as_json, print_letter
    from server.letters import desk_of, shown

    desk = _opened(desk_of(workflow))
    choice = _choice(of, desk.title, ANY if everything or of["ids"] else OPEN)
    last = None if after is None else desk.one(after.lower()).letter.id
    page = desk.letters.page(choice, limit=limit, after=last)
    total = desk.letters.total(choice)
    found = [(each, shown(desk, each, unmasked=unmasked)) for each in page]
    if as_json:
        more = page[-1].letter.id if len(page) == limit and total > limit else None
        print_json({"letters": [letter_as_json(*each) for each in found], "total": total, "next": more})
        return Exit.DONE
    for each in found:
        print_letter(*each)
    if total > len(page) and page:
        following = f"--after {page[-1].letter.id[:SHORT]}"
        click.echo(f"{len(page)} of {total:,} dead letters; go on with {following}")
    elif not page:
        click.echo("There are no such dead letters.")
    return Exit.DONE


@dlq.command(
    short_help="Correct a row.",
    epilog=examples(
        "headrace dlq edit orders 3f2a9c1b7e55 --set amount=120",
        "headrace dlq edit orders 3f2a9c1b7e55 --set customer.email=null",
        "headrace dlq edit orders 3f2a9c1b7e55 --file row.json",
    ),
)
@_WORKFLOW
@click.argument("letter_id", metavar="ID")
@click.option(
    "--set", "sets", metavar="FIELD=VALUE", multiple=True, help="A field and its new value; `null` empties it."
)
@click.option("--file", "file", type=click.Path(exists=True, dir_okay=False), help="The whole row as a JSON object.")
@json_option("Print the letter as JSON.")
def edit(workflow: str, letter_id: str, sets: tuple[str, ...], file: str | None, as_json: bool) -> int:
    """Correct the row of one dead letter; a replay takes the corrected one. What it was before stays on record.

    Every value must fit its column. A row that its reader could not read becomes a row of the source's columns.
    """
    from server.letter_views import letter_as_json, print_letter
    from server.letters import desk_of, mended, shown

    if bool(sets) == bool(file):
        raise click.UsageError("say what to change with --set FIELD=VALUE, or give the whole row with --file")
    desk = _opened(desk_of(workflow))
    held = desk.one(letter_id.lower())
    row = mended(desk, held, _pairs(sets), None if file is None else _object_in(Path(file)))
    desk.letters.edit(held.letter.id, row, who=getpass.getuser())
    changed = desk.one(held.letter.id)
    if as_json:
        print_json(letter_as_json(changed, shown(desk, changed)))
    else:
        print_letter(changed, shown(desk, changed))
    return Exit.DONE


@dlq.command(
    short_help="Send them through the rest of the workflow.",
    epilog=examples(
        "headrace dlq replay orders --dry-run",
        "headrace dlq replay orders --node 2_mapping --code conversion",
        "headrace dlq replay orders --pinned",
    ),
)
@_WORKFLOW
@_filters
@click.option("--pinned", is_flag=True, help="With the code that refused them, instead of today's.")
@click.option("--may-overwrite", is_flag=True, help="Let old rows take the place of newer ones with the same key.")
@click.option("--dry-run", is_flag=True, help="Only say which would be replayed and where they would arrive.")
@json_option("Print JSON, and no progress.")
def replay(workflow: str, pinned: bool, may_overwrite: bool, dry_run: bool, as_json: bool, **of: Any) -> int:
    """Send dead letters through the rest of their workflow, from the node that refused them, as a run that stands in the UI.

    Each letter arrives once, however often this is killed and repeated. What is refused again becomes a letter of its own that
    names the one it came from; the exit code is then 1.
    """
    from dagster import DagsterInstance

    from etl_defs.replays import Replay
    from etl_defs.runner import stores_of
    from server.letter_views import print_ways, way_as_json
    from server.letters import desk_of

    desk = desk_of(workflow)
    choice = _choice(of, desk.title)
    with DagsterInstance.get() as instance:
        stores = stores_of(instance, desk.library.settings)
        asked = Replay(desk.library, desk.title, stores, pinned=pinned, may_overwrite=may_overwrite)
        asked.take_over()
        ways = asked.groups(choice)
    ready = any(each.ready for each in ways)
    if not as_json:
        print_ways(ways)
    if dry_run or not ready:
        if as_json:
            print_json({"success": not _refused(ways), "ways": [way_as_json(each) for each in ways], "replayed": 0})
        return Exit.FAILED if _refused(ways) else Exit.DONE
    return _launch(desk, asked, choice, ways, pinned=pinned, may_overwrite=may_overwrite, as_json=as_json)


@dlq.command(
    short_help="Give them up.",
    epilog=examples(
        'headrace dlq discard orders --code conversion --reason "test data"',
        'headrace dlq discard orders --id 3f2a9c1b7e55 --reason "ordered twice"',
    ),
)
@_WORKFLOW
@_filters
@click.option("--everything", is_flag=True, help="All of the workflow's, where no filter is given.")
@click.option("--unfinished", is_flag=True, help="Also letters of a replay that has not ended; some may have arrived.")
@click.option("--reason", "why", required=True, help="Why; it stays on record.")
@json_option("Print JSON.")
def discard(workflow: str, everything: bool, unfinished: bool, why: str, as_json: bool, **of: Any) -> int:
    """Give dead letters up: they stay on record, with who did it, when and why, and are never replayed."""
    from server.letters import desk_of

    if not any(of.values()) and not everything:
        raise click.UsageError("say which with a filter, or --everything")
    if not why.strip():
        raise click.UsageError("--reason says nothing")
    desk = _opened(desk_of(workflow))
    choice = _choice(of, desk.title, OPEN if unfinished else (Status.KEPT,))
    count = desk.letters.give_up(choice, who=getpass.getuser(), why=why)
    left = 0 if unfinished else desk.letters.total(_choice(of, desk.title, (Status.REPLAYING,)))
    if as_json:
        print_json({"discarded": count, "in_an_unfinished_replay": left})
    else:
        click.echo(f"{count:,} dead letters are discarded.")
        if left:
            click.echo(f"{left:,} are left: a replay of them has not ended. `headrace dlq replay {workflow}` ends it.")
    return Exit.DONE


# ---- how it is done -------------------------------------------------------------------------------


def _opened(desk: Desk) -> Desk:
    """Takes over what the document keeps at a connection, so that it can be worked with here."""
    from etl_defs.letters_elsewhere import take_over
    from etl_defs.library import LoadError
    from etl_defs.naming import dagster_name

    name = dagster_name(desk.title)
    if desk.library.has(name):
        try:
            place = desk.library.compiled(name).bound.dead_letters
        except LoadError:
            return desk  # a document with faults says nothing; what the store holds can be worked with all the same
        if place is not None:
            take_over(place, desk.title, desk.letters)
    return desk


def _launch(
    desk: Desk, asked: Replay, choice: Choice, ways: Iterable[Way], *, pinned: bool, may_overwrite: bool, as_json: bool
) -> int:

    from etl_defs.replay_job import REPLAY_JOB, run_config
    from server.letter_views import replay_as_json
    from server.progress import Progress
    from server.runs import launch_job
    from server.tables import print_report

    progress = Progress(tuple(rest.stream for each in ways for rest in each.rests))
    config = run_config(desk.title, choice, pinned=pinned, may_overwrite=may_overwrite)
    with progress.on_stderr(quiet=as_json):
        done = launch_job(desk.library, REPLAY_JOB, f"dead letters of {desk.title}", progress, config=config)
    letters, again = asked.deliveries.of_run(done.run_id)
    code = _code(done, again, ways)
    if as_json:
        print_json(replay_as_json(done, progress, ways, code, letters, again))
        return code
    print_report(done.report, done.ending)
    click.echo(f"{letters:,} dead letters are replayed; {again:,} rows of them were refused again.")
    if done.fault:
        click.echo(f"error: {done.fault}", err=True)
        click.echo("What has arrived is settled. Run the same command again to go on from there.", err=True)
    return code


def _code(done: Launched, again: int, ways: Iterable[Way]) -> Exit:
    from server.cli.run import CODES

    code = CODES[done.ending]
    return Exit.FAILED if code is Exit.DONE and (again or _refused(ways)) else code


def _refused(ways: Iterable[Way]) -> bool:
    return any(each.refusal is not None or each.unedited or each.waiting for each in ways)


def _pairs(sets: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in sets:
        name, given, value = each.partition("=")
        if not given or not name:
            raise click.UsageError(f"--set {each!r} is not FIELD=VALUE")
        found[name] = value
    return found


def _object_in(file: Path) -> dict[str, Any]:
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise click.UsageError(f"{file} holds no JSON: {error}") from error
    if not isinstance(held, dict):
        raise click.UsageError(f"{file} holds no JSON object")
    return held
