"""What the compiler knows of a kind of processor: its options, its inputs, and how it becomes a plan; no kind lives here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dsl.processors.step import Planned, Step


@dataclass(frozen=True)
class ProcessorKind:
    """One value of `type` of a transformation.

    Attributes:
        kind: The value (`filter`).
        title: What it does, in a few words.
        options: Dataclass of its options.
        min_inputs: How many nodes must feed it.
        max_inputs: How many may, or None for any number.
        example: A YAML node that uses it, for the reference.
        relational: Whether it becomes SQL.
        plan: Says what it does to the relations that feed it.
    """

    kind: str
    title: str
    options: type[Any]
    min_inputs: int
    max_inputs: int | None
    example: str
    plan: Callable[[Step], Planned]
    relational: bool = True
