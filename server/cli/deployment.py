"""What every sub-command that compiles needs: catalog, environment, allowances, the deployment's folders; runs nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import click
import pyarrow as pa

from dsl.check import check
from dsl.codes import Code
from dsl.compile import Allow, CompiledWorkflow, compile_text, read_text
from dsl.contracts.connectors import Catalog
from dsl.diagnostics import CompileError, Diagnostic, Diagnostics, Span
from dsl.lint import Finding, lint
from dsl.plan.logical import LogicalPlan, Read
from dsl.workflow import ConnectionDocument
from etl_defs.settings import Settings, read_settings
from resources.registry import InstalledCatalog
from server.cli.faults import Faulty

YAML = frozenset({".yaml", ".yml"})
_SHARES = re.compile(r"^connection\s*:", re.MULTILINE)


@dataclass(frozen=True)
class Found:
    """A workflow that compiles, and its file."""

    path: Path
    compiled: CompiledWorkflow


@dataclass
class Compilation:
    """What came of compiling some files.

    Attributes:
        workflows: Those that compile.
        faults: Everything wrong with the others, sorted.
        advice: What is questionable about those that compile, sorted.
        texts: The text of every file, for showing the lines at fault.
    """

    workflows: list[Found] = field(default_factory=list)
    faults: list[Diagnostic] = field(default_factory=list)
    advice: list[Finding] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)

    @property
    def error(self) -> Faulty:
        """The faults as an error that ends a command."""
        return Faulty(self.faults, self.texts)


class Compiler:
    """Compiles files as the deployment's code location would.

    Args:
        files: The workflow files to compile.
        beside: Files whose shared connections may be named besides.
    """

    def __init__(self, files: Iterable[Path], beside: Iterable[Path] = ()) -> None:
        self.settings: Settings = read_settings()
        self._files, self._beside = tuple(files), tuple(beside)
        self._catalog: Catalog = InstalledCatalog()
        self._done = Compilation()
        self._texts: dict[Path, str] = {}

    def compile(self) -> Compilation:
        """Compiles every file, and goes on past those that do not compile."""
        done = self._done
        for file in self._files:
            try:
                self._texts[file] = done.texts[str(file)] = read_file(file)
            except CompileError as error:
                done.faults.extend(error.diagnostics)
        for file, text in self._texts.items():
            try:
                found = self._compiled(text, file)
            except CompileError as error:
                done.faults.extend(error.diagnostics)
            else:
                done.workflows.extend(Found(file, each) for each in found)
        done.faults.extend(_collisions(done.workflows))
        done.faults.sort()
        done.advice = sorted({finding for each in done.workflows for finding in lint(each.compiled.bound)})
        return done

    def discovered(self, found: Found) -> CompiledWorkflow:
        """Compiles a workflow again with what its sources say of their columns, as a run does.

        Raises:
            UnavailableError: A source cannot be reached.
            SchemaError: A source has no such table or file.
            Faulty: The columns do not fit what the workflow does with them.
        """
        return self._typed(found, _asked(found.compiled))

    def checked(self, found: Found) -> LogicalPlan:
        """Returns what every node of a workflow means, before any rule has rewritten it; raises as `discovered` does."""
        asked = _asked(found.compiled)
        return check(self._typed(found, asked).bound, asked, Diagnostics())

    def _typed(self, found: Found, schemas: Mapping[str, pa.Schema]) -> CompiledWorkflow:
        name = found.compiled.workflow.name
        try:
            typed = self._compiled(self._texts[found.path], found.path, schemas, only=name)
        except CompileError as error:
            raise Faulty(error.diagnostics, self._done.texts) from error
        return next(each for each in typed if each.workflow.name == name)

    def _compiled(
        self, text: str, file: Path, schemas: Mapping[str, pa.Schema] | None = None, only: str | None = None
    ) -> tuple[CompiledWorkflow, ...]:
        return compile_text(
            text,
            str(file),
            catalog=self._catalog,
            environment=os.environ,
            schemas=schemas,
            connections=self._shared,
            allow=Allow(python=self.settings.allow_python),
            only=only,
        )

    @cached_property
    def _shared(self) -> Mapping[str, ConnectionDocument]:
        """The `connection:` documents of all files by name; of two with one name, that of the first file."""
        found: dict[str, ConnectionDocument] = {}
        for file, text in (*self._texts.items(), *_readable(self._beside)):
            if not _SHARES.search(text):
                continue
            try:
                documents = read_text(text, str(file), os.environ)
            except CompileError:  # told when that file is compiled itself
                continue
            for each in documents:
                if isinstance(each, ConnectionDocument):
                    found.setdefault(each.name, each)
        return found


def compile_paths(paths: Iterable[str]) -> Compilation:
    """Compiles every workflow file under some paths; the deployment's folder where there are none.

    Raises:
        click.UsageError: A path does not exist, or there is no workflow file at all.
    """
    roots = [Path(each) for each in paths] or [read_settings().workflows]
    files = [file for root in roots for file in _files_under(root)]
    if not files:
        told = ", ".join(map(str, roots))
        raise click.UsageError(f"there is no *.yaml under {told}; 'headrace init' writes a first one")
    beside = neighbours(files[0]) if len(files) == 1 else ()
    return Compiler(dict.fromkeys(files), beside).compile()


@dataclass(frozen=True)
class One:
    """The one workflow that a command is about, and the compiler that knows it."""

    compiler: Compiler
    found: Found

    @property
    def compiled(self) -> CompiledWorkflow:
        """The workflow, compiled without asking its sources."""
        return self.found.compiled

    def discovered(self) -> CompiledWorkflow:
        """The workflow, compiled with what its sources say; see `Compiler.discovered`."""
        return self.compiler.discovered(self.found)

    def checked(self) -> LogicalPlan:
        """What its nodes mean; see `Compiler.checked`."""
        return self.compiler.checked(self.found)


def compile_one(path: str, name: str | None) -> One:
    """Compiles one file and picks a workflow of it.

    Raises:
        Faulty: The file does not compile.
        click.UsageError: There is no such file or workflow, or several and none was named.
    """
    file = Path(path)
    if file.is_dir():
        raise click.UsageError(f"{path} is a folder; name one of its files")
    compiler = Compiler(_files_under(file), neighbours(file))
    done = compiler.compile()
    if done.faults:
        raise done.error
    named = [each for each in done.workflows if name in {None, *_names(each)}]
    if len(named) == 1:
        return One(compiler, named[0])
    known = ", ".join(each.compiled.workflow.name for each in done.workflows)
    if not done.workflows:
        raise click.UsageError(f"{path} holds no workflow")
    if not named:
        raise click.UsageError(f"{path} holds no workflow {name!r}; it holds: {known}")
    raise click.UsageError(f"{path} holds {len(named)} workflows; choose one with --workflow: {known}")


def neighbours(file: Path) -> tuple[Path, ...]:
    """Returns the files whose shared connections a file may name: those of the deployment's folder if it lies there, else of its own."""
    folder = read_settings().workflows
    if folder.is_dir() and file.resolve().is_relative_to(folder.resolve()):
        found: Iterable[Path] = workflow_files(folder)
    else:
        found = sorted(each for each in file.parent.iterdir() if each.suffix in YAML and each.is_file())
    return tuple(each for each in found if each.resolve() != file.resolve())


