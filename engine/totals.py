"""What a stage has committed in this run, over all its attempts; becomes its report."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

import pyarrow as pa

from dsl.contracts.connectors import Committed
from dsl.contracts.rows import WriteStats
from dsl.contracts.state import State
from engine.deadletter import own_copy
from engine.epoch import Edges, Epoch
from engine.flow import Counts, Ledger
from engine.report import NodeReport, Reconciliation, StageOutcome, StageReport


@dataclass(frozen=True)
class Pending:
    """An epoch whose commit was asked for and has not been answered.

    Attributes:
        epoch: The epoch.
        state: The stage's state after it.
        writer: Key of the writer's counts.
    """

    epoch: Epoch
    state: State
    writer: str


@dataclass
class Totals:
    """Committed so far in this run.

    Attributes:
        ledger: The books of every committed epoch.
        epochs: How many there were.
        epoch: The number of the last one over the stream's life.
        state: The stage's state after it.
        stats: What the destination made visible; None until it told.
        resumed: Whether the first attempt went on from a state.
        schema: What arrives at the writer.
        preview: The first rows that arrived.
        kinds: Node key -> (workflow nodes, kind), the writer last.
        edges: Who feeds whom.
        pending: The epoch that is being committed.
    """

    ledger: Ledger = field(default_factory=Ledger)
    epochs: int = 0
    epoch: int = 0
    state: State | None = None
    stats: WriteStats | None = None
    resumed: bool = False
    schema: pa.Schema = field(default_factory=lambda: pa.schema([]))
    preview: list[pa.RecordBatch] = field(default_factory=list)
    kinds: dict[str, tuple[tuple[str, ...], str]] = field(default_factory=dict)
    edges: Edges | None = None
    pending: Pending | None = None

    def recall(self, committed: Committed | None) -> bool:
        """Books the epoch whose commit was lost on its way back, if the token says that it did happen; tells whether."""
        pending, self.pending = self.pending, None
        if pending is None or committed is None or committed.epoch != pending.epoch.number:
            return False
        if committed.state != pending.state:
            return False
        self.committed(pending.epoch, pending.state, WriteStats(pending.epoch.rows), pending.writer, timedelta())
        return True

    def committed(self, epoch: Epoch, state: State, stats: WriteStats, writer: str, took: timedelta) -> None:
        """Adds a committed epoch."""
        self.pending = None
        epoch.ledger.count(writer).seconds += took.total_seconds()
        epoch.ledger.rejected.clear()
        self.ledger.add(epoch.ledger)
        self.epochs += 1
        self.epoch, self.state = epoch.number, state
        self.stats = stats if self.stats is None else _sum(self.stats, stats)

    def look(self, rows: pa.RecordBatch, wanted: int) -> None:
        """Keeps the first rows for the preview."""
        missing = wanted - sum(each.num_rows for each in self.preview)
        if missing > 0 and rows.num_rows:
            self.preview.append(own_copy(rows.slice(0, missing)))

    @property
    def rejected(self) -> int:
        """Rows refused in committed epochs."""
        return sum(each.rejected for each in self.ledger.counts.values())

    @property
    def written(self) -> int:
        """Rows that the writer accepted in committed epochs."""
        return sum(
            self.ledger.counts.get(key, Counts()).rows_out
            for key, (_, kind) in self.kinds.items()
            if kind.endswith("write")
        )

    def rejected_at(self, key: str) -> int:
        """Rows that one node refused in committed epochs."""
        return self.ledger.counts.get(key, Counts()).rejected

    def read(self, more: Ledger | None = None) -> int:
        """Rows that readers took from their systems."""
        ledgers = [self.ledger] if more is None else [self.ledger, more]
        scans = [key for key, (_, kind) in self.kinds.items() if kind.endswith("scan")]
        return sum(each.counts.get(key, Counts()).rows_in for each in ledgers for key in scans)

    def metrics(self, more: Ledger | None = None) -> dict[str, int]:
        """How far the stage is, in numbers for whoever watches it; those of an open epoch included."""
        ledgers = [self.ledger] if more is None else [self.ledger, more]
        counts = [each for ledger in ledgers for each in ledger.counts.values()]
        writers = [key for key, (_, kind) in self.kinds.items() if kind.endswith("write")]
        written = [ledger.counts.get(key, Counts()) for ledger in ledgers for key in writers]
        return {
            "rows_read": self.read(more),
            "rows_written": sum(each.rows_out for each in written),
            "rows_filtered": sum(each.filtered for each in counts),
            "rows_rejected": sum(each.rejected for each in counts),
            "bytes_written": sum(each.bytes_out for each in written),
        }

    def report(self, stage: str, outcome: StageOutcome, attempts: int, seconds: float) -> StageReport:
        """The stage's report."""
        return StageReport(
            stage=stage,
            outcome=outcome,
            nodes=tuple(self._node(key, nodes, kind) for key, (nodes, kind) in self.kinds.items()),
            reconciliation=self._books(),
            stats=self.stats or WriteStats(0),
            epochs=self.epochs,
            epoch=self.epoch,
            state=self.state,
            resumed=self.resumed,
            attempts=attempts,
            seconds=seconds,
            schema=self.schema,
            preview=pa.Table.from_batches(self.preview, schema=self.schema),
            rejected_by_code=dict(self.ledger.codes),
            fallbacks=dict(self.ledger.fallbacks),
        )

    def _folds(self, key: str) -> bool:
        return self.edges is not None and key in self.edges.folds

    def _node(self, key: str, nodes: tuple[str, ...], kind: str) -> NodeReport:
        counts = self.ledger.counts.get(key, Counts())
        return NodeReport(
            nodes=nodes,
            kind=kind,
            rows_in=counts.rows_in,
            rows_out=counts.rows_out,
            filtered=counts.filtered,
            rejected=counts.rejected,
            expanded=counts.expanded,
            bytes_out=counts.bytes_out,
            seconds=counts.seconds,
            folds=self._folds(key),
        )

    def _books(self) -> Reconciliation:
        every = self.ledger.counts.items()
        folds = [counts for key, counts in every if self._folds(key)]
        return Reconciliation(
            read=self.read(),
            written=self.written,
            filtered=sum(counts.filtered for _, counts in every),
            rejected=sum(counts.rejected for _, counts in every),
            expanded=sum(counts.expanded for _, counts in every),
            folded_in=sum(each.rows_in - each.filtered - each.rejected for each in folds),
            folded_out=sum(each.rows_out for each in folds),
            counted=-1 if self.stats is None else self.stats.rows,
        )


def _sum(left: WriteStats, right: WriteStats) -> WriteStats:
    def both(one: int, other: int) -> int:
        return -1 if one < 0 or other < 0 else one + other

    return WriteStats(
        rows=both(left.rows, right.rows),
        bytes=both(left.bytes, right.bytes),
        inserted=both(left.inserted, right.inserted),
        updated=both(left.updated, right.updated),
    )
