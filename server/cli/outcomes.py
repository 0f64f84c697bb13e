"""How a command ends and how faults are shown: exit codes, diagnostics with the line they are about; no colours in JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from enum import IntEnum
from pathlib import Path

import click

from dsl.contracts.redaction import scrub
from dsl.diagnostics import Diagnostic


class Exit(IntEnum):
    """What the exit code of every sub-command means."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    INVALID = 3
    UNAVAILABLE = 4
    FENCED = 5
    INTERRUPTED = 130


def print_json(value: object) -> None:
    """Prints one JSON document on stdout; what JSON has no word for is printed as text."""
    click.echo(scrub(json.dumps(value, indent=2, ensure_ascii=False, default=str)))


def diagnostic_as_json(found: Diagnostic) -> Mapping[str, object]:
    """Returns a fault in the form that editors and CI systems read."""
    span = found.span
    return {
        "path": span.path,
        "line": span.line,
        "column": span.column,
        "code": str(found.code),
        "message": found.message,
        "hint": found.hint,
    }


def show_diagnostics(diagnostics: Iterable[Diagnostic], sources: Mapping[str, str]) -> None:
    """Prints faults on stderr, each with the line it is about and a caret under the place.

    Args:
        diagnostics: The faults, already sorted.
        sources: Path -> text of the documents they are in.
    """
    for each in diagnostics:
        click.echo(f"{each.span}: " + click.style(str(each.code), fg="red") + f" {each.message}", err=True)
        _show_line(each, sources.get(each.span.path, ""))
        if each.hint:
            click.echo(f"      = {each.hint}", err=True)


def _show_line(found: Diagnostic, text: str) -> None:
    lines = text.splitlines()
    if 0 < found.span.line <= len(lines):
        click.echo(f"{found.span.line:>5} | {lines[found.span.line - 1]}", err=True)
        click.echo("      | " + " " * (found.span.column - 1) + "^", err=True)


def workflow_files(paths: Iterable[str], default: Path) -> tuple[Path, ...]:
    """Returns every workflow file under the given paths (or the deployment's folder when none is given).

    Raises:
        click.UsageError: A path does not exist, or there is no workflow file at all.
    """
    roots = [Path(each) for each in paths] or [default]
    missing = [str(each) for each in roots if not each.exists()]
    if missing:
        raise click.UsageError(f"no such file or folder: {', '.join(missing)}")
    found = [file for root in roots for file in ([root] if root.is_file() else _yaml_under(root))]
    if not found:
        raise click.UsageError(f"no *.yaml under {', '.join(map(str, roots))}; 'headrace init' writes a first one")
    return tuple(found)


def _yaml_under(folder: Path) -> list[Path]:
    return sorted(each for each in folder.rglob("*") if each.suffix in {".yaml", ".yml"} and each.is_file())
