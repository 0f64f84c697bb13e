"""`headrace connectors`: what is installed, its options, whether it answers and what it offers; moves no rows."""

from __future__ import annotations

from collections.abc import Iterator

import click
from rich.table import Table

from dsl.bound import BoundNode
from dsl.contracts.connectors import CheckResult, ConnectorKind, Destination, Source, Stream
from dsl.contracts.spec import Option, spec_of
from resources.registry import InstalledCatalog
from server.cli.deployment import compile_one
from server.cli.outcomes import Exit, print_json
from server.reference import option_rows, type_name
from server.tables import terminal


@click.group()
def connectors() -> None:
    """List, describe, check and discover connectors."""


@connectors.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_connectors(as_json: bool) -> int:
    """List every installed connector and what it can do."""
    kinds = [each for each in map(InstalledCatalog().get, InstalledCatalog().kinds()) if each is not None]
    if as_json:
        print_json([_kind_as_json(each) for each in kinds])
        return Exit.DONE
    table = Table("type", "system", "source", "destination", "guarantee", "proof", "extra")
    for kind in kinds:
        table.add_row(*_kind_row(kind))
    terminal().print(table)
    return Exit.DONE


@connectors.command()
@click.argument("kind")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(kind: str, as_json: bool) -> int:
    """Describe one connector: every option, its type, its default."""
    found = InstalledCatalog().get(kind)
    if found is None:
        raise click.UsageError(f"no connector of type {kind!r}; installed: {', '.join(InstalledCatalog().kinds())}")
    if as_json:
        print_json(
            {
                **_kind_as_json(found),
                "options": {title: [_option_as_json(each) for each in options] for title, options in _sections(found)},
            }
        )
        return Exit.DONE
    click.echo(f"{found.title} (type: {found.kind})")
    for title, options in _sections(found):
        table = Table("option", "type", "default", "what it is", title=title, title_justify="left")
        for row in option_rows(options):
            table.add_row(*row)
        terminal().print(table)
    if found.example:
        click.echo(found.example)
    return Exit.DONE


@connectors.command()
@click.argument("path")
@click.option("--workflow", "name", help="Which workflow of the file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(path: str, name: str | None, as_json: bool) -> int:
    """Reach every system of a workflow and say what answered."""
    _, compiled = compile_one(path, name)
    results = {node.name: each.connection.check() for node, each in _endpoints(compiled.bound.nodes)}
    if as_json:
        print_json({node: {"healthy": each.healthy, "details": each.details} for node, each in results.items()})
    else:
        for node, each in results.items():
            click.echo(_health_line(node, each))
    return Exit.DONE if all(each.healthy for each in results.values()) else Exit.UNAVAILABLE


@connectors.command()
@click.argument("path")
@click.argument("node")
@click.option("--workflow", "name", help="Which workflow of the file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def discover(path: str, node: str, name: str | None, as_json: bool) -> int:
    """List what the system behind a NODE of a workflow offers, with columns and keys."""
    _, compiled = compile_one(path, name)
    known = {bound.name: each for bound, each in _endpoints(compiled.bound.nodes)}
    if node not in known:
        raise click.UsageError(f"no source or destination {node!r}; the workflow has: {', '.join(known)}")
    streams = known[node].connection.discover()
    if as_json:
        print_json([_stream_as_json(each) for each in streams])
        return Exit.DONE
    for each in streams:
        click.echo(
            click.style(each.name, bold=True) + (f"  key: {', '.join(each.primary_key)}" if each.primary_key else "")
        )
        for column in each.schema or ():
            click.echo(f"    {column.name}: {column.type}")
    return Exit.DONE


def _endpoints(nodes: tuple[BoundNode, ...]) -> Iterator[tuple[BoundNode, Source | Destination]]:
    for each in nodes:
        if isinstance(each.options, Source | Destination):
            yield each, each.options


def _kind_row(kind: ConnectorKind) -> tuple[str, ...]:
    target = kind.destination
    return (
        kind.kind,
        kind.title,
        ", ".join(sorted(kind.source.capabilities.sync_modes)) if kind.source else "-",
        ", ".join(sorted(target.capabilities.write_modes)) if target else "-",
        target.capabilities.guarantee.value if target else "-",
        target.capabilities.proof.value if target else "-",
        f"headrace[{kind.extra}]" if kind.extra else "",
    )


def _kind_as_json(kind: ConnectorKind) -> dict[str, object]:
    target = kind.destination
    return {
        "type": kind.kind,
        "title": kind.title,
        "extra": kind.extra,
        "sync_modes": sorted(kind.source.capabilities.sync_modes) if kind.source else [],
        "write_modes": sorted(target.capabilities.write_modes) if target else [],
        "guarantee": target.capabilities.guarantee if target else None,
        "proof": target.capabilities.proof if target else None,
    }


def _sections(kind: ConnectorKind) -> Iterator[tuple[str, tuple[Option, ...]]]:
    classes: tuple[tuple[str, type | None], ...] = (
        ("connection", kind.connection),
        ("source", kind.source),
        ("destination", kind.destination),
    )
    for title, cls in classes:
        if cls is not None:
            yield title, spec_of(cls).options


def _options_as_json(kind: ConnectorKind) -> dict[str, list[dict[str, object]]]:
    return {title: [_option_as_json(each) for each in options] for title, options in _sections(kind)}


def _option_as_json(option: Option) -> dict[str, object]:
    return {"name": option.name, "type": type_name(option), "required": option.required, "doc": option.doc}


def _stream_as_json(stream: Stream) -> dict[str, object]:
    columns = None if stream.schema is None else {each.name: str(each.type) for each in stream.schema}
    return {"name": stream.name, "primary_key": list(stream.primary_key), "columns": columns}


def _health_line(node: str, result: CheckResult) -> str:
    sign = click.style("healthy  ", fg="green") if result.healthy else click.style("unhealthy", fg="red")
    return f"{sign}  {node}: {result.details}"
