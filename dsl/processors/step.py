"""What a processor is given to plan itself, and what it answers: SQL or options, a schema, a lineage; decides nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa

from dsl.bound import BoundNode
from dsl.codes import Code
from dsl.contracts.policies import Policies
from dsl.diagnostics import Diagnostics, did_you_mean
from dsl.expressions import Compiled, ExpressionError
from dsl.plan.logical import Lineage
from dsl.plan.memory import Memory


@dataclass(frozen=True)
class Relation:
    """What arrives over one edge.

    Attributes:
        name: The node that it comes from.
        schema: Its columns as SQL sees them, or None while they are unknown.
        lineage: Where each column comes from.
    """

    name: str
    schema: pa.Schema | None
    lineage: Lineage = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Its columns; none while they are unknown."""
        return () if self.schema is None else tuple(self.schema.names)


@dataclass(frozen=True)
class Planned:
    """What a processor does; the attributes are those of `Transform` and `Process`.

    Attributes:
        schema: What leaves, or None while it is unknown.
        lineage: Where each column comes from.
        sql: See `Transform.sql`; "" for a step that is not relational.
        row_local: See `Transform`.
        filters: See `Transform`.
        expands: See `Transform`.
        total: See `Transform`.
        uses_now: See `Transform`.
        reads: See `Transform`.
        processor: The options of a step that is not relational.
        policies: The node's policies, where its options change them.
        memory: See `Transform`.
    """

    schema: pa.Schema | None
    lineage: Lineage = field(default_factory=dict)
    sql: str = ""
    row_local: bool = True
    filters: bool = False
    expands: bool = False
    total: bool = False
    uses_now: bool = False
    reads: tuple[frozenset[str] | None, ...] = ()
    processor: object = None
    policies: Policies | None = None
    memory: Memory | None = None


NOTHING = Planned(None, sql="SELECT * FROM {0}", reads=(None,))
"""The answer of a processor that has noted a fault: what it leaves is unknown, so that no second fault follows from it."""


@dataclass(frozen=True)
class Step:
    """A processor at its place in the workflow.

    Attributes:
        node: The bound node.
        inputs: What feeds it, in the order of `inputs`.
        found: Told of every fault.
        endless: Whether the workflow never ends.
        growing: Whether what arrives is only what is new since the last run.
    """

    node: BoundNode
    inputs: tuple[Relation, ...]
    found: Diagnostics
    endless: bool = False
    growing: bool = False

    @property
    def input(self) -> Relation:
        """Its only input, or its first."""
        return self.inputs[0]

    def fault(self, code: Code, message: str, hint: str, *path: str | int, index: int | None = None) -> None:
        """Notes a fault at an option."""
        self.found.add(self.node.spans.at(*path, index=index), code, message, hint)

    def compiled(
        self,
        compiler: Callable[[str, pa.Schema | None], Compiled],
        text: str,
        schema: pa.Schema | None,
        *path: str | int,
    ) -> Compiled | None:
        """Compiles an expression that stands at `path`; None after noting what is wrong with it."""
        try:
            return compiler(text, schema)
        except ExpressionError as error:
            self.fault(error.code, error.message, error.hint, *path, index=error.index)
            return None

    def has_column(self, relation: Relation, name: str, *path: str | int) -> bool:
        """Tells whether a relation has a column, noting the fault if it has not."""
        if relation.schema is None or name in relation.schema.names:
            return True
        near = next((each for each in relation.names if each.lower() == name.lower()), "")
        hint = f"names are case-sensitive: did you mean {near!r}?" if near else did_you_mean(name, relation.names)
        self.fault(Code.UNKNOWN_COLUMN, f"{relation.name!r} has no column {name!r}", hint, *path)
        return False

    def distinct(self, names: tuple[tuple[str, tuple[str | int, ...]], ...]) -> bool:
        """Tells whether the names of a result differ, whatever their case, noting the ones that do not.

        Args:
            names: Each name with the path of the option that brings it.
        """
        seen: dict[str, str] = {}
        clean = True
        for name, path in names:
            if name.lower() in seen:
                other = seen[name.lower()]
                told = "twice" if other == name else f"beside {other!r}: DuckDB does not tell them apart"
                self.fault(Code.DUPLICATE_COLUMN, f"the result has a column {name!r} {told}", "rename one", *path)
                clean = False
            seen.setdefault(name.lower(), name)
        return clean
