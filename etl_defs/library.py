"""The workflow files of a deployment: names at once, compiled only when asked for, faults kept apart; builds nothing of Dagster."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from dsl.codes import Code
from dsl.compile import Allow, CompiledWorkflow, Outline, compile_text, outline, read_text
from dsl.contracts.connectors import Catalog
from dsl.contracts.errors import HeadraceError
from dsl.contracts.redaction import scrub
from dsl.diagnostics import CompileError, Diagnostic, Span
from dsl.plan.physical import Write
from dsl.workflow import ConnectionDocument
from etl_defs.naming import dagster_name
from etl_defs.settings import Settings
from resources.registry import InstalledCatalog

_NAME = re.compile(r"^\s+name:\s*[\"']?([A-Za-z][A-Za-z0-9_-]*)", re.MULTILINE)
_ANY_NAME = re.compile(r"\bname[\"']?\s*:\s*[\"']?([A-Za-z][A-Za-z0-9_-]*)")
_SHARES = re.compile(r"^connection\s*:", re.MULTILINE)
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-?([^}]*))?\}")


@dataclass(frozen=True)
class Entry:
    """One workflow of one file, known by name.

    Attributes:
        name: Its Dagster name.
        title: Its own name.
        path: The file.
        text: What the file held when it was read.
        outline: Its schedule and trigger; None where the file cannot even be read so far.
        fault: What is known to be wrong with it without compiling it, or "".
    """

    name: str
    title: str
    path: Path
    text: str
    outline: Outline | None = None
    fault: str = ""


class LoadError(HeadraceError):
    """A workflow that cannot be run as it is written; the text lists every fault with its place."""


class Library:
    """The workflows of a folder.

    Args:
        settings: Says which folder.
        catalog: The connectors that are installed.
        environment: The variables that documents may name.
        beside: Files outside the folder whose shared connections may be named, too.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        catalog: Catalog | None = None,
        environment: Mapping[str, str] | None = None,
        beside: Iterable[Path] = (),
    ) -> None:
        self.settings = settings
        self.compilations = 0
        self._catalog = catalog or InstalledCatalog()
        self._environment = dict(os.environ if environment is None else environment)
        self._beside = tuple(beside)
        self._compiled: dict[str, CompiledWorkflow | LoadError] = {}
        self._outlines: dict[Path, tuple[Entry, ...]] = {}
        self._alone: dict[str, Entry] = {}
        self._unshared: list[str] = []
        self._writers: Mapping[tuple[str, ...], Sequence[str]] | None = None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The Dagster names of all workflows, sorted; those of broken ones too."""
        return tuple(sorted(self._entries))

    def entry(self, name: str) -> Entry:
        """Returns a workflow by its Dagster name, without reading what other files hold unless all of them were read before.

        Raises:
            KeyError: There is none.
        """
        if name not in self._alone and "_entries" not in self.__dict__:
            declaring = (path for path in self._files if name in self._declared(path))
            self._alone |= _collided(each for path in declaring for each in self._outlined(path))
        found = self._alone.get(name) or self._entries.get(name)
        if found is None:
            known = ", ".join(self.names) or "none"
            raise KeyError(f"there is no workflow {name!r} in {self.settings.workflows}; there is: {known}")
        return found

    def has(self, name: str) -> bool:
        """Tells whether there is such a workflow, broken or not."""
        try:
            return bool(self.entry(name))
        except KeyError:
            return False

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        return _collided(each for path in self._files for each in self._outlined(path))

    @cached_property
    def _files(self) -> Mapping[Path, str]:
        """The text of every workflow file; of one that cannot be read, nothing."""
        return {path: _read(path) for path in workflow_files(self.settings.workflows)}

    def _declared(self, path: Path) -> set[str]:
        """Returns every name that a file may give a workflow, and some that it gives to other things."""
        return {dagster_name(each) for each in (path.stem, *_ANY_NAME.findall(self._expanded(self._files[path])))}

    def compiled(self, name: str) -> CompiledWorkflow:
        """Compiles a workflow, once, without asking its sources.

        Raises:
            LoadError: It has faults.
            KeyError: There is no such workflow.
        """
        entry = self.entry(name)
        if name not in self._compiled:
            self._compiled[name] = self._try(entry)
        found = self._compiled[name]
        if isinstance(found, LoadError):
            raise LoadError(found.message)
        return found

    def typed(self, name: str, schemas: Mapping[str, pa.Schema]) -> CompiledWorkflow:
        """Compiles a workflow again, now that its sources have been asked.

        Args:
            name: Its Dagster name.
            schemas: Source node -> the schema it has now.

        Raises:
            LoadError: The schemas do not fit what the workflow does with them.
        """
        return self.compiled_as(self.entry(name), schemas)

    def compiled_as(self, entry: Entry, schemas: Mapping[str, pa.Schema] | None = None) -> CompiledWorkflow:
        """Compiles a workflow by a text that need not be the one of its file any more; connections are today's.

        Raises:
            LoadError: The text has faults, or does not fit the schemas.
        """
        try:
            return self._compile(entry, schemas)
        except CompileError as error:
            raise LoadError(scrub(str(error))) from error

    def writers(self, physical_name: tuple[str, ...], *, before: str) -> Iterator[str]:
        """Yields the workflows in front of `before`, by name, that write the same place.

        Before `compile_all`, only files that mention the place's last word are compiled to find out.
        """
        if self._writers is not None:
            yield from (each for each in self._writers.get(physical_name, ()) if each < before)
            return
        word = _last_word(physical_name)
        mentions = (path for path, text in self._files.items() if word in self._expanded(text).casefold())
        names = sorted(each.name for path in mentions for each in self._outlined(path))
        yield from (each for each in names if each < before and physical_name in self._written_by(each))

    def compile_all(self) -> None:
        """Compiles every workflow and remembers who writes what; faults are kept for whoever asks for the workflow."""
        found: dict[tuple[str, ...], list[str]] = {}
        for name in self.names:
            for place in self._written_by(name):
                found.setdefault(place, []).append(name)
        self._writers = found

    def _written_by(self, name: str) -> set[tuple[str, ...]]:
        try:
            return targets_of(self.compiled(name))
        except LoadError:
            return set()

    @cached_property
    def shared(self) -> Mapping[str, ConnectionDocument]:
        """The `connection:` documents of all files by name; of two with one name, that of the first file."""
        found: dict[str, ConnectionDocument] = {}
        for path, text in (*self._files.items(), *((path, _read(path)) for path in self._beside)):
            if not _SHARES.search(text):
                continue
            try:
                documents = read_text(text, str(path), self._environment)
            except CompileError as error:
                self._unshared.append(scrub(str(error)))
                continue
            for each in documents:
                if isinstance(each, ConnectionDocument):
                    found.setdefault(each.name, each)
        return found

    def shares(self, name: str, connection: str) -> bool:
        """Tells whether a workflow's connection of that name is the one that all workflows share."""
        document = next((each for key, each in self.shared.items() if dagster_name(key) == connection), None)
        own = str(self.entry(name).path)
        if document is None or document.span.path == own:
            return document is not None
        local = read_text(self.entry(name).text, own, self._environment)
        return not any(isinstance(each, ConnectionDocument) and each.name == document.name for each in local)

    def _try(self, entry: Entry) -> CompiledWorkflow | LoadError:
        if entry.fault and (entry.outline is not None or not entry.text):
            return LoadError(entry.fault)
        try:
            found = self._compile(entry, None)
        except Exception as error:  # noqa: BLE001 - a fault of the compiler or of a connector, too, stays with this file
            unknown = isinstance(error, CompileError) and any(
                each.code is Code.UNKNOWN_CONNECTION for each in error.diagnostics
            )
            return LoadError("\n".join([_sentence(entry.path, error), *(self._unshared if unknown else ())]))
        return LoadError(entry.fault) if entry.fault else found

    def _compile(self, entry: Entry, schemas: Mapping[str, pa.Schema] | None) -> CompiledWorkflow:
        self.compilations += 1
        found = compile_text(
            entry.text,
            str(entry.path),
            catalog=self._catalog,
            environment=self._environment,
            schemas=schemas,
            connections=self.shared,
            allow=Allow(python=self.settings.allow_python),
            only=entry.title,
        )
        if len(found) != 1:
            raise LoadError(f"{entry.path}:1:1: the file holds no workflow {entry.title!r} any more")
        return found[0]

    def _outlined(self, path: Path) -> tuple[Entry, ...]:
        if path not in self._outlines:
            self._outlines[path] = tuple(self._outline(path))
        return self._outlines[path]

    def _outline(self, path: Path) -> Iterator[Entry]:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            yield Entry(dagster_name(path.stem), path.stem, path, "", fault=f"{path}:1:1: cannot be read: {error}")
            return
        try:
            found = outline(text, str(path), self._environment)
        except Exception as error:  # noqa: BLE001 - a fault of the compiler, too, stays with this file
            title = match[1] if (match := _NAME.search(text)) else path.stem
            yield Entry(dagster_name(title), title, path, text, fault=_sentence(path, error))
            return
        for each in found:
            yield Entry(each.dagster_name, each.name, path, text, outline=each)

    def _expanded(self, text: str) -> str:
        def value(match: re.Match[str]) -> str:
            return self._environment.get(match[1]) or match[2] or ""

        return _VARIABLE.sub(value, text)


