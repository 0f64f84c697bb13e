"""A step that remembers, open: what it remembers is a position in a log that travels with the rows; commits nothing by itself."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from dsl.contracts.connectors import Clock
from dsl.contracts.errors import FatalError
from dsl.contracts.state import VERSION, State
from dsl.plan.memory import Keys, Memory
from dsl.plan.physical import INPUT_VIEW, Remember
from dsl.plan.windows import micros
from engine.deadletter import Numbering
from engine.flow import Flow, Ledger, combined, merged, part
from engine.operators.query_faults import DataFaultError
from engine.operators.relational import quoted
from engine.operators.remembering import Remembering, Taken, remembering
from engine.shape import conform, conform_one, empty, resolved
from engine.state_files import StateLog
from engine.tree import OpenNode, OpenStep, Workshop, spread

FILES = 8
"""So many files a log has at most before it is written anew: a position names them all, and it stands in every token."""


class OpenRemember(OpenStep):
    """A `Remember`, open.

    Args:
        shop: What open nodes share.
        node: The node.
        source: What feeds it.
        folder: Where its log is kept.
        clock: Tells the time.
    """

    def __init__(self, shop: Workshop, node: Remember, source: OpenNode, folder: Path, clock: Clock) -> None:
        self._node, self._clock = node, clock
        session = shop.tools.session
        self._view = None
        arriving = source.schema
        if node.view != quoted(INPUT_VIEW):
            self._view = session.chunk(f"FROM ({node.view})", uses_now=False, where=node.node)
            arriving = self._view.output_schema(source.schema)
        self._memory: Remembering = remembering(node.memory, session.tables(node.node), node.node, arriving)
        self.folds, self._meaning = self._memory.folds, meaning(node.memory, self._memory.kept_schema)
        self._arriving = arriving
        schema = resolved(node.schema, self._memory.output_schema, node.node)
        super().__init__(shop, node.node, schema, (source,))
        self._numbering = Numbering(shop.key, node.node, node.policies)
        self.log = StateLog(folder)

    def resume(self, state: State | None) -> None:
        """Says what was committed, behind the stream's fence.

        Raises:
            FatalError: What it remembers was kept by a step that meant something else.
        """
        super().resume(state)
        kept = part(state, "operators", self.key)
        if kept is not None and kept.get("meaning") != self._meaning:
            raise FatalError(
                "what it remembers was kept for other keys or another window, and says nothing about these",
                where=self.key,
                hint="write it as it was; or name the step otherwise: it then begins with nothing remembered",
            )
        self.log.resume(kept)

    def flows(self) -> Generator[Flow, None, None]:
        """Gives each batch to the memory, and sends what passes or is due."""
        self._memory.load(part(self._start, "operators", self.key), self.log.read())
        for flow in self._input():
            yield from self._through(flow)

    def _through(self, flow: Flow) -> Iterator[Flow]:
        began = time.perf_counter()
        taken = self._taken(flow)
        for rows in self._due():
            for piece in conform(rows, self.schema, self.key):
                self._count(flow.ledger, piece)
                yield from spread(Flow(piece, None, flow.anchor, Ledger()), [piece], self.schema, self._node.policies)
        state = flow.state
        if state is not None:
            self._condense()
            state = merged([state, combined({}, {self.key: self._state()})])
        passed = conform_one(taken.passed, self.schema, self.key)
        self._count(flow.ledger, passed)
        flow.ledger.count(self.key).seconds += time.perf_counter() - began
        yield from spread(replace(flow, state=state), [passed], self.schema, self._node.policies)

    def _due(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._memory.closed()
        except DataFaultError as error:
            hint = "a window cannot set one row aside: clean it in a mapping or filter before"
            raise FatalError(error.message, where=self.key, hint=hint) from error

    def _taken(self, flow: Flow) -> Taken:
        now = self._clock.now()
        if not flow.rows.num_rows:
            self._memory.tick(now)
            return Taken(empty(self.schema))
        rows = flow.rows if self._view is None else conform(self._view.run(flow.rows), self._arriving, self.key)[0]
        taken = self._memory.take(rows, now)
        if taken.kept is not None:
            self.log.append(taken.kept)
        self._numbering.refuse(flow.ledger, self.key, flow.anchor, taken.failed)
        counts = flow.ledger.count(self.key)
        counts.rows_in += flow.rows.num_rows
        counts.filtered += taken.filtered
        return taken

    def _count(self, ledger: Ledger, rows: pa.RecordBatch) -> None:
        counts = ledger.count(self.key)
        counts.rows_out += rows.num_rows
        counts.bytes_out += rows.nbytes

    def _condense(self) -> None:
        if not (self._memory.wasteful or self.log.files > FILES):
            return
        self._memory.condense()
        self.log.restart(self._memory.kept_schema)
        for rows in self._memory.snapshot():
            self.log.append(rows)

    def _state(self) -> State:
        facts = self._memory.facts()
        return {"v": VERSION, "meaning": self._meaning, **facts, **self.log.position()}


def meaning(memory: Memory, kept: pa.Schema) -> str:
    """Names what the rows of a memory mean: what is kept can be read on only by a step that means the same."""
    if isinstance(memory, Keys):
        facts: list[object] = ["keys", memory.keys, memory.time]
    else:
        facts = ["windows", memory.time, micros(memory.size), micros(memory.every)]
    columns = [[each.name, str(each.type)] for each in kept]
    return hashlib.sha256(json.dumps([facts, columns]).encode()).hexdigest()[:16]
