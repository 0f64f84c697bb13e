"""What a run did, as plain data: counts, seconds, schema, preview, reconciliation; renders nothing and stores nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import pyarrow as pa

from dsl.contracts.rows import WriteStats
from dsl.contracts.state import Json, State


class StageOutcome(StrEnum):
    """How a stage ended; a failed one raises instead."""

    FINISHED = "finished"
    STOPPED = "stopped"
    PAUSED = "paused"


@dataclass(frozen=True)
class NodeReport:
    """What went through one physical node, counted over committed epochs only.

    Attributes:
        nodes: The workflow's nodes that were fused into it.
        kind: `scan`, `exchange_scan`, `chunk_query`, `stream_query`, `remember`, `apply`, `write` or `exchange_write`.
        rows_in: Rows that entered: from the system for a scan.
        rows_out: Rows that left: into the system for a writer.
        filtered: Rows left out on purpose.
        rejected: Rows refused (dropped or dead-lettered).
        expanded: Rows that came out beyond one for each that went in.
        bytes_out: Arrow bytes of the rows that left.
        seconds: Time spent inside the node, without what it waited for its inputs.
        folds: Whether its rows in and rows out are not comparable (join, aggregate, sort, limit).
    """

    nodes: tuple[str, ...]
    kind: str
    rows_in: int = 0
    rows_out: int = 0
    filtered: int = 0
    rejected: int = 0
    expanded: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    folds: bool = False

    @property
    def balanced(self) -> bool:
        """Whether rows in + expanded = rows out + filtered + rejected."""
        return self.folds or self.rows_in + self.expanded == self.rows_out + self.filtered + self.rejected


@dataclass(frozen=True)
class Reconciliation:
    """The books of a stage: read + expanded = written + filtered + rejected, where no node folds rows.

    Attributes:
        read: Rows the readers took from their systems.
        written: Rows the writer accepted and committed.
        filtered: Rows left out on purpose, over all nodes.
        rejected: Rows refused, over all nodes.
        expanded: Rows added by multiplying, over all nodes.
        folded_in: Rows that entered nodes that fold (join, aggregate) and were neither filtered nor rejected there.
        folded_out: Rows that left them.
        counted: Rows the destination says it made visible; -1 where it does not count.
    """

    read: int = 0
    written: int = 0
    filtered: int = 0
    rejected: int = 0
    expanded: int = 0
    folded_in: int = 0
    folded_out: int = 0
    counted: int = -1

    @property
    def balanced(self) -> bool:
        """Whether nothing was lost or doubled between the readers and the writer."""
        came = self.read + self.expanded + self.folded_out
        return came == self.written + self.filtered + self.rejected + self.folded_in


@dataclass(frozen=True)
class StageReport:
    """What one stage did in this run.

    Attributes:
        stage: Its id.
        outcome: How it ended.
        nodes: Every physical node, readers first, the writer last.
        reconciliation: The books.
        stats: What the destination made visible, summed over the epochs of this run (-1 where it does not tell).
        epochs: Epochs committed in this run.
        epoch: The last committed epoch over the stream's whole life; 0 if there is none.
        state: The stage's state after it, or None.
        resumed: Whether it went on from a state instead of starting at the beginning.
        attempts: How often the stage was opened.
        seconds: Wall time.
        schema: What arrived at the writer.
        preview: The first rows that arrived at the writer (about ten), unmasked.
        rejected_by_code: Rejected rows by node and code: `{"2_mapping/conversion": 3}`.
        fallbacks: Rows that went on with something else than their service's answer: `{"2_enrich/stale_cache": 3}`.
    """

    stage: str
    outcome: StageOutcome
    nodes: tuple[NodeReport, ...]
    reconciliation: Reconciliation
    stats: WriteStats
    epochs: int
    epoch: int
    state: State | None
    resumed: bool
    attempts: int
    seconds: float
    schema: pa.Schema
    preview: pa.Table
    rejected_by_code: Mapping[str, int] = field(default_factory=dict)
    fallbacks: Mapping[str, int] = field(default_factory=dict)

    @property
    def bytes_written(self) -> int:
        """Arrow bytes that the writer accepted."""
        return self.nodes[-1].bytes_out if self.nodes else 0

    def as_json(self) -> dict[str, Json]:
        """Everything but the preview, for machines."""
        books = self.reconciliation
        return {
            "stage": self.stage,
            "outcome": self.outcome.value,
            "read": books.read,
            "written": books.written,
            "filtered": books.filtered,
            "rejected": books.rejected,
            "expanded": books.expanded,
            "folded_in": books.folded_in,
            "folded_out": books.folded_out,
            "balanced": books.balanced,
            "bytes": self.bytes_written,
            "epochs": self.epochs,
            "epoch": self.epoch,
            "resumed": self.resumed,
            "attempts": self.attempts,
            "seconds": round(self.seconds, 3),
            "schema": {each.name: str(each.type) for each in self.schema},
            "rejected_by_code": dict(self.rejected_by_code),
            "fallbacks": dict(self.fallbacks),
            "nodes": [_node_json(each) for each in self.nodes],
        }


@dataclass(frozen=True)
class RunReport:
    """What a run did, stage by stage, in the order of execution.

    Attributes:
        workflow: The workflow's name.
        run_id: The run.
        stages: Reports of the stages that ran; those after a stopped one are missing.
        seconds: Wall time.
    """

    workflow: str
    run_id: str
    stages: tuple[StageReport, ...]
    seconds: float

    @property
    def outcome(self) -> StageOutcome:
        """`finished` if every stage finished, else how the first other one ended."""
        return next(
            (each.outcome for each in self.stages if each.outcome is not StageOutcome.FINISHED), StageOutcome.FINISHED
        )

    def as_json(self) -> dict[str, Json]:
        """Everything but the previews, for machines."""
        return {
            "workflow": self.workflow,
            "run_id": self.run_id,
            "outcome": self.outcome.value,
            "seconds": round(self.seconds, 3),
            "stages": [each.as_json() for each in self.stages],
        }


def _node_json(node: NodeReport) -> dict[str, Json]:
    return {
        "nodes": list(node.nodes),
        "kind": node.kind,
        "rows_in": node.rows_in,
        "rows_out": node.rows_out,
        "filtered": node.filtered,
        "rejected": node.rejected,
        "expanded": node.expanded,
        "bytes_out": node.bytes_out,
        "seconds": round(node.seconds, 3),
    }
