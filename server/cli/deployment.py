"""What every sub-command that compiles needs: catalog, environment, allowances, the deployment's folders; runs nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click

from dsl.compile import Allow, CompiledWorkflow, compile_text
from dsl.diagnostics import CompileError, Diagnostic
from dsl.plan.logical import Read
from etl_defs.settings import read_settings
from resources.registry import InstalledCatalog
from server.cli.outcomes import Exit, show_diagnostics, workflow_files


@dataclass
class Compilation:
    """What came of compiling some files.

    Attributes:
        workflows: Those that compile, with the file each is in.
        faults: Everything wrong with the others, sorted.
        texts: The text of every file, for showing the lines at fault.
    """

    workflows: list[tuple[Path, CompiledWorkflow]] = field(default_factory=list)
    faults: list[Diagnostic] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)


def compile_files(paths: Iterable[str], environment: Mapping[str, str] | None = None) -> Compilation:
    """Compiles every workflow under some paths, and goes on past the files that do not compile."""
    done, catalog, settings = Compilation(), InstalledCatalog(), read_settings()
    variables = os.environ if environment is None else environment
    for file in workflow_files(paths, settings.workflows):
        text = done.texts[str(file)] = file.read_text(encoding="utf-8", errors="replace")
        try:
            found = compile_text(
                text, str(file), catalog=catalog, environment=variables, allow=Allow(python=settings.allow_python)
            )
        except CompileError as error:
            done.faults.extend(error.diagnostics)
        else:
            done.workflows.extend((file, each) for each in found)
    return done


def compile_one(path: str, name: str | None) -> tuple[Path, CompiledWorkflow]:
    """Compiles one file and picks a workflow of it, or ends the command with what is wrong.

    Raises:
        click.UsageError: The file holds several workflows and none, or an unknown one, was named.
    """
    done = compile_files([path])
    if done.faults:
        show_diagnostics(done.faults, done.texts)
        raise SystemExit(Exit.INVALID)
    named = [pair for pair in done.workflows if name in {None, pair[1].workflow.name, pair[1].workflow.dagster_name}]
    if len(named) != 1:
        known = ", ".join(each.workflow.name for _, each in done.workflows)
        raise click.UsageError(f"{path} holds {len(done.workflows)} workflows: choose one with --workflow ({known})")
    return named[0]


def discovered(path: str, compiled: CompiledWorkflow) -> CompiledWorkflow:
    """Compiles a workflow again with what its sources say of their columns, as a run does.

    Raises:
        UnavailableError: A source cannot be reached.
        SchemaError: A source has no such table or file.
    """
    schemas = {each.id: each.source.discover_schema() for each in compiled.logical.nodes if isinstance(each, Read)}
    text, settings = Path(path).read_text(encoding="utf-8"), read_settings()
    try:
        found = compile_text(
            text,
            path,
            catalog=InstalledCatalog(),
            environment=os.environ,
            schemas=schemas,
            only=compiled.workflow.name,
            allow=Allow(python=settings.allow_python),
        )
    except CompileError as error:
        show_diagnostics(error.diagnostics, {path: text})
        raise SystemExit(Exit.INVALID) from error
    return next(each for each in found if each.workflow.name == compiled.workflow.name)
