"""`headrace connectors`: what is installed, its options, whether it answers and what it offers; moves no rows."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import click

from dsl.contracts.connectors import CheckResult, Connection, ConnectorKind, Destination, Source, Stream
from dsl.contracts.errors import HeadraceError
from dsl.contracts.redaction import scrub
from dsl.contracts.spec import spec_of
from dsl.expressions.types import show as show_type
from resources.registry import InstalledCatalog
from server.cli.arguments import FILE, WORKFLOW, examples
from server.cli.deployment import One, compile_one
from server.cli.exits import Exit
from server.cli.outcomes import json_option, print_json
from server.reference import OptionRow, installed, option_rows, promise_of
from server.tables import list_table, terminal

WIDTH = 78


@click.group()
def connectors() -> None:
    """List, describe, check and discover connectors."""


@connectors.command(
    "list",
    short_help="List what is installed.",
    epilog=examples("headrace connectors list", "headrace connectors list --json"),
)
@json_option("Print JSON.")
def list_connectors(as_json: bool) -> int:
    """List every installed connector and what it can do.

    One that cannot be loaded is named with its reason, and the command ends with 1.
    """
    found = installed()
    if as_json:
        print_json([*map(_kind_as_json, found.kinds), *({"type": k, "error": e} for k, e in found.broken.items())])
    else:
        table = list_table("type", "reads", "writes", "promise, proven by", "extra")
        for kind in found.kinds:
            table.add_row(*_kind_row(kind))
        terminal().print(table)
        for name, reason in found.broken.items():
            click.echo(f"error: {name} cannot be used: {reason}", err=True)
    return Exit.FAILED if found.broken else Exit.DONE


def _complete_kinds(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    del context, parameter
    return [each for each in InstalledCatalog().kinds() if each.startswith(incomplete)]


@connectors.command(
    short_help="Describe one and its options.",
    epilog=examples("headrace connectors show postgres"),
)
@click.argument("kind", metavar="TYPE", shell_complete=_complete_kinds)
@json_option("Print JSON.")
def show(kind: str, as_json: bool) -> int:
    """Describe one connector: what it promises, every option with its type and default, an example."""
    found = InstalledCatalog().get(kind)
    if found is None:
        raise click.UsageError(
            f"no connector has the type {kind!r}; installed: {', '.join(InstalledCatalog().kinds())}"
        )
    if as_json:
        options = {title: [each.as_json() for each in option_rows(cls)] for title, cls in _parts(found)}
        print_json({**_kind_as_json(found), "options": options, "example": found.example})
    else:
        click.echo("\n".join(_description(found)))
    return Exit.DONE


@connectors.command(
    short_help="Reach every system of a workflow.", epilog=examples("headrace connectors check orders.yaml")
)
@FILE
@WORKFLOW
@json_option("Print JSON.")
def check(path: str, name: str | None, as_json: bool) -> int:
    """Reach every system of a workflow and say what answered; ends with 4 if one did not."""
    one = compile_one(path, name)
    results = {node: _checked(connection) for node, connection in _connections(one).items()}
    if as_json:
        print_json({node: {"healthy": each.healthy, "details": each.details} for node, each in results.items()})
    else:
        for node, each in results.items():
            click.echo(_health_line(node, each))
    return Exit.DONE if all(each.healthy for each in results.values()) else Exit.UNAVAILABLE


@connectors.command(
    short_help="List what a system offers.", epilog=examples("headrace connectors discover orders.yaml source")
)
@FILE
@click.argument("node")
@WORKFLOW
@json_option("Print JSON.")
def discover(path: str, node: str, name: str | None, as_json: bool) -> int:
    """List what the system behind a NODE of a workflow offers, with columns and keys."""
    known = _connections(compile_one(path, name))
    if node not in known:
        raise click.UsageError(f"there is no source or destination {node!r}; the workflow has: {', '.join(known)}")
    streams = known[node].discover()
    if as_json:
        print_json([_stream_as_json(each) for each in streams])
    elif not streams:
        click.echo("nothing to read there", err=True)
    else:
        click.echo(scrub("\n".join(line for each in streams for line in _stream_lines(each))))
    return Exit.DONE


def _connections(one: One) -> dict[str, Connection]:
    nodes = one.compiled.bound.nodes
    return {each.name: each.options.connection for each in nodes if isinstance(each.options, Source | Destination)}


def _checked(connection: Connection) -> CheckResult:
    try:
        return connection.check()
    except HeadraceError as error:  # a secret that cannot be had, a driver that is missing
        return CheckResult(healthy=False, details=str(error))


def _parts(kind: ConnectorKind) -> Iterator[tuple[str, type]]:
    parts = {"connection": kind.connection, "source": kind.source, "destination": kind.destination}
    yield from ((title, cls) for title, cls in parts.items() if cls is not None)


def _description(kind: ConnectorKind) -> Iterator[str]:
    yield click.style(kind.title, bold=True) + f" (type: {kind.kind})"
    if kind.extra:
        yield f"needs: pip install 'headrace[{kind.extra}]'"
    if kind.source is not None:
        yield f"reads: {', '.join(sorted(kind.source.capabilities.sync_modes))}"
    if kind.destination is not None:
        yield f"writes: {', '.join(sorted(kind.destination.capabilities.write_modes))}"
        yield f"promise: {promise_of(kind.destination)}"
    for title, cls in _parts(kind):
        yield ""
        yield click.style(title.capitalize(), bold=True)
        yield from textwrap.wrap(spec_of(cls).summary, WIDTH, initial_indent="  ", subsequent_indent="  ")
        for row in option_rows(cls):
            yield from _option_lines(row)
    if kind.example:
        yield from ("", click.style("Example", bold=True), textwrap.indent(kind.example.strip("\n"), "  "))


def _option_lines(row: OptionRow) -> Iterator[str]:
    default = "required" if row.required else f"default {row.default}" if row.default else ""
    yield from textwrap.wrap(
        f"{row.name}: {', '.join(filter(None, (row.type, default)))}",
        WIDTH,
        initial_indent="  ",
        subsequent_indent="    ",
        break_on_hyphens=False,
    )
    yield from textwrap.wrap(row.doc, WIDTH, initial_indent="      ", subsequent_indent="      ")


def _kind_row(kind: ConnectorKind) -> tuple[str, ...]:
    source, target = kind.source, kind.destination
    return (
        kind.kind,
        ", ".join(sorted(source.capabilities.sync_modes)) if source else "-",
        ", ".join(sorted(target.capabilities.write_modes)) if target else "-",
        f"{target.capabilities.guarantee}, {target.capabilities.proof}" if target else "-",
        kind.extra,
    )


def _kind_as_json(kind: ConnectorKind) -> dict[str, object]:
    able = kind.destination.capabilities if kind.destination else None
    return {
        "type": kind.kind,
        "title": kind.title,
        "extra": kind.extra,
        "sync_modes": sorted(kind.source.capabilities.sync_modes) if kind.source else [],
        "write_modes": sorted(able.write_modes) if able else [],
        "guarantee": able.guarantee if able else None,
        "keyed_guarantee": able.keyed_guarantee or able.guarantee if able else None,
        "proof": able.proof if able else None,
    }


def _stream_as_json(stream: Stream) -> dict[str, object]:
    columns = None if stream.schema is None else {each.name: show_type(each.type) for each in stream.schema}
    return {"name": stream.name, "primary_key": list(stream.primary_key), "columns": columns}


def _stream_lines(stream: Stream) -> Iterator[str]:
    key = f"  key: {', '.join(stream.primary_key)}" if stream.primary_key else ""
    yield click.style(stream.name, bold=True) + key
    yield from (f"    {column.name}: {show_type(column.type)}" for column in stream.schema or ())


def _health_line(node: str, result: CheckResult) -> str:
    sign = click.style("healthy  ", fg="green") if result.healthy else click.style("unhealthy", fg="red")
    return scrub(f"{sign}  {node}: {result.details}")
