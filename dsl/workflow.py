"""The document as a workflow: the linear form and the DAG form become one; binds no name to any object."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from dsl.contracts.policies import Policies
from dsl.diagnostics import Span
from dsl.document import Map
from dsl.schedule import Schedule, Trigger

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
RESERVED = frozenset(
    {*keyword.kwlist, "context", "conf", "config", "meta", "arg_dict", "dict", "input_arg_dict", "output_arg_dict"}
    | {"int", "str", "float", "bool", "input", "output", "type"}
)
"""What no job of Dagster may be called."""
NAME_HINT = "a name begins with a letter and goes on with letters, digits, _ and -"


class Role(StrEnum):
    """What a node is in its workflow."""

    SOURCE = "source"
    TRANSFORMATION = "transformation"
    DESTINATION = "destination"


class Mode(StrEnum):
    """Whether a run ends by itself."""

    BATCH = "batch"
    STREAM = "stream"


@dataclass(frozen=True)
class Input:
    """A name in `inputs`, and where it stands."""

    name: str
    span: Span


@dataclass(frozen=True)
class Declaration:
    """A node as the document has it.

    Attributes:
        name: Its name; in the linear form `source`, `1_mapping`, `2_filter`, `destination`; a step may have a `name:` of its own.
        role: What it is.
        kind: Its `type`.
        span: Where it stands.
        kind_span: Where its type stands.
        config: Its options, unread; None if it gives none.
        config_span: Where they stand, or would.
        inputs: What feeds it.
        policies: Its policies, inherited ones included.
        connection: Name of a shared connection, or None.
        persist: Whether the plan is cut behind it.
        schema: The columns it declares, unread, or None.
        description: What its author says of it, or "".
    """

    name: str
    role: Role
    kind: str
    span: Span
    kind_span: Span
    config: Map | None
    config_span: Span
    inputs: tuple[Input, ...] = ()
    policies: Policies = field(default_factory=Policies)
    connection: Input | None = None
    persist: bool = False
    schema: Map | None = None
    description: str = ""


@dataclass(frozen=True)
class Workflow:
    """A workflow document.

    Attributes:
        name: As the document has it.
        path: Its file.
        span: Where it stands.
        description: One paragraph, or "".
        schedule: When it starts by the clock, or None.
        trigger: What else starts it, or None.
        mode: Whether a run ends by itself.
        owners: E-mail addresses and teams.
        tags: Free labels.
        nodes: Its nodes: sources, transformations, destinations, in the document's order.
        policies: What every node inherits.
    """

    name: str
    path: str
    span: Span
    description: str = ""
    schedule: Schedule | None = None
    trigger: Trigger | None = None
    mode: Mode = Mode.BATCH
    owners: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    nodes: tuple[Declaration, ...] = ()
    policies: Policies = field(default_factory=Policies)

    @property
    def dagster_name(self) -> str:
        """Its name with `-` replaced: what Dagster allows."""
        return self.name.replace("-", "_")


@dataclass(frozen=True)
class ConnectionDocument:
    """A `connection:` document: one system, shared by workflows.

    Attributes:
        name: What workflows call it.
        kind: Its `type`.
        span: Where it stands.
        kind_span: Where its type stands.
        config: Its options, unread.
    """

    name: str
    kind: str
    span: Span
    kind_span: Span
    config: Map | None


@dataclass(frozen=True)
class PolicyDocument:
    """A `policy:` document (masking, roles, alerts), kept as it stands for those who enforce it."""

    name: str
    span: Span
    body: Map


Document = Workflow | ConnectionDocument | PolicyDocument
