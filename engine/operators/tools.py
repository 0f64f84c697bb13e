"""How a configured processor becomes an open operator, and what operators are given to work with; knows the kinds, not their work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import singledispatch

import pyarrow as pa

from dsl.contracts.connectors import Operator, Processor
from dsl.contracts.errors import FatalError
from dsl.contracts.policies import Policies
from dsl.contracts.state import State
from engine.context import RunContext
from engine.operators.relational import Session


@dataclass(frozen=True)
class OperatorTools:
    """What operators are given.

    Attributes:
        session: Relational work.
        context: The run.
        ended: Whether the attempt is ending.
        node: The node's name.
        policies: The node's policies.
    """

    session: Session
    context: RunContext
    ended: Callable[[], bool]
    node: str = ""
    policies: Policies = field(default_factory=Policies)

    def for_node(self, node: str, policies: Policies) -> OperatorTools:
        """The same for another node."""
        return replace(self, node=node, policies=policies)

    def output_schema(self, processor: object, schema: pa.Schema) -> pa.Schema:
        """What leaves a processor, given what enters."""
        return output_schema(processor, schema, self)


@singledispatch
def output_schema(processor: object, schema: pa.Schema, tools: OperatorTools) -> pa.Schema:
    """What leaves a processor, given what enters.

    Raises:
        FatalError: No operator is known for it.
    """
    del schema
    raise _unknown(processor, tools)


@singledispatch
def open_operator(processor: object, schema: pa.Schema, state: State | None, tools: OperatorTools) -> Operator:
    """Opens a processor for batches of a schema, with what it remembered.

    Raises:
        FatalError: No operator is known for it.
    """
    del schema, state
    raise _unknown(processor, tools)


@output_schema.register(Processor)
def _(processor: Processor, schema: pa.Schema, tools: OperatorTools) -> pa.Schema:
    del tools
    return processor.output_schema(schema)


@open_operator.register(Processor)
def _(processor: Processor, schema: pa.Schema, state: State | None, tools: OperatorTools) -> Operator:
    del tools
    return processor.open(schema, state)


def _unknown(processor: object, tools: OperatorTools) -> FatalError:
    return FatalError(f"no operator is known for {type(processor).__name__}", where=tools.node)