def workflow_files(folder: Path) -> list[Path]:
    """Returns the workflow files of a folder and its sub-folders, sorted; hidden ones are left out. A file is its own folder."""
    if folder.is_file():
        return [folder]
    found = (each for pattern in ("*.yaml", "*.yml") for each in folder.rglob(pattern))
    return sorted(each for each in found if not any(part.startswith(".") for part in each.relative_to(folder).parts))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # said where the file is outlined
        return ""


def targets_of(compiled: CompiledWorkflow) -> set[tuple[str, ...]]:
    """Returns the physical names of everything that a workflow writes."""
    writers = (stage.writer for stage in compiled.physical.stages)
    return {each.destination.physical_name for each in writers if isinstance(each, Write)}


def _sentence(path: Path, error: Exception) -> str:
    if isinstance(error, LoadError):
        return error.message
    if isinstance(error, CompileError):
        return scrub(str(error))
    return scrub(f"{path}:1:1: {type(error).__name__}: {error}")


def _last_word(physical_name: tuple[str, ...]) -> str:
    words = [each for part in physical_name for each in part.replace("\\", "/").split("/") if each]
    return words[-1].casefold() if words else ""


def _collided(entries: Iterator[Entry]) -> dict[str, Entry]:
    """Keeps every workflow under a name of its own; those that share one all say so."""
    groups: dict[str, list[Entry]] = {}
    for each in entries:
        groups.setdefault(each.name, []).append(each)
    found: dict[str, Entry] = {}
    for name, group in groups.items():
        if len(group) == 1:
            found[name] = group[0]
            continue
        for number, each in enumerate(group, 1):
            alone = name if number == 1 else _free(f"{name}_{number}", {*groups, *found})
            found[alone] = replace(each, name=alone, fault=_collision(each, group))
    return found


def _collision(entry: Entry, group: list[Entry]) -> str:
    others = ", ".join(f"{each.title!r} in {each.path}" for each in group if each is not entry)
    fault = Diagnostic(
        Span(str(entry.path), 1, 1),
        Code.COLLIDING_WORKFLOWS,
        f"workflow {entry.title!r} and {others} are both {entry.name!r} in Dagster",
        "rename all but one of them",
    )
    return "\n".join(filter(None, [str(fault), entry.fault]))


def _free(name: str, taken: set[str]) -> str:
    return name if name not in taken else _free(f"{name}_", taken)
