"""The pages of the reference as Markdown, made of specs, codes, functions and docstrings; writes no file and knows no connector."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from datetime import timedelta

import click

from dsl.blocks import BLOCKS
from dsl.codes import Code
from dsl.contracts import errors
from dsl.contracts.capabilities import Guarantee
from dsl.contracts.connectors import ConnectorKind, Destination, Source
from dsl.contracts.policies import OnError, OnRegression, Policies
from dsl.contracts.spec import spec_of
from dsl.expressions.reference import OPERATORS, functions, types
from dsl.lint import RULES
from dsl.processors import PROCESSORS
from dsl.schedule import Schedule, Trigger
from dsl.workflow import Declaration, Workflow
from server.cli.exits import Exit
from server.cli.main import cli
from server.cli.outcomes import code_of
from server.reference import OptionRow, attribute_rows, column_types, duration, option_rows, promise_of, prose_of

NOTICE = "<!-- Written by `make docs` from the specs: change those, not this page. -->\n"
_LANGUAGE = (
    ("Workflow", "workflow.md"),
    ("Processors", "processors.md"),
    ("Expressions", "expressions.md"),
    ("Errors and advice", "errors.md"),
    ("The headrace command", "cli.md"),
)
GROUPS = {
    "E1": "The document",
    "E2": "Variables and secrets",
    "E3": "The workflow",
    "E4": "Connectors and options",
    "E5": "Expressions",
    "E6": "Columns",
    "E7": "The plan",
}


def index_page(kinds: Iterable[ConnectorKind]) -> str:
    """Returns the page that leads to all others."""
    head = ("type", "system", "source", "destination", "promise, proven by")
    return _page(
        "Reference",
        [
            " · ".join(f"[{title}]({name})" for title, name in _LANGUAGE),
            "## Connectors",
            _table(head, map(_summary, kinds)),
            "What each pair of them promises: [Guarantees](guarantees.md). What becomes of SQL types at their edges: [Types](types.md).",
        ],
    )


def guarantees_page(kinds: Iterable[ConnectorKind]) -> str:
    """Returns the page that says what each source with each destination promises."""
    known = tuple(kinds)
    targets = [each for each in known if each.destination is not None]
    rows = ((f"`{each.kind}`", *(_pair(each.source, to) for to in targets)) for each in known if each.source)
    return _page(
        "Guarantees",
        [
            (
                "What holds when a run is killed anywhere and started again, and what that was proven against. "
                "How it was measured: [Guarantees, measured](../guarantees.md)."
            ),
            _table(("from / to", *(f"`{each.kind}`" for each in targets)), rows),
            (
                "A source that cannot be read again from a state makes every pair `at_least_once`: its rows may come twice, "
                "which an upsert absorbs. With a key: `write_mode: upsert`."
            ),
        ],
    )


def _pair(source: type[Source], target: ConnectorKind) -> str:
    if target.destination is None:
        return "-"
    promise = promise_of(target.destination)
    return promise if source.capabilities.replayable else f"{Guarantee.AT_LEAST_ONCE}, {promise.rpartition(', ')[2]}"


def language_pages() -> Iterator[tuple[str, str]]:
    """Yields (name, text) of the pages that no connector has a part in."""
    blocks = (_workflow(), _processors(), _expressions(), _errors(), _commands())
    for (title, name), each in zip(_LANGUAGE, blocks, strict=True):
        yield name, _page(title, each)


def connector_page(kind: ConnectorKind) -> str:
    """Returns the page of one connector."""
    return _page(kind.title, _connector(kind))


def _page(title: str, blocks: Iterable[str]) -> str:
    return NOTICE + f"# {title}\n\n" + "\n\n".join(each.strip("\n") for each in blocks if each) + "\n"


def _summary(kind: ConnectorKind) -> tuple[str, ...]:
    source, target = kind.source, kind.destination
    return (
        f"[`{kind.kind}`](connectors/{kind.kind}.md)",
        kind.title,
        ", ".join(sorted(source.capabilities.sync_modes)) if source else "–",
        ", ".join(sorted(target.capabilities.write_modes)) if target else "–",
        promise_of(target) if target else "–",
    )


def _workflow() -> Iterator[str]:
    yield (
        "A document `workflow:` holds these keys and its nodes: `source`, `transformations` as a list and `destination`, "
        "or maps of names called `sources`, `transformations` and `destinations`."
    )
    yield _attributes(Workflow, without=("path", "span", "nodes", "policies"))
    yield "## Nodes"
    yield _attributes(
        Declaration, without=("role", "span", "kind_span", "config_span", "policies"), renamed={"kind": "type"}
    )
    yield "## Blocks\n\nA workflow and each of its nodes may carry these; a node inherits, field by field, what it does not say."
    yield _table(("key", "default"), _plain_policies())
    for name, cls in {**BLOCKS, "schedule": Schedule, "trigger": Trigger}.items():
        yield f"## {name}\n\n{spec_of(cls).summary}"
        yield _options(cls)


def _plain_policies() -> Iterator[tuple[str, str]]:
    """Yields the blocks that are one value, with their defaults."""
    words = {
        "on_error": " \\| ".join([*OnError, "{fallback: …, otherwise: …}"]),
        "on_regression": " \\| ".join(OnRegression),
    }
    for each in dataclasses.fields(Policies):
        if each.name not in BLOCKS:
            key = f"`{each.name}`: {words[each.name]}" if each.name in words else f"`{each.name}`"
            default = duration(each.default) if isinstance(each.default, timedelta) else each.default
            yield key, "" if default is None else f"`{default}`"


def _processors() -> Iterator[str]:
    for each in PROCESSORS.values():
        yield f"## {each.kind}\n\n{prose_of(each.options)}"
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
                f"`{_escaped(each.signature)}`",
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
    yield "## Faults of documents\n\nEvery fault has a place, a sentence, a hint, and a code that does not change."
    for prefix, title in GROUPS.items():
        yield f"### {title}"
        rows = ((f"`{each.value}`", each.explanation) for each in Code if each.value.startswith(prefix))
        yield _table(("code", "what it means"), rows)
    yield "## Advice\n\nA document with advice compiles and runs; `headrace validate --strict` refuses it."
    yield _table(("code", "what it says"), ((f"`{each.code}`", prose_of(each, joined=True)) for each in RULES))
    yield "## Errors of runs\n\nWhat the engine does with an error is its class; `headrace` ends with the exit code."
    yield _table(("class", "what it means", "exit"), _run_errors(errors.HeadraceError))


def _run_errors(cls: type[errors.HeadraceError]) -> Iterator[tuple[str, ...]]:
    if cls.__module__ != errors.__name__:
        return
    code = code_of(cls("…"))
    yield f"`{cls.__name__}`", prose_of(cls), str(int(code))
    for each in cls.__subclasses__():
        yield from _run_errors(each)


def _connector(kind: ConnectorKind) -> Iterator[str]:
    yield f"`type: {kind.kind}`" + (f". Its driver: `pip install 'headrace[{kind.extra}]'`." if kind.extra else "")
    if kind.example:
        yield _yaml(kind.example)
    yield f"## Connection\n\n{prose_of(kind.connection)}"
    yield _options(kind.connection)
    if kind.source:
        yield f"## Source\n\n{prose_of(kind.source)}"
        yield _reading(kind.source)
        yield _options(kind.source)
    if kind.destination:
        yield f"## Destination\n\n{prose_of(kind.destination)}"
        yield _writing(kind.destination)
        yield _options(kind.destination)
    made = list(column_types(kind))
    if made:
        yield "## Columns that are made\n\nThe type of a new column, by the type of its values."
        yield _table(("values", "column"), ((f"`{name}`", f"`{type_}`") for name, type_ in made))


def _reading(source: type[Source]) -> str:
    able = source.capabilities
    does = {
        "the columns that are needed": able.projects,
        "filters that DuckDB would evaluate alike": able.filters,
        "limits": able.limits,
    }
    pushed = [name for name, can in does.items() if can]
    told = f"Sync modes: {', '.join(sorted(able.sync_modes))}."
    return told + (f" Takes over from the plan: {', '.join(pushed)}." if pushed else "")


def _writing(destination: type[Destination]) -> str:
    able = destination.capabilities
    several = "a prefix for each" if able.several_inputs == "prefix" else "one table for all, or `{input}` in its name"
    nested = " Structs and lists are stored as such." if able.nested else ""
    return (
        f"Write modes: {', '.join(sorted(able.write_modes))}. Promise: **{promise_of(destination)}**. "
        f"Several inputs: {several}.{nested}"
    )


def _commands() -> Iterator[str]:
    context = click.Context(cli, info_name="headrace")
    yield f"```text\n{cli.get_help(context)}\n```"
    yield "## Exit codes"
    yield _table(("code", "meaning"), ((str(int(each)), each.meaning) for each in Exit))
    for name, command in _subcommands(context):
        yield f"## {name}\n\n```text\n{command.get_help(click.Context(command, info_name=name))}\n```"


def _subcommands(context: click.Context) -> Iterator[tuple[str, click.Command]]:
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        if command is not None:
            yield f"headrace {name}", command
        if isinstance(command, click.Group):
            yield from ((f"headrace {name} {inner}", each) for inner, each in command.commands.items())


def _attributes(cls: type, *, without: Iterable[str], renamed: dict[str, str] | None = None) -> str:
    names = renamed or {}
    rows = ((f"`{names.get(name, name)}`", doc) for name, doc in attribute_rows(cls) if name not in set(without))
    return _table(("key", "what it is"), rows)


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
