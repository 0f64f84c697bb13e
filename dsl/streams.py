"""Workflows that never end: which sources go on, and which steps cannot work on rows without an end; runs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dsl.bound import BoundNode, BoundWorkflow
from dsl.codes import Code
from dsl.contracts.capabilities import SyncMode, WriteMode
from dsl.contracts.changes import Deletes
from dsl.contracts.connectors import Destination, Source
from dsl.diagnostics import Diagnostics
from dsl.plan.logical import Load, LogicalPlan, Read, Transform
from dsl.workflow import Mode, Role

_HINTS: Final = {
    "sort": "rows are written as they come: leave it out",
    "limit": "leave it out, or leave out mode: stream",
    "aggregate": "give it a window: {column, size}",
    "join": "join in a workflow of its own, or look the rows up with enrich",
    "union": "write a workflow for each of its inputs; they may write to the same table",
    "sql": "write mapping, filter, and aggregate with a window",
}


def grows(source: object) -> bool:
    """Tells whether a source reads only what is new since the last run."""
    asked = getattr(source, "sync_mode", None) not in {None, SyncMode.FULL_REFRESH}
    named = getattr(source, "incremental_column", None) is not None
    return asked or named or getattr(source, "incremental", False) or _only_streams(source)


def goes_on(source: Source) -> bool:
    """Tells whether a source that grows has readers that do not end by themselves; others are read again and again."""
    return SyncMode.STREAM in source.capabilities.sync_modes


def _only_streams(source: object) -> bool:
    return isinstance(source, Source) and source.capabilities.sync_modes == {SyncMode.STREAM}


def check_streams(bound: BoundWorkflow, plan: LogicalPlan, found: Diagnostics) -> None:
    """Notes what cannot be done in a workflow whose `mode` is `stream`."""
    if bound.workflow.mode is Mode.STREAM:
        _Streams(bound, plan, found).check()


@dataclass(frozen=True)
class _Streams:
    """One workflow that never ends."""

    bound: BoundWorkflow
    plan: LogicalPlan
    found: Diagnostics

    def check(self) -> None:
        reads = [each for each in self.plan.nodes if isinstance(each, Read)]
        for read in reads:
            self._check_source(self.bound.node(read.id), read)
        for node in self.plan.nodes:
            if isinstance(node, Transform) and not node.row_local and node.memory is None:
                self._check_step(node)
        for each in self.bound.nodes:
            if each.role is Role.DESTINATION:
                self._check_destination(each)
        self._check_cuts()

    def _fault(self, node: BoundNode, said: str, hint: str, *path: str) -> None:
        self.found.add(node.spans.at(*path) if path else node.spans.node, Code.STREAM, said, hint)

    def _check_source(self, node: BoundNode, read: Read) -> None:
        if read.poll is None:
            hint = "read it incrementally, or leave out mode: stream"
            self._fault(node, f"{node.name!r} is read in full and then ends, in a workflow that never ends", hint)
        elif read.source.tells is Deletes.FULL_COMPARE:
            hint = "tell deletions by soft_column or cdc"
            self._fault(
                node, f"{node.name!r} is never read to its end, which deletes: full_compare needs", hint, "deletes"
            )

    def _check_step(self, node: Transform) -> None:
        if all(each.name != node.id for each in self.bound.nodes):
            # The plan puts a union before a destination with several inputs.
            owner = next(each for each in self.plan.nodes if isinstance(each, Load) and node.id in each.inputs)
            said = f"{owner.node!r} takes several inputs, which a workflow that never ends cannot unite"
            self._fault(self.bound.node(owner.node), said, _HINTS["union"])
            return
        said = f"{node.kind} needs all rows before it gives one, and a workflow that never ends has never seen all"
        self._fault(self.bound.node(node.id), said, _HINTS.get(node.kind, "leave out mode: stream"))

    def _check_destination(self, node: BoundNode) -> None:
        assert isinstance(node.options, Destination)  # noqa: S101 - binding says so
        if node.options.write_mode is WriteMode.OVERWRITE:
            said = f"{node.name!r} is overwritten when all rows have come, and a workflow that never ends has never seen all"
            self._fault(node, said, "write_mode: append, or upsert by key", "write_mode")

    def _check_cuts(self) -> None:
        loads = [each for each in self.plan.nodes if isinstance(each, Load)]
        if self.plan.persisted or len(loads) > 1:
            where = self.bound.node(min(self.plan.persisted) if self.plan.persisted else loads[1].node)
            said = "a workflow that never ends has one destination and no persist: its parts would wait for each other's end"
            self._fault(where, said, "write a workflow for each destination")
