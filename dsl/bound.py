"""A workflow whose every name stands for a configured object: what binding returns and checking reads; data only."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from dsl.contracts.connectors import Destination
from dsl.contracts.policies import Policies
from dsl.spans import Spans
from dsl.workflow import Role, Workflow


@dataclass(frozen=True)
class BoundNode:
    """A node with its options constructed.

    Attributes:
        name: Its name in the workflow.
        role: Source, transformation or destination.
        kind: Its `type`.
        options: A `contracts.connectors.Source` or `Destination`, or the options of a processor.
        inputs: Names of the nodes that feed it.
        policies: Its policies, inherited ones included.
        spans: Where its options stand.
        connection_name: Key of the Dagster resource that holds its connection; "" for transformations.
        persist: Whether the plan is cut behind it.
        declared_schema: The columns the document declares for a source, or None.
    """

    name: str
    role: Role
    kind: str
    options: object
    inputs: tuple[str, ...]
    policies: Policies
    spans: Spans
    connection_name: str = ""
    persist: bool = False
    declared_schema: pa.Schema | None = None


@dataclass(frozen=True)
class BoundDeadLetters:
    """Where refused rows go instead of the deployment's own store.

    Attributes:
        destination: Configured, not opened.
        connection_name: Key of the Dagster resource that holds its connection.
    """

    destination: Destination
    connection_name: str


@dataclass(frozen=True)
class BoundWorkflow:
    """A workflow whose every node is bound.

    Attributes:
        workflow: The document.
        nodes: In topological order.
        dead_letters: Where its refused rows go; None for the deployment's own store.
    """

    workflow: Workflow
    nodes: tuple[BoundNode, ...]
    dead_letters: BoundDeadLetters | None = None

    def node(self, name: str) -> BoundNode:
        """Returns a node by its name.

        Raises:
            KeyError: There is no such node.
        """
        for each in self.nodes:
            if each.name == name:
                return each
        raise KeyError(name)
