"""The walk from a text to a plan, readable as a table of contents; every step is pure, every fault comes at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from dsl.bind import Allow, bind
from dsl.bound import BoundWorkflow
from dsl.check import check
from dsl.codes import Code
from dsl.contracts.connectors import Catalog
from dsl.diagnostics import CompileError, Diagnostics
from dsl.document import parse
from dsl.interpolate import interpolate
from dsl.plan.logical import LogicalPlan
from dsl.plan.lower import lower
from dsl.plan.physical import PhysicalPlan
from dsl.read import read_document
from dsl.rewrite import rewrite
from dsl.schedule import Schedule, Trigger
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
    documents = read_text(text, path, environment)
    shared = {**(connections or {}), **_connections(documents)}
    found = Diagnostics()
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
    nodes = (interpolate(each, environment, found) for each in parse(text, path))
    documents = tuple(each for each in (read_document(node, found) for node in nodes) if each is not None)
    _check_names(documents, found)
    found.raise_if_any()
    return documents


def outline(text: str, path: str) -> tuple[Outline, ...]:
    """Reads only what names, schedules and triggers need: no variable, no connector, no expression is looked at.

    Raises:
        CompileError: The text is no document of the language.
    """
    found = Diagnostics()
    documents = (read_document(each, found) for each in parse(text, path))
    workflows = [each for each in documents if isinstance(each, Workflow)]
    found.raise_if_any()
    return tuple(
        Outline(each.name, each.dagster_name, each.description, each.schedule, each.trigger, each.mode)
        for each in workflows
    )


def _compile(
    workflow: Workflow,
    catalog: Catalog,
    schemas: Mapping[str, pa.Schema],
    connections: Mapping[str, ConnectionDocument],
    allow: Allow,
    found: Diagnostics,
) -> CompiledWorkflow | None:
    own = Diagnostics()
    bound = bind(workflow, catalog, connections, allow, own)
    checked = None if bound is None else check(bound, schemas, own)
    found.found.extend(own.found)
    if bound is None or checked is None or own.found:
        return None
    logical = rewrite(checked)
    return CompiledWorkflow(workflow, bound, logical, lower(logical))


def _connections(documents: tuple[Document, ...]) -> dict[str, ConnectionDocument]:
    return {each.name: each for each in documents if isinstance(each, ConnectionDocument)}


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
