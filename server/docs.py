"""`make docs`: writes docs/reference from the specs, codes and functions themselves; states nothing of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import click

from dsl.blocks import BLOCKS
from dsl.codes import Code
from dsl.contracts.connectors import ConnectorKind
from dsl.contracts.spec import spec_of
from dsl.expressions.reference import OPERATORS, functions, types
from dsl.processors import PROCESSORS
from dsl.schedule import Schedule, Trigger
from server.cli.main import cli
from server.reference import OptionRow, installed, option_rows

ROOT = Path(__file__).parent.parent / "docs" / "reference"
NOTICE = "<!-- Written by `make docs` from the specs: change those, not this page. -->\n"


def main() -> int:
    """Writes every page; with `--check`, writes nothing and tells which pages are behind."""
    pages = dict(reference_pages())
    if "--check" in sys.argv:
        behind = [name for name, text in pages.items() if not _is_current(ROOT / name, text)]
        behind += [str(each) for each in _strays(pages)]
        if behind:
            click.echo(f"behind the specs: {', '.join(behind)}; run `make docs`", err=True)
        return 1 if behind else 0
    for each in _strays(pages):
        each.unlink()
    for name, text in pages.items():
        file = ROOT / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    click.echo(f"{len(pages)} pages in docs/reference")
    return 0


def reference_pages() -> Iterator[tuple[str, str]]:
    """Yields (path under docs/reference, text) of every page."""
    kinds = installed().kinds
    yield "README.md", _page("Reference", _index(kinds))
    yield "workflow.md", _page("Workflow", _workflow())
    yield "processors.md", _page("Processors", _processors())
    yield "expressions.md", _page("Expressions", _expressions())
    yield "errors.md", _page("Errors of documents", _errors())
    yield "cli.md", _page("The headrace command", _commands())
    for kind in kinds:
        yield f"connectors/{kind.kind}.md", _page(kind.title, _connector(kind))


def _page(title: str, blocks: Iterable[str]) -> str:
    return NOTICE + f"# {title}\n\n" + "\n\n".join(each.strip("\n") for each in blocks if each) + "\n"


def _index(kinds: Iterable[ConnectorKind]) -> Iterator[str]:
    yield "[Workflow](workflow.md) · [Processors](processors.md) · [Expressions](expressions.md) · [Errors](errors.md) · [Command](cli.md)"
    yield "## Connectors"
    yield _table(("type", "system", "source", "destination", "promise", "proven by"), map(_summary, kinds))


def _summary(kind: ConnectorKind) -> tuple[str, ...]:
    source, target = kind.source, kind.destination
    return (
        f"[`{kind.kind}`](connectors/{kind.kind}.md)",
        kind.title,
        ", ".join(sorted(source.capabilities.sync_modes)) if source else "–",
        ", ".join(sorted(target.capabilities.write_modes)) if target else "–",
        target.capabilities.guarantee.value if target else "–",
        target.capabilities.proof.value if target else "–",
    )


def _workflow() -> Iterator[str]:
    yield "Blocks that a workflow and each of its nodes may carry; a node inherits what it does not say."
    for name, cls in {**BLOCKS, "schedule": Schedule, "trigger": Trigger}.items():
        yield f"## {name}\n\n{spec_of(cls).summary}"
        yield _options(cls)


def _processors() -> Iterator[str]:
    for each in PROCESSORS.values():
        yield f"## {each.kind}\n\n{spec_of(each.options).summary}"
        yield _options(each.options)
        if each.example:
            yield _yaml(each.example)


def _expressions() -> Iterator[str]:
    yield "## Operators"
    spelt = (" ".join(f"`{_escaped(each)}`" for each in operator.spellings) for operator in OPERATORS)
    yield _table(("operator", "what it does"), zip(spelt, (_escaped(each.doc) for each in OPERATORS), strict=True))
    yield "## Functions"
    for group in dict.fromkeys(each.group for each in functions()):
        rows = (
            (
                f"`{each.signature}`",
                _escaped(each.doc),
                f"`{_escaped(each.example)}`",
                "may reject the row" if each.fails else "",
            )
            for each in functions()
            if each.group == group
        )
        yield f"### {group}"
        yield _table(("function", "what it does", "example", ""), rows)
    yield "## Types"
    yield _table(("name", "meaning"), types())


def _errors() -> Iterator[str]:
    yield "Every fault of a document has a code that does not change."
    yield _table(("code", "what it means"), ((f"`{each.value}`", each.explanation) for each in Code))


def _connector(kind: ConnectorKind) -> Iterator[str]:
    if kind.extra:
        yield f"Needs `pip install 'headrace[{kind.extra}]'`."
    if kind.example:
        yield _yaml(kind.example)
    yield f"## Connection\n\n{spec_of(kind.connection).summary}"
    yield _options(kind.connection)
    if kind.source:
        yield f"## Source\n\n{spec_of(kind.source).summary}"
        yield f"Sync modes: {', '.join(sorted(kind.source.capabilities.sync_modes))}."
        yield _options(kind.source)
    if kind.destination:
        able = kind.destination.capabilities
        yield f"## Destination\n\n{spec_of(kind.destination).summary}"
        keyed = f" ({able.keyed_guarantee} with a key)" if able.keyed_guarantee else ""
        yield f"Write modes: {', '.join(sorted(able.write_modes))}. Promise: {able.guarantee}{keyed}, {able.proof}."
        yield _options(kind.destination)


def _commands() -> Iterator[str]:
    context = click.Context(cli, info_name="headrace")
    yield f"```text\n{cli.get_help(context)}\n```"
    for name, command in _subcommands(context):
        yield f"## {name}\n\n```text\n{command.get_help(click.Context(command, info_name=name))}\n```"


def _subcommands(context: click.Context) -> Iterator[tuple[str, click.Command]]:
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        if command is None:
            continue
        yield f"headrace {name}", command
        if isinstance(command, click.Group):
            yield from ((f"headrace {name} {inner}", each) for inner, each in command.commands.items())


def _options(cls: type) -> str:
    rows = [(f"`{each.name}`", _escaped(each.type), _default(each), _escaped(each.doc)) for each in option_rows(cls)]
    return _table(("option", "type", "default", "what it is"), rows) if rows else ""


def _default(row: OptionRow) -> str:
    return "**required**" if row.required else f"`{_escaped(row.default)}`" if row.default else ""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(each.replace(chr(10), ' ') for each in line)} |" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _yaml(text: str) -> str:
    return f"```yaml\n{text.strip()}\n```"


def _is_current(file: Path, text: str) -> bool:
    return file.exists() and file.read_text(encoding="utf-8") == text


def _strays(pages: Mapping[str, str]) -> list[Path]:
    return [each for each in sorted(ROOT.rglob("*.md")) if str(each.relative_to(ROOT)) not in pages]


if __name__ == "__main__":
    sys.exit(main())