def read_file(file: Path) -> str:
    """Returns the text of a document.

    Raises:
        CompileError: It is not UTF-8, or cannot be read.
    """
    try:
        held = file.read_bytes()
    except OSError as error:
        said = f"the file cannot be read: {error.strerror or type(error).__name__}"
        raise CompileError([Diagnostic(Span(str(file), 1, 1), Code.SYNTAX, said, "check its permissions")]) from error
    try:
        return held.decode("utf-8")
    except UnicodeDecodeError as error:
        before = held[: error.start]
        line, column = before.count(b"\n") + 1, len(before) - (before.rfind(b"\n") + 1) + 1
        fault = Diagnostic(Span(str(file), line, column), Code.SYNTAX, "the file is not UTF-8 text", "save it as UTF-8")
        raise CompileError([fault]) from error


def workflow_files(folder: Path) -> list[Path]:
    """Returns what the code location takes for workflow files: `etl_defs.library` says the same, but loads Dagster."""
    found = (each for each in folder.rglob("*") if each.suffix in YAML and each.is_file())
    return sorted(each for each in found if not any(part.startswith(".") for part in each.relative_to(folder).parts))


def _files_under(root: Path) -> list[Path]:
    if not root.exists():
        raise click.UsageError(f"there is no file or folder {root}")
    return [root] if root.is_file() else workflow_files(root)


def _readable(files: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    for file in files:
        try:
            yield file, read_file(file)
        except CompileError:  # a neighbour that cannot be read has nothing to share
            continue


def _asked(compiled: CompiledWorkflow) -> dict[str, pa.Schema]:
    return {each.id: each.source.discover_schema() for each in compiled.logical.nodes if isinstance(each, Read)}


def _names(found: Found) -> tuple[str, str]:
    workflow = found.compiled.workflow
    return workflow.name, workflow.dagster_name


def _collisions(workflows: Iterable[Found]) -> Iterator[Diagnostic]:
    """Yields a fault for every workflow whose name another file has taken; within one file the compiler tells."""
    first: dict[str, Found] = {}
    for each in workflows:
        workflow = each.compiled.workflow
        taken = first.setdefault(workflow.dagster_name, each)
        if taken.path != each.path:
            said = f"workflow {workflow.name!r} has the same name in Dagster as one in {taken.path}"
            yield Diagnostic(workflow.span, Code.COLLIDING_WORKFLOWS, said, "rename one of them")
