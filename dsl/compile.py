"""The walk from a text to a plan, readable as a table of contents; every step is pure, every fault comes at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from dsl.bind import Allow, bind
from dsl.bound import BoundWorkflow
from dsl.check import check
from dsl.codes import Code
from dsl.contracts.connectors import Catalog
from dsl.diagnostics import CompileError, Diagnostics
from dsl.document import parse
from dsl.endpoints import EndpointBinder
from dsl.interpolate import interpolate
from dsl.plan.logical import LogicalPlan
from dsl.plan.lower import lower
from dsl.plan.physical import PhysicalPlan
from dsl.read import heading_of, read_document, read_heading
from dsl.rewrite import rewrite
from dsl.schedule import Schedule, Trigger
from dsl.streams import check_streams
from dsl.workflow import ConnectionDocument, Document, Mode, Workflow


@dataclass(frozen=True)
class CompiledWorkflow:
    """A workflow after the walk.

    Attributes:
        workflow: The document.
        bound: With its objects.
        logical: What it means, with everything that the rules could push down.
        physical: What a run executes.
    """

    workflow: Workflow
    bound: BoundWorkflow
    logical: LogicalPlan
    physical: PhysicalPlan


@dataclass(frozen=True)
class Outline:
    """What Dagster must know of a workflow before anyone asks for it; see `Workflow` for the attributes."""

    name: str
    dagster_name: str
    description: str
    schedule: Schedule | None
    trigger: Trigger | None
    mode: Mode


def compile_text(  # noqa: PLR0913 - the walk's arguments, each with a name of its own
    text: str,
    path: str,
    *,
    catalog: Catalog,
    environment: Mapping[str, str],
    schemas: Mapping[str, pa.Schema] | None = None,
    connections: Mapping[str, ConnectionDocument] | None = None,
    allow: Allow = Allow(),  # noqa: B008 - frozen, and says in the signature that nothing is allowed
    only: str | None = None,
) -> tuple[CompiledWorkflow, ...]:
    """Compiles every workflow of a text.

    Args:
        text: One or more YAML documents.
        path: Their file's name, for places.
        catalog: The connectors that documents may name.
        environment: The variables that documents may name.
        schemas: Source node -> its schema, as its system says now; sources that are missing stay Unknown.
        connections: Shared connections from other files.
        allow: What the deployment lets documents do.
        only: Name of the one workflow to compile; all of them if absent.

    Raises:
        CompileError: Every fault of the text, sorted by place.
    """
    found = Diagnostics()
    documents = _read(text, path, environment, found)
    own = [each for each in documents if isinstance(each, ConnectionDocument)]
    shared = {**(connections or {}), **{each.name: each for each in own}}
    _check_connections(own, catalog, found)
    compiled = [
        _compile(each, catalog, schemas or {}, shared, allow, found)
        for each in documents
        if isinstance(each, Workflow) and only in {None, each.name}
    ]
    found.raise_if_any()
    return tuple(each for each in compiled if each is not None)


def read_text(text: str, path: str, environment: Mapping[str, str]) -> tuple[Document, ...]:
    """Parses, interpolates and reads every document of a text (steps 1 to 3 of the walk).

    Raises:
        CompileError: Every fault found so far.
    """
    found = Diagnostics()
    documents = _read(text, path, environment, found)
    found.raise_if_any()
    return documents


def outline(text: str, path: str, environment: Mapping[str, str] | None = None) -> tuple[Outline, ...]:
    """Reads only names, schedules and triggers: no node, no connector, no expression is looked at.

    Args:
        text: One or more YAML documents.
        path: Their file's name, for places.
        environment: The variables that schedules and triggers may name.

    Raises:
        CompileError: The text is no document of the language, or its schedule cannot be read.
    """
    found = Diagnostics()
    headings = (heading_of(each) for each in parse(text, path))
    read = (read_heading(interpolate(each, environment or {}, found), found) for each in headings)
    workflows = [each for each in read if each is not None]
    found.raise_if_any()
    return tuple(
        Outline(each.name, each.dagster_name, each.description, each.schedule, each.trigger, each.mode)
        for each in workflows
    )


def _read(text: str, path: str, environment: Mapping[str, str], found: Diagnostics) -> tuple[Document, ...]:
    nodes = (interpolate(each, environment, found) for each in parse(text, path))
    documents = tuple(each for each in (read_document(node, found) for node in nodes) if each is not None)
    _check_names(documents, found)
    return documents


def _compile(
    workflow: Workflow,
    catalog: Catalog,
    schemas: Mapping[str, pa.Schema],
    connections: Mapping[str, ConnectionDocument],
    allow: Allow,
    found: Diagnostics,
) -> CompiledWorkflow | None:
    bound = bind(workflow, catalog, connections, allow, found)
    if bound is None:
        return None
    checked = check(bound, schemas, found)
    check_streams(bound, checked, found)
    if found.found:
        return None
    logical = rewrite(checked)
    return CompiledWorkflow(workflow, bound, logical, lower(logical))


def _check_connections(own: Sequence[ConnectionDocument], catalog: Catalog, found: Diagnostics) -> None:
    """Notes what is wrong with shared connections, whether a workflow uses them or not."""
    binder = EndpointBinder(catalog, {}, found)
    for each in own:
        binder.connection(each)


def _check_names(documents: tuple[Document, ...], found: Diagnostics) -> None:
    seen: dict[tuple[type, str], Document] = {}
    for each in documents:
        name = each.dagster_name if isinstance(each, Workflow) else each.name
        first = seen.setdefault((type(each), name), each)
        if first is not each:
            code = Code.COLLIDING_WORKFLOWS if isinstance(each, Workflow) else Code.DUPLICATE_NAME
            found.add(
                each.span,
                code,
                f"{each.name!r} is declared twice in this file",
                f"the first one is on line {first.span.line}",
            )


__all__ = ["Allow", "CompileError", "CompiledWorkflow", "Outline", "compile_text", "outline", "read_text"]
