"""What a connector can do, declared once, read by the compiler, the engine, the docs and the conformance suite."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class SyncMode(StrEnum):
    """How a source is read."""

    FULL_REFRESH = "full_refresh"
    INCREMENTAL = "incremental"
    CDC = "cdc"
    STREAM = "stream"


class WriteMode(StrEnum):
    """How rows arrive at a destination."""

    APPEND = "append"
    OVERWRITE = "overwrite"
    UPSERT = "upsert"
    MERGE = "merge"


class Guarantee(StrEnum):
    """What holds when a run is killed anywhere and started again."""

    EXACTLY_ONCE = "exactly_once"
    EFFECTIVELY_ONCE = "effectively_once"
    AT_LEAST_ONCE = "at_least_once"


class Proof(StrEnum):
    """What the guarantee was proven against."""

    REAL = "proven_real"
    EMULATOR = "proven_emulator"
    CONTRACT = "contract_only"


class SeveralInputs(StrEnum):
    """What a destination does with more than one input."""

    PREFIX = "prefix"
    UNION = "union"


@dataclass(frozen=True)
class SourceCapabilities:
    """What a source can do.

    Attributes:
        sync_modes: The ways it can be read.
        projects: Whether it reads only the columns it is asked for.
        filters: Whether it evaluates `ReadRequest.predicate` exactly as DuckDB would.
        limits: Whether it honours `ReadRequest.limit`.
        replayable: Whether reading again from a state gives the same rows.
        divides: Whether a full refresh can be read in parts, several at a time.
    """

    sync_modes: frozenset[SyncMode] = frozenset({SyncMode.FULL_REFRESH})
    projects: bool = False
    filters: bool = False
    limits: bool = False
    replayable: bool = True
    divides: bool = False


@dataclass(frozen=True)
class DestinationCapabilities:
    """What a destination can do.

    Attributes:
        write_modes: The ways it can be written.
        guarantee: What holds over crashes.
        keyed_guarantee: What holds in upsert mode, where it differs.
        proof: What that was proven against.
        several_inputs: A prefix for each input, or one table for all.
        nested: Whether structs and lists are stored as such.
        compares: Whether `merge` can delete what a full comparison did not find, and empty the table.
    """

    write_modes: frozenset[WriteMode] = frozenset({WriteMode.APPEND})
    guarantee: Guarantee = Guarantee.AT_LEAST_ONCE
    keyed_guarantee: Guarantee | None = None
    proof: Proof = Proof.CONTRACT
    several_inputs: SeveralInputs = SeveralInputs.UNION
    nested: bool = False
    compares: bool = False
