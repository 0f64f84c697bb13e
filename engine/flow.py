"""What travels inside a stage: a batch with its books and its rejections, so that an epoch can be balanced before it commits; no I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa

from dsl.contracts.policies import OnError
from dsl.contracts.rows import Rejection
from dsl.contracts.state import VERSION, State


@dataclass
class Counts:
    """What went through one node; see `engine.report.NodeReport`."""

    rows_in: int = 0
    rows_out: int = 0
    filtered: int = 0
    rejected: int = 0
    expanded: int = 0
    bytes_out: int = 0
    seconds: float = 0.0

    def add(self, other: Counts) -> None:
        """Adds another count to this one."""
        self.rows_in += other.rows_in
        self.rows_out += other.rows_out
        self.filtered += other.filtered
        self.rejected += other.rejected
        self.expanded += other.expanded
        self.bytes_out += other.bytes_out
        self.seconds += other.seconds

    @property
    def balanced(self) -> bool:
        """Whether every row that entered left, was filtered or was refused."""
        return self.rows_in + self.expanded == self.rows_out + self.filtered + self.rejected


@dataclass(frozen=True)
class Rejected:
    """One refused row on its way to the dead letters.

    Attributes:
        id: Its dead letter's id.
        rejection: The row and why.
        on_error: What the node's policy says about it.
        entry: The node that the row had come to.
        anchor: Names the source's state before its batch.
    """

    id: str
    rejection: Rejection
    on_error: OnError
    entry: str = ""
    anchor: str = ""


@dataclass
class Ledger:
    """The books of some batches: counts by node, the rows that were refused, and how many go on with a fallback."""

    counts: dict[str, Counts] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    codes: dict[str, int] = field(default_factory=dict)
    fallbacks: dict[str, int] = field(default_factory=dict)

    def count(self, node: str) -> Counts:
        """The node's counts, to be added to."""
        return self.counts.setdefault(node, Counts())

    def refuse(self, node: str, refused: Iterable[Rejected]) -> None:
        """Notes refused rows of a node."""
        for each in refused:
            self.rejected.append(each)
            self.count(node).rejected += 1
            code = f"{each.rejection.node}/{each.rejection.code}"
            self.codes[code] = self.codes.get(code, 0) + 1

    def stand_in(self, node: str, fallbacks: Mapping[str, int]) -> None:
        """Notes rows of a node that go on with something else than what was asked for."""
        for name, rows in fallbacks.items():
            self.fallbacks[f"{node}/{name}"] = self.fallbacks.get(f"{node}/{name}", 0) + rows

    def add(self, other: Ledger) -> None:
        """Adds the books of other batches to these."""
        for name, rows in other.fallbacks.items():
            self.fallbacks[name] = self.fallbacks.get(name, 0) + rows
        for node, counts in other.counts.items():
            self.count(node).add(counts)
        self.rejected.extend(other.rejected)
        for code, rows in other.codes.items():
            self.codes[code] = self.codes.get(code, 0) + rows


@dataclass(frozen=True)
class Flow:
    """A batch inside a stage.

    Attributes:
        rows: The rows.
        state: The stage's combined state after them, or None where no epoch may be cut.
        anchor: Names the source's state before them; the same in every replay.
        ledger: The books of everything since the flow before.
    """

    rows: pa.RecordBatch
    state: State | None
    anchor: str
    ledger: Ledger

    def with_rows(self, rows: pa.RecordBatch) -> Flow:
        """The same with other rows."""
        return replace(self, rows=rows)

    @property
    def size(self) -> int:
        """Bytes it keeps in memory, about."""
        return self.rows.nbytes + sum(256 + each.rejection.row.nbytes for each in self.ledger.rejected)


def combined(inputs: Mapping[str, State], operators: Mapping[str, State]) -> State:
    """A stage's state from those of its parts."""
    return {
        "v": VERSION,
        "inputs": {node: dict(state) for node, state in sorted(inputs.items())},
        "operators": {node: dict(state) for node, state in sorted(operators.items())},
    }


def part(state: State | None, kind: str, node: str) -> State | None:
    """One part's state out of a stage's: `part(state, "inputs", "orders")`."""
    parts = None if state is None else state.get(kind)
    found = parts.get(node) if isinstance(parts, dict) else None
    return found if isinstance(found, dict) else None


def merged(states: Iterable[State]) -> State:
    """One stage state from those of several branches."""
    inputs: dict[str, State] = {}
    operators: dict[str, State] = {}
    for state in states:
        for kind, parts in (("inputs", inputs), ("operators", operators)):
            held = state.get(kind)
            if isinstance(held, dict):
                parts.update({node: each for node, each in held.items() if isinstance(each, dict)})
    return combined(inputs, operators)


def same_place(one: State | None, other: State | None) -> bool:
    """Whether two states of a stage resume at the same place, whoever committed them."""
    return all((one or {}).get(kind) == (other or {}).get(kind) for kind in ("inputs", "operators"))


def digest(state: State | None) -> str:
    """A state's name: sha256 of its canonical JSON."""
    return hashlib.sha256(json.dumps(state, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def cut(flow: Flow, rows: int, size: int) -> Iterable[Flow]:
    """Divides a batch that has grown too large; the state and the books stay with the last piece."""
    held = flow.rows
    if held.num_rows <= 1 or (held.num_rows <= rows and held.nbytes <= size):
        yield flow
        return
    by_size = max(1, int(held.num_rows * size / max(held.nbytes, 1)))
    step = min(rows, by_size)
    last = (held.num_rows - 1) // step * step
    for start in range(0, last, step):
        yield Flow(held.slice(start, step), None, flow.anchor, Ledger())
    yield flow.with_rows(held.slice(last))
